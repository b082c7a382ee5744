"""GREEN (Liu et al., 2020): a graph convolution over the five grades learns one embedding per grade; it gates the logits of an image.

Deviation: the loss is cross-entropy, as in GDRBench (from general knowledge, the paper may use other class targets).
"""

import torch
from torch import nn

from clipdr import GRADES
from clipdr.methods.erm import Erm

NEIGHBOUR = 0.2  # first weight of an edge between adjacent grades


class Green(Erm):
    """hidden: width of the graph's first layer."""

    def __init__(self, backbone, hidden=1024):
        super().__init__(backbone)
        self.graph = GradeGraph(hidden, backbone.pooled_dim)

    def forward(self, image):
        features = self.image.pooled(image)  # (B, F)
        logits = self.head(features)
        gate = torch.sigmoid(features.detach() @ self.graph().T)  # (B, 5)
        return logits + gate * logits


class GradeGraph(nn.Module):
    """Two graph convolutions on one-hot grades with a learned symmetric adjacency -> embeddings of the grades (5, F).

    A = D^-1/2 (ReLU(A0) + I) D^-1/2,  D its row sums;  H1 = LeakyReLU_.2(A W1);  H2 = stopgrad(A) H1 W2
    Only the strict lower triangle of A0 is free. Edges that start at 0 stay there: the gradient of ReLU at 0 is 0 (as GDRBench's code).
    """

    def __init__(self, hidden, width):
        super().__init__()
        grades = len(GRADES)
        row, column = torch.tril_indices(grades, grades, -1)
        self.register_buffer("place", torch.stack([row, column]), persistent=False)
        self.edges = nn.Parameter(torch.where(row - column == 1, NEIGHBOUR, 0.0))  # (10,)
        self.w1 = nn.Parameter(torch.empty(grades, hidden).uniform_(-1, 1) / hidden**0.5)
        self.w2 = nn.Parameter(torch.empty(hidden, width).uniform_(-1, 1) / width**0.5)
        self.activation = nn.LeakyReLU(0.2)

    def adjacency(self):
        """(5, 5) symmetric, normalised."""
        row, column = self.place
        lower = self.edges.new_zeros(len(GRADES), len(GRADES)).index_put((row, column), self.edges)
        linked = (lower + lower.T).relu() + torch.eye(len(GRADES), device=lower.device)
        root = linked.sum(1).rsqrt()
        return root[:, None] * linked * root

    def forward(self):
        adjacency = self.adjacency()
        hidden = self.activation(adjacency @ self.w1)  # one-hot nodes: H0 W1 = W1
        return adjacency.detach() @ hidden @ self.w2
