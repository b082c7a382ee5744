"""OrdinalCLIP (Li et al., 2022): grade tokens interpolated between learned base tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F

from clipdr.methods.base import Method
from clipdr.methods.losses import text_to_image_kl
from clipdr.models.prompts import Prompts, similarity

if TYPE_CHECKING:
    import torch

    from clipdr.data.loader import Batch
    from clipdr.models.backbone import Backbone


class OrdinalClip(Method):
    """Cosines with interpolated prompts, times the scale of CLIP.

    Loss: cross-entropy + kl_weight * KL divergence of the images of each grade from its text
    (`text_to_image_kl`). Image encoder, context and base tokens are trained; the text encoder is
    frozen.

    Args:
        backbone: Image encoder (or cached features) and text encoder.
        context: Number of learned context tokens, at least 1.
        bases: Number of base tokens, at least 1.
        kind: Weights of the bases: "linear", "inv_prop" or "normal"
            (`clipdr.models.prompts.WEIGHTS`).
        kl_weight: Weight of the KL term, >= 0.
    """

    def __init__(
        self,
        backbone: Backbone,
        context: int = 10,
        bases: int = 3,
        kind: str = "linear",
        kl_weight: float = 1.0,
    ):
        """Create the prompts."""
        super().__init__(backbone)
        self.scale, self.kl_weight = backbone.scale, kl_weight
        self.prompts = Prompts(backbone.text, "interpolated", context, bases=bases, kind=kind)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Predict logits, see `Method.forward`."""
        return similarity(self.image(image), self.prompts(), self.scale)

    def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Compute the terms "ce" and "kl", see `Method.loss`."""
        logits = self(batch.image)
        return {
            "ce": F.cross_entropy(logits, batch.grade),
            "kl": self.kl_weight * text_to_image_kl(logits, batch.grade),
        }
