"""What an archive holds, found out without trusting it: its members, and the content of each.

Input: a zip (also in volumes) or tar archive. Output: `members()`, what the archive says of every file, refused where there are too many, too
large or not plain files; and `contents(members)`, each with a stream of its bytes. `clipdr.data.sources.archive` judges the names and writes the files.
"""

import bz2
import gzip
import io
import lzma
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from clipdr import DataError

MAX_FILES = 150_000  # EyePACS, the largest set, has 88,702 photographs
MAX_BYTES = 400_000_000_000
MAX_RATIO = 100  # unpacked to packed; photographs do not shrink, tables shrink to a tenth
SMALL = 50_000_000  # bytes that may come out at any ratio
MANY, TINY = (
    20_000,
    4096,
)  # so many members of a tar, each of fewer bytes, are no photographs; a tar has no list that would tell at once
MAX_LIST = 400  # bytes of a zip's list of members per member, names included
CHUNK = 1 << 20

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


@contextmanager
def opened(volumes: list[Path], folder: Path) -> Iterator["Zip | Tar"]:
    """An archive, by its first bytes; Refused for 7z and rar, with the command that unpacks them, and for anything else."""
    word, name = kind(volumes[0]), volumes[0].name
    if word in REFUSED:
        command = REFUSED[word].format(folder=folder, archive=volumes[0])
        raise Refused(
            f"{name}: a {word} archive, which clipdr does not open; unpack it yourself, e.g. `{command}`"
        )
    if not word or (word != "zip" and len(volumes) > 1):
        raise Refused(
            f"{name}: no zip or tar archive; if it was downloaded, delete it and download it again"
        )
    with ExitStack() as stack:
        yield Zip(volumes, stack) if word == "zip" else Tar(volumes[0], OPENERS[word], stack)


class Zip:
    """A zip archive, in one or several volumes."""

    def __init__(self, volumes: list[Path], stack):
        self.name = volumes[0].name
        file = stack.enter_context(io.BufferedReader(Joined(volumes)))
        self.packed = file.seek(0, os.SEEK_END)
        check_list(file, self.name)
        self.zip = stack.enter_context(zipfile.ZipFile(file))
        if len(volumes) > 1 and volumes[-1].suffix.lower() == ".zip":
            self._places(volumes)

    def _places(self, volumes):
        """In a .z01 set every offset counts from the start of its own part; zipfile counts from that of the part with the list."""
        starts = [
            sum(part.stat().st_size for part in volumes[:number]) for number in range(len(volumes))
        ]
        base = max(start for start in starts if start <= self.zip.start_dir)
        for info in self.zip.infolist():
            if info.volume >= len(volumes):
                raise DataError(
                    f"{self.name}: part {info.volume + 1} of the set is missing; put all volumes into one folder"
                )
            info.header_offset += starts[info.volume] - base

    def members(self) -> Iterator[Member]:
        infos = self.zip.infolist()
        limits(self.name, len(infos), sum(info.file_size for info in infos), self.packed)
        for info in infos:
            mode = info.external_attr >> 16
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise Refused(f"{self.name}: refused: {info.filename!r} is a link or a device")
            if info.flag_bits & 1:
                raise Refused(
                    f"{self.name}: refused: it is encrypted; unpack it with `unzip {self.name}` and its password"
                )
            yield Member(info.orig_filename, 0 if info.is_dir() else info.file_size, info)

    def contents(self, members: list[Member]) -> Iterator[tuple[Member, IO[bytes]]]:
        for member in members:
            with self.zip.open(member.record) as source:
                yield member, source


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

    def members(self) -> Iterator[Member]:
        total = 0
        for count, (_, info) in enumerate(self._headers(), start=1):
            total += info.size if info.isreg() else 0
            limits(self.name, count, total, self.packed)
            limits(
                self.name, 0, info.offset_data, max(self.raw.tell(), 1)
            )  # so far: a bomb shows itself early
            if count > MANY and info.offset_data < TINY * count:
                raise Refused(
                    f"{self.name}: refused: more than {MANY:,} members of under {TINY:,} bytes each are no photographs"
                )
            if not (info.isreg() or info.isdir()):
                raise Refused(f"{self.name}: refused: {info.name!r} is a link or a device")
            yield Member(info.name + ("/" if info.isdir() else ""), info.size, info.offset)

    def contents(self, members: list[Member]) -> Iterator[tuple[Member, IO[bytes]]]:
        wanted = {member.record: member for member in members}
        for tar, info in self._headers():
            if info.offset in wanted:
                with tar.extractfile(info) as source:
                    yield wanted[info.offset], source


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

    def __init__(self, volumes: list[Path]):
        self.volumes, self.place, self.current, self.file = volumes, 0, -1, None
        self.ends = []
        for part in volumes:
            self.ends.append(part.stat().st_size + (self.ends[-1] if self.ends else 0))

    def readable(self):
        return True

    def seekable(self):
        return True

    def seek(self, offset, whence=os.SEEK_SET):
        self.place = (
            offset + {os.SEEK_SET: 0, os.SEEK_CUR: self.place, os.SEEK_END: self.ends[-1]}[whence]
        )
        return self.place

    def readinto(self, buffer):
        number = next((n for n, end in enumerate(self.ends) if self.place < end), None)
        if number is None:
            return 0
        if number != self.current:
            self._close()
            self.file, self.current = open(self.volumes[number], "rb"), number  # noqa: SIM115 - kept open until the next part
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


def check_list(file, name):
    """Refuse a zip with too long a list of members before it is read: a million members take zipfile many seconds and a gigabyte."""
    file.seek(-min(file.seek(0, os.SEEK_END), 65_557 + 76), os.SEEK_END)
    tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < 22:
        raise zipfile.BadZipFile("no list of members at its end; is the last part missing?")
    count, size = struct.unpack_from("<HL", tail, at + 10)
    long = tail.rfind(b"PK\x06\x06", 0, at)  # zip64
    if long >= 0 and (count, size) != (0, 0) and (count == 0xFFFF or size == 0xFFFFFFFF):
        count, size = struct.unpack_from("<QQ", tail, long + 32)
    limits(name, count, 0, 1)
    if size > MAX_LIST * MAX_FILES:
        raise Refused(f"{name}: refused: its list of members alone has {size:,} bytes")


def limits(name, count, size, packed):
    """Raise Refused for too many members, too many bytes, or more bytes than `packed` ones can hold in earnest."""
    if count > MAX_FILES:
        raise Refused(f"{name}: refused: more than {MAX_FILES:,} members")
    if size > MAX_BYTES:
        raise Refused(f"{name}: refused: unpacked it has more than {MAX_BYTES / 1e9:.0f} GB")
    if size > SMALL and size > MAX_RATIO * packed:
        raise Refused(
            f"{name}: refused: {packed:,} bytes would become {size:,} or more (a bomb; photographs do not shrink so)"
        )
