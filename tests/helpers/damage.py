"""Damage to the files of a study, and what the verification reports."""

import os

from clipdr.artifacts.verify import verify


def problems_of(root, **options):
    """[(kind, path below the study)] of all problems."""
    problems, _ = verify(root / "data", root / "results", **options)
    return [(problem.kind, str(problem.path.relative_to(root))) for problem in problems]


def flip(path, rng):
    """Flip one bit in place; size, time and inode stay as they were."""
    times = path.stat()
    content = bytearray(path.read_bytes())
    content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
