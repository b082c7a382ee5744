"""Archives opened safely: zip (also in parts) and tar, unpacked into a folder that appears whole or not at all.

Input: an archive that somebody else made. Output: plain files below one folder. Every member is checked before a byte is written; nothing
leaves the folder, nothing is a link, and an archive that would fill the disk is refused. An archive inside an archive is left packed: it is
a file like any other. One module, because the two formats share every rule.
"""

import bz2
import errno
import gzip
import io
import lzma
import os
import re
import shutil
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from clipdr import DataError

MAX_FILES = 150_000  # EyePACS, the largest set, has 88,702 photographs
MAX_BYTES = 400_000_000_000
MAX_RATIO = 100  # unpacked to packed; photographs do not shrink, tables shrink to a tenth
SMALL = 50_000_000  # bytes that may come out at any ratio
MANY, TINY = 20_000, 4096  # so many members of a tar, each of fewer bytes, are no photographs; a tar has no list that would tell at once
MAX_LIST = 400  # bytes of a zip's list of members per member, names included
CHUNK = 1 << 20

MAGIC = {
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",  # without members
    b"PK\x07\x08": "zip",  # in parts
    b"\x1f\x8b": "tar.gz",
    b"BZh": "tar.bz2",
    b"\xfd7zXZ\x00": "tar.xz",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!\x1a\x07": "rar",
}
REFUSED = {"7z": "7z x -o{folder} {archive}", "rar": "unrar x {archive} {folder}/"}
OPENERS = {"tar": open, "tar.gz": gzip.open, "tar.bz2": bz2.open, "tar.xz": lzma.open}
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


class Refused(DataError):
    """The archive itself is at fault: broken, dangerous, or of a kind that is not opened."""


class Member(NamedTuple):
    """One file of an archive: its path, its size in bytes as the archive states it, and the archive's own record of it."""

    path: str
    size: int
    record: object


def kind(path: Path) -> str:
    """ "zip" | "tar" | "tar.gz" | "tar.bz2" | "tar.xz" | "7z" | "rar" by the first bytes of a file, "" for anything else."""
    with open(path, "rb") as file:
        head = file.read(512)
    found = [word for magic, word in MAGIC.items() if head.startswith(magic)]
    return found[0] if found else "tar" if head[257:262] == b"ustar" else ""


def volumes(path: Path) -> list[Path]:
    """All parts of an archive, in order: X.zip.001, .002 ...; X.z01, .z02 ... X.zip; or the path alone.

    Raises DataError where a part in between is missing.
    """
    path = Path(path)
    siblings = sorted(path.parent.iterdir())
    if found := re.fullmatch(r"(.+)\.0*1", path.name):
        return _parts([p for p in siblings if re.fullmatch(re.escape(found[1]) + r"\.\d{2,4}", p.name)], [])
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
        with _opened(parts, folder) as archive:
            members = _selected(archive.members(), name, keep, strip)
            _room(sum(member.size for member in members), folder, name)
            temporary.mkdir(parents=True)
            archive.write(members, temporary)
        os.rename(temporary, folder)
    except CORRUPT as error:
        raise Refused(f"{name}: broken archive ({error}); delete it and download it again") from None
    except OSError as error:
        if error.errno is None:  # gzip and bz2 say so that their input is broken
            raise Refused(f"{name}: broken archive ({error}); delete it and download it again") from None
        raise DataError(f"{name}: cannot unpack into {folder.parent}: {reason(error)}; nothing was kept") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return len(members)


def reason(error: OSError) -> str:
    """What an OSError means, in words; never a path or an address."""
    full = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
    return "the disk is full" if error.errno in full else (os.strerror(error.errno) if error.errno else type(error).__name__)


def safe(path: str) -> str:
    """Why a path of somebody else's must not be used below a folder of ours; "" if it may."""
    if not path or path.startswith("/") or re.match(r"[A-Za-z]:", path):
        return "is absolute"
    if ".." in PurePosixPath(path).parts:
        return "climbs out of its folder"
    if "\\" in path or any(unicodedata.category(letter) == "Cc" for letter in path):
        return "has a back-slash or a control character"
    return ""


class Zip:
    """A zip archive, in one or several parts."""

    def __init__(self, parts: list[Path], stack):
        self.name = parts[0].name
        file = stack.enter_context(io.BufferedReader(Joined(parts)))
        self.packed = file.seek(0, os.SEEK_END)
        _check_list(file, self.name)
        self.zip = stack.enter_context(zipfile.ZipFile(file))
        if len(parts) > 1 and parts[-1].suffix.lower() == ".zip":
            self._places(parts)

    def _places(self, parts):
        """In a .z01 set every offset counts from the start of its own part; zipfile counts from that of the part with the list."""
        starts = [sum(part.stat().st_size for part in parts[:number]) for number in range(len(parts))]
        base = max(start for start in starts if start <= self.zip.start_dir)
        for info in self.zip.infolist():
            if info.volume >= len(parts):
                raise DataError(f"{self.name}: part {info.volume + 1} of the set is missing; put all parts into one folder")
            info.header_offset += starts[info.volume] - base

    def members(self) -> Iterable[Member]:
        infos = self.zip.infolist()
        _limits(self.name, len(infos), sum(info.file_size for info in infos), self.packed)
        for info in infos:
            mode = info.external_attr >> 16
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise Refused(f"{self.name}: refused: {info.filename!r} is a link or a device")
            if info.flag_bits & 1:
                raise Refused(f"{self.name}: refused: it is encrypted; unpack it with `unzip {self.name}` and its password")
            yield Member(info.orig_filename, 0 if info.is_dir() else info.file_size, info)

    def write(self, members, folder):
        for member in _progress(members, self.name, len(members)):
            with self.zip.open(member.record) as source:
                _write(source, folder / member.path, member.size)


class Tar:
    """A tar archive, plain or compressed."""

    def __init__(self, path: Path, opener, stack):
        self.name, self.packed = path.name, path.stat().st_size
        self.raw = stack.enter_context(path.open("rb"))
        self.file = Short(self.raw if opener is open else stack.enter_context(opener(self.raw)))

    def _headers(self):
        self.file.seek(0)
        with tarfile.open(fileobj=self.file, mode="r:") as tar:
            while (info := tar.next()) is not None:
                tar.members = []  # else they would all be kept
                yield tar, info

    def members(self) -> Iterable[Member]:
        total = 0
        for count, (_, info) in enumerate(self._headers(), start=1):
            total += info.size if info.isreg() else 0
            _limits(self.name, count, total, self.packed)
            _limits(self.name, 0, info.offset_data, max(self.raw.tell(), 1))  # so far: a bomb shows itself early
            if count > MANY and info.offset_data < TINY * count:
                raise Refused(f"{self.name}: refused: more than {MANY:,} members of under {TINY:,} bytes each are no photographs")
            if not (info.isreg() or info.isdir()):
                raise Refused(f"{self.name}: refused: {info.name!r} is a link or a device")
            yield Member(info.name + ("/" if info.isdir() else ""), info.size, info.offset)

    def write(self, members, folder):
        wanted = {member.record: member for member in members}
        chosen = ((tar, info) for tar, info in self._headers() if info.offset in wanted)
        for tar, info in _progress(chosen, self.name, len(members)):
            with tar.extractfile(info) as source:
                _write(source, folder / wanted[info.offset].path, info.size)


class Short:
    """A file that is read in short pieces only: tarfile would take a header of any stated length into memory at once."""

    def __init__(self, file):
        self.file, self.seek, self.tell = file, file.seek, file.tell

    def read(self, size):
        if size > 4 * CHUNK:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return self.file.read(size)


class Joined(io.RawIOBase):
    """Several files read as one, without a copy."""

    def __init__(self, parts: list[Path]):
        self.parts, self.place, self.current, self.file = parts, 0, -1, None
        self.ends = []
        for part in parts:
            self.ends.append(part.stat().st_size + (self.ends[-1] if self.ends else 0))

    def readable(self):
        return True

    def seekable(self):
        return True

    def seek(self, offset, whence=os.SEEK_SET):
        self.place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self.place, os.SEEK_END: self.ends[-1]}[whence]
        return self.place

    def readinto(self, buffer):
        number = next((n for n, end in enumerate(self.ends) if self.place < end), None)
        if number is None:
            return 0
        if number != self.current:
            self._close()
            self.file, self.current = open(self.parts[number], "rb"), number  # noqa: SIM115 - kept open until the next part
        self.file.seek(self.place - (self.ends[number - 1] if number else 0))
        count = self.file.readinto(buffer)
        self.place += count
        return count

    def close(self):
        self._close()
        super().close()

    def _close(self):
        if self.file:
            self.file.close()


@contextmanager
def _opened(parts, folder):
    word, name = kind(parts[0]), parts[0].name
    if word in REFUSED:
        command = REFUSED[word].format(folder=folder, archive=parts[0])
        raise Refused(f"{name}: a {word} archive, which clipdr does not open; unpack it yourself, e.g. `{command}`")
    if not word or (word != "zip" and len(parts) > 1):
        raise Refused(f"{name}: no zip or tar archive; if it was downloaded, delete it and download it again")
    with ExitStack() as stack:
        yield Zip(parts, stack) if word == "zip" else Tar(parts[0], OPENERS[word], stack)


def _parts(numbered, rest):
    numbers = [int(re.search(r"\d+$", part.name)[0]) for part in numbered]
    missing = [number for number in range(1, max(numbers, default=0)) if number not in numbers]
    if missing:
        raise DataError(f"{numbered[0].parent}: part {missing[0]} of {numbered[-1].name} is missing; put all parts into one folder")
    return numbered + rest


def _check_list(file, name):
    """Refuse a zip with too long a list of members before it is read: a million members take zipfile many seconds and a gigabyte."""
    file.seek(-min(file.seek(0, os.SEEK_END), 65_557 + 76), os.SEEK_END)
    tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < 22:
        raise zipfile.BadZipFile("no list of members at its end")
    count, size = struct.unpack_from("<HL", tail, at + 10)
    long = tail.rfind(b"PK\x06\x06", 0, at)  # zip64
    if long >= 0 and (count, size) != (0, 0) and (count == 0xFFFF or size == 0xFFFFFFFF):
        count, size = struct.unpack_from("<QQ", tail, long + 32)
    _limits(name, count, 0, 1)
    if size > MAX_LIST * MAX_FILES:
        raise Refused(f"{name}: refused: its list of members alone has {size:,} bytes")


def _limits(name, count, size, packed):
    if count > MAX_FILES:
        raise Refused(f"{name}: refused: more than {MAX_FILES:,} members")
    if size > MAX_BYTES:
        raise Refused(f"{name}: refused: unpacked it has more than {MAX_BYTES / 1e9:.0f} GB")
    if size > SMALL and size > MAX_RATIO * packed:
        raise Refused(f"{name}: refused: {packed:,} bytes would become {size:,} or more (a bomb; photographs do not shrink so)")


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
            raise Refused(f"{name}: refused: {member.path!r} and {seen[key]!r} are one file on many disks (equal, or but for their case)")
        seen[key] = member.path
        folders.update(key[: match.start()] for match in re.finditer("/", key))
        path = "/".join(parts[strip:])
        if path and parts[0] != "__MACOSX" and (not keep or any(fnmatchcase(path, pattern) for pattern in keep)):
            chosen.append(member._replace(path=path))
    both = next((path for key, path in seen.items() if key in folders), None)
    if both is not None:
        raise Refused(f"{name}: refused: {both!r} is a file and a folder")
    if not chosen:
        raise Refused(f"{name}: it holds {len(seen)} files but none of those wanted{f' ({keep[0]} ...)' if keep else ''}")
    return chosen


def _room(size, folder, name):
    folder.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder.parent).free
    if size > free:
        raise DataError(f"{name}: refused: unpacked it has {size / 1e9:.1f} GB, and {folder.parent} has {free / 1e9:.1f} GB free")


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
    return track(members, f"unpacking {name}", total, console=console, disable=not console.is_terminal, transient=True)
