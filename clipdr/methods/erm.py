"""ERM: empirical risk minimisation, a linear head on the pooled features of the trained image tower, cross-entropy (Vapnik, 1991)."""

from torch import nn

from clipdr import GRADES
from clipdr.methods.base import Method


class Erm(Method):
    def __init__(self, backbone):
        super().__init__(backbone)
        self.head = nn.Linear(backbone.pooled_dim, len(GRADES))
        if not backbone.cached:  # the projection to the text's space is not on the way to the head
            self.image.projection.requires_grad_(False)

    def forward(self, image):
        return self.head(self.image.pooled(image))
