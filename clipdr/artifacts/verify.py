"""Is every file still as its job wrote it? Input: receipts and what they name. Output: one line per damaged, missing or unexpected file.

Everything is hashed again. Neither DVC nor Snakemake does that: both believe a file whose size and time have not changed.
"""

import os
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.progress import track

from clipdr import DataError
from clipdr.artifacts import receipts
from clipdr.artifacts.files import digest

# Below {data} and {results}: every file in these folders is named by a receipt, or is one.
SEALED = ("manifests", "store", "rejected", "features", "gate", "runs", "tables", "figures", "data")
RECEIPTS = (
    "receipts/**/*.json",
    "features/*/*.receipt.json",
    "runs/*/*/*/*/provenance.json",
    "runs/*/*/*/*/*.receipt.json",
)
UNFINISHED = (
    "resume.pt"  # the state of a run that was cut: the next start reads it or throws it away
)
THREADS = 4  # hashing holds no lock of Python

AGAIN = {
    "wrote": "get it back with `dvc checkout` or make it again with snakemake",
    "read": "put a good copy there (`dvc checkout`, or fetch it); if it was changed on purpose, prepare again",
}
NO_RECEIPT = "no receipt names it; delete it, or make it again with snakemake"
NEW = "not there when its domain was prepared; delete it, or prepare again"


class Problem(NamedTuple):
    """kind: damaged | missing | unexpected. As text one line: what, where, what to do."""

    kind: str
    path: Path
    advice: str

    def __str__(self):
        return f"{self.kind}: {self.path}: {self.advice}"


def verify(data, results, raw=None, with_raw=True) -> tuple[list[Problem], int]:
    """Hash every file that a receipt names, and look for files that none names.

    data, results : folders of what the workflow made; one that is not there has nothing to verify
    raw           : folder of the photographs, if it is no longer the one they were prepared from
    with_raw      : False leaves out the photographs and the lists of their grades, where only prepared data are at hand
    returns         problems in the order of their paths, and the number of files that were hashed

    Raises DataError where there is no receipt at all.
    """
    sound, problems = _receipts(Path(data), Path(results))
    if not sound and not problems:
        raise DataError(
            f"no receipts below {data} and {results}: run snakemake first, or name other folders with --data and --results"
        )
    expected = defaultdict(
        dict
    )  # path -> {sha256: (receipt, what its job did)}; two jobs may name one file, and must agree
    for receipt in sound:
        for path, sha256 in receipt.files.items():
            expected[path][sha256] = (receipt, "wrote")
    if (
        not problems
    ):  # the files of a damaged receipt are not known, and would all be called unexpected
        known = {*expected, *(receipt.path for receipt in sound)}
        problems += [
            Problem("unexpected", path, NO_RECEIPT)
            for path in _sealed(Path(data), Path(results))
            if path not in known
        ]
    for receipt in sound:
        if with_raw and "raw" in receipt.content:
            problems += _raw(receipt, raw, expected)
    problems += _damaged(expected)
    return sorted(set(problems), key=lambda problem: problem.path), len(expected) + len(sound)


def _receipts(data, results) -> tuple[list[receipts.Receipt], list[Problem]]:
    places = {
        path for root in (data, results) for pattern in RECEIPTS for path in root.glob(pattern)
    }
    sound, problems = [], []
    for path in sorted(places):
        try:
            sound.append(receipts.read(path))
        except DataError:
            problems.append(
                Problem(
                    "damaged",
                    path,
                    f"not a receipt as it was written; delete it, then {AGAIN['wrote']}",
                )
            )
    return sound, problems


def _sealed(data, results) -> Iterator[Path]:
    """Files that a receipt should name."""
    for root in dict.fromkeys((data, results)):
        for folder in SEALED:
            for path in sorted((root / folder).rglob("*")):
                hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
                if path.is_file() and not hidden and path.name != UNFINISHED:
                    yield receipts.plain(path)


def _raw(receipt, raw, expected) -> list[Problem]:
    """Add the photographs behind one receipt to `expected`; returns what can be said without hashing."""
    inputs = receipt.content["raw"]
    folder = Path(raw) if raw else receipts.plain(receipt.path.parent / inputs["folder"])
    if not folder.is_dir():
        advice = "name their folder with --raw, or leave them out with --no-raw"
        return [
            Problem(
                "missing",
                folder,
                f"{len(inputs['files'])} files that {receipt.path} names; {advice}",
            )
        ]
    for name, sha256 in inputs["files"].items():
        expected[receipts.plain(folder / name)][sha256] = (receipt, "read")
    known = {*inputs["files"], *inputs["unused"]}
    return [
        Problem("unexpected", folder / name, NEW)
        for name in receipts.listed(folder, inputs["folders"])
        if name not in known
    ]


def _damaged(expected) -> list[Problem]:
    console = Console(stderr=True)
    with ThreadPoolExecutor(THREADS) as pool:
        found = track(
            pool.map(_digest, expected),
            "verifying",
            len(expected),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        return [
            _problem(path, sha256, receipt, deed)
            for (path, digests), sha256 in zip(expected.items(), found, strict=True)
            for right, (receipt, deed) in digests.items()
            if sha256 != right
        ]


def _problem(path, found, receipt, deed):
    if isinstance(found, FileNotFoundError):
        return Problem(
            "missing", path, f"`{receipt.job}` {deed} it ({receipt.path}); {AGAIN[deed]}"
        )
    cause = (
        f"cannot be read ({os.strerror(found.errno)}),"
        if isinstance(found, OSError)
        else "no longer"
    )
    return Problem(
        "damaged",
        path,
        f"{cause} as `{receipt.job}` {deed} it ({receipt.path}); delete it, then {AGAIN[deed]}",
    )


def _digest(path) -> str | OSError:
    try:
        return digest(path)
    except OSError as error:
        return error
