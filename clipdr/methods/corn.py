"""CORN (Shi et al., 2023): conditional ordinal regression, optionally with LoRA (Hu et al., 2022).

The head answers four questions: is the grade above k, given that it is above k - 1? With the
ViT-B/14 of DINOv2 as backbone and `lora: 8` this is our form of the third-party baseline "DINOv2 +
LoRA + CORN".

Deviation: tables take the most probable grade, as for every method. CORN's own rule is the number
of k with P(grade > k) > 1/2. It can be computed from the five probabilities.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from clipdr import GRADES, DataError
from clipdr.methods.base import Method

if TYPE_CHECKING:
    from clipdr.data.loader import Batch
    from clipdr.models.backbone import Backbone

# the linear layers of the attention of every block of a timm transformer
ATTENTION = r".*\.blocks\.\d+\.attn\.(qkv|proj)"


class Corn(Method):
    """Linear head with four conditional logits; the loss is `corn_loss`.

    Args:
        backbone: Image encoder, or cached features.
        lora: Rank of the low-rank updates of every transformer block's attention, with all else
            frozen. 0 trains the whole encoder.
        lora_alpha: An update is lora_alpha / lora * B A.

    Raises:
        DataError: If `lora` is set and the encoder is not a ViT of timm.
    """

    def __init__(self, backbone: Backbone, lora: int = 0, lora_alpha: int = 16):
        """Create the head and, if asked for, the low-rank updates."""
        super().__init__(backbone)
        self.head = nn.Linear(backbone.pooled_dim, len(GRADES) - 1)
        if not backbone.cached:
            backbone.image_tower().projection.requires_grad_(False)
        if lora:
            add_lora(self.image, lora, lora_alpha)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Predict log-probabilities of the grades, see `Method.forward`."""
        return log_probability(self.head(self.image.pooled(image)))

    def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Compute the term "corn", see `Method.loss`."""
        return {"corn": corn_loss(self.head(self.image.pooled(batch.image)), batch.grade)}


def log_probability(conditional: torch.Tensor) -> torch.Tensor:
    """Compute log-probabilities of the grades.

    Args:
        conditional: Logits of P(grade > k | grade > k - 1), (B, 4) float.

    Returns:
        log P(grade), (B, 5) float. Their softmax returns the probabilities, because these sum to 1.
    """
    passed = F.pad(F.logsigmoid(conditional).cumsum(1), (1, 0))  # (B, 5) log P(grade > k - 1)
    return passed + F.pad(F.logsigmoid(-conditional), (0, 1))


def corn_loss(conditional: torch.Tensor, grade: torch.Tensor) -> torch.Tensor:
    """Compute the loss of CORN (Shi et al., 2023).

    It is the binary cross-entropy of "grade > k" over the images with grade > k - 1. The sum over
    the four questions is divided by the number of all answers.

    Args:
        conditional: Logits of P(grade > k | grade > k - 1), (B, 4) float.
        grade: (B,) int64, 0..4.

    Returns:
        Scalar >= 0.
    """
    question = torch.arange(conditional.shape[1], device=grade.device)
    asked, worse = grade[:, None] >= question, grade[:, None] > question  # (B, 4)
    answers = F.binary_cross_entropy_with_logits(
        conditional, worse.to(conditional.dtype), reduction="none"
    )
    return (answers * asked).sum() / asked.sum()


def add_lora(tower: nn.Module, rank: int, alpha: int) -> None:
    """Add low-rank updates to the attention of a timm transformer and freeze the rest, in place.

    The updates start at zero.

    Transformers of open_clip are refused. Their query, key and value are one parameter. peft adds
    the update to it before each pass and subtracts it after, so that rounding changes the frozen
    weights.

    Args:
        tower: Image encoder.
        rank: Rank of an update, at least 1.
        alpha: An update is alpha / rank * B A.

    Raises:
        DataError: If the encoder is not a ViT of timm.
    """
    from peft import LoraConfig, inject_adapter_in_model  # slow to import

    if not any(re.fullmatch(ATTENTION, name) for name, _ in tower.named_modules()):
        raise DataError(
            "corn: lora needs a ViT of timm (CLIP's: timm/vit_base_patch16_clip_quickgelu_224). "
            "Use one with `frozen: false`, or set lora to 0."
        )
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=alpha, target_modules=ATTENTION), tower)
