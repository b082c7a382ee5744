"""Encoders of the three modalities: image, text and structured data -> tokens of one width.

Each token of an encoder is a function of that modality alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block, VisionTransformer
from torch import nn

from clipdr import DataError
from clipdr.models.image_tower import keep_statistics, last_map
from clipdr.models.pretrained import load_timm
from clipdr.multimodal.data.tokenizer import Tokenizer
from clipdr.multimodal.settings import Settings

PATCH = 16  # pixels; a patch has 3 * 16 * 16 = 768 values
SMALL: dict[str, Any] = {"embed_dim": 192, "depth": 6, "num_heads": 3}


class TransformerImageTower(nn.Module):
    """Vision transformer as image encoder; a learned token replaces masked patches.

    Args:
        trunk: Vision transformer of timm with one class token and patches of 16 pixels.
        mean: Mean of each channel, of values in [0, 1].
        std: Standard deviation of each channel.

    Attributes:
        grid: Rows and columns of patches.
        width: Width of a token.

    Raises:
        DataError: If the trunk has another form.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, trunk: Any, mean: Sequence[float], std: Sequence[float]) -> None:
        """Create an encoder around a trunk."""
        super().__init__()
        if trunk.num_prefix_tokens != 1 or trunk.patch_embed.patch_size != (PATCH, PATCH):
            raise DataError(
                "image tower: needs a transformer with one class token and patches of "
                f"{PATCH} pixels. Choose another model."
            )
        self.trunk, self.mask = trunk, nn.Parameter(torch.zeros(trunk.embed_dim))
        self.grid: tuple[int, int] = trunk.patch_embed.grid_size
        self.width: int = trunk.embed_dim
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, image: torch.Tensor, masked: torch.Tensor | None = None) -> torch.Tensor:
        """Encode images.

        Args:
            image: (B, 3, S, S) float32 in [0, 1].
            masked: (B, P) bool, True where a patch is masked.

        Returns:
            (B, 1 + P, width) tokens, the class token first.
        """
        patch = self.trunk.patch_embed((image - self.mean) / self.std)  # (B, P, d)
        if masked is not None:
            patch = torch.where(masked[:, :, None], self.mask.to(patch.dtype), patch)
        hidden = self.trunk.norm_pre(self.trunk._pos_embed(patch))
        for block in self.trunk.blocks:
            hidden = block(hidden)
        return self.trunk.norm(hidden)


class ConvolutionalImageTower(nn.Module):
    """Convolutional network as image encoder: its last feature map as tokens, their mean first.

    BatchNorm keeps its pretrained statistics, so that the tokens of an image depend on that image
    alone and any number of processes agrees. Masked patches are grey in the input.

    Args:
        trunk: Convolutional network of timm.
        mean: Mean of each channel, of values in [0, 1].
        std: Standard deviation of each channel.
        side: Side of the input, pixels.

    Attributes:
        grid: Rows and columns of the feature map.
        width: Width of a token.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self, trunk: nn.Module, mean: Sequence[float], std: Sequence[float], side: int
    ) -> None:
        """Create an encoder around a trunk."""
        super().__init__()
        self.trunk = trunk
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)
        with torch.no_grad():
            _, width, *grid = last_map(trunk.eval(), torch.zeros(1, 3, side, side)).shape
        self.width: int = width
        self.grid: tuple[int, int] = (grid[0], grid[1])
        self.place = nn.Parameter(torch.zeros(1, grid[0] * grid[1], width))

    def train(self, mode: bool = True) -> ConvolutionalImageTower:
        """Switch to training or evaluation; the statistics of BatchNorm stay fixed."""
        super().train(mode)
        keep_statistics(self.trunk)
        return self

    def forward(self, image: torch.Tensor, masked: torch.Tensor | None = None) -> torch.Tensor:
        """Encode images.

        Args:
            image: (B, 3, S, S) float32 in [0, 1].
            masked: (B, P) bool, True where a patch is masked.

        Returns:
            (B, 1 + P, width) tokens, their mean first.
        """
        pixels = (image - self.mean) / self.std
        if masked is not None:
            hidden = masked.view(-1, 1, *self.grid).float()
            pixels = pixels * (1 - F.interpolate(hidden, size=pixels.shape[-2:], mode="nearest"))
        feature_map = last_map(self.trunk, pixels.contiguous(memory_format=torch.channels_last))
        patch = feature_map.flatten(2).transpose(1, 2)
        return torch.cat([patch.mean(1, keepdim=True), patch + self.place], 1)


def image_tower(
    spec: str, weights: str, side: int
) -> TransformerImageTower | ConvolutionalImageTower:
    """Create an image encoder.

    Args:
        spec: "small" or "timm/NAME".
        weights: Weights of a timm model, as of `Settings.weights`.
        side: Side of the input, pixels.

    Returns:
        The encoder, with random weights that depend on no global seed.

    Raises:
        DataError: If `spec` is unknown.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if spec == "small":
            trunk = VisionTransformer(side, PATCH, num_classes=0, **SMALL)
            mean, std = (0.5,) * 3, (0.5,) * 3
        elif spec.startswith("timm/"):
            trunk, mean, std = load_timm(spec.partition("/")[2], weights, side)
        else:
            raise DataError(f"image tower {spec!r}: is unknown. Use small or timm/NAME.")
    if isinstance(trunk, VisionTransformer):
        return TransformerImageTower(trunk, mean, std)
    return ConvolutionalImageTower(trunk, mean, std, side)


class SmallTextTower(nn.Module):
    """Small text encoder: pre-norm layers over word embeddings and learned positions.

    Args:
        size: Number of token ids.
        width: Width of a token.
        heads: Attention heads.
        limit: Longest text, tokens.
        dropout: Dropout probability.
        layers: Number of layers.
    """

    def __init__(
        self, size: int, width: int, heads: int, limit: int, dropout: float, layers: int = 2
    ) -> None:
        """Create an encoder with random weights."""
        super().__init__()
        self.width = width
        self.word, self.place = nn.Embedding(size, width), nn.Embedding(limit, width)
        for table in (self.word, self.place):
            nn.init.normal_(table.weight, std=0.02)
        self.blocks = nn.ModuleList(
            Block(width, heads, qkv_bias=True, proj_drop=dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, token: torch.Tensor, used: torch.Tensor) -> torch.Tensor:
        """Encode texts.

        Args:
            token: (B, L) int64 token ids.
            used: (B, L) bool, False for padding.

        Returns:
            (B, L, width) tokens.
        """
        hidden = self.word(token) + self.place.weight[: token.shape[1]]
        for block in self.blocks:
            hidden = block(hidden, attn_mask=used[:, None, None])
        return self.norm(hidden)


class PretrainedTextTower(nn.Module):
    """BERT of a local folder of the transformers library as text encoder.

    Args:
        folder: Folder of the model.
        trained: Number of last layers that are trained.
    """

    def __init__(self, folder: str | Path, trained: int) -> None:
        """Create an encoder from a local folder; nothing is downloaded."""
        super().__init__()
        from transformers import AutoModel

        self.model = AutoModel.from_pretrained(folder, local_files_only=True)
        self.word = self.model.get_input_embeddings()
        self.width: int = self.word.embedding_dim
        self.model.requires_grad_(False)
        layers = self.model.encoder.layer
        for layer in layers[len(layers) - trained :]:
            layer.requires_grad_(True)

    def forward(self, token: torch.Tensor, used: torch.Tensor) -> torch.Tensor:
        """Encode texts; arguments and result as of `SmallTextTower.forward`."""
        return self.model(input_ids=token, attention_mask=used.long()).last_hidden_state


def text_tower(setting: Settings, tokenizer: Tokenizer) -> SmallTextTower | PretrainedTextTower:
    """Create the text encoder that `setting.text_tower` names.

    Args:
        setting: Settings of the run.
        tokenizer: Tokenizer of the texts.

    Returns:
        The encoder.
    """
    if setting.text_tower == "small":
        return SmallTextTower(
            tokenizer.size, setting.width, setting.heads, setting.tokens, setting.dropout
        )
    return PretrainedTextTower(text_folder(setting.text_tower), setting.text_layers)


def text_folder(spec: str) -> str:
    """Return the folder of a pretrained text encoder.

    Args:
        spec: "hf:FOLDER".

    Returns:
        The folder.

    Raises:
        DataError: If there is no such local folder, because nothing is downloaded.
    """
    family, _, folder = spec.partition(":")
    if family != "hf" or not Path(folder).is_dir():
        raise DataError(
            f"text tower {spec!r}: is no local model. "
            "Use small or hf:FOLDER, a folder that holds the model and its tokenizer."
        )
    return folder


class RowTower(nn.Sequential):
    """Encoder of structured data: Linear(F, 256), GELU, dropout, Linear(256, d).

    Args:
        columns: F, width of a structured row.
        width: d, width of a token.
        dropout: Dropout probability.
    """

    def __init__(self, columns: int, width: int, dropout: float) -> None:
        """Create an encoder with random weights."""
        super().__init__(
            nn.Linear(columns, 256), nn.GELU(), nn.Dropout(dropout), nn.Linear(256, width)
        )

    def forward(self, row: torch.Tensor) -> torch.Tensor:
        """Encode structured rows, (B, F) float32 -> (B, 1, d)."""
        return super().forward(row)[:, None]
