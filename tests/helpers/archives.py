"""Archives for tests, and the check that one is refused without a trace."""

import io
import os
import tarfile
import time
import zipfile

import pytest

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


def flip_byte(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def refuse(path, out, match):
    """Seconds until the refusal; nothing new beside the archive."""
    before = set(out.parent.rglob("*"))
    start = time.perf_counter()
    with pytest.raises(DataError, match=match) as caught:
        archive.extract([path], out)
    seconds = time.perf_counter() - start
    assert set(out.parent.rglob("*")) == before
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert path.name in str(caught.value)
    return seconds
