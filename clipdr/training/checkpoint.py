"""Checkpoint from which an interrupted training resumes, with bitwise identical results.

Input: tensors and plain values of a training state. Output: one file, written whole or not at
all, with the random state of every process. It is read without running code.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from clipdr.artifacts.files import replacing
from clipdr.training.distributed import world

RandomState = tuple[torch.Tensor, list[torch.Tensor]]


def random_state() -> RandomState:
    """Return the state of torch's generators: that of the CPU, and a list of those of the GPUs."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return torch.get_rng_state(), cuda


def set_random_state(state: RandomState) -> None:
    """Reset torch's generators to a state that `random_state` returned."""
    torch.set_rng_state(state[0])
    if state[1]:
        torch.cuda.set_rng_state_all(state[1])


def write(path: Path, digest: str, **content: Any) -> None:
    """Write a checkpoint. Every process calls it, and rank 0 writes.

    Args:
        path: File to write.
        digest: Digest of everything that must be equal for a resume, see
            `clipdr.training.provenance.identity`.
        **content: Tensors and plain values, nested in dicts and lists.
    """
    own, cuda = random_state()
    states: list[torch.Tensor | None] = [own]
    if world()[1] > 1:
        states = [None] * world()[1]
        dist.all_gather_object(states, own)  # a CPU tensor, which nccl's own gather refuses
    if world()[0] > 0:
        return
    with replacing(path) as temporary:
        torch.save(content | {"digest": digest, "rng": states, "cuda": cuda}, temporary)
        with Path(temporary).open("rb+") as file:
            os.fsync(file.fileno())


def read(path: Path | None, digest: str) -> dict[str, Any] | None:
    """Read a checkpoint if it belongs to this training. `restore_random_state` sets the generators.

    A checkpoint with another digest or number of processes is ignored, and one line on stderr says
    so. An error would stop a workflow that reruns a job after its settings or code were edited,
    since resume.pt is no output that Snakemake deletes. Resuming would mix two trainings.

    Args:
        path: File to read; None or a missing file for a training that starts.
        digest: Digest of this training.

    Returns:
        What `write` received, tensors on the CPU; None if training starts from scratch.
    """
    if path is None or not path.is_file():
        return None
    content = torch.load(path, weights_only=True, map_location="cpu")
    processes = len(content["rng"])
    if content["digest"] != digest:
        reason = "with different settings, data or code"
    elif processes != world()[1]:
        reason = f"by {processes} processes instead of {world()[1]}"
    else:
        return content
    if world()[0] == 0:
        print(f"{path}: written {reason}. Training starts from scratch.", file=sys.stderr)
    return None


def restore_random_state(content: dict[str, Any]) -> None:
    """Reset the generators of this process to their state when the checkpoint was written."""
    set_random_state((content["rng"][world()[0]], content["cuda"]))
