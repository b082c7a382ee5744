"""An image tower and a text tower with one embedding width, from open_clip, timm or a local file; pixel normalisation inside."""

from functools import cached_property

import torch
from torch import nn

from clipdr import DataError
from clipdr.exported import Folder, ReportText, bridged_tower
from clipdr.loaders import SMALL, load_text, open_clip_model, timm_tower
from clipdr.prompts import BANKS, bank_features
from clipdr.settings import folder_of

SMALL_SCALE = 1 / 0.07  # multiplier of the cosine where no pretrained CLIP brings its own (CLIP's own start value)
PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}  # of autocast; fp32 is none


class ImageTower(nn.Module):
    """Pixels in [0, 1] -> embedding. trunk: normalised pixels -> (B, F); projection: (B, F) -> (B, D)."""

    def __init__(self, trunk, projection, mean, std, precision="fp32"):
        super().__init__()
        self.trunk, self.projection, self.precision = trunk, projection, precision
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def read(self, reader, image):
        """What `reader` makes of the normalised pixels, in float32."""
        image = ((image - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        with torch.autocast(image.device.type, PRECISIONS.get(self.precision), enabled=self.precision in PRECISIONS):
            return reader(image).float()

    def pooled(self, image):
        """(B, 3, S, S) float32 in [0, 1] -> (B, F) float32, before the projection into the space shared with the text."""
        return self.read(self.trunk, image)

    def feature_map(self, image):
        """(B, 3, S, S) float32 in [0, 1] -> (B, C, h, w) float32, the last map before pooling; a transformer's patches in place."""
        return self.read(lambda pixels: last_map(self.trunk, pixels), image)

    def forward(self, image):
        return self.projection(self.pooled(image))


class CachedTower(nn.Module):
    """Stands for a frozen image tower whose features were computed once: passes them on, or through a frozen bridge (E, D) to the texts."""

    def __init__(self, bridge=None):
        super().__init__()
        self.register_buffer("bridge", None if bridge is None else torch.from_numpy(bridge), persistent=False)

    def pooled(self, features):
        return features

    def forward(self, features):
        return features if self.bridge is None else features @ self.bridge.T


class Backbone:
    """What a method is built on: an image tower, a frozen text tower, and the scale of their cosine.

    spec      : mapping with the keys image, weights, text (clipdr.config.Backbone)
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
        return SMALL["output_dim"] if self.spec["text"].partition("/")[0] in ("small", "hf") else self.text.dim

    @property
    def pooled_dim(self):
        """Width F of the pooled features that a linear head reads: those before the projection, or the cached ones."""
        if self.cached and "bridge" in self.cached:
            return self.cached["bridge"].shape[1]
        return self.dim if self.cached or not isinstance(self.image.projection, nn.Linear) else self.image.projection.in_features

    def use_map(self):
        """Shape (C, h, w) of the image tower's feature map; what lies behind the map (its own pooling, the projection) is frozen."""
        trained = [parameter for parameter in self.image.parameters() if parameter.requires_grad]
        found = self.image.eval().feature_map(torch.zeros(1, 3, self.side, self.side))
        for parameter, gradient in zip(trained, torch.autograd.grad(found.sum(), trained, allow_unused=True), strict=True):
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
        found = [module for name, module in trunk.named_modules() if name in (names.get(4), names.get(8))]
        if len(found) < 2:
            raise DataError(f"backbone: {self.spec['image']} has no maps at 1/4 and 1/8 of its input's side; use a convolutional network")
        return found

    @cached_property
    def model(self):
        """The open_clip model that one or both towers come from."""
        return open_clip_model(self.spec["image"].partition("/")[2], self.spec["weights"], self.side)

    @property
    def folder(self):
        """Path of a pre-trained folder of ours (clipdr.exported), None where the towers come from elsewhere."""
        return folder_of(self.spec["image"])

    @property
    def scale(self):
        """Multiplier of the cosine, exp(logit_scale) of the pretrained model; frozen."""
        if self.cached:
            return float(self.cached["scale"])
        if self.folder and self.spec["text"] == "own":
            return Folder(self.folder).scale
        return self.model.logit_scale.exp().item() if self.spec["image"].startswith("open_clip/") else SMALL_SCALE

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
            with torch.random.fork_rng(devices=[]):  # the same projection in every process, whatever the run's seed
                torch.manual_seed(0)
                projection = nn.Linear(trunk.num_features, self.dim, bias=False)
                nn.init.orthogonal_(projection.weight)
            return ImageTower(trunk, projection, mean, std, precision)
        if self.folder:
            return bridged_tower(self.spec, precision, None if self.spec["text"] == "own" else self.dim)
        raise DataError(
            f"backbone: image tower {self.spec['image']!r} is unknown; use open_clip/NAME, timm/NAME, folder/PATH or package/NAME"
        )

    @cached_property
    def text(self):
        """The frozen text tower (clipdr.text), loaded when first asked for."""
        if self.folder and self.spec["text"] == "own":
            return ReportText(Folder(self.folder)).requires_grad_(False).eval()
        return load_text(self.spec["text"], lambda: (self.spec["image"].partition("/")[2], self.model)).requires_grad_(False).eval()


def keep_statistics(module):
    """Put the batch normalisation layers of a module into evaluation mode: their statistics stay as they are."""
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.eval()


def last_map(trunk, pixels):
    """The last feature map of a timm or open_clip image tower: (B, 3, S, S) normalised pixels -> (B, C, h, w)."""
    if not hasattr(trunk, "forward_features"):  # open_clip
        taken = trunk.forward_intermediates(pixels, indices=1, normalize_intermediates=True, intermediates_only=True)
        return taken["image_intermediates"][-1]
    found = trunk.forward_features(pixels)
    if found.ndim == 3:  # tokens of a transformer (B, prefix + h * w, C)
        found = found[:, trunk.num_prefix_tokens :].transpose(1, 2).unflatten(2, trunk.patch_embed.grid_size)
    if found.shape[1] != trunk.num_features:
        raise DataError(f"backbone: the feature map of timm's {type(trunk).__name__} is not (B, C, h, w); use another image tower")
    return found
