"""Device and process group of a training: one process, or several started by torchrun."""

from __future__ import annotations

import os
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist

if TYPE_CHECKING:
    from collections.abc import Generator

GATHER_WARNING = ".*all_gather.*"  # torch's notice about a call in open_clip's gather_features


def resolve_device(name: str | torch.device) -> torch.device:
    """Return torch's device of a name; "auto" is the GPU if there is one, else the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


def world() -> tuple[int, int]:
    """Return the rank of this process and the number of processes; (0, 1) without torchrun."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


@contextmanager
def process_group(name: str | torch.device) -> Generator[torch.device]:
    """Yield the device of this process; under torchrun the process group exists meanwhile.

    Args:
        name: Name of a device, see `resolve_device`. The group uses nccl on GPUs, where each
            process has its own, and gloo elsewhere.
    """
    device = resolve_device(name)
    if "RANK" not in os.environ:
        yield device
        return
    warnings.filterwarnings("ignore", message=GATHER_WARNING, category=FutureWarning)
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield device
    finally:
        dist.destroy_process_group()
