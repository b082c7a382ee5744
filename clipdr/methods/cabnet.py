"""CABNet (He et al., 2021): global attention, then category attention with k maps per grade.

Deviations from GDRBench: the blocks read the last feature map. There they read a pooled vector, on
which attention has no effect. Means over maps and grades replace sums.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from clipdr import GRADES
from clipdr.methods.base import Method

if TYPE_CHECKING:
    from clipdr.methods.base import Source
    from clipdr.models.backbone import Backbone
    from clipdr.models.image_tower import ImageTower


class CabNet(Method):
    """Linear head on the attended feature map; the loss is cross-entropy.

    The method is degenerate where the feature map has one position.

    Args:
        backbone: Image encoder.
        k: Attention maps per grade, at least 1.
        reduction: Channels of the map over the width of the channel gate's hidden layer.
        dropout: Probability of dropping a whole attention map, 0..1.
    """

    reads = "images"
    image: ImageTower

    def __init__(self, backbone: Backbone, k: int = 5, reduction: int = 16, dropout: float = 0.1):
        """Create the attention blocks and the head."""
        super().__init__(backbone)
        channels, *self.map_size = backbone.use_feature_map()
        self.global_attention = GlobalAttention(channels, reduction)
        self.reduce = nn.Conv2d(channels, channels // 2, 1)
        self.category_attention = CategoryAttention(channels // 2, k, dropout)
        self.head = nn.Linear(channels // 2, len(GRADES))

    def degenerate(self, source: Source) -> str:  # noqa: ARG002  (the signature of Method)
        """Return why the method is degenerate: the feature map has one position."""
        return "1 x 1 feature map: attention has no effect" if self.map_size == [1, 1] else ""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Predict logits, see `Method.forward`."""
        features = self.image.feature_map(image)  # (B, C, h, w)
        features = self.reduce(self.global_attention(features))  # (B, C/2, h, w)
        attended = self.category_attention(features) * features
        return self.head(attended.mean((2, 3)))


class GlobalAttention(nn.Module):
    """Channel gate, then spatial gate.

    The channel gate reads mean and maximum over space, the spatial gate those over channels.

    Args:
        channels: Channels C of the feature map.
        reduction: C over the width of the channel gate's hidden layer.
    """

    def __init__(self, channels: int, reduction: int):
        """Create both gates."""
        super().__init__()
        hidden = max(1, channels // reduction)
        self.channel = nn.Sequential(
            nn.Linear(channels, hidden, bias=False),
            nn.ReLU(),
            nn.Linear(hidden, channels, bias=False),
        )
        self.place = nn.Sequential(nn.Conv2d(2, 1, 7, padding=3, bias=False), nn.BatchNorm2d(1))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Apply both gates: (B, C, h, w) -> (B, C, h, w)."""
        gate = torch.sigmoid(
            self.channel(features.mean((2, 3))) + self.channel(features.amax((2, 3)))
        )
        features = features * gate[..., None, None]
        summary = torch.stack([features.amax(1), features.mean(1)], 1)  # (B, 2, h, w)
        return features * torch.sigmoid(self.place(summary))


class CategoryAttention(nn.Module):
    """Attention map with equal weight of every grade, so that frequent grades do not dominate.

    The map is the mean over the grades of score times map. The score of a grade is the mean over
    its k maps of the maximum over space, after dropping whole maps. The map of a grade is the mean
    over its k maps.

    Args:
        channels: Channels C of the feature map.
        k: Maps per grade.
        dropout: Probability of dropping a whole map.
    """

    def __init__(self, channels: int, k: int, dropout: float):
        """Create the maps."""
        super().__init__()
        grades = len(GRADES)
        self.maps = nn.Sequential(
            nn.Conv2d(channels, grades * k, 1, bias=False),
            nn.BatchNorm2d(grades * k),
            nn.ReLU(),
            nn.Unflatten(1, (grades, k)),
        )
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Compute the attention map: (B, C, h, w) -> (B, 1, h, w)."""
        maps = self.maps(features)  # (B, 5, k, h, w)
        score = self.dropout(maps.flatten(1, 2)).amax((2, 3)).view(maps.shape[:3]).mean(2)  # (B, 5)
        return (score[..., None, None] * maps.mean(2)).mean(1, keepdim=True)
