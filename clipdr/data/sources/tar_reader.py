"""Reader of tar archives, plain or compressed, that trusts nothing in them."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, cast

from clipdr.data.sources.archive_limits import CHUNK, Member, RefusedArchiveError, check_limits

# So many members of a tar with fewer bytes each are no images. A tar has no list of members that
# would show this at once.
MANY, TINY = 20_000, 4096


class TarReader:
    """Reader of a tar archive, plain or compressed.

    Args:
        path: The archive.
        opener: Opens a compressed file for reading; None for a plain tar.
        stack: Closes the files.
    """

    def __init__(self, path: Path, opener: Callable[..., Any] | None, stack: ExitStack) -> None:
        """Open the archive."""
        self.name, self.packed = path.name, path.stat().st_size
        self.raw = stack.enter_context(path.open("rb"))
        self.file = ShortReads(stack.enter_context(opener(self.raw)) if opener else self.raw)

    def _headers(self) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
        """Iterate over the headers from the start."""
        self.file.seek(0)
        with tarfile.open(fileobj=cast("IO[bytes]", self.file), mode="r:") as tar:
            while (info := tar.next()) is not None:
                # Otherwise tarfile keeps them all; the attribute is missing in its type stubs.
                tar.members = []  # pyright: ignore[reportAttributeAccessIssue]
                yield tar, info

    def members(self) -> Iterator[Member]:
        """Iterate over the members.

        Yields:
            Members in the order of the archive.

        Raises:
            RefusedArchiveError: If there are too many or too large members, or a link or a device.
        """
        total = 0
        for count, (_, info) in enumerate(self._headers(), start=1):
            total += info.size if info.isreg() else 0
            check_limits(self.name, count, total, self.packed)
            # what was read so far, so that a bomb is detected early
            check_limits(self.name, 0, info.offset_data, max(self.raw.tell(), 1))
            if count > MANY and info.offset_data < TINY * count:
                raise RefusedArchiveError(
                    f"{self.name}: refused. More than {MANY:,} members of under {TINY:,} bytes "
                    "each are no images."
                )
            if not (info.isreg() or info.isdir()):
                raise RefusedArchiveError(
                    f"{self.name}: refused. {info.name!r} is a link or a device."
                )
            yield Member(info.name + ("/" if info.isdir() else ""), info.size, info.offset)

    def contents(self, members: list[Member]) -> Iterator[tuple[Member, IO[bytes]]]:
        """Iterate over members with a stream of their bytes, in the order of the archive.

        Args:
            members: Members of `members`.

        Yields:
            Every member with its stream, valid until the next step.
        """
        wanted = {member.record: member for member in members}
        for tar, info in self._headers():
            if info.offset in wanted:
                source = tar.extractfile(info)
                if source is None:  # a member that was a plain file in the first pass
                    raise tarfile.ReadError(f"{info.name!r} is not a file")
                with source:
                    yield wanted[info.offset], source


class ShortReads:
    """File that allows short reads only, because tarfile reads a header of any size at once.

    Args:
        file: Binary file that can seek.
    """

    def __init__(self, file: IO[bytes]) -> None:
        """Wrap the file."""
        self.file, self.seek, self.tell = file, file.seek, file.tell

    def read(self, size: int) -> bytes:
        """Read at most `size` bytes.

        Args:
            size: Number of bytes, at most 4 MiB.

        Returns:
            The bytes.

        Raises:
            tarfile.ReadError: If more bytes are wanted.
        """
        if size > 4 * CHUNK:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return self.file.read(size)
