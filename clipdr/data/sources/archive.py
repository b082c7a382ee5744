"""Archives opened safely: zip (also in parts) and tar, unpacked into a folder that appears whole or not at all.

Input: an archive that somebody else made. Output: plain files below one folder. Every member is checked before a byte is written; nothing
leaves the folder, nothing is a link, and an archive that would fill the disk is refused. An archive inside an archive is left packed: it is
a file like any other.
"""

import errno
import os
import re
import shutil
import unicodedata
import zipfile
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from clipdr import DataError
from clipdr.data.sources.archive_formats import CHUNK, CORRUPT, Refused, opened


def volumes(path: Path) -> list[Path]:
    """All parts of an archive, in order: X.zip.001, .002 ...; X.z01, .z02 ... X.zip; or the path alone.

    Raises DataError where a part in between is missing.
    """
    path = Path(path)
    siblings = sorted(path.parent.iterdir())
    if found := re.fullmatch(r"(.+)\.0*1", path.name):
        return _parts(
            [p for p in siblings if re.fullmatch(re.escape(found[1]) + r"\.\d{2,4}", p.name)], []
        )
    split = [p for p in siblings if re.fullmatch(re.escape(path.stem) + r"\.[zZ]\d\d+", p.name)]
    return _parts(split, [path]) if path.suffix.lower() == ".zip" and split else [path]


def extract(parts: list[Path], folder: Path, keep: tuple[str, ...] = (), strip: int = 0) -> int:
    """Unpack an archive; `folder` must not exist, and appears only when every file is in it.

    parts   : the archive, or all its parts in order (`volumes`)
    keep    : shell patterns (fnmatch, over the path after `strip`); () keeps all
    strip   : leading folders to leave out of every path
    returns   number of files

    Raises Refused, with nothing written: a path that is absolute, climbs, has a drive, a back-slash or a control character; a link or
    device; two paths that differ in case only; more than MAX_FILES members, MAX_BYTES or MAX_RATIO; an encrypted, 7z or rar archive; and a
    broken one, with what was written removed. Raises DataError, with nothing kept: too little free space, a disk that runs full.
    """
    parts, folder = [Path(part) for part in parts], Path(folder)
    name = parts[0].name
    temporary = folder.with_name(f".{folder.name}.unpacking")
    shutil.rmtree(temporary, ignore_errors=True)  # of a run that was killed
    try:
        with opened(parts, folder) as archive:
            members = _selected(archive.members(), name, keep, strip)
            _room(sum(member.size for member in members), folder, name)
            temporary.mkdir(parents=True)
            for member, content in _progress(archive.contents(members), name, len(members)):
                _write(content, temporary / member.path, member.size)
        os.rename(temporary, folder)
    except CORRUPT as error:
        raise Refused(
            f"{name}: broken archive ({error}); delete it and download it again"
        ) from None
    except OSError as error:
        if error.errno is None:  # gzip and bz2 say so that their input is broken
            raise Refused(
                f"{name}: broken archive ({error}); delete it and download it again"
            ) from None
        raise DataError(
            f"{name}: cannot unpack into {folder.parent}: {reason(error)}; nothing was kept"
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return len(members)


def reason(error: OSError) -> str:
    """What an OSError means, in words; never a path or an address."""
    full = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
    return (
        "the disk is full"
        if error.errno in full
        else (os.strerror(error.errno) if error.errno else type(error).__name__)
    )


def safe(path: str) -> str:
    """Why a path of somebody else's must not be used below a folder of ours; "" if it may."""
    if not path or path.startswith("/") or re.match(r"[A-Za-z]:", path):
        return "is absolute"
    if ".." in PurePosixPath(path).parts:
        return "climbs out of its folder"
    if "\\" in path or any(unicodedata.category(letter) == "Cc" for letter in path):
        return "has a back-slash or a control character"
    return ""


def _parts(numbered, rest):
    numbers = [int(re.search(r"\d+$", part.name)[0]) for part in numbered]
    missing = [number for number in range(1, max(numbers, default=0)) if number not in numbers]
    if missing:
        raise DataError(
            f"{numbered[0].parent}: part {missing[0]} of {numbered[-1].name} is missing; put all parts into one folder"
        )
    return numbered + rest


def _selected(members, name, keep, strip):
    """Members to write, every name of the archive checked."""
    chosen, seen, folders = [], {}, set()
    for member in members:
        problem = safe(member.path)
        if problem:
            raise Refused(f"{name}: refused: the path {member.path!r} {problem}")
        parts = PurePosixPath(member.path).parts
        key = unicodedata.normalize("NFC", "/".join(parts)).casefold()
        if member.path.endswith("/"):
            folders.add(key)
            continue
        if key in seen:
            raise Refused(
                f"{name}: refused: {member.path!r} and {seen[key]!r} are one file on many disks (equal, or but for their case)"
            )
        seen[key] = member.path
        folders.update(key[: match.start()] for match in re.finditer("/", key))
        path = "/".join(parts[strip:])
        if (
            path
            and parts[0] != "__MACOSX"
            and (not keep or any(fnmatchcase(path, pattern) for pattern in keep))
        ):
            chosen.append(member._replace(path=path))
    both = next((path for key, path in seen.items() if key in folders), None)
    if both is not None:
        raise Refused(f"{name}: refused: {both!r} is a file and a folder")
    if not chosen:
        raise Refused(
            f"{name}: it holds {len(seen)} files but none of those wanted{f' ({keep[0]} ...)' if keep else ''}"
        )
    return chosen


def _room(size, folder, name):
    folder.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder.parent).free
    if size > free:
        raise DataError(
            f"{name}: refused: unpacked it has {size / 1e9:.1f} GB, and {folder.parent} has {free / 1e9:.1f} GB free"
        )


def _write(source, path, size):
    """One member to a file; a member that is not as long as the archive said is an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with open(path, "xb") as file:
        while chunk := source.read(CHUNK):
            written += len(chunk)
            if written > size:
                break
            file.write(chunk)
    if written != size:
        raise zipfile.BadZipFile(f"{path.name} has not the {size:,} bytes that its header states")


def _progress(members, name, total):
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(
        members,
        f"unpacking {name}",
        total,
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
