"""CoOpLVT (Baliah et al., 2023): CoOp whose context also holds visual tokens made from the image, so that every image has its own prompts.

The image tower is trained, the text tower frozen. Written from the abstract and general knowledge. Ours: 4 context and 4 visual tokens, a
perceptron D -> 512 -> 4 W that reads the image's feature at unit length, and CoOp's names of the grades behind both.
"""

import torch
import torch.nn.functional as F
from torch import nn

from clipdr.methods.base import Method
from clipdr.models.prompts import Prompts


class CoOpLvt(Method):
    """context, visual: learned and visual tokens of a prompt;  hidden: width of the perceptron;  bank: a key of prompts.BANKS."""

    def __init__(self, backbone, context=4, visual=4, hidden=512, bank="B"):
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

    def forward(self, image):
        features = F.normalize(self.image(image), dim=1)  # (B, D)
        texts = F.normalize(self.texts(self.visual(features)), dim=2)  # (B, 5, D)
        return self.scale * torch.einsum("bd,bkd->bk", features, texts)

    def texts(self, visual):
        """(B, V, W) visual tokens -> (B, 5, D) features of the sentences [start] context, visual tokens, grade's name, full stop [end]."""
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
