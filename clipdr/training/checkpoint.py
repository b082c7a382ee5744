"""The file that a cut training goes on from, bit for bit: tensors and plain values, read without running code.

Input: what a loop wants to find again. Output: one file, whole or not at all, with the random state of every process.
"""

import os

import torch
import torch.distributed as dist

from clipdr.artifacts.files import replacing
from clipdr.training.distributed import world


def random_state():
    """State of torch's generators: the CPU's, a list of the GPUs'."""
    return (
        torch.get_rng_state(),
        torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    )


def set_random_state(state):
    """Undo what has been drawn since `random_state` gave this."""
    torch.set_rng_state(state[0])
    if state[1]:
        torch.cuda.set_rng_state_all(state[1])


def write(path, digest, **content):
    """Write the file; every process calls it, rank 0 writes. digest: of all that must be the same to go on from it"""
    states, (own, cuda) = [torch.get_rng_state()], random_state()
    if world()[1] > 1:
        states = [None] * world()[1]
        dist.all_gather_object(states, own)  # a CPU tensor: not for nccl's own gather
    if world()[0] > 0:
        return
    with replacing(path) as temporary:
        torch.save(content | {"digest": digest, "rng": states, "cuda": cuda}, temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())


def read(path, digest):
    """What `write` was given; None where there is no such file, or one of another digest or number of processes. Generators: `go_on`."""
    if path is None or not path.is_file():
        return None
    content = torch.load(path, weights_only=True, map_location="cpu")
    return content if content["digest"] == digest and len(content["rng"]) == world()[1] else None


def go_on(content):
    """Put this process's generators where they were when the file was written."""
    set_random_state((content["rng"][world()[0]], content["cuda"]))
