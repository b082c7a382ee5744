"""ERM: empirical risk minimisation (Vapnik, 1991), a linear head on the trained image encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from clipdr import GRADES
from clipdr.methods.base import Method

if TYPE_CHECKING:
    import torch

    from clipdr.models.backbone import Backbone


class Erm(Method):
    """Linear head on the pooled features of the image encoder; the loss is cross-entropy.

    Image encoder and head are trained. The projection to the space of the texts is not used and
    stays frozen.

    Args:
        backbone: Image encoder, or cached features.
    """

    def __init__(self, backbone: Backbone):
        """Create the head."""
        super().__init__(backbone)
        self.head = nn.Linear(backbone.pooled_dim, len(GRADES))
        if not backbone.cached:
            backbone.image_tower().projection.requires_grad_(False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Predict logits, see `Method.forward`."""
        return self.head(self.image.pooled(image))
