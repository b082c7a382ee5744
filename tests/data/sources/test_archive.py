"""Archives: what is good comes out equal, what attacks is refused in time, with a reason, and nothing outside or left behind."""

import bz2
import gzip
import io
import lzma
import os
import resource
import shutil
import stat
import struct
import subprocess
import sys
import tarfile
import time
import zipfile

import pytest
from helpers.paths import ROOT

from clipdr import DataError
from clipdr.data.sources import archive

FILES = {
    "train.csv": b"id_code,diagnosis\n",
    "train_images/a.png": os.urandom(5000),
    "train_images/deep/b b.png": os.urandom(300_000),
}


def make_zip(path, files=FILES, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in files.items():
            file.writestr(name, content)
    return path


def make_tar(path, files=FILES, mode="w"):
    with tarfile.open(path, mode) as file:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


def add_tar(path, **fields):
    """A tar of one good file and one member of the given fields."""
    with tarfile.open(path, "w") as file:
        good = tarfile.TarInfo("good.txt")
        file.addfile(good, io.BytesIO())
        info = tarfile.TarInfo(fields.pop("name"))
        for field, value in fields.items():
            setattr(info, field, value)
        file.addfile(info)
    return path


def add_zip(path, name, mode=0, content=b"x"):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("good.txt", b"good")
        info = zipfile.ZipInfo("placeholder")
        info.filename = name
        info.external_attr = mode << 16
        file.writestr(info, content)
    return path


def tree(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def split(path, size):
    """Cut a file into .001, .002 ... and delete it, as Kaggle and 7-Zip do."""
    data = path.read_bytes()
    for number, start in enumerate(range(0, len(data), size), start=1):
        path.with_name(f"{path.name}.{number:03d}").write_bytes(data[start : start + size])
    path.unlink()
    return path.with_name(f"{path.name}.001")


@pytest.mark.parametrize("ending", ["zip", "tar", "tar.gz", "tar.bz2", "tar.xz"])
def test_good_archives_come_out_equal(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    if ending == "zip":
        make_zip(path)
    else:
        make_tar(path, mode=f"w:{ending[4:]}")
    assert archive.extract([path], tmp_path / "out") == 3
    assert tree(tmp_path / "out") == FILES
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [path.name, "out"]


def test_parts_are_read_without_being_joined(tmp_path):
    first = split(make_zip(tmp_path / "train.zip", method=zipfile.ZIP_STORED), 70_001)
    parts = archive.volumes(first)
    assert [part.name for part in parts] == [f"train.zip.{number:03d}" for number in range(1, 6)]
    archive.extract(parts, tmp_path / "out")
    assert tree(tmp_path / "out") == FILES


@pytest.mark.skipif(not shutil.which("zip"), reason="needs the zip program")
def test_a_z01_set_of_the_zip_program(tmp_path):
    source = tmp_path / "source"
    for name, content in FILES.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(content)
    subprocess.run(
        ["zip", "-q", "-r", "-s", "64k", tmp_path / "set.zip", "."], cwd=source, check=True
    )
    parts = archive.volumes(tmp_path / "set.zip")
    assert [part.name for part in parts] == ["set.z01", "set.z02", "set.z03", "set.z04", "set.zip"]
    archive.extract(parts, tmp_path / "out")
    assert tree(tmp_path / "out") == FILES


def test_a_z01_set_put_together_by_hand(tmp_path):
    """The same without the program: the second member starts in the second part, the list is in the third."""
    data = make_zip(
        tmp_path / "x.zip", {"a": b"a" * 100, "b": b"b" * 100}, zipfile.ZIP_STORED
    ).read_bytes()
    with zipfile.ZipFile(tmp_path / "x.zip") as file:
        second, listing = file.infolist()[1].header_offset, file.start_dir
    parts = [data[:second], data[second:listing], bytearray(data[listing:])]
    entry = parts[2].index(b"PK\1\2", 1)
    struct.pack_into(
        "<H", parts[2], entry + 34, 1
    )  # of `b`: starts in part 1 (from 0), at its byte 0
    struct.pack_into("<L", parts[2], entry + 42, 0)
    end = parts[2].index(b"PK\5\6")
    struct.pack_into("<HH", parts[2], end + 4, 2, 2)
    struct.pack_into("<L", parts[2], end + 16, 0)
    for name, content in zip(("x.z01", "x.z02", "x.zip"), parts, strict=True):
        (tmp_path / name).write_bytes(content)
    archive.extract(archive.volumes(tmp_path / "x.zip"), tmp_path / "out")
    assert tree(tmp_path / "out") == {"a": b"a" * 100, "b": b"b" * 100}


def test_a_missing_part_is_named(tmp_path):
    first = split(make_zip(tmp_path / "train.zip", method=zipfile.ZIP_STORED), 70_001)
    (tmp_path / "train.zip.003").unlink()
    with pytest.raises(DataError, match=r"part 3 of train.zip.005 is missing"):
        archive.volumes(first)


def test_keep_and_strip(tmp_path):
    path = make_zip(
        tmp_path / "a.zip",
        {
            "Repo-1/regular/a.jpg": b"a",
            "Repo-1/wide/b.jpg": b"b",
            "__MACOSX/x": b"",
            "Repo-1/README": b"",
        },
    )
    assert archive.extract([path], tmp_path / "out", keep=("regular/*",), strip=1) == 1
    assert tree(tmp_path / "out") == {"regular/a.jpg": b"a"}
    with pytest.raises(DataError, match="none of those wanted"):
        archive.extract([path], tmp_path / "none", keep=("nothing/*",))


def test_no_mode_bit_and_no_date_is_taken_over(tmp_path):
    path = add_zip(tmp_path / "a.zip", "tool.sh", mode=stat.S_IFREG | 0o6777)
    archive.extract([path], tmp_path / "out")
    assert (tmp_path / "out" / "tool.sh").stat().st_mode & 0o7111 == 0


def test_an_archive_inside_stays_packed(tmp_path):
    inner = make_zip(tmp_path / "inner.zip").read_bytes()
    archive.extract([make_zip(tmp_path / "outer.zip", {"inner.zip": inner})], tmp_path / "out")
    assert tree(tmp_path / "out") == {"inner.zip": inner}


BAD_NAMES = [
    "../evil",
    "a/../../evil",
    "/tmp/evil",
    "C:/evil",
    "..\\evil",
    "a\nb",
    "\x1b[2Jx",
    "..",
]
LINK, DEVICE = stat.S_IFLNK | 0o777, stat.S_IFCHR | 0o666
ATTACKS = {
    **{
        f"zip path {name!r}": (
            lambda path, name=name: add_zip(path, name),
            "absolute|climbs|back-slash",
        )
        for name in BAD_NAMES
    },
    **{
        f"tar path {name!r}": (
            lambda path, name=name: add_tar(path, name=name),
            "absolute|climbs|back-slash",
        )
        for name in BAD_NAMES
    },
    "zip symlink": (
        lambda path: add_zip(path, "link", LINK, b"/etc/passwd"),
        "is a link or a device",
    ),
    "zip device": (lambda path: add_zip(path, "dev", DEVICE), "is a link or a device"),
    "tar symlink": (
        lambda path: add_tar(path, name="link", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        "is a link or a device",
    ),
    "tar hardlink": (
        lambda path: add_tar(path, name="link", type=tarfile.LNKTYPE, linkname="../../evil"),
        "is a link or a device",
    ),
    "tar character device": (
        lambda path: add_tar(path, name="null", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
        "is a link or a device",
    ),
    "tar block device": (
        lambda path: add_tar(path, name="sda", type=tarfile.BLKTYPE, devmajor=8),
        "is a link or a device",
    ),
    "tar pipe": (
        lambda path: add_tar(path, name="pipe", type=tarfile.FIFOTYPE),
        "is a link or a device",
    ),
    "zip case clash": (
        lambda path: make_zip(path, {"a/X.png": b"1", "A/x.png": b"2"}),
        "but for their case",
    ),
    "tar same name twice": (
        lambda path: add_tar(path, name="good.txt"),
        "equal, or but for their case",
    ),
    "zip unicode clash": (
        lambda path: make_zip(path, {"\u00e9.png": b"1", "e\u0301.png": b"2"}),
        "one file on many disks",
    ),
    "zip file is a folder": (
        lambda path: make_zip(path, {"a": b"1", "a/b": b"2"}),
        "is a file and a folder",
    ),
    "not an archive": (
        lambda path: path.write_bytes(b"<html>log in first</html>"),
        "no zip or tar archive",
    ),
    "empty file": (lambda path: path.write_bytes(b""), "no zip or tar archive"),
    "empty zip": (lambda path: make_zip(path, {}), "none of those wanted"),
    "truncated zip": (
        lambda path: path.write_bytes(make_zip(path).read_bytes()[:-300]),
        "broken archive",
    ),
    "flipped byte": (lambda path: flip(make_zip(path)), "broken archive"),
    "7z": (lambda path: path.write_bytes(b"7z\xbc\xaf\x27\x1c" + bytes(90)), "7z x -o"),
    "rar": (lambda path: path.write_bytes(b"Rar!\x1a\x07\x01\x00" + bytes(90)), "unrar x"),
}


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def refused(path, out, match):
    """Seconds until the refusal; nothing new beside the archive."""
    before = set(out.parent.rglob("*"))
    start = time.perf_counter()
    with pytest.raises(DataError, match=match) as caught:
        archive.extract([path], out)
    seconds = time.perf_counter() - start
    assert set(out.parent.rglob("*")) == before
    assert (
        "\n" not in str(caught.value)
        and "\x1b" not in str(caught.value)
        and path.name in str(caught.value)
    )
    return seconds


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_refused_and_nothing_is_written(tmp_path, name):
    make, match = ATTACKS[name]
    make(tmp_path / "attack.bin")
    (tmp_path / "raw").mkdir()
    assert refused(tmp_path / "attack.bin", tmp_path / "raw" / "out", match) < 5


def test_the_archives_would_do_harm_without_the_checks(tmp_path):
    """The twin: tarfile told to trust writes outside and makes links."""
    ATTACKS["tar path '../evil'"][0](tmp_path / "attack.bin")
    (tmp_path / "raw").mkdir()
    with tarfile.open(tmp_path / "attack.bin") as file:
        file.extraction_filter = lambda member, path: (
            member
        )  # "fully_trusted", in words that Python 3.11.0 to 3.11.3 understand too
        file.extractall(tmp_path / "raw")
    assert (tmp_path / "evil").exists()


TEN_GB = 10_000_000_000


@pytest.fixture(scope="module")
def bombs(tmp_path_factory):
    """10 GB of zeros in at most 10 MB: a tar.gz of one member, one of a hundred, and a zip whose list states the sizes."""
    folder = tmp_path_factory.mktemp("bombs")
    block = gzip.compress(bytes(100_000_000), 9)  # about 97 kB
    header = tarfile.TarInfo("zeros.png")
    header.size = TEN_GB
    (folder / "bomb.tar.gz").write_bytes(
        gzip.compress(header.tobuf()) + block * (TEN_GB // 100_000_000)
    )
    many = tarfile.TarInfo("zeros.png")
    many.size = 100_000_000
    with open(folder / "many.tar.gz", "wb") as file:
        for number in range(100):
            many.name = f"{number}.png"
            padding = gzip.compress(bytes(-many.size % 512))
            file.write(gzip.compress(many.tobuf()) + block + padding)
    with zipfile.ZipFile(folder / "bomb.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
        for number in range(4):
            file.writestr(f"{number}.png", bytes(100_000_000))
    stored = (folder / "bomb.zip").read_bytes()  # with the stated sizes raised to 2.5 GB each
    (folder / "bomb.zip").write_bytes(
        stored.replace(struct.pack("<L", 100_000_000), struct.pack("<L", 2_500_000_000))
    )
    return folder


@pytest.mark.parametrize("name", ["bomb.tar.gz", "many.tar.gz", "bomb.zip"])
def test_a_bomb_of_ten_gigabytes_is_refused_in_time(bombs, tmp_path, name):
    packed = (bombs / name).stat().st_size
    assert packed < 12_000_000
    shutil.copy(bombs / name, tmp_path)
    (tmp_path / "raw").mkdir()
    seconds = refused(tmp_path / name, tmp_path / "raw" / "out", "bomb")
    assert seconds < 5
    assert (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 4_000_000
    )  # kB; a bomb in memory would be 10 GB
    print(f"{name}: {packed:,} bytes, refused after {seconds:.2f} s")


def test_a_bomb_that_lies_about_its_size_writes_no_more_than_it_said(tmp_path):
    path = make_zip(tmp_path / "lie.zip", {"a.png": bytes(1_000_000)})
    data = path.read_bytes()
    path.write_bytes(data.replace(struct.pack("<L", 1_000_000), struct.pack("<L", 1000)))
    (tmp_path / "raw").mkdir()
    refused(path, tmp_path / "raw" / "out", "broken archive")


def million_zip(path):
    """10^6 empty members, written without zipfile, which would take minutes."""
    names = [f"{number:07d}" for number in range(1_000_000)]
    local = b"".join(
        struct.pack("<4s5H3L2H7s", b"PK\3\4", 20, 0, 0, 0, 33, 0, 0, 0, 7, 0, name.encode())
        for name in names
    )
    entries = b"".join(
        struct.pack(
            "<4s6H3L5H2L7s",
            b"PK\1\2",
            20,
            20,
            0,
            0,
            0,
            33,
            0,
            0,
            0,
            7,
            0,
            0,
            0,
            0,
            0,
            number * 37,
            name.encode(),
        )
        for number, name in enumerate(names)
    )
    end64 = struct.pack(
        "<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, len(names), len(names), len(entries), len(local)
    )
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, len(local) + len(entries), 1)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, len(entries), len(local), 0)
    path.write_bytes(local + entries + end64 + locator + end)
    return path


def million_tar(path):
    header = bytearray(tarfile.TarInfo("0000000").tobuf())
    with path.open("wb") as file:
        for number in range(1_000_000):
            header[0:7] = f"{number:07d}".encode()
            header[148:156] = b"        "
            header[148:156] = f"{sum(header):06o}\0 ".encode()
            file.write(header)
        file.write(bytes(1024))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("form", ["zip", "tar", "tar.gz"])
def test_a_million_members_are_refused_in_time(tmp_path, form):
    path = tmp_path / f"million.{form}"
    if form == "zip":
        million_zip(path)
    else:
        million_tar(tmp_path / "million.tar")
        if form == "tar.gz":
            with (tmp_path / "million.tar").open("rb") as source, gzip.open(path, "wb", 1) as file:
                shutil.copyfileobj(source, file, 1 << 20)
    (tmp_path / "raw").mkdir()
    seconds = refused(path, tmp_path / "raw" / "out", "members|bomb")
    assert seconds < 5
    print(f"{path.name}: {path.stat().st_size:,} bytes, refused after {seconds:.2f} s")


def test_a_huge_header_of_a_tar_is_not_taken_into_memory(tmp_path):
    """A pax header that states 8 GB: tarfile would read it at once."""
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 8_000_000_000
    path = tmp_path / "header.tar.gz"
    path.write_bytes(gzip.compress(info.tobuf()) + gzip.compress(bytes(50_000_000)))
    (tmp_path / "raw").mkdir()
    assert (
        refused(
            path, tmp_path / "raw" / "out", r"broken archive \(a header of 8,000,000,\d{3} bytes\)"
        )
        < 5
    )


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_a_cut_compressed_tar_is_broken(tmp_path, pack):
    data = pack(make_tar(tmp_path / "a.tar").read_bytes())
    path = tmp_path / "cut.tar.x"
    path.write_bytes(data[: len(data) // 2])
    (tmp_path / "raw").mkdir()
    refused(path, tmp_path / "raw" / "out", "broken archive")


def test_an_encrypted_zip_says_how_to_open_it(tmp_path):
    path = make_zip(tmp_path / "a.zip", {"a.png": b"a"})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(data)
    (tmp_path / "raw").mkdir()
    refused(path, tmp_path / "raw" / "out", "encrypted")


def test_too_little_room_is_seen_before_writing(tmp_path, monkeypatch):
    path = make_zip(tmp_path / "a.zip")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 1000))
    (tmp_path / "raw").mkdir()
    refused(path, tmp_path / "raw" / "out", "0.0 GB free")


FULL = """
import resource, sys
from pathlib import Path
from clipdr import archive
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
"""


def test_a_disk_that_runs_full_leaves_nothing(tmp_path):
    make_zip(tmp_path / "a.zip")
    code = FULL + "archive.extract([Path(sys.argv[1])], Path(sys.argv[2]))"
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "a.zip", tmp_path / "out"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert (
        "DataError: a.zip: cannot unpack" in done.stderr
        and "the disk is full; nothing was kept" in done.stderr
    )
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.zip"]


def test_what_a_killed_run_left_is_cleared(tmp_path):
    (tmp_path / ".out.unpacking").mkdir()
    (tmp_path / ".out.unpacking" / "half.png").write_bytes(b"half")
    archive.extract([make_zip(tmp_path / "a.zip")], tmp_path / "out")
    assert tree(tmp_path / "out") == FILES
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.zip", "out"]
