"""CLIP fine-tuned (Radford et al., 2021): similarities to fixed sentences of the five grades, whole image tower trained by cross-entropy.

What CLIP-DR is without learned prompts, ranking, KL term and smoothing. The text tower and the scale of the cosine are frozen.
"""

from clipdr import DataError
from clipdr.methods.base import Method
from clipdr.models.prompts import BANKS, ensemble, similarity


class ClipFinetune(Method):
    """bank: a key of prompts.BANKS, CLIP-DR's by default."""

    reads = "photograph"

    def __init__(self, backbone, bank="A"):
        super().__init__(backbone)
        if bank not in BANKS:
            raise DataError(
                f"clip_finetune: bank {bank!r} is unknown; known are {', '.join(BANKS)}"
            )
        self.scale = backbone.scale
        self.register_buffer("text", ensemble(backbone.banks[bank]))

    def forward(self, image):
        return similarity(self.image(image), self.text, self.scale)
