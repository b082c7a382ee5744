"""Prompt banks of the five grades and the prompts built on them: fixed, learned or interpolated -> text features -> similarities."""

import torch
import torch.nn.functional as F
from torch import nn

from clipdr import GRADES, DataError
from clipdr.models.text_tower import OpenClipText, sentences

BANKS = {
    "A": (
        "no DR",
        "Mild",
        "Moderate",
        "Severe",
        "Proliferation",
    ),  # words of CLIP-DR's framework figure
    "B": (
        "no apparent diabetic retinopathy",
        "mild non-proliferative diabetic retinopathy",
        "moderate non-proliferative diabetic retinopathy",
        "severe non-proliferative diabetic retinopathy",
        "proliferative diabetic retinopathy",
    ),
    "C": (
        "a healthy retina without any lesion of diabetic retinopathy",
        "a retina with microaneurysms only",
        "a retina with microaneurysms and a few dot and blot haemorrhages, hard exudates or cotton wool spots",
        "a retina with many haemorrhages in all four quadrants, venous beading or intraretinal microvascular abnormalities, "
        "without new vessels",
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
WEIGHTS = {  # OrdinalCLIP (Li et al., 2022): weight of a base embedding at distance d, of K grades
    "linear": lambda d, grades: 1 - d / (grades - 1),
    "inv_prop": lambda d, grades: 1 / (d + 1e-5),
    "normal": lambda d, grades: torch.exp(-(d**2)),
}
STD = 0.02  # of every random token, as CLIP's own token embeddings


def bank_features(tower):
    """{bank: (5, templates, dim) float32} features of every sentence of every bank, not normalised."""
    return {
        bank: sentences(
            tower, [template.format(name) for name in names for template in TEMPLATES]
        ).unflatten(0, (len(names), -1))
        for bank, names in BANKS.items()
    }


def ensemble(features):
    """(5, templates, dim) -> (5, dim): mean over the templates, unit length (CLIP's prompt ensemble)."""
    return F.normalize(features.mean(1), dim=-1)


def interpolation(bases, kind):
    """(5, bases) weights of OrdinalCLIP's base embeddings, rows sum to 1; bases sit at linspace(0, 4), a single one in the middle."""
    grades = len(GRADES)
    place = torch.linspace(0, grades - 1, bases) if bases > 1 else torch.tensor([(grades - 1) / 2])
    weight = WEIGHTS[kind]((torch.arange(grades)[:, None] - place).abs(), grades)
    return weight / weight.sum(1, keepdim=True)


class Fixed(nn.Module):
    """Whole sentences of a bank instead of learned prompts: nothing is trained. banks: {bank: (5, templates, dim) features}."""

    def __init__(self, banks, bank):
        super().__init__()
        if bank not in banks:
            raise DataError(f"prompts: bank {bank!r} is unknown; known are {', '.join(banks)}")
        self.register_buffer("features", ensemble(banks[bank]), persistent=False)

    def forward(self):
        return self.features


class Prompts(nn.Module):
    """Five learned pseudo-sentences -> text features (5, dim): [start] context, tokens of the grade, full stop [end].

    tower        : text tower (clipdr.models.text_tower), frozen; gradients pass through it
    mode         : "tokens" (one random token per grade, trained) | "names" (word embeddings of the names, then trained)
                   | "names_frozen" (as names, fixed: CoOp) | "interpolated" (weighted sums of base embeddings: OrdinalCLIP)
    context      : number of learned context tokens
    context_init : a text whose token embeddings replace the random context (its length replaces `context`)
    per_class    : one context per grade instead of a shared one (CoOp's class-specific context)
    bank         : key of BANKS, for the two modes with names
    bases, kind  : number of base embeddings and their weights, for "interpolated"
    """

    def __init__(
        self,
        tower,
        mode,
        context=10,
        context_init="",
        per_class=False,
        bank="A",
        bases=3,
        kind="linear",
    ):
        super().__init__()
        self.tower = tower
        grades = len(GRADES)
        with torch.no_grad():
            first = (
                tower.embed(torch.tensor(tower.words(context_init)))
                if context_init
                else STD * torch.randn(context, tower.width)
            )
            self.context = nn.Parameter(
                first.expand(grades if per_class else 1, -1, -1).clone()
            )  # (1 or 5, M, W)
            tokens, length = self.grade_tokens(tower, mode, bank, bases)
            around = {
                name: tower.embed(torch.tensor(ids))
                for name, ids in (("start", tower.start), ("tail", tower.stop + tower.end))
            }
        if mode == "names_frozen":
            self.register_buffer("tokens", tokens, persistent=False)
        else:
            self.tokens = nn.Parameter(tokens)
        weight = interpolation(bases, kind) if mode == "interpolated" else None
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("start", around["start"], persistent=False)
        self.register_buffer("tail", around["tail"], persistent=False)
        self.grade_length = length
        used = (
            len(around["start"])
            + self.context.shape[1]
            + torch.tensor(length)
            + len(around["tail"])
        )
        self.register_buffer("length", used, persistent=False)

    @staticmethod
    def grade_tokens(tower, mode, bank, bases):
        """First values of the trained tokens (5 or bases, m, W), zero-padded, and the tokens used by each grade."""
        grades = len(GRADES)
        if mode == "tokens":
            return STD * torch.randn(grades, 1, tower.width), [1] * grades
        if mode == "interpolated":
            return STD * torch.randn(bases, 1, tower.width), [1] * grades
        if mode not in ("names", "names_frozen"):
            raise DataError(
                f"prompts: mode {mode!r} is unknown; use tokens, names, names_frozen or interpolated"
            )
        ids = [tower.words(name) for name in BANKS[bank]]
        tokens = torch.zeros(grades, max(map(len, ids)), tower.width)
        for row, words in zip(tokens, ids, strict=True):
            row[: len(words)] = tower.embed(torch.tensor(words))
        return tokens, [len(words) for words in ids]

    def tails(self):
        """What follows the context in each of the five sentences: tokens of the grade, full stop, end; 5 times (m + 2, W)."""
        tokens = (
            self.tokens
            if self.weight is None
            else torch.einsum("kb,bmw->kmw", self.weight, self.tokens)
        )
        return [
            torch.cat([row[:used], self.tail])
            for row, used in zip(tokens, self.grade_length, strict=True)
        ]

    def embedded(self):
        """(5, L, W) embeddings of the five sentences, zeros behind each sentence's end."""
        contexts = self.context.expand(len(GRADES), -1, -1)
        rows = [
            torch.cat([self.start, context, tail])
            for context, tail in zip(contexts, self.tails(), strict=True)
        ]
        return nn.utils.rnn.pad_sequence(rows, batch_first=True)

    def forward(self):
        if len(self.context) == 1 and isinstance(
            self.tower, OpenClipText
        ):  # all five open alike: read that once
            return self.tower.encode_shared(torch.cat([self.start, self.context[0]]), self.tails())
        return self.tower.encode(self.embedded(), self.length)


def similarity(image, text, scale):
    """(B, D) and (5, D) features of any length -> (B, 5) float32 cosines times `scale`."""
    return scale * F.normalize(image.float(), dim=-1) @ F.normalize(text.float(), dim=-1).T
