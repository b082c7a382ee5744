"""Provenance of a run: the identity that a resume must share, and a record of its surroundings."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from clipdr.artifacts.files import digest
from clipdr.config.source_files import PACKAGE, closure, command_imports

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from torch import nn

PACKAGES = (
    "torch",
    "torchvision",
    "open_clip_torch",
    "timm",
    "scikit-learn",
    "numpy",
    "pandas",
    "pillow",
)


def identity(settings: object, inputs: object, code: Mapping[str, str]) -> str:
    """Digest of everything that must be equal for an interrupted training to resume.

    The version of torch is part of it.

    Args:
        settings: Settings and seed, as JSON can hold them.
        inputs: Digests of files, or `array_stamps` of large ones.
        code: Digests of the source files behind the training, see `source_digests`.

    Returns:
        sha256, hexadecimal.
    """
    content = [settings, inputs, dict(code), importlib.metadata.version("torch")]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def source_digests(command: str, *modules: str, package: Path = PACKAGE) -> dict[str, str]:
    """Digests of the source files that a command runs.

    Args:
        command: As on the command line, for example "train" or "pretrain train".
        *modules: Modules that the command imports by name at run time, for example "methods/erm".
        package: Folder of the package.

    Returns:
        {path below the package: sha256}. Paths are the keys because base names are not unique.
    """
    files = command_imports(package, command) | {f"{module}.py" for module in modules}
    return {file: digest(package / file) for file in sorted(closure(frozenset(files), package))}


def array_stamps(arrays: Mapping[Any, np.ndarray]) -> dict[str, list]:
    """Shape and modification time of memory-mapped arrays, too large to hash for each run.

    Returns:
        {name: [shape, time in ns]}.
    """
    mapped: Mapping[Any, Any] = arrays
    return {
        str(name): [list(array.shape), Path(array.filename).stat().st_mtime_ns]
        for name, array in mapped.items()
    }


def commit() -> str | None:
    """Return the commit of the working tree, with "-dirty" after an edit; None outside of git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout.strip() or None


def peak_memory_mib() -> float:
    """Peak resident memory of this process in MiB."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def describe_run(
    model: nn.Module, inputs: Mapping[str, str], device: torch.device, began: float
) -> dict[str, Any]:
    """Record what a run depended on besides its settings. Runs are never compared by it.

    Args:
        model: Trained model; its attribute `chosen` holds what was chosen besides the weights.
        inputs: {file: sha256}.
        device: Where it was trained.
        began: `time.monotonic()` at the start.

    Returns:
        Commit, versions, device, seconds, peak memory in MiB, inputs, digests of frozen modules.
    """
    return {
        "commit": commit(),
        "python": sys.version.split()[0],
        "prefix": sys.prefix,
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "seconds": round(time.monotonic() - began, 3),
        "peak_mib": peak_memory_mib(),
        "inputs": dict(inputs),
        "frozen": {
            name: tensors_digest(module)
            for name, module in model.named_children()
            if not any(p.requires_grad for p in module.parameters())
        },
        "chosen": model.chosen,
    }


def tensors_digest(module: nn.Module) -> str:
    """Digest of all parameters and buffers of a module in order: sha256, hexadecimal."""
    total = hashlib.sha256()
    for tensor in module.state_dict().values():
        total.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()
