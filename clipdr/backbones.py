"""An image tower and a text tower with one embedding width, from open_clip, timm or a local file; pixel normalisation inside.

Weights come from a local file, from a package, or from open_clip's own addresses into the cache folder; a missing one is one clear line.
"""

import logging
from functools import cached_property
from pathlib import Path

import torch
from torch import nn

from clipdr import DataError
from clipdr.exported import Folder, ReportText, bridged_tower
from clipdr.prompts import BANKS, bank_features
from clipdr.settings import folder_of
from clipdr.text import HuggingFaceText, OpenClipText
from clipdr.weights import cached_weights, lite0_weights, read_weights, readable

SMALL = {"width": 128, "heads": 4, "layers": 3, "output_dim": 256}  # the small text tower
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


def load_text(spec, own):
    """Text tower of a spec (clipdr.config.Backbone); own() -> (name, open_clip model) of the image tower."""
    family, _, name = spec.partition("/")
    if family == "hf":
        return hugging_face_text(name)
    import open_clip
    from open_clip.transformer import TextTransformer

    with torch.random.fork_rng(devices=[]):  # the same random tower in every process, whatever the run's seed
        torch.manual_seed(0)
        if family == "small":
            return OpenClipText(TextTransformer(**SMALL), open_clip.get_tokenizer("RN50"))
        if family == "open_clip":
            name, _, weights = name.partition("@")
            model = open_clip_model(name, weights or "random", None)
        elif family == "own":
            name, model = own()
        else:
            raise DataError(f"backbone: text tower {spec!r} is unknown; use own, small, open_clip/NAME@WEIGHTS or hf/FOLDER")
    tower, tokenizer = getattr(model, "text", model), open_clip.get_tokenizer(name)
    if hasattr(tokenizer, "tokenizer"):  # open_clip's wrapper of a Hugging Face encoder
        return HuggingFaceText(tower.transformer, tokenizer.tokenizer, tower.proj)
    return OpenClipText(tower, tokenizer)


def hugging_face_text(folder):
    """A model of the transformers library from a local folder, with a fixed random projection to the width of the small tower."""
    from transformers import AutoModel, AutoTokenizer

    if not Path(folder).is_dir():
        raise DataError(f"backbone: text tower hf/{folder}: no such folder; download the model with its tokenizer into it")
    model = AutoModel.from_pretrained(folder, local_files_only=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        projection = nn.Linear(model.get_input_embeddings().embedding_dim, SMALL["output_dim"], bias=False)
    return HuggingFaceText(model, AutoTokenizer.from_pretrained(folder, local_files_only=True), projection)


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


def timm_tower(name, weights, side):
    """A timm model without its classifier, with weights of a tag, a file, the package or none: model, pixel mean, pixel std."""
    import timm
    from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn

    if not timm.is_model(name):
        raise DataError(f"backbone: timm has no model {name!r}; see timm.list_models()")
    tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{name}.*")]
    if weights in tags:
        name = f"{name}.{weights}"
    fixed = {"img_size": side} if timm.get_pretrained_cfg(name).fixed_input_size else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = timm.create_model(name, num_classes=0, **fixed)
    if weights == "package:efficientnet_lite0":
        state = lite0_weights(model)
    elif weights in tags:
        config = {"hf_hub": f"{model.pretrained_cfg['hf_hub_id']}/model.safetensors"}
        state = read_weights(cached_weights(*name.split(".", 1), config))
    elif weights != "random":
        if not Path(weights).is_file():
            raise DataError(f"backbone: timm/{name} has no weights {weights!r}, and no such file is here; its tags are {', '.join(tags)}")
        state = read_weights(weights)
    if weights != "random":
        if isinstance(model, VisionTransformer):
            state = checkpoint_filter_fn(state, model)  # position embeddings at this side
        missing, unexpected = model.load_state_dict(state, strict=False)
        strange = [key for key in unexpected if not key.startswith(("classifier.", "head.", "fc."))]
        if missing or strange:
            bad = f"{len(missing)} tensors missing, {len(strange)} unknown ({(missing + strange)[0]})"
            raise DataError(f"backbone: {weights} does not fit timm/{name}: {bad}")
    config = model.pretrained_cfg
    return model, config["mean"], config["std"]


def open_clip_model(name, weights, side):
    """An open_clip model in float32. weights: a pretrained tag, a file, or "random"; side: pixels of the input, None: the model's own."""
    import open_clip

    if open_clip.get_model_config(name) is None:
        raise DataError(f"backbone: open_clip has no model {name!r}; see open_clip.list_models()")
    logging.getLogger().addFilter(lambda record: "No pretrained weights loaded" not in record.getMessage())  # they are loaded below
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = open_clip.create_model(name, pretrained=None, force_image_size=side)
    config = {}
    if weights != "random":
        config = open_clip.get_pretrained_cfg(name, weights)
        if not config and not Path(weights).is_file():
            tags = ", ".join(open_clip.list_pretrained_tags_by_model(name))
            raise DataError(f"backbone: open_clip/{name} has no weights {weights!r}, and no such file is here; its tags are {tags}")
        path = cached_weights(name, weights, config) if config else weights
        with readable(path):
            open_clip.load_checkpoint(model, str(path))
    model.visual.image_mean = config.get("mean") or open_clip.OPENAI_DATASET_MEAN
    model.visual.image_std = config.get("std") or open_clip.OPENAI_DATASET_STD
    return model
