"""Fine-tuned CLIP (Radford et al., 2021): similarities to fixed sentences, trained encoder.

It is CLIP-DR without learned prompts, ranking loss, KL term and smoothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from clipdr import DataError
from clipdr.methods.base import Method
from clipdr.models.prompts import BANKS, ensemble, similarity

if TYPE_CHECKING:
    import torch

    from clipdr.models.backbone import Backbone


class ClipFinetune(Method):
    """Cosines with the averaged sentences of each grade, times the scale of CLIP.

    The loss is cross-entropy. The whole image encoder is trained. Text encoder and scale are
    frozen.

    Args:
        backbone: Image encoder and text encoder.
        bank: A key of `clipdr.models.prompts.BANKS`; the default is CLIP-DR's.

    Raises:
        DataError: If the bank is unknown.
    """

    reads = "images"
    text: torch.Tensor

    def __init__(self, backbone: Backbone, bank: str = "A"):
        """Average the sentences of the bank."""
        super().__init__(backbone)
        if bank not in BANKS:
            raise DataError(
                f"clip_finetune: bank {bank!r} is unknown. Known banks: {', '.join(BANKS)}."
            )
        self.scale = backbone.scale
        self.register_buffer("text", ensemble(backbone.banks[bank]))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Predict logits, see `Method.forward`."""
        return similarity(self.image(image), self.text, self.scale)
