"""Reader of zip archives in one or several volumes that trusts nothing in them."""

from __future__ import annotations

import io
import os
import stat
import struct
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from clipdr import DataError
from clipdr.data.sources.archive_limits import (
    MAX_FILES,
    Member,
    RefusedArchiveError,
    check_limits,
)

MAX_LIST = 400  # bytes per member in the list of members of a zip, names included


class ZipReader:
    """Reader of a zip archive in one or several volumes.

    Args:
        volumes: All volumes in order.
        stack: Closes the files.
    """

    def __init__(self, volumes: list[Path], stack: ExitStack) -> None:
        """Open the archive and check its list of members."""
        self.name = volumes[0].name
        file = stack.enter_context(io.BufferedReader(JoinedVolumes(volumes)))
        self.packed = file.seek(0, os.SEEK_END)
        check_list(file, self.name)
        self.zip = stack.enter_context(zipfile.ZipFile(file))
        if len(volumes) > 1 and volumes[-1].suffix.lower() == ".zip":
            self._correct_offsets(volumes)

    def _correct_offsets(self, volumes: list[Path]) -> None:
        """Make offsets count from the start of the volume that holds the list, as zipfile expects.

        In a .z01 set every offset counts from the start of its own volume.
        """
        starts = [
            sum(part.stat().st_size for part in volumes[:number]) for number in range(len(volumes))
        ]
        base = max(start for start in starts if start <= self.zip.start_dir)
        for info in self.zip.infolist():
            if info.volume >= len(volumes):
                raise DataError(
                    f"{self.name}: volume {info.volume + 1} of the set is missing. Put all volumes "
                    "into one folder."
                )
            info.header_offset += starts[info.volume] - base

    def members(self) -> Iterator[Member]:
        """Iterate over the members.

        Yields:
            Members in the order of the list.

        Raises:
            RefusedArchiveError: If there are too many or too large members, a link or a device, or
                an encrypted member.
        """
        infos = self.zip.infolist()
        check_limits(self.name, len(infos), sum(info.file_size for info in infos), self.packed)
        for info in infos:
            mode = info.external_attr >> 16
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise RefusedArchiveError(
                    f"{self.name}: refused. {info.filename!r} is a link or a device."
                )
            if info.flag_bits & 1:
                raise RefusedArchiveError(
                    f"{self.name}: refused. It is encrypted. Extract it with `unzip {self.name}` "
                    "and its password."
                )
            yield Member(info.orig_filename, 0 if info.is_dir() else info.file_size, info)

    def contents(self, members: list[Member]) -> Iterator[tuple[Member, IO[bytes]]]:
        """Iterate over members with a stream of their bytes.

        Args:
            members: Members of `members`.

        Yields:
            Every member with its stream, valid until the next step.
        """
        for member in members:
            with self.zip.open(member.record) as source:
                yield member, source


class JoinedVolumes(io.RawIOBase):
    """Several files read as one, without a copy.

    Args:
        volumes: Files in order.
    """

    def __init__(self, volumes: list[Path]) -> None:
        """Measure the files."""
        self.volumes, self.position, self.current = volumes, 0, -1
        self.file: io.BufferedReader | None = None
        self.ends: list[int] = []
        for part in volumes:
            self.ends.append(part.stat().st_size + (self.ends[-1] if self.ends else 0))

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position and return it, in bytes from the start of the first file."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self.position, os.SEEK_END: self.ends[-1]}
        self.position = offset + start[whence]
        return self.position

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer and return the number of bytes, 0 at the end."""
        number = next((n for n, end in enumerate(self.ends) if self.position < end), None)
        if number is None:
            return 0
        if self.file is None or number != self.current:
            self._close()
            self.file, self.current = self.volumes[number].open("rb"), number
        self.file.seek(self.position - (self.ends[number - 1] if number else 0))
        count = self.file.readinto(buffer)
        self.position += count
        return count

    def close(self) -> None:
        """Close the open file."""
        self._close()
        super().close()

    def _close(self) -> None:
        """Close the file that is open, if any."""
        if self.file:
            self.file.close()


def check_list(file: io.BufferedReader[Any], name: str) -> None:
    """Refuse a zip with too long a list of members before zipfile reads it.

    A million members take zipfile many seconds and a gigabyte.

    Args:
        file: The zip.
        name: Name of the archive for messages.

    Raises:
        RefusedArchiveError: If the list has too many members or bytes.
        zipfile.BadZipFile: If there is no list at the end.
    """
    file.seek(-min(file.seek(0, os.SEEK_END), 65_557 + 76), os.SEEK_END)
    tail = file.read()
    end = tail.rfind(b"PK\x05\x06")
    if end < 0 or len(tail) - end < 22:
        raise zipfile.BadZipFile("no list of members at its end; is the last volume missing?")
    count, size = struct.unpack_from("<HL", tail, end + 10)
    zip64 = tail.rfind(b"PK\x06\x06", 0, end)
    if zip64 >= 0 and (count, size) != (0, 0) and (count == 0xFFFF or size == 0xFFFFFFFF):
        count, size = struct.unpack_from("<QQ", tail, zip64 + 32)
    check_limits(name, count, 0, 1)
    if size > MAX_LIST * MAX_FILES:
        raise RefusedArchiveError(f"{name}: refused. Its list of members alone has {size:,} bytes.")
