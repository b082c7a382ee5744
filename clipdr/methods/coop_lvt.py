"""CoOpLVT (Baliah et al., 2023): CoOp with visual tokens, so that every image has its own prompts.

Deviations: the implementation follows the abstract and general knowledge, because no code was
available. Choices of this project are 4 context and 4 visual tokens, and the names of the grades
behind both. So is the perceptron D -> 512 -> 4 W on the normalised image feature.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from clipdr.methods.base import Method
from clipdr.models.prompts import Prompts

if TYPE_CHECKING:
    from clipdr.models.backbone import Backbone


class CoOpLvt(Method):
    """Cosines of each image with its own five prompts, times the scale of CLIP.

    The loss is cross-entropy. A prompt is: [start], context tokens, visual tokens, the grade's
    name, full stop, [end]. Image encoder, context and perceptron are trained; the text encoder is
    frozen.

    Args:
        backbone: Image encoder (or cached features) and text encoder.
        context: Number of learned context tokens, at least 1.
        visual: Number V of visual tokens, at least 1.
        hidden: Width of the perceptron's hidden layer.
        bank: A key of `clipdr.models.prompts.BANKS`, for the names of the grades.
    """

    def __init__(
        self,
        backbone: Backbone,
        context: int = 4,
        visual: int = 4,
        hidden: int = 512,
        bank: str = "B",
    ):
        """Create prompts and perceptron."""
        super().__init__(backbone)
        self.scale = backbone.scale
        self.prompts = Prompts(backbone.text, "names_frozen", context, bank=bank)
        width = backbone.text.width
        self.visual = nn.Sequential(
            nn.Linear(backbone.dim, hidden),
            nn.ReLU(),
            nn.Linear(hidden, visual * width),
            nn.Unflatten(1, (visual, width)),
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Predict logits, see `Method.forward`."""
        features = F.normalize(self.image(image), dim=1)  # (B, D)
        texts = F.normalize(self.texts(self.visual(features)), dim=2)  # (B, 5, D)
        return self.scale * torch.einsum("bd,bkd->bk", features, texts)

    def texts(self, visual: torch.Tensor) -> torch.Tensor:
        """Encode the prompts of each image.

        Args:
            visual: Visual tokens, (B, V, W) float32.

        Returns:
            Text features, (B, 5, D) float32, not normalised.
        """
        opening = torch.cat([self.prompts.start, self.prompts.context[0]])
        tails = self.prompts.tails()
        tail = nn.utils.rnn.pad_sequence(tails, batch_first=True)  # (5, T, W)
        count, grades = len(visual), len(tails)
        parts = (
            opening.expand(count, grades, -1, -1),
            visual[:, None].expand(-1, grades, -1, -1),
            tail.expand(count, -1, -1, -1),
        )
        length = self.prompts.length + visual.shape[1]  # (5,)
        return self.prompts.tower.encode(
            torch.cat(parts, 2).flatten(0, 1), length.repeat(count)
        ).unflatten(0, (count, grades))
