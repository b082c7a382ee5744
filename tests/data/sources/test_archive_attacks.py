"""Dangerous archives are refused with a reason, and nothing is written."""

import stat
import tarfile

import pytest
from helpers.archives import add_tar, add_zip, flip_byte, make_zip, refuse

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
            "absolute|leaves|backslash",
        )
        for name in BAD_NAMES
    },
    **{
        f"tar path {name!r}": (
            lambda path, name=name: add_tar(path, name=name),
            "absolute|leaves|backslash",
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
        "upper and lower case",
    ),
    "tar same name twice": (
        lambda path: add_tar(path, name="good.txt"),
        "equal, or equal but for upper and lower case",
    ),
    "zip unicode clash": (
        lambda path: make_zip(path, {"\u00e9.png": b"1", "e\u0301.png": b"2"}),
        "the same file on many disks",
    ),
    "zip file is a folder": (
        lambda path: make_zip(path, {"a": b"1", "a/b": b"2"}),
        "is both a file and a folder",
    ),
    "not an archive": (
        lambda path: path.write_bytes(b"<html>log in first</html>"),
        "not a zip or tar archive",
    ),
    "empty file": (lambda path: path.write_bytes(b""), "not a zip or tar archive"),
    "empty zip": (lambda path: make_zip(path, {}), "is wanted"),
    "truncated zip": (
        lambda path: path.write_bytes(make_zip(path).read_bytes()[:-300]),
        "broken archive",
    ),
    "flipped byte": (lambda path: flip_byte(make_zip(path)), "broken archive"),
    "7z": (lambda path: path.write_bytes(b"7z\xbc\xaf\x27\x1c" + bytes(90)), "7z x -o"),
    "rar": (lambda path: path.write_bytes(b"Rar!\x1a\x07\x01\x00" + bytes(90)), "unrar x"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_extract_attack_is_refused_and_writes_nothing(tmp_path, name):
    make, match = ATTACKS[name]
    make(tmp_path / "attack.bin")
    (tmp_path / "raw").mkdir()
    assert refuse(tmp_path / "attack.bin", tmp_path / "raw" / "out", match) < 5


def test_attack_succeeds_without_the_checks(tmp_path):
    """Control: tarfile without a filter writes outside of the folder."""
    ATTACKS["tar path '../evil'"][0](tmp_path / "attack.bin")
    (tmp_path / "raw").mkdir()
    with tarfile.open(tmp_path / "attack.bin") as file:
        file.extraction_filter = lambda member, path: (
            member
        )  # "fully_trusted", also in Python 3.11.0 to 3.11.3
        file.extractall(tmp_path / "raw")
    assert (tmp_path / "evil").exists()
