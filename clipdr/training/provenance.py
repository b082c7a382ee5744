"""TODO"""

import hashlib
import importlib.metadata
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch

from clipdr.artifacts.files import digest


def code_digests(package=Path(__file__).parents[1]):
    """sha256 of every Python file of a package, keyed by its path below the package: base names are not unique."""
    return {
        path.relative_to(package).as_posix(): digest(path) for path in sorted(package.rglob("*.py"))
    }


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


def surroundings(arrays):
    """What else must be the same for a cut run to be resumed: this package's code, torch, and the arrays (their size and time)."""
    stamps = {
        name: [array.shape, os.stat(array.filename).st_mtime_ns] for name, array in arrays.items()
    }
    return [code_digests(), importlib.metadata.version("torch"), stamps]


def commit():
    """What git says of the working tree, None outside of one."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40"]
    return (
        subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or None
    )


def provenance(model, inputs, device, began):
    """What a run depended on beside its settings; never compared between runs."""
    return {
        "commit": commit(),
        "python": sys.version.split()[0],
        "prefix": sys.prefix,
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "seconds": round(time.monotonic() - began, 3),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "inputs": inputs,
        "frozen": {
            name: tensors_digest(module)
            for name, module in model.named_children()
            if not any(p.requires_grad for p in module.parameters())
        },
        "chosen": model.chosen,
    }


def tensors_digest(module):
    """sha256 of all parameters and buffers of a module, in order."""
    total = hashlib.sha256()
    for tensor in module.state_dict().values():
        total.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()
