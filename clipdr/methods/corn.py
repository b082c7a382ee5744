"""CORN (Shi et al., 2023): four conditional questions "worse than grade k, given worse than k - 1?"; optional LoRA (Hu et al., 2022).

With DINOv2's ViT-B/14 as backbone and lora 8 it is our form of the third-party "DINOv2 + LoRA + CORN". Tables take the most probable grade,
as for every method; CORN's own rule, the number of k with P(grade > k) > 1/2, can be read off the five probabilities.
"""

import re

import torch
import torch.nn.functional as F
from torch import nn

from clipdr import GRADES, DataError
from clipdr.methods.base import Method

ATTENTION = r".*\.blocks\.\d+\.attn\.(qkv|proj)"  # the linear layers of the attention of every block of a timm transformer


class Corn(Method):
    """lora       : rank of the low-rank updates of every transformer block's attention, all else frozen; 0: the whole tower is trained
    lora_alpha : an update is lora_alpha / lora times B A
    """

    def __init__(self, backbone, lora=0, lora_alpha=16):
        super().__init__(backbone)
        self.head = nn.Linear(backbone.pooled_dim, len(GRADES) - 1)
        if not backbone.cached:
            self.image.projection.requires_grad_(False)
        if lora:
            add_lora(self.image, lora, lora_alpha)

    def forward(self, image):
        return log_probability(self.head(self.image.pooled(image)))

    def loss(self, batch):
        return {"corn": corn_loss(self.head(self.image.pooled(batch.image)), batch.grade)}


def log_probability(conditional):
    """(B, 4) logits of P(grade > k | grade > k - 1) -> (B, 5) log P(grade): the softmax of these are the probabilities, which sum to 1."""
    passed = F.pad(F.logsigmoid(conditional).cumsum(1), (1, 0))  # (B, 5) log P(grade > k - 1)
    return passed + F.pad(F.logsigmoid(-conditional), (0, 1))


def corn_loss(conditional, grade):
    """Binary cross-entropy of each question over the images it is put to (those with grade > k - 1), divided by the number of all answers.

    conditional : (B, 4) float;  grade : (B,) int64, 0..4;  returns a scalar
    """
    question = torch.arange(conditional.shape[1], device=grade.device)
    asked, worse = grade[:, None] >= question, grade[:, None] > question  # (B, 4)
    answers = F.binary_cross_entropy_with_logits(
        conditional, worse.to(conditional.dtype), reduction="none"
    )
    return (answers * asked).sum() / asked.sum()


def add_lora(tower, rank, alpha):
    """Put low-rank updates (zero at first) on the attention of every block of a timm transformer and freeze the rest, in place.

    Raises DataError elsewhere, also for open_clip's transformers: their query, key and value are one parameter, into which peft adds the
    update before and from which it takes it after every pass, so that rounding moves the frozen weights.
    """
    from peft import LoraConfig, inject_adapter_in_model

    if not any(re.fullmatch(ATTENTION, name) for name, _ in tower.named_modules()):
        raise DataError(
            "corn: lora needs a ViT of timm (CLIP's: timm/vit_base_patch16_clip_quickgelu_224) with `frozen: false`; or lora 0"
        )
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=alpha, target_modules=ATTENTION), tower)
