"""Helpers for tests of downloads: content of a folder, one-line messages, zip files."""

import zipfile
from pathlib import Path


def files(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in Path(folder).rglob("*")
        if path.is_file()
    }


def one_line(error):
    text = str(error.value)
    assert "\n" not in text
    return text


def pack(folder, path):
    """A zip of a folder's content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as file:
        for entry in sorted(Path(folder).rglob("*")):
            if entry.is_file():
                file.write(entry, entry.relative_to(folder).as_posix())
    return path
