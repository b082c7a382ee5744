"""Models of timm and open_clip with pretrained weights.

Input: a name, weights and the side of the input. The weights are a tag of the library, a file, a
Python package or random.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from clipdr import DataError
from clipdr.models.weights import (
    cached_weights,
    errors_as_data_error,
    lite0_weights,
    read_weights,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    Trunk = tuple[Any, Sequence[float], Sequence[float]]  # module, pixel mean, pixel std


def load_timm(name: str, weights: str, side: int) -> Trunk:
    """Load a timm model without its classifier.

    Args:
        name: Name in timm, without a tag.
        weights: A tag of the model, a file, "package:efficientnet_lite0" or "random".
        side: Side of the network's input, pixels. The position embeddings of a ViT are resized to
            it.

    Returns:
        Module, pixel mean and pixel standard deviation (three channels each).

    Raises:
        DataError: If model or weights are unknown, missing, or do not fit.
    """
    import timm
    from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn

    if not timm.is_model(name):
        raise DataError(f"backbone: timm has no model {name!r}. See timm.list_models().")
    tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{name}.*")]
    if weights in tags:
        name = f"{name}.{weights}"
    config: Any = timm.get_pretrained_cfg(name)
    fixed: dict[str, Any] = {"img_size": side} if config.fixed_input_size else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: Any = timm.create_model(name, num_classes=0, **fixed)
    mean, std = model.pretrained_cfg["mean"], model.pretrained_cfg["std"]
    if weights != "random":
        state = _timm_weights(model, name, weights, tags)
        if isinstance(model, VisionTransformer):
            state = checkpoint_filter_fn(state, model)  # position embeddings at this side
        missing, unexpected = model.load_state_dict(state, strict=False)
        strange = [key for key in unexpected if not key.startswith(("classifier.", "head.", "fc."))]
        if missing or strange:
            raise DataError(
                f"backbone: {weights} does not fit timm/{name}: {len(missing)} tensors missing, "
                f"{len(strange)} unknown (first: {(missing + strange)[0]}). "
                "Use weights of this model."
            )
    return model, mean, std


def _timm_weights(model: Any, name: str, weights: str, tags: list[str]) -> dict[str, torch.Tensor]:
    """State dict of a timm model from a Python package, the download cache or a file."""
    if weights == "package:efficientnet_lite0":
        return lite0_weights(model)
    if weights in tags:
        config = {"hf_hub": f"{model.pretrained_cfg['hf_hub_id']}/model.safetensors"}
        model_name, tag = name.split(".", 1)
        return read_weights(cached_weights(model_name, tag, config))
    if not Path(weights).is_file():
        raise DataError(
            f"backbone: timm/{name} has no weights {weights!r}, and no such file exists. "
            f"Use a file or one of its tags: {', '.join(tags)}."
        )
    return read_weights(weights)


def load_open_clip(name: str, weights: str, side: int | None) -> Any:
    """Load an open_clip model in float32.

    Args:
        name: Name in open_clip.
        weights: A pretrained tag, a file, or "random".
        side: Side of the network's input, pixels; None: the model's own.

    Returns:
        The model. Its `visual` carries `image_mean` and `image_std`.

    Raises:
        DataError: If model or weights are unknown, missing, or cannot be read.
    """
    import open_clip

    if open_clip.get_model_config(name) is None:
        raise DataError(f"backbone: open_clip has no model {name!r}. See open_clip.list_models().")
    # open_clip warns that it loads no weights; they are loaded below
    logging.getLogger().addFilter(
        lambda record: "No pretrained weights loaded" not in record.getMessage()
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: Any = open_clip.create_model(name, pretrained=None, force_image_size=side)
    config = {}
    if weights != "random":
        config = open_clip.get_pretrained_cfg(name, weights)
        if not config and not Path(weights).is_file():
            tags = ", ".join(open_clip.list_pretrained_tags_by_model(name))
            raise DataError(
                f"backbone: open_clip/{name} has no weights {weights!r}, and no such file exists. "
                f"Use a file or one of its tags: {tags}."
            )
        path = cached_weights(name, weights, config) if config else weights
        with errors_as_data_error(path):
            open_clip.load_checkpoint(model, str(path))
    model.visual.image_mean = config.get("mean") or open_clip.OPENAI_DATASET_MEAN
    model.visual.image_std = config.get("std") or open_clip.OPENAI_DATASET_STD
    return model
