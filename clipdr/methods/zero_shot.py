"""Zero-shot CLIP (Radford et al., 2021): similarities to fixed sentences, without training.

The prompt bank is chosen on source validation.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from clipdr import DataError
from clipdr.evaluation.metrics import METRICS
from clipdr.methods.base import Method
from clipdr.models.prompts import ensemble, similarity

if TYPE_CHECKING:
    from clipdr.data.loader import Rows
    from clipdr.methods.base import Source
    from clipdr.models.backbone import Backbone


class ZeroShot(Method):
    """Cosines with the averaged sentences of each grade, times the scale of CLIP.

    Args:
        backbone: Backbone with cached features.
        bank: A key of `clipdr.models.prompts.BANKS`, or "source_val": the bank with the highest
            macro AUC on source validation (the first on a tie).
    """

    reads = "features"
    text: torch.Tensor

    def __init__(self, backbone: Backbone, bank: str = "source_val"):
        """Average the sentences of every bank; `begin` chooses one."""
        super().__init__(backbone)
        self.scale, self.bank = backbone.scale, bank
        self.banks = {name: ensemble(features) for name, features in backbone.banks.items()}
        self.register_buffer(
            "text", torch.zeros(len(next(iter(self.banks.values()))), backbone.dim)
        )

    def begin(self, source: Source) -> None:
        """Choose the prompt bank."""
        self.chosen["bank"] = self.best_bank(source.val) if self.bank == "source_val" else self.bank
        self.text.copy_(self.banks[self.chosen["bank"]])

    def best_bank(self, val: Rows) -> str:
        """Return the bank with the highest macro AUC.

        Args:
            val: Validation rows of the source domains.

        Raises:
            DataError: If a grade has no validation image, so that the AUC is undefined.
        """
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
                "zero_shot: the AUC of source validation is undefined. "
                "Add validation images of every grade, or set the bank."
            )
        return max(score, key=lambda name: score[name])

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Predict logits, see `Method.forward`."""
        return similarity(self.image(image), self.text, self.scale)
