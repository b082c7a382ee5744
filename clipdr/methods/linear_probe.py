"""Linear probe (Radford et al., 2021): logistic regression on frozen image features."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from clipdr import GRADES, DataError
from clipdr.evaluation.metrics import METRICS
from clipdr.methods.base import Method

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clipdr.methods.base import Source
    from clipdr.models.backbone import Backbone


class LinearProbe(Method):
    """Multinomial logistic regression with an L2 penalty on features of unit length.

    The solver is L-BFGS.

    Args:
        backbone: Backbone with cached features.
        strengths: Candidates for C, the inverse strength of the penalty (> 0). The one with the
            highest macro AUC on source validation is taken, the first on a tie. Default: 1e-6 to
            1e6 in powers of ten.
        max_iter: Largest number of L-BFGS iterations, at least 1.
    """

    reads = "features"

    def __init__(
        self,
        backbone: Backbone,
        strengths: Sequence[float] = tuple(10.0**power for power in range(-6, 7)),
        max_iter: int = 1000,
    ):
        """Create the head; `begin` fits it."""
        super().__init__(backbone)
        self.strengths, self.max_iter = strengths, max_iter
        self.head = nn.Linear(backbone.pooled_dim, len(GRADES)).requires_grad_(False)

    def begin(self, source: Source) -> None:
        """Fit one regression per strength and keep the best.

        Raises:
            DataError: If a grade has no training image, or the AUC of source validation is
                undefined.
        """
        from sklearn.linear_model import LogisticRegression  # slow to import

        batches = [next(rows.chunks(len(rows))) for rows in (source.train, source.val)]
        (x, grade), (x_val, grade_val) = (
            (F.normalize(batch.image, dim=-1).double().numpy(), batch.grade.numpy())
            for batch in batches
        )
        if len(set(grade)) < len(GRADES):
            raise DataError(
                f"linear_probe: the training images have only the grades {sorted(set(grade))}. "
                "Add images of all five grades."
            )
        best = -1.0
        self.chosen = {}
        for strength in self.strengths:
            probe = LogisticRegression(C=strength, max_iter=self.max_iter).fit(x, grade)
            score = METRICS["auc"](grade_val, probe.predict_proba(x_val))[0]
            if score > best:
                best, self.chosen["C"] = score, strength
                self.head.weight.copy_(torch.from_numpy(probe.coef_))
                self.head.bias.copy_(torch.from_numpy(probe.intercept_))
        if "C" not in self.chosen:
            raise DataError(
                "linear_probe: the AUC of source validation is undefined. "
                "Add validation images of every grade."
            )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Predict logits, see `Method.forward`."""
        return self.head(F.normalize(self.image.pooled(image), dim=-1))
