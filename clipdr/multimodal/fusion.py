"""Joint transformer, its heads, and the whole multimodal model.

Hard rule: an embedding of `embed` comes from one encoder. No output of the joint transformer is an
image or text embedding. The exception, `fused_pair`, exists for the LEAKY demonstration of
`clipdr.multimodal.evaluation.leaky_protocol` and is trained only under `contrast: fused`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch import nn

from clipdr import GRADES
from clipdr.multimodal.data.tokenizer import Tokenizer
from clipdr.multimodal.settings import Settings
from clipdr.multimodal.towers import PATCH, RowTower, image_tower, text_tower

MODALITIES = ("image", "text", "row")
SCALES = ("icdr", "sdrg")
START, MOST = 1 / 0.07, 100.0  # factor of the cosine similarity: initial and largest value


class Fusion(nn.Module):
    """Joint transformer over the tokens of any subset of the modalities.

    Absent modalities are masked as keys, for each eye.

    Args:
        width: Width of a token.
        layers: Number of layers.
        heads: Attention heads.
        dropout: Dropout probability.
    """

    def __init__(self, width: int, layers: int, heads: int, dropout: float = 0.1) -> None:
        """Create a transformer with random weights."""
        super().__init__()
        self.summary = nn.Parameter(torch.randn(width) * 0.02)  # FUSE
        self.kind = nn.ParameterDict(
            {name: nn.Parameter(torch.randn(width) * 0.02) for name in MODALITIES}
        )
        self.blocks = nn.ModuleList(
            Block(width, heads, qkv_bias=True, proj_drop=dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(
        self, tokens: Mapping[str, torch.Tensor], used: Mapping[str, torch.Tensor]
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Join the tokens of the modalities.

        Args:
            tokens: (B, T, d) tokens of each given modality.
            used: (B, T) bool of each given modality, False where a token is absent.

        Returns:
            The summary FUSE (B, d), and the tokens (B, T, d) of each given modality.
        """
        batch = len(next(iter(tokens.values())))
        names = [name for name in MODALITIES if name in tokens]
        joined = torch.cat(
            [
                self.summary.expand(batch, 1, -1),
                *(tokens[name] + self.kind[name] for name in names),
            ],
            1,
        )
        always = torch.ones(batch, 1, dtype=torch.bool, device=joined.device)
        keys = torch.cat([always, *(used[name] for name in names)], 1)
        for block in self.blocks:
            joined = block(joined, attn_mask=keys[:, None, None])
        sizes = [1, *(tokens[name].shape[1] for name in names)]
        summary, *after = self.norm(joined).split(sizes, 1)
        return summary[:, 0], dict(zip(names, after, strict=True))


class Multimodal(nn.Module):
    """Multimodal model: three encoders, projections to embeddings, joint transformer and heads.

    Args:
        setting: Settings of the run.
        columns: F, width of a structured row; 0 without structured data.
        tokenizer: Tokenizer of the texts.
    """

    chosen: ClassVar[dict[str, Any]] = {}  # no learned choice; provenances read this attribute

    def __init__(self, setting: Settings, columns: int, tokenizer: Tokenizer) -> None:
        """Create a model with random or pretrained weights, as the settings state."""
        super().__init__()
        self.setting, self.pad, width = setting, tokenizer.pad, setting.width
        self.image = image_tower(setting.tower, setting.weights, setting.side)
        self.text = text_tower(setting, tokenizer)
        self.row = RowTower(max(columns, 1), width, setting.dropout)
        widths = {"image": self.image.width, "text": self.text.width, "row": width}
        self.fit = nn.ModuleDict(
            {
                name: nn.Identity() if widths[name] == width else nn.Linear(widths[name], width)
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
        # Tied: scored against the word embeddings.
        self.words = nn.Linear(width, self.text.word.embedding_dim)

    @property
    def scale(self) -> torch.Tensor:
        """Factor of the cosine similarity, scalar in (0, 100]."""
        return self.log_scale.exp().clamp(max=MOST)

    def _autocast(self, device: torch.device) -> torch.autocast:
        """Context of the precision that the settings state."""
        return torch.autocast(device.type, torch.bfloat16, enabled=self.setting.precision == "bf16")

    def encode_image(self, image: torch.Tensor, masked: torch.Tensor | None = None) -> torch.Tensor:
        """Encode images.

        Args:
            image: (B, 3, S, S) float32 in [0, 1].
            masked: (B, P) bool, True where a patch is masked.

        Returns:
            V, (B, 1 + P, d) float32.
        """
        with self._autocast(image.device):
            tokens = self.fit["image"](self.image(image, masked))
        return tokens.float()

    def encode_text(self, token: torch.Tensor) -> torch.Tensor:
        """Encode texts, (B, L) int64 token ids -> H (B, L, d) float32."""
        with self._autocast(token.device):
            tokens = self.fit["text"](self.text(token, token != self.pad))
        return tokens.float()

    def unit(self, name: str, tokens: torch.Tensor) -> torch.Tensor:
        """Project the first token of one encoder to an embedding.

        Args:
            name: Modality.
            tokens: (B, T, d) tokens of that modality alone.

        Returns:
            (B, e) unit vectors.
        """
        return F.normalize(self.project[name](tokens[:, 0]), dim=-1)

    def embed(
        self,
        image: torch.Tensor | None = None,
        token: torch.Tensor | None = None,
        row: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """Compute unimodal embeddings, each from its own encoder alone.

        Args:
            image: (B, 3, S, S) float32 in [0, 1].
            token: (B, L) int64 token ids.
            row: (B, F) float32 structured rows.

        Returns:
            (B, e) unit vectors of each given modality: "image", "text", "row".
        """
        embeddings = {}
        if image is not None:
            embeddings["image"] = self.unit("image", self.encode_image(image))
        if token is not None:
            embeddings["text"] = self.unit("text", self.encode_text(token))
        if row is not None:
            embeddings["row"] = self.unit("row", self.row(row))
        return embeddings

    def join(
        self,
        image_tokens: torch.Tensor | None = None,
        text_tokens: torch.Tensor | None = None,
        token: torch.Tensor | None = None,
        row: torch.Tensor | None = None,
        present: Mapping[str, torch.Tensor | None] | None = None,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Run the joint transformer over the given modalities.

        Args:
            image_tokens: V, (B, 1 + P, d).
            text_tokens: H, (B, L, d).
            token: (B, L) int64 token ids of H.
            row: R, (B, 1, d).
            present: (B,) bool of some modalities, False where that modality of an eye is masked.
                Default: all present.

        Returns:
            The summary FUSE (B, d), and the tokens (B, T, d) of each given modality, float32.
        """
        given = zip(MODALITIES, (image_tokens, text_tokens, row), strict=True)
        tokens = {name: values for name, values in given if values is not None}
        used = {
            name: torch.ones(values.shape[:2], dtype=torch.bool, device=values.device)
            for name, values in tokens.items()
        }
        if token is not None:
            used["text"] = token != self.pad
        for name, there in (present or {}).items():
            if name in used and there is not None:
                used[name] = used[name] & there[:, None]
        with self._autocast(next(iter(tokens.values())).device):
            summary, after = self.fusion(tokens, used)
        return summary.float(), {name: values.float() for name, values in after.items()}

    def grades(self, summary: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute the logits of both scales by two heads; neither is derived from the other.

        Args:
            summary: FUSE, (B, d).

        Returns:
            (B, 5) logits of "icdr" and "sdrg", (B, 4) under `ordinal`.
        """
        return {name: head(summary) for name, head in self.heads.items()}

    def fused_pair(
        self, image: torch.Tensor, token: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """LEAKY: compute vectors of the joint transformer run on the true pair.

        Each vector contains the other modality.

        Args:
            image: (B, 3, S, S) float32 in [0, 1].
            token: (B, L) int64 token ids.

        Returns:
            (B, e) image vectors and (B, e) text vectors, of length 1.
        """
        _, after = self.join(self.encode_image(image), self.encode_text(token), token)
        return self.unit("image", after["image"]), self.unit("text", after["text"])

    def word_scores(self, tokens: torch.Tensor) -> torch.Tensor:
        """Score the vocabulary at text positions, with tied word embeddings.

        Args:
            tokens: (..., d) outputs of the joint transformer at text positions.

        Returns:
            (..., vocabulary) scores.
        """
        return self.words(tokens) @ self.text.word.weight.T
