"""Safe extraction of zip archives (also in several volumes) and tar archives.

The output folder appears whole or not at all. Every member is checked before a byte is written:
nothing leaves the folder, nothing is a link, and an archive that would fill the disk is refused.
An archive inside an archive stays packed, like any other file.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import unicodedata
import zipfile
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import IO

from clipdr import DataError
from clipdr.data.sources.archive_formats import open_archive
from clipdr.data.sources.archive_limits import CHUNK, CORRUPT, Member, RefusedArchiveError

Content = tuple[Member, IO[bytes]]


def volumes(path: Path) -> list[Path]:
    """List all volumes of an archive in order.

    Args:
        path: X.zip.001, or X.zip with X.z01, X.z02 and so on beside it, or an archive in one file.

    Returns:
        All volumes, or the path alone.

    Raises:
        DataError: If a volume in between is missing.
    """
    path = Path(path)
    siblings = sorted(path.parent.iterdir())
    if match := re.fullmatch(r"(.+)\.0*1", path.name):
        pattern = re.escape(match[1]) + r"\.\d{2,4}"
        return _in_sequence([entry for entry in siblings if re.fullmatch(pattern, entry.name)], [])
    pattern = re.escape(path.stem) + r"\.[zZ]\d\d+"
    split = [entry for entry in siblings if re.fullmatch(pattern, entry.name)]
    return _in_sequence(split, [path]) if path.suffix.lower() == ".zip" and split else [path]


def extract(parts: list[Path], folder: Path, keep: tuple[str, ...] = (), strip: int = 0) -> int:
    """Extract an archive into a new folder, which appears only when every file is in it.

    Args:
        parts: The archive, or all its volumes in order (see `volumes`).
        folder: Folder to create. It must not exist.
        keep: Shell patterns (fnmatch) over the path after `strip`; () keeps all members.
        strip: Number of leading folders to remove from every path.

    Returns:
        Number of files.

    Raises:
        RefusedArchiveError: If a path is absolute, leaves the folder, or has a drive, a backslash
            or a control character. If a member is a link or device, or two paths differ in case
            only. If there are more than MAX_FILES members, MAX_BYTES bytes or MAX_RATIO times the
            packed bytes. If the archive is encrypted, 7z, rar or broken. Nothing is kept.
        DataError: If the free space is too small or the disk runs full. Nothing is kept.
    """
    parts, folder = [Path(part) for part in parts], Path(folder)
    name = parts[0].name
    temporary = folder.with_name(f".{folder.name}.unpacking")
    shutil.rmtree(temporary, ignore_errors=True)  # of a killed process
    try:
        with open_archive(parts, folder) as archive:
            members = _select(archive.members(), name, keep, strip)
            _check_space(sum(member.size for member in members), folder, name)
            temporary.mkdir(parents=True)
            for member, content in _progress(archive.contents(members), name, len(members)):
                _write(content, temporary / member.path, member.size)
        temporary.rename(folder)
    except CORRUPT as error:
        raise _broken(name, error) from None
    except OSError as error:
        if error.errno is None:  # gzip and bz2 raise it for broken input
            raise _broken(name, error) from None
        raise DataError(
            f"{name}: cannot be extracted into {folder.parent}: {reason(error)}. Nothing was kept."
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return len(members)


def _broken(name: str, error: Exception) -> RefusedArchiveError:
    """Create the error of an archive that cannot be read to its end."""
    return RefusedArchiveError(
        f"{name}: broken archive ({error}). Delete it and download it again."
    )


def reason(error: OSError) -> str:
    """Describe an OSError in words, without a path or an address."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "the disk is full"
    return os.strerror(error.errno) if error.errno else type(error).__name__


def path_problem(path: str) -> str:
    """Check a path from outside before it is used below a folder.

    Args:
        path: Path as an archive or a list states it.

    Returns:
        Why the path must not be used, as the rest of a sentence; "" if it may be used.
    """
    if not path or path.startswith("/") or re.match(r"[A-Za-z]:", path):
        return "is absolute"
    if ".." in PurePosixPath(path).parts:
        return "leaves its folder"
    if "\\" in path or any(unicodedata.category(letter) == "Cc" for letter in path):
        return "has a backslash or a control character"
    return ""


def _in_sequence(numbered: list[Path], rest: list[Path]) -> list[Path]:
    """Return numbered volumes and the rest; raise DataError where a number is missing."""
    numbers = [int(re.sub(r"^.*?(\d+)$", r"\1", part.name)) for part in numbered]
    missing = [number for number in range(1, max(numbers, default=0)) if number not in numbers]
    if missing:
        raise DataError(
            f"{numbered[0].parent}: volume {missing[0]} of {numbered[-1].name} is missing. "
            "Put all volumes into one folder."
        )
    return numbered + rest


def _select(
    members: Iterable[Member], name: str, keep: tuple[str, ...], strip: int
) -> list[Member]:
    """Check every path of an archive and return the members to write."""
    selected: list[Member] = []
    paths: dict[str, str] = {}  # path without regard to case and Unicode form -> path as stated
    folders: set[str] = set()
    for member in members:
        if problem := path_problem(member.path):
            raise RefusedArchiveError(f"{name}: refused. The path {member.path!r} {problem}.")
        parts = PurePosixPath(member.path).parts
        key = unicodedata.normalize("NFC", "/".join(parts)).casefold()
        if member.path.endswith("/"):
            folders.add(key)
            continue
        if key in paths:
            raise RefusedArchiveError(
                f"{name}: refused. {member.path!r} and {paths[key]!r} are the same file on many "
                "disks (equal, or equal but for upper and lower case)."
            )
        paths[key] = member.path
        folders.update(key[: match.start()] for match in re.finditer("/", key))
        path = "/".join(parts[strip:])
        wanted = not keep or any(fnmatchcase(path, pattern) for pattern in keep)
        if path and parts[0] != "__MACOSX" and wanted:
            selected.append(member._replace(path=path))
    both = next((path for key, path in paths.items() if key in folders), None)
    if both is not None:
        raise RefusedArchiveError(
            f"{name}: {both!r} is both a file and a folder. Download it again from the publisher."
        )
    if not selected:
        patterns = f" ({keep[0]} ...)" if keep else ""
        raise RefusedArchiveError(
            f"{name}: none of its {len(paths)} files is wanted{patterns}. Check that it is the "
            "right archive."
        )
    return selected


def _check_space(size: int, folder: Path, name: str) -> None:
    """Raise DataError where the disk has less free space than `size` bytes."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder.parent).free
    if size > free:
        raise DataError(
            f"{name}: refused. It extracts to {size / 1e9:.1f} GB, and {folder.parent} has "
            f"{free / 1e9:.1f} GB free. Free some space."
        )


def _write(source: IO[bytes], path: Path, size: int) -> None:
    """Write one member to a file; a length other than the archive stated is an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with path.open("xb") as file:
        while chunk := source.read(CHUNK):
            written += len(chunk)
            if written > size:
                break
            file.write(chunk)
    if written != size:
        raise zipfile.BadZipFile(f"{path.name} has not the {size:,} bytes that its header states")


def _progress(contents: Iterator[Content], name: str, total: int) -> Iterable[Content]:
    """Show a progress bar on a terminal."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    hidden = not console.is_terminal
    return track(
        contents, f"extracting {name}", total, console=console, disable=hidden, transient=True
    )
