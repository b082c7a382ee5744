"""Receipts: what a job wrote, and what `prepare` read, by sha256, so that `clipdr verify` can tell a damaged file from a sound one.

Input: the files of a finished job. Output: one JSON file per job, in {data}/receipts/, {results}/receipts/ or beside features and runs.
It holds no date and no absolute path: the same job on the same files writes the same receipt, and a study may be moved with its receipts.
A receipt guards against accidents (disks, copies, editors), not against someone who rewrites file and receipt together.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import NamedTuple

from clipdr import DataError
from clipdr.artifacts.files import digest, write_text


class Receipt(NamedTuple):
    """One receipt as read: the job (verb and subject), {path: sha256} of what it wrote, and the whole content, where `raw` may be."""

    path: Path
    job: str
    files: dict[Path, str]
    content: dict


def sealed(content):
    """JSON text of a mapping with the digest of the rest under `seal`: any bit of the text that changes is noticed by `read`."""
    seal = hashlib.sha256(_text(content).encode()).hexdigest()
    return _text(content | {"seal": seal})


def write(path, job, folder, names, **facts):
    """Write the receipt of a job.

    path   : of the receipt
    job    : the verb and its subject, e.g. "prepare APTOS"
    folder : that the files lie in;  names : their paths below it
    facts  : what else is worth keeping, as JSON can hold it
    """
    files = {name: digest(Path(folder) / name) for name in names}
    write_text(
        path,
        sealed(
            {"job": job, "folder": _relative(folder, Path(path).parent), "files": files, **facts}
        ),
    )


def prepared(path, domain, written, raw, photographs, lists, **facts):
    """Write the receipt of a prepared domain: what was written, and every raw file behind it.

    path        : of the receipt, {data}/receipts/{D}.json;  written : paths of the manifest, the store and the other files made
    raw         : folder with the photographs
    photographs : {path below raw: sha256 of the file, or None where it is not known yet}, used or rejected
    lists       : paths of the split and grade files that were read
    facts       : counts, size, ...

    What else lies in the photographs' folders is named under `unused`, so that a file that appears there later is noticed.
    """
    data, raw = Path(path).parents[1], Path(raw)
    known = {name: sha256 or digest(raw / name) for name, sha256 in photographs.items()}
    known |= {_relative(file, raw): digest(file) for file in lists}
    folders = sorted({Path(name).parent.as_posix() for name in photographs})
    unused = [name for name in listed(raw, folders) if name not in known]
    inputs = {
        "folder": _relative(raw, Path(path).parent),
        "files": known,
        "folders": folders,
        "unused": unused,
    }
    write(
        path,
        f"prepare {domain}",
        data,
        [_relative(file, data) for file in written],
        raw=inputs,
        **facts,
    )


def listed(root, folders):
    """Paths below `root` of the files in some folders below it, without hidden ones, sorted; folders that are not there have none."""
    there = [Path(root) / folder for folder in folders if (Path(root) / folder).is_dir()]
    files = [
        entry.path
        for folder in there
        for entry in os.scandir(folder)
        if entry.is_file() and not entry.name.startswith(".")
    ]
    return sorted(_relative(path, root) for path in files)


def read(path):
    """A receipt, checked against its seal.

    Raises DataError where it is damaged or no receipt. Paths are those of this machine: relative to where the receipt lies.
    """
    path = plain(path)
    try:
        text = path.read_bytes().decode()
        content = json.loads(text)
        facts = {key: value for key, value in content.items() if key != "seal"}
        whole = sealed(facts) == text and isinstance(facts["job"], str)
        files = {
            plain(path.parent / facts["folder"] / name): expected
            for name, expected in facts["files"].items()
        }
    except (OSError, ValueError, AttributeError, KeyError, TypeError, RecursionError):
        whole = False
    if not whole:
        raise DataError(
            f"damaged: {path}: it is no receipt, or not as it was written; delete it and make it again"
        )
    return Receipt(path, facts["job"], files, facts)


def plain(path):
    """A path without `..`, so that two names of one file are equal."""
    return Path(os.path.normpath(path))


def _relative(folder, start):
    return Path(os.path.relpath(folder, start)).as_posix()


def _text(content):
    return json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n"
