"""Formats of archives: detected by the first bytes, and opened with the reader of the format.

A reader lists the members as the archive states them, and refuses archives with too many members,
too much content, or members that are no plain files. `clipdr.data.sources.archive` checks the paths
and writes the files.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from clipdr.data.sources.archive_limits import RefusedArchiveError
from clipdr.data.sources.tar_reader import TarReader
from clipdr.data.sources.zip_reader import ZipReader

MAGIC = {
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",  # without members
    b"PK\x07\x08": "zip",  # in volumes
    b"\x1f\x8b": "tar.gz",
    b"BZh": "tar.bz2",
    b"\xfd7zXZ\x00": "tar.xz",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!\x1a\x07": "rar",
}
REFUSED = {"7z": "7z x -o{folder} {archive}", "rar": "unrar x {archive} {folder}/"}
# format -> function that decompresses an open file; None where it is not compressed
OPENERS: dict[str, Callable[..., Any] | None] = {
    "tar": None,
    "tar.gz": gzip.open,
    "tar.bz2": bz2.open,
    "tar.xz": lzma.open,
}


def kind(path: Path) -> str:
    """Detect the format of a file by its first bytes.

    Args:
        path: File to read.

    Returns:
        "zip", "tar", "tar.gz", "tar.bz2", "tar.xz", "7z" or "rar"; "" for any other file.
    """
    with Path(path).open("rb") as file:
        head = file.read(512)
    formats = [name for magic, name in MAGIC.items() if head.startswith(magic)]
    return formats[0] if formats else "tar" if head[257:262] == b"ustar" else ""


@contextmanager
def open_archive(volumes: list[Path], folder: Path) -> Generator[ZipReader | TarReader]:
    """Open an archive of the format that its first bytes state.

    Args:
        volumes: All volumes of the archive in order.
        folder: Folder that a message about an unsupported format names.

    Yields:
        Reader with `members` and `contents`.

    Raises:
        RefusedArchiveError: For 7z and rar, with the command that extracts them, and for any file
            that is neither zip nor tar.
    """
    form, name = kind(volumes[0]), volumes[0].name
    if form in REFUSED:
        command = REFUSED[form].format(folder=folder, archive=volumes[0])
        raise RefusedArchiveError(
            f"{name}: {form} archives are not supported. Extract it yourself, e.g. `{command}`."
        )
    if not form or (form != "zip" and len(volumes) > 1):
        raise RefusedArchiveError(
            f"{name}: not a zip or tar archive. Delete it and download it again."
        )
    with ExitStack() as stack:
        if form == "zip":
            yield ZipReader(volumes, stack)
        else:
            yield TarReader(volumes[0], OPENERS[form], stack)
