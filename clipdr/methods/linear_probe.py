"""Linear probe (Radford et al., 2021): multinomial logistic regression on unit-length features of the frozen image tower."""

import torch
import torch.nn.functional as F
from torch import nn

from clipdr import GRADES, DataError
from clipdr.evaluation.metrics import METRICS
from clipdr.methods.base import Method


class LinearProbe(Method):
    """L-BFGS, L2 penalty; its strength C is the one of `strengths` with the highest macro AUC on source validation (smallest on a tie)."""

    reads = "feature"

    def __init__(
        self, backbone, strengths=tuple(10.0**power for power in range(-6, 7)), max_iter=1000
    ):
        super().__init__(backbone)
        self.strengths, self.max_iter = strengths, max_iter
        self.head = nn.Linear(backbone.pooled_dim, len(GRADES)).requires_grad_(False)

    def begin(self, source):
        from sklearn.linear_model import LogisticRegression

        parts = [next(rows.chunks(len(rows))) for rows in (source.train, source.val)]
        (x, grade), (x_val, grade_val) = (
            (F.normalize(part.image, dim=-1).double().numpy(), part.grade.numpy()) for part in parts
        )
        if len(set(grade)) < len(GRADES):
            raise DataError(
                f"linear_probe: the training part holds only the grades {sorted(set(grade))}; all five are needed"
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
                "linear_probe: AUC of source validation is undefined for every C; it needs every grade"
            )

    def forward(self, image):
        return self.head(F.normalize(self.image.pooled(image), dim=-1))
