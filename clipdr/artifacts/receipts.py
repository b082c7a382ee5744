"""Receipts: the sha256 of every file that a job wrote, and of every file that `prepare` read.

A job writes one JSON file in {data}/receipts/, in {results}/receipts/, or beside its outputs.
`clipdr verify` reads them to tell a damaged file from a sound one. A receipt holds no date and no
absolute path. The same job on the same files therefore writes the same receipt, and a study may be
moved with its receipts. A receipt protects against accidents (disks, copies, editors), not against
an attacker who rewrites both the file and its receipt.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from clipdr import DataError
from clipdr.artifacts.files import digest, write_text

RECEIPT_KEYS = ("job", "folder", "files", "seal")  # keys that every receipt has


class Receipt(NamedTuple):
    """One receipt as read from disk.

    Attributes:
        path: Path of the receipt.
        job: Command and subject, for example "prepare APTOS".
        files: Path of every file that the job wrote, with its sha256.
        content: The whole content without the seal. The receipt of a prepared domain has the key
            `raw`.
    """

    path: Path
    job: str
    files: dict[Path, str]
    content: dict[str, Any]


def sealed(content: Mapping[str, Any]) -> str:
    """Encode a mapping as JSON text that carries the digest of the rest under `seal`.

    Args:
        content: Facts as JSON can hold them, without NaN.

    Returns:
        Text with sorted keys. `read` detects any changed bit of it.
    """
    seal = hashlib.sha256(_text(content).encode()).hexdigest()
    return _text({**content, "seal": seal})


def write(path: Path, job: str, folder: Path, names: Iterable[str], /, **facts: Any) -> None:
    """Write the receipt of a job.

    Args:
        path: Receipt to write.
        job: Command and subject, for example "prepare APTOS".
        folder: Folder of the files.
        names: Paths of the files below the folder.
        **facts: Further facts to keep, as JSON can hold them.
    """
    files = {name: digest(Path(folder) / name) for name in names}
    content = {"job": job, "folder": _relative(folder, Path(path).parent), "files": files}
    write_text(path, sealed({**content, **facts}))


def write_prepared(
    path: Path,
    domain: str,
    outputs: Iterable[Path],
    raw: Path,
    images: Mapping[str, str | None],
    lists: Iterable[Path],
    /,
    **facts: Any,
) -> None:
    """Write the receipt of a prepared domain: its outputs and every raw file behind them.

    Other files in the folders of the images are listed under `unused`, so that a file that appears
    later is detected.

    Args:
        path: Receipt to write, {data}/receipts/{D}.json.
        domain: Name of the domain.
        outputs: Paths of the manifest, the packed array and the other files that were written.
        raw: Folder of the images.
        images: Path of every used or rejected image below `raw`, with its sha256, or None to
            compute it here.
        lists: Paths of the split and grade files that were read.
        **facts: Counts, size and other facts, as JSON can hold them.
    """
    data, raw = Path(path).parents[1], Path(raw)
    inputs = {name: sha256 or digest(raw / name) for name, sha256 in images.items()}
    inputs |= {_relative(file, raw): digest(file) for file in lists}
    folders = sorted({Path(name).parent.as_posix() for name in images})
    content = {
        "folder": _relative(raw, Path(path).parent),
        "files": inputs,
        "folders": folders,
        "unused": [name for name in list_files(raw, folders) if name not in inputs],
    }
    names = [_relative(file, data) for file in outputs]
    write(path, f"prepare {domain}", data, names, raw=content, **facts)


def list_files(root: Path, folders: Iterable[str]) -> list[str]:
    """List the files of some folders, without hidden files and without subfolders.

    Args:
        root: Folder above all others.
        folders: Folders below `root`. A missing folder counts as empty.

    Returns:
        Sorted POSIX paths below `root`.
    """
    existing = [Path(root) / folder for folder in folders if (Path(root) / folder).is_dir()]
    files = [
        entry.path
        for folder in existing
        for entry in os.scandir(folder)
        if entry.is_file() and not entry.name.startswith(".")
    ]
    return sorted(_relative(path, root) for path in files)


def read(path: Path) -> Receipt:
    """Read a receipt and check it against its seal.

    Args:
        path: Receipt to read.

    Returns:
        The receipt. Its paths start at the folder in which the receipt lies now.

    Raises:
        DataError: If the file cannot be read, is no receipt, or was changed after it was written.
    """
    path = normalize(path)
    problem = DataError(
        f"damaged: {path}: not a receipt, or changed after it was written. "
        "Delete it and run its job again."
    )
    try:
        text = path.read_bytes().decode()
        content = json.loads(text)
        facts = {key: value for key, value in content.items() if key != "seal"}
        sound = sealed(facts) == text and isinstance(facts["job"], str)
        files = {
            normalize(path.parent / facts["folder"] / name): sha256
            for name, sha256 in facts["files"].items()
        }
    except (OSError, ValueError, AttributeError, KeyError, TypeError, RecursionError):
        raise problem from None
    if not sound:
        raise problem
    return Receipt(path, facts["job"], files, facts)


def is_plain_json(path: Path) -> bool:
    """Check whether a file is a JSON object that was never a receipt.

    Args:
        path: File to read.

    Returns:
        True for a JSON object with none of the keys of a receipt. A receipt with one changed byte
        keeps some of them.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and not any(key in content for key in RECEIPT_KEYS)


def normalize(path: Path | str) -> Path:
    """Remove `..` from a path, so that two names of one file are equal."""
    return Path(os.path.normpath(path))


def _relative(path: Path | str, start: Path) -> str:
    """Return a POSIX path relative to a folder."""
    return Path(os.path.relpath(path, start)).as_posix()


def _text(content: Mapping[str, Any]) -> str:
    """Encode as JSON text with sorted keys."""
    return json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n"
