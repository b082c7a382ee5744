"""Image arrays: images made by a bounded pool of processes and streamed to one .npy file.

Any number of processes writes the same bytes, and memory does not grow with the number of images.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from multiprocessing import get_context
from typing import TYPE_CHECKING, BinaryIO, TypeVar

import numpy as np

from clipdr import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

CHUNK = 8  # items per task of a worker
SMALL_JOB = 32  # items per worker below which a further process costs more than it saves
WINDOW = 3  # tasks under way per worker

Item = TypeVar("Item")
Result = TypeVar("Result")


class ImageArrayWriter:
    """Context manager that appends square images to a .npy file and completes its header.

    Args:
        path: File to write. It is complete when the context ends without an error.
        size: Side of the images in pixels.
        most: Largest number of images that may be added; the header is reserved for it.

    Attributes:
        count: Number of images added.
    """

    def __init__(self, path: Path, size: int, most: int) -> None:
        """Create a writer; the file is opened by `with`."""
        self.path, self.size, self.most, self.count = path, size, most, 0

    def __enter__(self) -> ImageArrayWriter:
        """Open the file and reserve its header."""
        self._file: BinaryIO = self.path.open("wb")
        self._header(self.most)
        self._start = self._file.tell()
        return self

    def add(self, image: np.ndarray) -> None:
        """Append one image, (size, size, 3) uint8.

        Raises:
            ValueError: If shape or dtype differ.
        """
        expected = (self.size, self.size, 3)
        if image.shape != expected or image.dtype != np.uint8:
            raise ValueError(
                f"image {self.count}: {image.dtype} of shape {image.shape}. "
                f"Give uint8 of shape {expected}."
            )
        self._file.write(image.tobytes())
        self.count += 1

    def __exit__(self, kind: object, *details: object) -> None:
        """Write the number of images into the header and close the file."""
        with self._file:
            if kind is None:
                self._file.seek(0)
                self._header(self.count)
                if self._file.tell() != self._start:  # numpy pads it so that the first axis fits
                    raise RuntimeError(f"{self.path}: the header changed its length.")

    def _header(self, count: int) -> None:
        """Write the header of an array of `count` images."""
        shape = (count, self.size, self.size, 3)
        np.lib.format.write_array_header_1_0(
            self._file, {"descr": "|u1", "fortran_order": False, "shape": shape}
        )


def map_in_processes(
    task: Callable[[Item], Result], items: Sequence[Item], processes: int, name: str
) -> Iterator[Result]:
    """Yield `task(item)` of every item, in order, with a progress bar on stderr.

    A bounded number of items is under way, so that memory does not grow with their number.

    Args:
        task: Function of one item. Workers import it by name, so it stands at the top of a module.
        items: Its arguments.
        processes: Largest number of worker processes. Small jobs use fewer.
        name: Name of the data set, for the progress bar and errors.

    Raises:
        DataError: If a worker process was killed.
    """
    from rich.console import Console
    from rich.progress import track

    chunks = [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]
    processes = min(processes, len(items) // SMALL_JOB)
    with ExitStack() as stack:
        if processes > 1:
            pool = ProcessPoolExecutor(processes, get_context("spawn"))
            stack.callback(pool.shutdown, cancel_futures=True)
            results = _windowed(pool, task, chunks, WINDOW * processes, name)
        else:
            results = (_run_chunk(task, chunk) for chunk in chunks)
        flat = (result for chunk in results for result in chunk)
        yield from track(flat, f"preparing {name}", len(items), console=Console(stderr=True))


def _windowed(
    pool: ProcessPoolExecutor,
    task: Callable[[Item], Result],
    chunks: Iterable[Sequence[Item]],
    window: int,
    name: str,
) -> Iterator[list[Result]]:
    """Results of chunks in order, with at most `window` chunks submitted and not yet read."""
    waiting = deque()
    try:
        for chunk in chunks:
            waiting.append(pool.submit(_run_chunk, task, chunk))
            if len(waiting) >= window:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        raise DataError(
            f"{name}: a worker process was killed, most likely for lack of memory. "
            f"Use fewer processes."
        ) from None


def _run_chunk(task: Callable[[Item], Result], chunk: Sequence[Item]) -> list[Result]:
    """Apply a task to some items."""
    return [task(item) for item in chunk]
