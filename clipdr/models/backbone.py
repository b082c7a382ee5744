"""Backbone: image encoder and text encoder with one embedding width, and their cosine's scale.

The encoders come from open_clip, timm or a local folder. Pixels are normalised inside the image
encoder.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from clipdr import DataError
from clipdr.config.job import folder_of
from clipdr.models.exported import ExportedFolder, ReportTextTower, load_eye_tower
from clipdr.models.factory import SMALL, load_text_tower
from clipdr.models.image_tower import CachedTower, ImageTower
from clipdr.models.pretrained import load_open_clip, load_timm
from clipdr.models.prompts import BANKS, encode_banks

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np

    from clipdr.models.text_tower import TextTower

# multiplier of the cosine where no pretrained CLIP brings its own: the start value of CLIP (Radford
# et al., 2021)
SMALL_SCALE = 1 / 0.07


class Backbone:
    """Image encoder, frozen text encoder and scale of their cosine, on which a method is built.

    Args:
        spec: Mapping with the keys `image`, `weights` and `text` (`clipdr.config.job.Backbone`).
        side: Side of the network's input, pixels.
        cached: Cached arrays of a frozen image encoder: features {bank: (5, templates, D) float32}
            and "scale" (). Those of an exported folder also have "bridge" (D, E). None loads the
            image encoder.
        precision: "fp32" or "bf16", of the image encoder.

    Raises:
        DataError: If an encoder or its weights are unknown, missing, or do not fit.

    Attributes:
        image: The image encoder, or a placeholder that returns cached features.
    """

    def __init__(
        self,
        spec: Mapping[str, str],
        side: int,
        cached: Mapping[str, np.ndarray] | None = None,
        precision: str = "fp32",
    ):
        """Load the image encoder; the text encoder is loaded on first use."""
        self.spec, self.side, self.cached = spec, side, cached
        self.image: ImageTower | CachedTower = (
            CachedTower(cached.get("bridge")) if cached else self._load_image(precision)
        )

    @property
    def dim(self) -> int:
        """Width D of the embedding shared by images and texts.

        It is known without loading a text encoder whose width is set here.
        """
        if self.cached:
            return self.cached["A"].shape[-1]
        return (
            SMALL["output_dim"]
            if self.spec["text"].partition("/")[0] in ("small", "hf")
            else self.text.dim
        )

    @property
    def pooled_dim(self) -> int:
        """Width F of the pooled features that a linear head reads.

        These are the features before the projection, or the cached ones.
        """
        if self.cached and "bridge" in self.cached:
            return self.cached["bridge"].shape[1]
        return (
            self.dim
            if self.cached or not isinstance(self.image.projection, nn.Linear)
            else self.image.projection.in_features
        )

    def use_feature_map(self) -> tuple[int, int, int]:
        """Freeze what lies behind the feature map: the encoder's own pooling and projection.

        Returns:
            Shape (C, h, w) of the image encoder's feature map.
        """
        tower = self.image_tower()
        trained = [parameter for parameter in tower.parameters() if parameter.requires_grad]
        features = tower.eval().feature_map(torch.zeros(1, 3, self.side, self.side))
        gradients: list[torch.Tensor | None] = list(
            torch.autograd.grad(features.sum(), trained, allow_unused=True)
        )
        for parameter, gradient in zip(trained, gradients, strict=True):
            parameter.requires_grad_(gradient is not None)
        tower.train()
        channels, height, width = features.shape[1:]
        return channels, height, width

    def stages(self) -> list[nn.Module]:
        """Return the modules whose maps have 1/4 and 1/8 of the input's side.

        In a ResNet these are layer1 and layer2.

        Returns:
            Two modules of the image encoder, with maps (B, C, h, w).

        Raises:
            DataError: If there are none. All blocks of a transformer work on the same patches.
        """
        trunk: Any = self.image_tower().trunk
        by_reduction = {
            info["reduction"]: info["module"] for info in getattr(trunk, "feature_info", [])
        }
        # open_clip's ResNet does not list its stages
        names = by_reduction or {4: "layer1", 8: "layer2"}
        stages = [
            module for name, module in trunk.named_modules() if name in (names.get(4), names.get(8))
        ]
        if len(stages) < 2:
            raise DataError(
                f"backbone: {self.spec['image']} has no maps at 1/4 and 1/8 of its input's side. "
                "Use a convolutional network."
            )
        return stages

    def image_tower(self) -> ImageTower:
        """Return the image encoder of a backbone that is not cached."""
        if isinstance(self.image, CachedTower):
            raise DataError(
                "backbone: cached features have no image encoder. Set `frozen` to false."
            )
        return self.image

    @cached_property
    def model(self) -> Any:
        """The open_clip model that one or both encoders come from."""
        return load_open_clip(self.spec["image"].partition("/")[2], self.spec["weights"], self.side)

    @property
    def folder(self) -> Path | None:
        """Path of the exported folder, None if the encoders come from elsewhere."""
        return folder_of(self.spec["image"])

    @property
    def scale(self) -> float:
        """Multiplier of the cosine, exp(logit_scale) of the pretrained model; frozen."""
        if self.cached:
            return float(self.cached["scale"])
        if self.folder and self.spec["text"] == "own":
            return ExportedFolder(self.folder).scale
        return (
            self.model.logit_scale.exp().item()
            if self.spec["image"].startswith("open_clip/")
            else SMALL_SCALE
        )

    @cached_property
    def banks(self) -> dict[str, torch.Tensor]:
        """Features of the fixed prompts: {bank: (5, templates, D) float32}, not normalised."""
        if self.cached:
            return {bank: torch.from_numpy(self.cached[bank]) for bank in BANKS}
        return encode_banks(self.text)

    def _load_image(self, precision: str) -> ImageTower:
        """Load the image encoder of the spec."""
        family, _, name = self.spec["image"].partition("/")
        if family == "open_clip":
            visual = self.model.visual
            return ImageTower(visual, nn.Identity(), visual.image_mean, visual.image_std, precision)
        if family == "timm":
            trunk, mean, std = load_timm(name, self.spec["weights"], self.side)
            # the same projection in every process, whatever the seed of the run
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                projection = nn.Linear(trunk.num_features, self.dim, bias=False)
                nn.init.orthogonal_(projection.weight)
            return ImageTower(trunk, projection, mean, std, precision)
        if self.folder:
            text_width = None if self.spec["text"] == "own" else self.dim
            return load_eye_tower(self.spec, precision, text_width)
        raise DataError(
            f"backbone: image encoder {self.spec['image']!r} is unknown. "
            "Use open_clip/NAME, timm/NAME, folder/PATH or package/NAME."
        )

    @cached_property
    def text(self) -> TextTower:
        """The frozen text encoder, loaded on first use."""
        if self.folder and self.spec["text"] == "own":
            return ReportTextTower(ExportedFolder(self.folder)).requires_grad_(False).eval()
        return (
            load_text_tower(
                self.spec["text"], lambda: (self.spec["image"].partition("/")[2], self.model)
            )
            .requires_grad_(False)
            .eval()
        )
