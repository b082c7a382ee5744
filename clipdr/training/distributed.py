"""Where a run computes: one process, or one per device under torchrun."""

import os
import warnings
from contextlib import contextmanager

import torch
import torch.distributed as dist

GATHER = ".*all_gather.*"  # torch's notice about the call inside open_clip's gather_features


def place(device):
    """torch's device of a name; "auto" is the GPU where there is one."""
    return (
        torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if device == "auto"
        else torch.device(device)
    )


def world():
    """(rank, number of processes)."""
    return (
        (dist.get_rank(), dist.get_world_size())
        if dist.is_available() and dist.is_initialized()
        else (0, 1)
    )


@contextmanager
def joined(device):
    """The device of this process; under torchrun its group is joined first (nccl on GPUs, gloo elsewhere) and left in the end."""
    found = place(device)
    if "RANK" not in os.environ:
        yield found
        return
    warnings.filterwarnings("ignore", message=GATHER, category=FutureWarning)
    if found.type == "cuda":
        found = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(found)
    dist.init_process_group("nccl" if found.type == "cuda" else "gloo")
    try:
        yield found
    finally:
        dist.destroy_process_group()
