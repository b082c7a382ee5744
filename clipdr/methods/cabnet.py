"""CABNet (He et al., 2021): a global attention block, then a category attention block with k maps per grade, on the last feature map."""

import torch
from torch import nn

from clipdr import GRADES
from clipdr.methods.base import Method


class CabNet(Method):
    """k: attention maps per grade;  reduction: of the channel gate's hidden layer;  dropout: of whole attention maps."""

    reads = "photograph"

    def __init__(self, backbone, k=5, reduction=16, dropout=0.1):
        super().__init__(backbone)
        channels, *self.places = backbone.use_map()
        self.global_attention = GlobalAttention(channels, reduction)
        self.reduce = nn.Conv2d(channels, channels // 2, 1)
        self.category_attention = CategoryAttention(channels // 2, k, dropout)
        self.head = nn.Linear(channels // 2, len(GRADES))

    def degenerate(self, source):
        return "feature map of one place: nothing to attend to" if self.places == [1, 1] else ""

    def forward(self, image):
        features = self.image.feature_map(image)  # (B, C, h, w)
        features = self.reduce(self.global_attention(features))  # (B, C/2, h, w)
        attended = self.category_attention(features) * features
        return self.head(attended.mean((2, 3)))


class GlobalAttention(nn.Module):
    """What and where: a gate per channel, from the mean and the maximum over space, then a gate per place, from those over channels."""

    def __init__(self, channels, reduction):
        super().__init__()
        hidden = max(1, channels // reduction)
        self.channel = nn.Sequential(
            nn.Linear(channels, hidden, bias=False),
            nn.ReLU(),
            nn.Linear(hidden, channels, bias=False),
        )
        self.place = nn.Sequential(nn.Conv2d(2, 1, 7, padding=3, bias=False), nn.BatchNorm2d(1))

    def forward(self, features):
        gate = torch.sigmoid(
            self.channel(features.mean((2, 3))) + self.channel(features.amax((2, 3)))
        )
        features = features * gate[..., None, None]
        summary = torch.stack([features.amax(1), features.mean(1)], 1)  # (B, 2, h, w)
        return features * torch.sigmoid(self.place(summary))


class CategoryAttention(nn.Module):
    """(B, C, h, w) -> (B, 1, h, w): the mean over the grades of score times map; k maps per grade, so that no grade is drowned out.

    score of a grade : mean over its k maps of the maximum over space, after dropping whole maps
    map of a grade   : mean over its k maps
    """

    def __init__(self, channels, k, dropout):
        super().__init__()
        grades = len(GRADES)
        self.maps = nn.Sequential(
            nn.Conv2d(channels, grades * k, 1, bias=False),
            nn.BatchNorm2d(grades * k),
            nn.ReLU(),
            nn.Unflatten(1, (grades, k)),
        )
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, features):
        maps = self.maps(features)  # (B, 5, k, h, w)
        score = self.dropout(maps.flatten(1, 2)).amax((2, 3)).view(maps.shape[:3]).mean(2)  # (B, 5)
        return (score[..., None, None] * maps.mean(2)).mean(1, keepdim=True)
