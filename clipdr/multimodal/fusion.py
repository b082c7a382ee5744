"""The joint transformer, its heads, and the whole model: photographs, token ids, rows -> unit vectors, logits, reconstructions.

Hard rule: the vectors of `embed` come from one tower each. Nothing that passed the joint transformer is an image or a text embedding; the
one exception, `fused_pair`, exists for the LEAKY demonstration of clipdr.multimodal.evaluation.leaky_protocol and is trained only under `contrast: fused`.
"""

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch import nn

from clipdr import GRADES
from clipdr.multimodal.towers import PATCH, RowTower, image_tower, text_tower

MODALITIES = ("image", "text", "row")
SCALES = ("icdr", "sdrg")
START, MOST = 1 / 0.07, 100.0  # multiplier of the cosine: at first, at most


class Fusion(nn.Module):
    """Tokens of any subset of the modalities -> tokens after the joint transformer. Absent ones are masked as keys, for each eye."""

    def __init__(self, width, layers, heads, dropout=0.1):
        super().__init__()
        self.summary = nn.Parameter(torch.randn(width) * 0.02)  # FUSE
        self.kind = nn.ParameterDict(
            {name: nn.Parameter(torch.randn(width) * 0.02) for name in MODALITIES}
        )
        self.blocks = nn.ModuleList(
            Block(width, heads, qkv_bias=True, proj_drop=dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, parts, used):
        """parts: {modality: (B, T, d)}, used: {modality: (B, T) bool, False where absent} -> FUSE (B, d), {modality: (B, T, d)}"""
        batch = len(next(iter(parts.values())))
        names = [name for name in MODALITIES if name in parts]
        joined = torch.cat(
            [self.summary.expand(batch, 1, -1), *(parts[name] + self.kind[name] for name in names)],
            1,
        )
        always = torch.ones(batch, 1, dtype=torch.bool, device=joined.device)
        seen = torch.cat([always, *(used[name] for name in names)], 1)
        for block in self.blocks:
            joined = block(joined, attn_mask=seen[:, None, None])
        summary, *after = self.norm(joined).split([1, *(parts[name].shape[1] for name in names)], 1)
        return summary[:, 0], dict(zip(names, after, strict=True))


class Multimodal(nn.Module):
    """The system. setting: Settings; columns: F of a row, 0 without; tokenizer: of clipdr.multimodal.towers."""

    chosen: ClassVar = {}  # nothing is chosen while it learns; read where provenances are written

    def __init__(self, setting, columns, tokenizer):
        super().__init__()
        self.setting, self.pad, width = setting, tokenizer.pad, setting.width
        self.image = image_tower(setting.tower, setting.weights, setting.side)
        self.text = text_tower(setting, tokenizer)
        self.row = RowTower(max(columns, 1), width, setting.dropout)
        fits = {"image": self.image.width, "text": self.text.width, "row": width}
        self.fit = nn.ModuleDict(
            {
                name: nn.Identity() if fits[name] == width else nn.Linear(fits[name], width)
                for name in MODALITIES
            }
        )
        self.project = nn.ModuleDict(
            {name: nn.Linear(width, setting.embedding) for name in MODALITIES}
        )
        self.log_scale = nn.Parameter(torch.tensor(math.log(START)))
        self.fusion = Fusion(width, setting.joint_layers, setting.heads, setting.dropout)
        outputs = len(GRADES) - setting.ordinal
        self.heads = nn.ModuleDict({name: nn.Linear(width, outputs) for name in SCALES})
        self.match = nn.Linear(width, 2)
        self.pixels = nn.Linear(width, 3 * PATCH * PATCH)
        self.words = nn.Linear(
            width, self.text.word.embedding_dim
        )  # tied: scored against the word embeddings

    @property
    def scale(self):
        return self.log_scale.exp().clamp(max=MOST)

    def see(self, image, masked=None):
        """(B, 3, S, S) in [0, 1] -> V (B, 1 + P, d), float32."""
        with torch.autocast(
            image.device.type, torch.bfloat16, enabled=self.setting.precision == "bf16"
        ):
            found = self.fit["image"](self.image(image, masked))
        return found.float()

    def read(self, token):
        """(B, L) int64 -> H (B, L, d), float32."""
        with torch.autocast(
            token.device.type, torch.bfloat16, enabled=self.setting.precision == "bf16"
        ):
            found = self.fit["text"](self.text(token, token != self.pad))
        return found.float()

    def unit(self, name, found):
        """Tokens of ONE tower -> (B, e) unit vectors, from the first token."""
        return F.normalize(self.project[name](found[:, 0]), dim=-1)

    def embed(self, image=None, token=None, row=None):
        """{modality given: (B, e) unit vectors}: each from its own tower alone, whatever else is given."""
        found = {}
        if image is not None:
            found["image"] = self.unit("image", self.see(image))
        if token is not None:
            found["text"] = self.unit("text", self.read(token))
        if row is not None:
            found["row"] = self.unit("row", self.row(row))
        return found

    def join(self, seen=None, read=None, token=None, row=None, present=None):
        """Joint transformer over what is given: V, H with its token ids, R (or None) -> FUSE (B, d), {modality: tokens}.

        present : {modality: (B,) bool}, False where that modality of an eye is to be masked; default: all there
        """
        parts = {
            name: part
            for name, part in zip(MODALITIES, (seen, read, row), strict=True)
            if part is not None
        }
        used = {
            name: torch.ones(part.shape[:2], dtype=torch.bool, device=part.device)
            for name, part in parts.items()
        }
        if read is not None:
            used["text"] = token != self.pad
        for name, there in (present or {}).items():
            if name in used:
                used[name] = used[name] & there[:, None]
        with torch.autocast(
            next(iter(parts.values())).device.type,
            torch.bfloat16,
            enabled=self.setting.precision == "bf16",
        ):
            summary, after = self.fusion(parts, used)
        return summary.float(), {name: part.float() for name, part in after.items()}

    def grades(self, summary):
        """FUSE (B, d) -> {scale: (B, 5) logits, or 4 under `ordinal`}: two heads, never one mapped from the other."""
        return {name: head(summary) for name, head in self.heads.items()}

    def fused_pair(self, image, token):
        """LEAKY: image and text vectors of the joint transformer run on the true pair; each contains the other. (B, e), (B, e)"""
        _, after = self.join(self.see(image), self.read(token), token)
        return self.unit("image", after["image"]), self.unit("text", after["text"])

    def say(self, found):
        """Tokens of the joint transformer at text positions (..., d) -> scores of the words (..., vocabulary), embeddings tied."""
        return self.words(found) @ self.text.word.weight.T
