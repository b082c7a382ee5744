"""An image tower and a text tower with one embedding width, from open_clip, timm or a local file; pixel normalisation inside."""

from functools import cached_property

import torch
from torch import nn

from clipdr import DataError
from clipdr.config.job import folder_of
from clipdr.models.exported import Folder, ReportText, bridged_tower
from clipdr.models.factory import SMALL, load_text, open_clip_model, timm_tower
from clipdr.models.image_tower import CachedTower, ImageTower
from clipdr.models.prompts import BANKS, bank_features

SMALL_SCALE = (
    1 / 0.07
)  # multiplier of the cosine where no pretrained CLIP brings its own (CLIP's own start value)


class Backbone:
    """What a method is built on: an image tower, a frozen text tower, and the scale of their cosine.

    spec      : mapping with the keys image, weights, text (clipdr.config.study.Backbone)
    side      : pixels of the network's input
    cached    : {bank: (5, templates, D), "scale": ()} arrays; given, the image tower is frozen and its cached features are read
    precision : "fp32" | "bf16", of the image tower
    """

    def __init__(self, spec, side, cached=None, precision="fp32"):
        self.spec, self.side, self.cached = spec, side, cached
        self.image = CachedTower(cached.get("bridge")) if cached else self.load_image(precision)

    @property
    def dim(self):
        """Width D of the embedding shared by images and texts; known without loading a text tower whose width is ours to choose."""
        if self.cached:
            return self.cached["A"].shape[-1]
        return (
            SMALL["output_dim"]
            if self.spec["text"].partition("/")[0] in ("small", "hf")
            else self.text.dim
        )

    @property
    def pooled_dim(self):
        """Width F of the pooled features that a linear head reads: those before the projection, or the cached ones."""
        if self.cached and "bridge" in self.cached:
            return self.cached["bridge"].shape[1]
        return (
            self.dim
            if self.cached or not isinstance(self.image.projection, nn.Linear)
            else self.image.projection.in_features
        )

    def use_map(self):
        """Shape (C, h, w) of the image tower's feature map; what lies behind the map (its own pooling, the projection) is frozen."""
        trained = [parameter for parameter in self.image.parameters() if parameter.requires_grad]
        found = self.image.eval().feature_map(torch.zeros(1, 3, self.side, self.side))
        for parameter, gradient in zip(
            trained, torch.autograd.grad(found.sum(), trained, allow_unused=True), strict=True
        ):
            parameter.requires_grad_(gradient is not None)
        self.image.train()
        return tuple(found.shape[1:])

    def stages(self):
        """The image tower's modules whose maps (B, C, h, w) have a fourth and an eighth of the input's side: a ResNet's layer1 and layer2.

        Raises DataError where there are none: in a transformer all blocks work on the same patches.
        """
        trunk = self.image.trunk
        known = {info["reduction"]: info["module"] for info in getattr(trunk, "feature_info", [])}
        names = known or {4: "layer1", 8: "layer2"}  # open_clip's ResNet does not list its stages
        found = [
            module for name, module in trunk.named_modules() if name in (names.get(4), names.get(8))
        ]
        if len(found) < 2:
            raise DataError(
                f"backbone: {self.spec['image']} has no maps at 1/4 and 1/8 of its input's side; use a convolutional network"
            )
        return found

    @cached_property
    def model(self):
        """The open_clip model that one or both towers come from."""
        return open_clip_model(
            self.spec["image"].partition("/")[2], self.spec["weights"], self.side
        )

    @property
    def folder(self):
        """Path of a pre-trained folder of ours (clipdr.models.exported), None where the towers come from elsewhere."""
        return folder_of(self.spec["image"])

    @property
    def scale(self):
        """Multiplier of the cosine, exp(logit_scale) of the pretrained model; frozen."""
        if self.cached:
            return float(self.cached["scale"])
        if self.folder and self.spec["text"] == "own":
            return Folder(self.folder).scale
        return (
            self.model.logit_scale.exp().item()
            if self.spec["image"].startswith("open_clip/")
            else SMALL_SCALE
        )

    @cached_property
    def banks(self):
        """{bank: (5, templates, D) float32} features of the fixed prompts."""
        if self.cached:
            return {bank: torch.from_numpy(self.cached[bank]) for bank in BANKS}
        return bank_features(self.text)

    def load_image(self, precision):
        family, _, name = self.spec["image"].partition("/")
        if family == "open_clip":
            visual = self.model.visual
            return ImageTower(visual, nn.Identity(), visual.image_mean, visual.image_std, precision)
        if family == "timm":
            trunk, mean, std = timm_tower(name, self.spec["weights"], self.side)
            with torch.random.fork_rng(
                devices=[]
            ):  # the same projection in every process, whatever the run's seed
                torch.manual_seed(0)
                projection = nn.Linear(trunk.num_features, self.dim, bias=False)
                nn.init.orthogonal_(projection.weight)
            return ImageTower(trunk, projection, mean, std, precision)
        if self.folder:
            return bridged_tower(
                self.spec, precision, None if self.spec["text"] == "own" else self.dim
            )
        raise DataError(
            f"backbone: image tower {self.spec['image']!r} is unknown; use open_clip/NAME, timm/NAME, folder/PATH or package/NAME"
        )

    @cached_property
    def text(self):
        """The frozen text tower (clipdr.models.text_tower), loaded when first asked for."""
        if self.folder and self.spec["text"] == "own":
            return ReportText(Folder(self.folder)).requires_grad_(False).eval()
        return (
            load_text(self.spec["text"], lambda: (self.spec["image"].partition("/")[2], self.model))
            .requires_grad_(False)
            .eval()
        )
