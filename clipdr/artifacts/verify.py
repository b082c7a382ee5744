"""Verification of a study: finds damaged, missing and unexpected files.

Every file that a receipt names is hashed again. DVC and Snakemake do not hash again. Both trust a
file whose size and modification time have not changed.
"""

from __future__ import annotations

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

# Folders below {data} and {results} in which every file is a receipt or is named by one.
SEALED = (
    "manifests",
    "store",
    "rejected",
    "features",
    "patients",
    "gate",
    "runs",
    "tables",
    "figures",
    "data",
)
SYSTEMS = ("", "pretrain/", "multimodal/")  # the sister systems have folders of their own
RECEIPTS = tuple(
    f"{system}{pattern}"
    for system in SYSTEMS
    for pattern in (
        "receipts/**/*.json",
        "features/*/*.receipt.json",
        "patients/**/*.receipt.json",
        "backbones/*/receipt.json",
        "models/**/provenance.json",
        "runs/**/provenance.json",
        "runs/**/*.receipt.json",
    )
)
UNFINISHED = "resume.pt"  # state of an interrupted run; the next start reads or deletes it
THREADS = 4  # hashing releases the GIL

REPAIR = {  # what a job did with a file -> how to get the file back
    "wrote": "restore it with `dvc checkout` or create it again with snakemake",
    "read": "restore it (`dvc checkout` or `clipdr fetch`). "
    "If it was changed on purpose, prepare its domain again",
}
NO_RECEIPT = "no receipt names it. Delete it, or create it again with snakemake."
NEW = "it did not exist when its domain was prepared. Delete it, or prepare the domain again."


class Problem(NamedTuple):
    """One file that is not as its receipt states.

    Attributes:
        kind: "damaged", "missing" or "unexpected".
        path: Path of the file.
        advice: What is wrong and what to do, in one line.
    """

    kind: str
    path: Path
    advice: str

    def __str__(self) -> str:
        """Return one line: kind, path and advice."""
        return f"{self.kind}: {self.path}: {self.advice}"


class Claim(NamedTuple):
    """Statement of a receipt about a file: its job "wrote" or "read" the file."""

    receipt: receipts.Receipt
    action: str


Expected = dict[Path, dict[str, Claim]]  # path -> {sha256: claim}; two jobs may name one file


def verify(
    data: Path, results: Path, raw: Path | None = None, with_raw: bool = True
) -> tuple[list[Problem], int]:
    """Hash every file that a receipt names, and search for files that no receipt names.

    Args:
        data: Folder of prepared data. A missing folder has nothing to verify.
        results: Folder of results, with those of the pre-training and of the multimodal system.
        raw: Folder of the images, if they have moved since they were prepared.
        with_raw: False skips the images and their lists of grades, where only prepared data are at
            hand.

    Returns:
        Problems in the order of their paths, and the number of hashed files.

    Raises:
        DataError: If there is no receipt at all.
    """
    data, results = Path(data), Path(results)
    sound, problems = _receipts(data, results)
    if not sound and not problems:
        raise DataError(
            f"{data} and {results}: no receipts. Run snakemake first, or name other folders with "
            "--data and --results."
        )
    expected: Expected = defaultdict(dict)
    for receipt in sound:
        for path, sha256 in receipt.files.items():
            expected[path][sha256] = Claim(receipt, "wrote")
    if not problems:  # the files of a damaged receipt are unknown; all would count as unexpected
        named = {*expected, *(receipt.path for receipt in sound)}
        problems += [
            Problem("unexpected", path, NO_RECEIPT)
            for path in _sealed_files(data, results)
            if path not in named
        ]
    for receipt in sound:
        if with_raw and "raw" in receipt.content:
            problems += _expect_raw(receipt, raw, expected)
    problems += _changed(expected)
    return sorted(set(problems), key=lambda problem: problem.path), len(expected) + len(sound)


def _receipts(data: Path, results: Path) -> tuple[list[receipts.Receipt], list[Problem]]:
    """Read all receipts below two folders; return the sound ones and a problem per damaged one."""
    paths = {
        receipts.normalize(path)
        for root in (data, results)
        for pattern in RECEIPTS
        for path in root.glob(pattern)
    }
    sound, problems = [], []
    for path in sorted(paths):
        try:
            sound.append(receipts.read(path))
        except DataError:
            # the provenance of a system that writes no receipts is not a damaged receipt
            if path.name == "provenance.json" and receipts.is_plain_json(path):
                continue
            advice = f"not a receipt as its job wrote it. Delete it, then {REPAIR['wrote']}."
            problems.append(Problem("damaged", path, advice))
    return sound, problems


def _sealed_files(data: Path, results: Path) -> Iterator[Path]:
    """Iterate over the files that a receipt must name."""
    for root in dict.fromkeys((data, results)):
        for folder in SEALED:
            for path in sorted((root / folder).rglob("*")):
                hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
                if path.is_file() and not hidden and path.name != UNFINISHED:
                    yield receipts.normalize(path)


def _expect_raw(receipt: receipts.Receipt, raw: Path | None, expected: Expected) -> list[Problem]:
    """Add the images behind a receipt to `expected`; return the problems that need no hashing."""
    inputs = receipt.content["raw"]
    folder = Path(raw) if raw else receipts.normalize(receipt.path.parent / inputs["folder"])
    if not folder.is_dir():
        advice = (
            f"{len(inputs['files'])} files that {receipt.path} names. Name their folder with "
            "--raw, or skip them with --no-raw."
        )
        return [Problem("missing", folder, advice)]
    for name, sha256 in inputs["files"].items():
        expected[receipts.normalize(folder / name)][sha256] = Claim(receipt, "read")
    named = {*inputs["files"], *inputs["unused"]}
    return [
        Problem("unexpected", folder / name, NEW)
        for name in receipts.list_files(folder, inputs["folders"])
        if name not in named
    ]


def _changed(expected: Expected) -> list[Problem]:
    """Hash the expected files, several at a time; return a problem per digest that differs."""
    console = Console(stderr=True)
    with ThreadPoolExecutor(THREADS) as pool:
        results = track(
            pool.map(_digest, expected),
            "verifying",
            len(expected),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        return [
            _problem(path, result, claim)
            for (path, claims), result in zip(expected.items(), results, strict=True)
            for sha256, claim in claims.items()
            if result != sha256
        ]


def _problem(path: Path, result: str | OSError, claim: Claim) -> Problem:
    """Describe a file whose digest, or failure to be read, is not what a receipt states."""
    origin = f"`{claim.receipt.job}` {claim.action} it ({claim.receipt.path})"
    repair = REPAIR[claim.action]
    if isinstance(result, FileNotFoundError):
        return Problem("missing", path, f"{origin}. {repair[0].upper()}{repair[1:]}.")
    cause = "changed after"
    if isinstance(result, OSError):
        cause = f"cannot be read ({os.strerror(result.errno or 0)});"
    return Problem("damaged", path, f"{cause} {origin}. Delete it, then {repair}.")


def _digest(path: Path) -> str | OSError:
    """Return the sha256 of a file, or the error that prevents reading it."""
    try:
        return digest(path)
    except OSError as error:
        return error
