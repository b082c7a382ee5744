"""Decompression bombs are refused within seconds and without using the memory."""

import gzip
import resource
import shutil
import struct
import tarfile
import zipfile

import pytest
from helpers.archives import make_zip, refuse

TEN_GB = 10_000_000_000


@pytest.fixture(scope="module")
def bombs(tmp_path_factory):
    """10 GB of zeros in at most 10 MB: tar.gz of one member and of a hundred, and a zip."""
    folder = tmp_path_factory.mktemp("bombs")
    block = gzip.compress(bytes(100_000_000), 9)  # about 97 kB
    header = tarfile.TarInfo("zeros.png")
    header.size = TEN_GB
    (folder / "bomb.tar.gz").write_bytes(
        gzip.compress(header.tobuf()) + block * (TEN_GB // 100_000_000)
    )
    many = tarfile.TarInfo("zeros.png")
    many.size = 100_000_000
    with (folder / "many.tar.gz").open("wb") as file:
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
def test_extract_bomb_of_ten_gigabytes_is_refused(bombs, tmp_path, name):
    packed = (bombs / name).stat().st_size
    assert packed < 12_000_000
    shutil.copy(bombs / name, tmp_path)
    (tmp_path / "raw").mkdir()
    seconds = refuse(tmp_path / name, tmp_path / "raw" / "out", "bomb")
    assert seconds < 5
    assert (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 4_000_000
    )  # kB; a bomb in memory would be 10 GB
    print(f"{name}: {packed:,} bytes, refused after {seconds:.2f} s")


def test_extract_bomb_with_a_false_size_is_refused(tmp_path):
    path = make_zip(tmp_path / "lie.zip", {"a.png": bytes(1_000_000)})
    data = path.read_bytes()
    path.write_bytes(data.replace(struct.pack("<L", 1_000_000), struct.pack("<L", 1000)))
    (tmp_path / "raw").mkdir()
    refuse(path, tmp_path / "raw" / "out", "broken archive")


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
def test_extract_million_members_are_refused(tmp_path, form):
    path = tmp_path / f"million.{form}"
    if form == "zip":
        million_zip(path)
    else:
        million_tar(tmp_path / "million.tar")
        if form == "tar.gz":
            with (tmp_path / "million.tar").open("rb") as source, gzip.open(path, "wb", 1) as file:
                shutil.copyfileobj(source, file, 1 << 20)
    (tmp_path / "raw").mkdir()
    seconds = refuse(path, tmp_path / "raw" / "out", "members|bomb")
    assert seconds < 5
    print(f"{path.name}: {path.stat().st_size:,} bytes, refused after {seconds:.2f} s")


def test_extract_huge_tar_header_is_refused(tmp_path):
    """A pax header that states 8 GB: tarfile would read it at once."""
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 8_000_000_000
    path = tmp_path / "header.tar.gz"
    path.write_bytes(gzip.compress(info.tobuf()) + gzip.compress(bytes(50_000_000)))
    (tmp_path / "raw").mkdir()
    assert (
        refuse(
            path, tmp_path / "raw" / "out", r"broken archive \(a header of 8,000,000,\d{3} bytes\)"
        )
        < 5
    )
