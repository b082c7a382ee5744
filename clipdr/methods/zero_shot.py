"""Zero-shot CLIP (Radford et al., 2021): fixed sentences, no training; the prompt bank is chosen on source validation."""

import math

import torch

from clipdr import DataError
from clipdr.evaluation.metrics import METRICS
from clipdr.methods.base import Method
from clipdr.models.prompts import ensemble, similarity


class ZeroShot(Method):
    """bank: a key of prompts.BANKS, or "source_val" for the one with the highest macro AUC on source validation (first on a tie)."""

    reads = "feature"

    def __init__(self, backbone, bank="source_val"):
        super().__init__(backbone)
        self.scale, self.bank = backbone.scale, bank
        self.banks = {name: ensemble(features) for name, features in backbone.banks.items()}
        self.register_buffer(
            "text", torch.zeros(len(next(iter(self.banks.values()))), backbone.dim)
        )

    def begin(self, source):
        self.chosen["bank"] = self.best_bank(source.val) if self.bank == "source_val" else self.bank
        self.text.copy_(self.banks[self.chosen["bank"]])

    def best_bank(self, val):
        batch = next(val.chunks(len(val)))
        score = {
            name: METRICS["auc"](
                batch.grade.numpy(),
                similarity(batch.image, text, self.scale).double().softmax(1).numpy(),
            )[0]
            for name, text in self.banks.items()
        }
        if any(math.isnan(value) for value in score.values()):
            raise DataError(
                "zero_shot: AUC of source validation is undefined; it needs images of every grade"
            )
        return max(score, key=score.get)

    def forward(self, image):
        return similarity(self.image(image), self.text, self.scale)
