"""OrdinalCLIP (Li et al., 2022): grade tokens interpolated between a few learned ones; cross-entropy and KL of text to image."""

import torch.nn.functional as F

from clipdr.methods.base import Method
from clipdr.methods.losses import text_to_image_kl
from clipdr.models.prompts import Prompts, similarity


class OrdinalClip(Method):
    def __init__(self, backbone, context=10, bases=3, kind="linear", kl_weight=1.0):
        super().__init__(backbone)
        self.scale, self.kl_weight = backbone.scale, kl_weight
        self.prompts = Prompts(backbone.text, "interpolated", context, bases=bases, kind=kind)

    def forward(self, image):
        return similarity(self.image(image), self.prompts(), self.scale)

    def loss(self, batch):
        logits = self(batch.image)
        return {
            "ce": F.cross_entropy(logits, batch.grade),
            "kl": self.kl_weight * text_to_image_kl(logits, batch.grade),
        }
