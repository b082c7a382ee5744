"""Archives: extracted content is equal, and broken archives leave nothing."""

import bz2
import gzip
import lzma
import shutil
import stat
import struct
import subprocess
import sys
import zipfile

import pytest
from helpers.archives import (
    FILES,
    add_zip,
    make_tar,
    make_zip,
    refuse,
    split,
    tree,
)
from helpers.paths import ROOT

from clipdr import DataError
from clipdr.data.sources import archive


@pytest.mark.parametrize("ending", ["zip", "tar", "tar.gz", "tar.bz2", "tar.xz"])
def test_extract_sound_archive_is_equal(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    if ending == "zip":
        make_zip(path)
    else:
        make_tar(path, mode=f"w:{ending[4:]}")
    assert archive.extract([path], tmp_path / "out") == 3
    assert tree(tmp_path / "out") == FILES
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [path.name, "out"]


def test_extract_volumes_are_read_without_joining(tmp_path):
    first = split(make_zip(tmp_path / "train.zip", method=zipfile.ZIP_STORED), 70_001)
    parts = archive.volumes(first)
    assert [part.name for part in parts] == [f"train.zip.{number:03d}" for number in range(1, 6)]
    archive.extract(parts, tmp_path / "out")
    assert tree(tmp_path / "out") == FILES


@pytest.mark.skipif(not shutil.which("zip"), reason="needs the zip program")
def test_extract_split_zip_of_the_zip_program_is_equal(tmp_path):
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


def test_extract_split_zip_built_by_hand_is_equal(tmp_path):
    """The second member starts in the second volume, the list of members is in the third."""
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


def test_volumes_missing_volume_is_named(tmp_path):
    first = split(make_zip(tmp_path / "train.zip", method=zipfile.ZIP_STORED), 70_001)
    (tmp_path / "train.zip.003").unlink()
    with pytest.raises(DataError, match=r"volume 3 of train\.zip\.005 is missing"):
        archive.volumes(first)


def test_extract_keep_and_strip_select_members(tmp_path):
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
    with pytest.raises(DataError, match="is wanted"):
        archive.extract([path], tmp_path / "none", keep=("nothing/*",))


def test_extract_mode_bits_are_not_restored(tmp_path):
    path = add_zip(tmp_path / "a.zip", "tool.sh", mode=stat.S_IFREG | 0o6777)
    archive.extract([path], tmp_path / "out")
    assert (tmp_path / "out" / "tool.sh").stat().st_mode & 0o7111 == 0


def test_extract_inner_archive_stays_packed(tmp_path):
    inner = make_zip(tmp_path / "inner.zip").read_bytes()
    archive.extract([make_zip(tmp_path / "outer.zip", {"inner.zip": inner})], tmp_path / "out")
    assert tree(tmp_path / "out") == {"inner.zip": inner}


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_extract_truncated_tar_is_refused(tmp_path, pack):
    data = pack(make_tar(tmp_path / "a.tar").read_bytes())
    path = tmp_path / "cut.tar.x"
    path.write_bytes(data[: len(data) // 2])
    (tmp_path / "raw").mkdir()
    refuse(path, tmp_path / "raw" / "out", "broken archive")


def test_extract_encrypted_zip_names_the_command(tmp_path):
    path = make_zip(tmp_path / "a.zip", {"a.png": b"a"})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(data)
    (tmp_path / "raw").mkdir()
    refuse(path, tmp_path / "raw" / "out", "encrypted")


def test_extract_too_little_space_writes_nothing(tmp_path, monkeypatch):
    path = make_zip(tmp_path / "a.zip")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 1000))
    (tmp_path / "raw").mkdir()
    refuse(path, tmp_path / "raw" / "out", "0.0 GB free")


FULL = """
import resource, sys
from pathlib import Path
from clipdr.data.sources import archive
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
"""


def test_extract_full_disk_leaves_nothing(tmp_path):
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
    assert "DataError: a.zip: cannot be extracted" in done.stderr
    assert "the disk is full. Nothing was kept" in done.stderr
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.zip"]


def test_extract_leftovers_of_a_killed_run_are_removed(tmp_path):
    (tmp_path / ".out.unpacking").mkdir()
    (tmp_path / ".out.unpacking" / "half.png").write_bytes(b"half")
    archive.extract([make_zip(tmp_path / "a.zip")], tmp_path / "out")
    assert tree(tmp_path / "out") == FILES
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.zip", "out"]
