"""Majority baseline: every image gets the grade shares of the source training images.

It is the lowest score that a method has to exceed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from clipdr import GRADES
from clipdr.methods.base import Method

if TYPE_CHECKING:
    from clipdr.methods.base import Source
    from clipdr.models.backbone import Backbone


class Majority(Method):
    """Constant prediction: the logits are the logarithms of the grade shares. Nothing is trained.

    No pixel is read. The method takes cached features only, so that no image encoder is loaded.

    Args:
        backbone: Any backbone with cached features.
    """

    reads = "features"
    log_share: torch.Tensor

    def __init__(self, backbone: Backbone):
        """Create the shares; `begin` sets them."""
        super().__init__(backbone)
        self.register_buffer("log_share", torch.zeros(len(GRADES)))

    def begin(self, source: Source) -> None:
        """Count the grades of the source training images.

        A grade without a training image gets the smallest positive share of float32, because a
        logit must be finite.
        """
        count = source.train.grade.bincount(minlength=len(GRADES))
        self.log_share.copy_((count / count.sum()).clamp_min(torch.finfo(torch.float32).tiny).log())

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the same logits for every image, (B, 5) float32."""
        return self.log_share.expand(len(image), -1)
