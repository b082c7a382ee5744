"""CLIP-DR (Yu et al., 2024): grading as image-text matching, ranking-aware prompts in both directions, similarity matrix smoothing."""

import torch.nn.functional as F

from clipdr.methods.base import Method
from clipdr.methods.losses import rank, text_to_image_kl
from clipdr.methods.smoothing import Smoother
from clipdr.models.prompts import Fixed, Prompts, similarity


class ClipDr(Method):
    """prompts : a mode of prompts.Prompts, or "fixed", whole sentences of the bank

    max_rank, directions, mask : see losses.rank;  smooth, padding : see Smoother
    """

    def __init__(
        self,
        backbone,
        prompts="names",
        context=10,
        context_init="",
        bank="A",
        max_rank=3,
        directions="both",
        mask="pairwise",
        rank_weight=1.0,
        kl_weight=1.0,
        smooth=True,
        padding="reflect",
    ):
        super().__init__(backbone)
        self.scale, self.rank_weight, self.kl_weight = backbone.scale, rank_weight, kl_weight
        self.ranking = {"max_rank": max_rank, "directions": directions, "mask": mask}
        learned = prompts != "fixed"
        self.prompts = (
            Prompts(backbone.text, prompts, context, context_init, bank=bank)
            if learned
            else Fixed(backbone.banks, bank)
        )
        self.smoother = Smoother(padding) if smooth else None

    def begin(self, source):
        self.steps_per_epoch = source.steps_per_epoch

    def forward(self, image):
        return similarity(self.image(image), self.prompts(), self.scale)

    def loss(self, batch):
        logits = self(batch.image)
        if self.smoother:
            logits = self.smoother(logits, batch.grade)
        return {
            "ce": F.cross_entropy(logits, batch.grade),
            "kl": self.kl_weight * text_to_image_kl(logits, batch.grade),
            "rank": self.rank_weight * rank(logits, batch.grade, **self.ranking),
        }

    def after_step(self, step):
        if self.smoother and step % self.steps_per_epoch == 0:
            self.smoother.start_epoch()
