"""Limits on archives: number of members, bytes after extraction, and ratio to the packed bytes."""

from __future__ import annotations

import lzma
import struct
import tarfile
import zipfile
import zlib
from typing import Any, NamedTuple

from clipdr import DataError

MAX_FILES = 150_000  # EyePACS, the largest data set, has 88,702 images
MAX_BYTES = 400_000_000_000
MAX_RATIO = 100  # extracted to packed bytes; images hardly shrink, tables shrink to a tenth
SMALL = 50_000_000  # bytes that may be extracted at any ratio
CHUNK = 1 << 20

CORRUPT = (
    zipfile.BadZipFile,
    tarfile.TarError,
    lzma.LZMAError,
    zlib.error,
    EOFError,
    struct.error,
    UnicodeDecodeError,
    NotImplementedError,
)


class RefusedArchiveError(DataError):
    """The archive itself is at fault: broken, dangerous, or of an unsupported format."""


class Member(NamedTuple):
    """One file of an archive.

    Attributes:
        path: Path as the archive states it; a folder ends with a slash.
        size: Size in bytes as the archive states it.
        record: Record of the format: ZipInfo, or the offset in a tar.
    """

    path: str
    size: int
    record: Any


def check_limits(name: str, count: int, size: int, packed: int) -> None:
    """Check the size of an archive.

    Args:
        name: Name of the archive for messages.
        count: Number of members.
        size: Bytes after extraction.
        packed: Bytes of the archive.

    Raises:
        RefusedArchiveError: If there are too many members, too many bytes, or more bytes than
            `packed` bytes of images can hold.
    """
    if count > MAX_FILES:
        raise RefusedArchiveError(f"{name}: refused. It has more than {MAX_FILES:,} members.")
    if size > MAX_BYTES:
        raise RefusedArchiveError(
            f"{name}: refused. It extracts to more than {MAX_BYTES / 1e9:.0f} GB."
        )
    if size > SMALL and size > MAX_RATIO * packed:
        raise RefusedArchiveError(
            f"{name}: refused. {packed:,} bytes would extract to {size:,} bytes or more (a "
            "decompression bomb; images hardly shrink)."
        )
