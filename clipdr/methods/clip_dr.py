"""CLIP-DR (Yu et al., 2024): grading as image-text matching with ranking-aware prompts.

Deviations: the released code never calls the smoothing, learns random tokens instead of grade
names, and sets masked entries of the ranking loss to 0. The options `smooth`, `prompts` and `mask`
reproduce it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch.nn.functional as F

from clipdr.methods.base import Method
from clipdr.methods.losses import ranking_loss, text_to_image_kl
from clipdr.methods.smoothing import Smoother
from clipdr.models.prompts import FixedPrompts, Prompts, similarity

if TYPE_CHECKING:
    import torch

    from clipdr.data.loader import Batch
    from clipdr.methods.base import Source
    from clipdr.models.backbone import Backbone


class ClipDr(Method):
    """Cosines with learned prompts, times the scale of CLIP.

    Loss: cross-entropy + kl_weight * KL of the images of each grade from its text + rank_weight *
    ranking loss, all on smoothed similarities in training. Image encoder and prompts are trained;
    text encoder and scale are frozen.

    Args:
        backbone: Image encoder (or cached features) and text encoder.
        prompts: A mode of `clipdr.models.prompts.Prompts`, or "fixed": whole sentences of the bank.
        context: Number of learned context tokens, at least 1.
        context_init: Text that initialises the context and replaces `context`; empty: random.
        bank: A key of `clipdr.models.prompts.BANKS`, for the names of the grades.
        max_rank: Largest rank of the ranking loss, 0..4; see `ranking_loss`.
        directions: "both", "right" or "left"; see `ranking_loss`.
        mask: "pairwise" or "zero"; see `ranking_loss`.
        rank_weight: Weight of the ranking loss, >= 0.
        kl_weight: Weight of the KL term, >= 0.
        smooth: Whether similarities are smoothed in training, from the second epoch on.
        padding: "reflect" or "renormalise"; see `smoothing_kernel`.
    """

    def __init__(
        self,
        backbone: Backbone,
        prompts: str = "names",
        context: int = 10,
        context_init: str = "",
        bank: str = "A",
        max_rank: int = 3,
        directions: str = "both",
        mask: str = "pairwise",
        rank_weight: float = 1.0,
        kl_weight: float = 1.0,
        smooth: bool = True,
        padding: str = "reflect",
    ):
        """Create prompts and smoother."""
        super().__init__(backbone)
        self.scale, self.rank_weight, self.kl_weight = backbone.scale, rank_weight, kl_weight
        self.ranking: dict[str, Any] = {
            "max_rank": max_rank,
            "directions": directions,
            "mask": mask,
        }
        self.prompts = (
            FixedPrompts(backbone.banks, bank)
            if prompts == "fixed"
            else Prompts(backbone.text, prompts, context, context_init, bank=bank)
        )
        self.smoother = Smoother(padding) if smooth else None

    def begin(self, source: Source) -> None:
        """Note the length of an epoch, for the smoother."""
        self.steps_per_epoch = source.steps_per_epoch

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Predict logits without smoothing, see `Method.forward`."""
        return similarity(self.image(image), self.prompts(), self.scale)

    def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Compute the terms "ce", "kl" and "rank", see `Method.loss`."""
        logits = self(batch.image)
        if self.smoother:
            logits = self.smoother(logits, batch.grade)
        # the order of the terms decides how autograd sums their gradients, to the last bit
        return {
            "ce": F.cross_entropy(logits, batch.grade),
            "kl": self.kl_weight * text_to_image_kl(logits, batch.grade),
            "rank": self.rank_weight * ranking_loss(logits, batch.grade, **self.ranking),
        }

    def after_step(self, step: int) -> None:
        """Start an epoch of the smoother after the last step of each epoch."""
        if self.smoother and step % self.steps_per_epoch == 0:
            self.smoother.start_epoch()
