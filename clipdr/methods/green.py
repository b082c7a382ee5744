"""GREEN (Liu et al., 2020): logits gated by embeddings from a graph convolution over the grades.

Deviation: the loss is cross-entropy, as in GDRBench. The paper may use other class targets (general
knowledge, not checked).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from clipdr import GRADES
from clipdr.methods.erm import Erm

if TYPE_CHECKING:
    from clipdr.models.backbone import Backbone

NEIGHBOUR = 0.2  # start weight of an edge between adjacent grades


class Green(Erm):
    """ERM with gated logits: output = l + sigmoid(f E^T) * l; the loss is cross-entropy.

    f is the pooled feature (a constant for the gate), l the logits of the linear head, E the
    embeddings of the grades.

    Args:
        backbone: Image encoder, or cached features.
        hidden: Width of the first layer of the graph.
    """

    def __init__(self, backbone: Backbone, hidden: int = 1024):
        """Create head and graph."""
        super().__init__(backbone)
        self.graph = GradeGraph(hidden, backbone.pooled_dim)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Predict logits, see `Method.forward`."""
        features = self.image.pooled(image)  # (B, F)
        logits = self.head(features)
        gate = torch.sigmoid(features.detach() @ self.graph().T)  # (B, 5)
        return logits + gate * logits


class GradeGraph(nn.Module):
    """Two graph convolutions on one-hot grades with a learned symmetric adjacency.

    A = D^-1/2 (ReLU(A0) + I) D^-1/2, with D the row sums. H1 = LeakyReLU_0.2(A W1). H2 =
    stopgrad(A) H1 W2. Only the strict lower triangle of A0 is free. Edges that start at 0 stay 0,
    because the gradient of ReLU at 0 is 0, as in the code of GDRBench.

    Args:
        hidden: Width of the first layer.
        width: Width F of the embeddings.
    """

    triangle: torch.Tensor

    def __init__(self, hidden: int, width: int):
        """Create edges and weights."""
        super().__init__()
        grades = len(GRADES)
        row, column = torch.tril_indices(grades, grades, -1)
        self.register_buffer("triangle", torch.stack([row, column]), persistent=False)
        self.edges = nn.Parameter(torch.where(row - column == 1, NEIGHBOUR, 0.0))  # (10,)
        self.w1 = nn.Parameter(torch.empty(grades, hidden).uniform_(-1, 1) / hidden**0.5)
        self.w2 = nn.Parameter(torch.empty(hidden, width).uniform_(-1, 1) / width**0.5)
        self.activation = nn.LeakyReLU(0.2)

    def adjacency(self) -> torch.Tensor:
        """Return the normalised adjacency, (5, 5) float32, symmetric."""
        row, column = self.triangle
        lower = self.edges.new_zeros(len(GRADES), len(GRADES)).index_put((row, column), self.edges)
        linked = (lower + lower.T).relu() + torch.eye(len(GRADES), device=lower.device)
        root = linked.sum(1).rsqrt()
        return root[:, None] * linked * root

    def forward(self) -> torch.Tensor:
        """Return the embeddings of the grades, (5, F) float32."""
        adjacency = self.adjacency()
        hidden = self.activation(adjacency @ self.w1)  # one-hot nodes: H0 W1 = W1
        return adjacency.detach() @ hidden @ self.w2
