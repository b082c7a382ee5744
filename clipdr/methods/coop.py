"""CoOp (Zhou et al., 2022): learned context before the grade's name, both encoders frozen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clipdr.methods.base import Method
from clipdr.models.prompts import Prompts, similarity

if TYPE_CHECKING:
    import torch

    from clipdr.models.backbone import Backbone


class CoOp(Method):
    """Cosines with learned prompts, times the scale of CLIP; the loss is cross-entropy.

    Only the context tokens are trained.

    Args:
        backbone: Backbone with cached features.
        context: Number of context tokens, at least 1.
        context_init: Text that initialises the context and replaces `context`; empty: random.
        per_class: One context per grade instead of a shared one.
        bank: A key of `clipdr.models.prompts.BANKS`, for the names of the grades.
    """

    reads = "features"

    def __init__(
        self,
        backbone: Backbone,
        context: int = 16,
        context_init: str = "",
        per_class: bool = False,
        bank: str = "B",
    ):
        """Create the prompts."""
        super().__init__(backbone)
        self.scale = backbone.scale
        self.prompts = Prompts(
            backbone.text, "names_frozen", context, context_init, per_class, bank
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Predict logits, see `Method.forward`."""
        return similarity(self.image(image), self.prompts(), self.scale)
