"""Three towers: photograph, text and row -> tokens of one width. Input: tensors of a Visit; output: (B, T, d) float32.

Each token of a tower is a function of that modality alone. The text tower comes with its tokenizer.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block, VisionTransformer
from torch import nn

from clipdr import DataError
from clipdr.models.factory import timm_tower
from clipdr.models.image_tower import keep_statistics, last_map

PATCH = 16  # pixels; a patch has 3 * 16 * 16 = 768 values
SMALL = {"embed_dim": 192, "depth": 6, "num_heads": 3}


class Patches(nn.Module):
    """A transformer's tokens, its class token first. Masked patches are replaced by a learned token before the blocks."""

    def __init__(self, trunk, mean, std):
        super().__init__()
        if trunk.num_prefix_tokens != 1 or trunk.patch_embed.patch_size != (PATCH, PATCH):
            raise DataError(
                f"image tower: a transformer with one class token and patches of {PATCH} pixels is needed"
            )
        self.trunk, self.mask = trunk, nn.Parameter(torch.zeros(trunk.embed_dim))
        self.grid, self.width = trunk.patch_embed.grid_size, trunk.embed_dim
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, image, masked=None):
        patch = self.trunk.patch_embed((image - self.mean) / self.std)  # (B, P, d)
        if masked is not None:
            patch = torch.where(masked[:, :, None], self.mask.to(patch.dtype), patch)
        hidden = self.trunk.norm_pre(self.trunk._pos_embed(patch))
        for block in self.trunk.blocks:
            hidden = block(hidden)
        return self.trunk.norm(hidden)


class Map(nn.Module):
    """A convolutional network's last map as tokens, their mean first. BatchNorm keeps its pretrained statistics, so that a photograph's
    tokens depend on that photograph alone and any number of processes agrees. Masked patches are grey in the input."""

    def __init__(self, trunk, mean, std, side):
        super().__init__()
        self.trunk = trunk
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)
        with torch.no_grad():
            _, self.width, *grid = last_map(trunk.eval(), torch.zeros(1, 3, side, side)).shape
        self.grid = tuple(grid)
        self.place = nn.Parameter(torch.zeros(1, grid[0] * grid[1], self.width))

    def train(self, mode=True):
        super().train(mode)
        keep_statistics(self.trunk)
        return self

    def forward(self, image, masked=None):
        pixels = (image - self.mean) / self.std
        if masked is not None:
            hidden = masked.view(-1, 1, *self.grid).float()
            pixels = pixels * (1 - F.interpolate(hidden, size=pixels.shape[-2:], mode="nearest"))
        patch = (
            last_map(self.trunk, pixels.contiguous(memory_format=torch.channels_last))
            .flatten(2)
            .transpose(1, 2)
        )
        return torch.cat([patch.mean(1, keepdim=True), patch + self.place], 1)


def image_tower(spec, weights, side):
    """The tower named by settings.tower, with `width`, `grid` and tokens (B, 1 + P, width)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if spec == "small":
            trunk, mean, std = (
                VisionTransformer(side, PATCH, num_classes=0, **SMALL),
                (0.5,) * 3,
                (0.5,) * 3,
            )
        elif spec.startswith("timm/"):
            trunk, mean, std = timm_tower(spec.partition("/")[2], weights, side)
        else:
            raise DataError(f"image tower {spec!r} is unknown; use small or timm/NAME")
    return (
        Patches(trunk, mean, std)
        if isinstance(trunk, VisionTransformer)
        else Map(trunk, mean, std, side)
    )


class SmallText(nn.Module):
    """Two pre-norm layers over word embeddings and learned positions."""

    def __init__(self, size, width, heads, limit, dropout, layers=2):
        super().__init__()
        self.width = width
        self.word, self.place = nn.Embedding(size, width), nn.Embedding(limit, width)
        for table in (self.word, self.place):
            nn.init.normal_(table.weight, std=0.02)
        self.blocks = nn.ModuleList(
            Block(width, heads, qkv_bias=True, proj_drop=dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, token, used):
        hidden = self.word(token) + self.place.weight[: token.shape[1]]
        for block in self.blocks:
            hidden = block(hidden, attn_mask=used[:, None, None])
        return self.norm(hidden)


class PretrainedText(nn.Module):
    """A BERT of the transformers library from a local folder, of which the last `trained` layers learn."""

    def __init__(self, folder, trained):
        super().__init__()
        from transformers import AutoModel

        self.model = AutoModel.from_pretrained(folder, local_files_only=True)
        self.word = self.model.get_input_embeddings()
        self.width = self.word.embedding_dim
        self.model.requires_grad_(False)
        layers = self.model.encoder.layer
        for layer in layers[len(layers) - trained :]:
            layer.requires_grad_(True)

    def forward(self, token, used):
        return self.model(input_ids=token, attention_mask=used.long()).last_hidden_state


def text_tower(setting, tokenizer):
    """The tower named by settings.text_tower."""
    if setting.text_tower == "small":
        return SmallText(
            tokenizer.size, setting.width, setting.heads, setting.tokens, setting.dropout
        )
    return PretrainedText(text_folder(setting.text_tower), setting.text_layers)


def text_folder(spec):
    """Folder of `hf:FOLDER`; DataError where it is not one here: nothing is downloaded."""
    family, _, folder = spec.partition(":")
    if family != "hf" or not Path(folder).is_dir():
        raise DataError(
            f"text tower {spec!r}: use small or hf:FOLDER, a folder here that holds the model and its tokenizer"
        )
    return folder


class RowTower(nn.Sequential):
    """(B, F) -> (B, 1, d): Linear(F, 256) - GELU - dropout .1 - Linear(256, d)."""

    def __init__(self, columns, width, dropout):
        super().__init__(
            nn.Linear(columns, 256), nn.GELU(), nn.Dropout(dropout), nn.Linear(256, width)
        )

    def forward(self, row):
        return super().forward(row)[:, None]
