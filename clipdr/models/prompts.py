"""Prompts of the five grades: sentence banks, and fixed, learned or interpolated prompts.

Prompts become text features, and their cosines with image features the logits of the CLIP-style
methods.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from clipdr import GRADES, DataError
from clipdr.models.text_tower import OpenClipText, TextTower, encode_sentences

if TYPE_CHECKING:
    from collections.abc import Mapping

BANKS = {
    # words of the framework figure of CLIP-DR (Yu et al., 2024)
    "A": ("no DR", "Mild", "Moderate", "Severe", "Proliferation"),
    # names of the international classification
    "B": (
        "no apparent diabetic retinopathy",
        "mild non-proliferative diabetic retinopathy",
        "moderate non-proliferative diabetic retinopathy",
        "severe non-proliferative diabetic retinopathy",
        "proliferative diabetic retinopathy",
    ),
    # lesions that define each grade
    "C": (
        "a healthy retina without any lesion of diabetic retinopathy",
        "a retina with microaneurysms only",
        "a retina with microaneurysms and a few dot and blot haemorrhages, "
        "hard exudates or cotton wool spots",
        "a retina with many haemorrhages in all four quadrants, venous beading or "
        "intraretinal microvascular abnormalities, without new vessels",
        "a retina with new vessels, vitreous haemorrhage or preretinal haemorrhage",
    ),
}
TEMPLATES = (
    "a photo of {}.",
    "a fundus photograph of {}.",
    "a colour fundus photograph showing {}.",
    "a retinal image of an eye with {}.",
    "This image is {}.",
)
# OrdinalCLIP (Li et al., 2022): weight of a base embedding at distance d from a grade, of K grades
WEIGHTS = {
    "linear": lambda d, grades: 1 - d / (grades - 1),
    "inv_prop": lambda d, _: 1 / (d + 1e-5),
    "normal": lambda d, _: torch.exp(-(d**2)),
}
STD = 0.02  # standard deviation of random tokens, as of CLIP's token embeddings at the start


def encode_banks(tower: TextTower) -> dict[str, torch.Tensor]:
    """Encode every sentence of every prompt bank.

    Args:
        tower: Text encoder.

    Returns:
        {bank: (5, templates, D) float32}, not normalised.
    """
    return {
        bank: encode_sentences(
            tower, [template.format(name) for name in names for template in TEMPLATES]
        ).unflatten(0, (len(names), -1))
        for bank, names in BANKS.items()
    }


def ensemble(features: torch.Tensor) -> torch.Tensor:
    """Average over templates (prompt ensemble): (5, templates, D) -> (5, D) of unit length."""
    return F.normalize(features.mean(1), dim=-1)


def interpolation_weights(bases: int, kind: str) -> torch.Tensor:
    """Compute the weights of OrdinalCLIP's base embeddings (Li et al., 2022).

    The bases lie at linspace(0, 4, bases) on the grade axis; a single base lies in the middle.

    Args:
        bases: Number of base embeddings, at least 1.
        kind: A key of WEIGHTS: how the weight falls with the distance of grade and base.

    Returns:
        (5, bases) float32; rows sum to 1.
    """
    grades = len(GRADES)
    place = torch.linspace(0, grades - 1, bases) if bases > 1 else torch.tensor([(grades - 1) / 2])
    weight = WEIGHTS[kind]((torch.arange(grades)[:, None] - place).abs(), grades)
    return weight / weight.sum(1, keepdim=True)


class FixedPrompts(nn.Module):
    """Whole sentences of a prompt bank instead of learned prompts; nothing is trained.

    Args:
        banks: {bank: (5, templates, D) float32} features of the sentences.
        bank: A key of `banks`.

    Raises:
        DataError: If the bank is unknown.
    """

    features: torch.Tensor

    def __init__(self, banks: Mapping[str, torch.Tensor], bank: str):
        """Average the templates of one bank."""
        super().__init__()
        if bank not in banks:
            raise DataError(f"prompts: bank {bank!r} is unknown. Known banks: {', '.join(banks)}.")
        self.register_buffer("features", ensemble(banks[bank]), persistent=False)

    def forward(self) -> torch.Tensor:
        """Return the text features, (5, D) float32 of unit length."""
        return self.features


class Prompts(nn.Module):
    """Five learned pseudo-sentences, encoded to text features (5, D).

    A sentence is: [start], context, tokens of the grade, full stop, [end].

    Args:
        tower: Frozen text encoder; gradients pass through it to the tokens.
        mode: Tokens of a grade. "tokens": one random token, trained. "names": word embeddings of
            the grade's name, then trained. "names_frozen": the same, fixed, as in CoOp.
            "interpolated": weighted sums of trained base embeddings, as in OrdinalCLIP.
        context: Number M of learned context tokens.
        context_init: Text whose token embeddings are the first context. Its length replaces
            `context`. Empty: random.
        per_class: One context per grade (CoOp's class-specific context) instead of a shared one.
        bank: A key of BANKS, for the two modes with names.
        bases: Number of base embeddings, for "interpolated".
        kind: A key of WEIGHTS, for "interpolated".

    Raises:
        DataError: If the mode is unknown.
    """

    weight: torch.Tensor | None
    start: torch.Tensor
    tail: torch.Tensor
    length: torch.Tensor
    tokens: torch.Tensor

    def __init__(
        self,
        tower: TextTower,
        mode: str,
        context: int = 10,
        context_init: str = "",
        per_class: bool = False,
        bank: str = "A",
        bases: int = 3,
        kind: str = "linear",
    ):
        """Create the context and the tokens of the grades."""
        super().__init__()
        self.tower = tower
        grades = len(GRADES)
        with torch.no_grad():
            first = (
                tower.embed(torch.tensor(tower.tokenize(context_init)))
                if context_init
                else STD * torch.randn(context, tower.width)
            )
            self.context = nn.Parameter(
                first.expand(grades if per_class else 1, -1, -1).clone()
            )  # (1 or 5, M, W)
            tokens, length = self._grade_tokens(tower, mode, bank, bases)
            start = tower.embed(torch.tensor(tower.start))
            tail = tower.embed(torch.tensor(tower.stop + tower.end))
        if mode == "names_frozen":
            self.register_buffer("tokens", tokens, persistent=False)
        else:
            self.tokens = nn.Parameter(tokens)
        weight = interpolation_weights(bases, kind) if mode == "interpolated" else None
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("start", start, persistent=False)
        self.register_buffer("tail", tail, persistent=False)
        self.grade_length = length
        used = len(start) + self.context.shape[1] + torch.tensor(length) + len(tail)
        self.register_buffer("length", used, persistent=False)

    @staticmethod
    def _grade_tokens(
        tower: TextTower, mode: str, bank: str, bases: int
    ) -> tuple[torch.Tensor, list[int]]:
        """First tokens, (5 or bases, m, W), zero-padded, and the number used by each grade."""
        grades = len(GRADES)
        if mode == "tokens":
            return STD * torch.randn(grades, 1, tower.width), [1] * grades
        if mode == "interpolated":
            return STD * torch.randn(bases, 1, tower.width), [1] * grades
        if mode not in ("names", "names_frozen"):
            raise DataError(
                f"prompts: mode {mode!r} is unknown. "
                "Use tokens, names, names_frozen or interpolated."
            )
        ids = [tower.tokenize(name) for name in BANKS[bank]]
        tokens = torch.zeros(grades, max(map(len, ids)), tower.width)
        for row, name_ids in zip(tokens, ids, strict=True):
            row[: len(name_ids)] = tower.embed(torch.tensor(name_ids))
        return tokens, [len(name_ids) for name_ids in ids]

    def tails(self) -> list[torch.Tensor]:
        """Return what follows the context in each sentence.

        Returns:
            Embeddings of the grade's tokens, full stop and end: 5 tensors (m + 2, W) float32.
        """
        tokens = (
            self.tokens
            if self.weight is None
            else torch.einsum("kb,bmw->kmw", self.weight, self.tokens)
        )
        return [
            torch.cat([row[:used], self.tail])
            for row, used in zip(tokens, self.grade_length, strict=True)
        ]

    def embedded(self) -> torch.Tensor:
        """Return the embeddings of the five sentences, (5, L, W) float32, padded with zeros."""
        contexts = self.context.expand(len(GRADES), -1, -1)
        rows = [
            torch.cat([self.start, context, tail])
            for context, tail in zip(contexts, self.tails(), strict=True)
        ]
        return nn.utils.rnn.pad_sequence(rows, batch_first=True)

    def forward(self) -> torch.Tensor:
        """Encode the sentences: text features (5, D) float32, not normalised."""
        if len(self.context) == 1 and isinstance(self.tower, OpenClipText):
            # all five sentences open with the same tokens, which are then encoded once
            return self.tower.encode_shared(torch.cat([self.start, self.context[0]]), self.tails())
        return self.tower.encode(self.embedded(), self.length)


def similarity(image: torch.Tensor, text: torch.Tensor, scale: float) -> torch.Tensor:
    """Compute scaled cosines of image and text features.

    Args:
        image: Image features, (B, D), of any length.
        text: Text features of the five grades, (5, D), of any length.
        scale: Multiplier of the cosine.

    Returns:
        (B, 5) float32.
    """
    return scale * F.normalize(image.float(), dim=-1) @ F.normalize(text.float(), dim=-1).T
