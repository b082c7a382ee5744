"""Image and text encoders by name, from open_clip, timm and transformers, with their weights.

Weights come from a local file, from a Python package, or from the libraries' own addresses through
a download cache.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from clipdr import DataError
from clipdr.models.image_tower import ImageTower
from clipdr.models.pretrained import load_open_clip, load_timm
from clipdr.models.report_encoder import HuggingFaceReportEncoder, SmallReportEncoder
from clipdr.models.text_tower import HuggingFaceText, OpenClipText, TextTower
from clipdr.models.weights import errors_as_data_error, read_weights

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from clipdr.models.pretrained import Trunk

SMALL = {"width": 128, "heads": 4, "layers": 3, "output_dim": 256}  # the small text encoder
RET_CLIP = "ret_clip:"  # prefix of weights that lie in a released checkpoint of RET-CLIP


def load_trunk(image: str, weights: str, side: int) -> Trunk:
    """Load the trunk of an image encoder by name.

    Args:
        image: "timm/NAME", "open_clip/NAME" or "vit/WIDTH/DEPTH/PATCH" (a small ViT).
        weights: As in `clipdr.config.job.Backbone`; "random" for "vit". "ret_clip:FILE" reads the
            image encoder of a released RET-CLIP checkpoint (open_clip/ViT-B-16-quickgelu). The user
            brings this file; no copy was at hand to test it.
        side: Side of the network's input, pixels.

    Returns:
        Module from normalised pixels to features, pixel mean and pixel standard deviation (three
        channels each).

    Raises:
        DataError: If the name or the weights are unknown, or the weights do not fit.
    """
    family, _, name = image.partition("/")
    if family == "timm":
        return load_timm(name, weights, side)
    if family == "open_clip":
        released = weights.removeprefix(RET_CLIP) if weights.startswith(RET_CLIP) else ""
        visual = load_open_clip(name, "random" if released else weights, side).visual
        if released:
            with errors_as_data_error(released):
                visual.load_state_dict(_ret_clip_image_encoder(released))
        return visual, visual.image_mean, visual.image_std
    if family == "vit" and weights == "random":
        return _small_vit(name, side), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    raise DataError(
        f"backbone: image encoder {image!r} with weights {weights!r} is unknown. "
        "Use timm/NAME, open_clip/NAME or vit/WIDTH/DEPTH/PATCH."
    )


def _ret_clip_image_encoder(path: str) -> dict[str, torch.Tensor]:
    """State dict of the image encoder in a released RET-CLIP checkpoint, float32."""
    state = {key.removeprefix("module."): value for key, value in read_weights(path).items()}
    return {
        key.removeprefix("visual."): value.float()
        for key, value in state.items()
        if key.startswith("visual.")
    }


def _small_vit(name: str, side: int) -> nn.Module:
    """ViT of "WIDTH/DEPTH/PATCH" that averages its patches.

    A class token would learn little from few images.
    """
    from timm.models.vision_transformer import VisionTransformer

    width, depth, patch = map(int, name.split("/"))
    return VisionTransformer(
        side,
        patch,
        global_pool="avg",
        class_token=False,
        embed_dim=width,
        depth=depth,
        num_heads=max(1, width // 64),
        num_classes=0,
    )


def build_image_tower(
    image: str, weights: str, side: int, width: int, precision: str = "fp32"
) -> ImageTower:
    """Build an image encoder by name: (B, 3, S, S) in [0, 1] -> v (B, E).

    Args:
        image: As in `load_trunk`.
        weights: As in `load_trunk`.
        side: Side S of the network's input, pixels.
        width: Width E of v, for encoders without a projection of their own (timm and ViT).
        precision: "fp32", "bf16" or "fp16".
    """
    trunk, mean, std = load_trunk(image, weights, side)
    projection = (
        nn.Identity()
        if image.startswith("open_clip/")
        else nn.Linear(trunk.num_features, width, bias=False)
    )
    return ImageTower(trunk, projection, mean, std, precision)


def build_report_encoder(
    facts: Mapping[str, Any], folder: Path
) -> SmallReportEncoder | HuggingFaceReportEncoder:
    """Build the text encoder that visual.json describes, with random weights.

    Args:
        facts: Entry `text` of visual.json: `encoder` ("small" or another), `length`, and
            `vocabulary` of a small encoder.
        folder: Exported folder; its `text/` holds configuration and tokenizer of another encoder.
    """
    if facts["encoder"] == "small":
        return SmallReportEncoder(facts["vocabulary"], facts["length"])
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    config = AutoConfig.from_pretrained(folder / "text", local_files_only=True)
    return HuggingFaceReportEncoder(
        AutoModel.from_config(config),
        AutoTokenizer.from_pretrained(folder / "text"),
        facts["length"],
    )


def load_text_tower(spec: str, own: Callable[[], tuple[str, Any]]) -> TextTower:
    """Load the text encoder of a backbone.

    Args:
        spec: "own", "small", "open_clip/NAME@WEIGHTS" or "hf/FOLDER", see
            `clipdr.config.job.Backbone`.
        own: Function that returns name and open_clip model of the image encoder, called for "own"
            only.

    Raises:
        DataError: If the spec is unknown, or the model or its weights are missing.
    """
    family, _, name = spec.partition("/")
    if family == "hf":
        return _load_hugging_face_text(name)
    import open_clip
    from open_clip.transformer import TextTransformer

    # the same random encoder in every process, whatever the seed of the run
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if family == "small":
            return OpenClipText(TextTransformer(**SMALL), open_clip.get_tokenizer("RN50"))
        if family == "open_clip":
            name, _, weights = name.partition("@")
            model = load_open_clip(name, weights or "random", None)
        elif family == "own":
            name, model = own()
        else:
            raise DataError(
                f"backbone: text encoder {spec!r} is unknown. "
                "Use own, small, open_clip/NAME@WEIGHTS or hf/FOLDER."
            )
    tower, tokenizer = getattr(model, "text", model), open_clip.get_tokenizer(name)
    if hasattr(tokenizer, "tokenizer"):  # open_clip's wrapper of a Hugging Face encoder
        return HuggingFaceText(tower.transformer, tokenizer.tokenizer, tower.proj)
    return OpenClipText(tower, tokenizer)


def _load_hugging_face_text(folder: str) -> HuggingFaceText:
    """Text encoder of a local transformers folder.

    A fixed random projection leads to the width of the small encoder.
    """
    from transformers import AutoModel, AutoTokenizer

    if not Path(folder).is_dir():
        raise DataError(
            f"backbone: text encoder hf/{folder}: no such folder. "
            "Download the model with its tokenizer into it."
        )
    model = AutoModel.from_pretrained(folder, local_files_only=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        projection = nn.Linear(
            model.get_input_embeddings().embedding_dim, SMALL["output_dim"], bias=False
        )
    return HuggingFaceText(
        model, AutoTokenizer.from_pretrained(folder, local_files_only=True), projection
    )
