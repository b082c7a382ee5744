"""Catalogue of the datasets: facts, which files are in data/raw, what is missing, and what to do.

Input: the facts in DOMAINS and the folder data/raw. Output: a table for the terminal, and one
dataset in detail.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from clipdr import GRADES, DataError
from clipdr.data.domains import DOMAINS, REAL, SPLITS, Domain, Need

if TYPE_CHECKING:
    from rich.table import Table

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
ROUTES = {"kaggle": "Kaggle", "github": "GitHub", "request": "by hand"}


class State(NamedTuple):
    """Files of a dataset in data/raw.

    Attributes:
        counts: Every need of the dataset in order, with the number of files that fulfil it.
        files: Number of files of any kind in data/raw/{D}.
        processed: Number of images in GDRBench's layout, data/raw/images/{D}/*/.
        splits: Number of its two split files.
    """

    counts: tuple[tuple[Need, int], ...]
    files: int
    processed: int
    splits: int

    @property
    def missing(self) -> list[str]:
        """What the publisher's own layout lacks, in words."""
        return [
            f"{need.count - count:,} of {need.count:,} {need.what}"
            if need.count > 1
            else f"the {need.what}"
            for need, count in self.counts
            if count < need.count
        ]

    def complete(self, total: int) -> bool:
        """Check whether either layout is complete.

        Args:
            total: Number of images of the dataset.

        Returns:
            True if the publisher's layout lacks nothing, or GDRBench's layout has all images.
        """
        return not self.missing or self.processed >= total


def real_domain(name: str) -> Domain:
    """Return the facts of a real dataset.

    Args:
        name: A key of REAL.

    Returns:
        The facts.

    Raises:
        DataError: For a synthetic domain and for an unknown name.
    """
    if name in REAL:
        return REAL[name]
    if name in DOMAINS:
        raise DataError(
            f"dataset {name!r}: it is synthetic and cannot be fetched. Run `clipdr synthesize "
            f"data/synthetic --domains {name}`."
        )
    raise DataError(f"unknown dataset {name!r}: use one of {', '.join(REAL)}.")


def state(name: str, raw: Path) -> State:
    """Count the files of a dataset in data/raw.

    Args:
        name: A real dataset.
        raw: Folder of raw data.

    Returns:
        The counts. File names are compared without regard to case; hidden files do not count.
    """
    raw, needs = Path(raw), real_domain(name).needs
    paths = [path.lower() for path in _files(raw / name)]
    counts = tuple(
        (need, sum(any(fnmatchcase(path, p) for p in need.patterns) for path in paths))
        for need in needs
    )
    images = _files(raw / "images" / name)
    processed = sum(path.lower().endswith(IMAGE_SUFFIXES) for path in images)
    splits = sum(
        (raw / "splits" / f"{name}_{split}.txt").is_file() for split in ("train", "crossval")
    )
    return State(counts, len(paths), processed, splits)


def availability(name: str, current: State) -> str:
    """Summarise which files are there.

    Args:
        name: A real dataset.
        current: Its files.

    Returns:
        A few words, for example "complete (516 images), splits".
    """
    total = real_domain(name).total
    if current.processed and current.missing:
        words = f"{current.processed:,} of {total:,} images (GDRBench's layout)"
    elif not current.files:
        words = f"nothing (of {total:,} images)"
    elif current.missing:
        words = f"incomplete: lacks {'; '.join(current.missing)}"
    else:
        words = f"complete ({total:,} images)"
    return words + {0: "", 1: ", 1 of 2 split files", 2: ", splits"}[current.splits]


def next_command(name: str, current: State) -> str:
    """Return the next command without `clipdr` in front.

    Args:
        name: A real dataset.
        current: Its files.

    Returns:
        For example "fetch APTOS".
    """
    domain = real_domain(name)
    if not current.complete(domain.total):
        return f"{'fetch' if domain.sources and not current.files else 'datasets'} {name}"
    return f"prepare {name}" if current.splits == 2 else "fetch splits"


def table(raw: Path) -> Table:
    """Create a table of all datasets for the terminal.

    Args:
        raw: Folder of raw data.

    Returns:
        Table of at least 80 columns; `rich` prints it.
    """
    from rich.table import Table

    result = Table(
        title=f"Datasets in {raw}",
        title_justify="left",
        title_style="bold",
        show_lines=True,
        caption_justify="left",
    )
    result.caption = (
        "`next` is the command to type after `clipdr`. Steps, terms and citation: "
        "clipdr datasets NAME"
    )
    widths = {"name": 8, "dataset": 15, "how to get it": 11, "files here": 13, "next": 17}
    for column, width in widths.items():  # the widths fit into 80 columns
        result.add_column(column, min_width=width, no_wrap=column in ("name", "next"))
    for name, domain in REAL.items():
        current = state(name, raw)
        result.add_row(
            name,
            f"{domain.title}. {domain.country}",
            f"{ROUTES[domain.access]}: {domain.click}",
            availability(name, current),
            next_command(name, current),
        )
    count = sum((Path(raw) / "splits" / source.file).is_file() for source in SPLITS)
    result.add_row(
        "splits",
        "GDRBench's lists, train and crossval",
        "GitHub: nothing to click",
        f"{count} of {len(SPLITS)} files",
        "" if count == len(SPLITS) else "fetch splits",
    )
    return result


def detail(name: str, raw: Path) -> str:
    """Describe one dataset: facts, files, steps and citation.

    Args:
        name: A real dataset.
        raw: Folder of raw data.

    Returns:
        Text of several lines.
    """
    domain, current = real_domain(name), state(name, raw)
    grades = ", ".join(
        f"{sum(counts):,} {grade}"
        for grade, *counts in zip(GRADES, *(domain.counts or {}).values(), strict=True)
    )
    patients = "unknown: intervals are over images, and too narrow"
    facts = {
        "images": f"{domain.total:,} in GDRBench's split files: {grades}",
        "taken in": f"{domain.country}; camera: {domain.camera}",
        "patients": "known from the file names" if domain.patient else patients,
        "licence": domain.licence,
        "page": domain.page,
        "cite": domain.citation,
        "files here": availability(name, current),
    }
    lines = [
        f"{name}: {domain.title}",
        *(f"  {key:12}{value}" for key, value in facts.items()),
        "",
        *instructions(name, raw),
    ]
    return "\n".join(lines)


def instructions(name: str, raw: Path) -> list[str]:
    """List what to do to get a dataset, beside the number of files that are there.

    Args:
        name: A real dataset.
        raw: Folder of raw data.

    Returns:
        Lines of text; where the dataset is complete, one line with the next command.
    """
    current = state(name, raw)
    if current.complete(real_domain(name).total):
        return [f"{name} is complete. Next: clipdr {next_command(name, current)}"]
    return steps(name, raw, current.counts)


def steps(name: str, raw: Path, counts: Iterable[tuple[Need, int]] = ()) -> list[str]:
    """List the steps from nothing to a complete folder, and the content of a complete folder.

    Args:
        name: A real dataset.
        raw: Folder of raw data.
        counts: `State.counts`, printed beside the content.

    Returns:
        Lines of text.
    """
    domain, folder = real_domain(name), Path(raw) / name
    option = "" if Path(raw) == Path("data/raw") else f" --raw {raw}"
    command = f"clipdr fetch {name}{option}"
    todo = [f"Open {domain.page}", *domain.steps]
    if domain.sources:
        count = len(domain.sources)
        files = "one archive" if count == 1 else f"{count} files"
        todo.append(f"Run `{command}`. It downloads {files} and unpacks into {folder}.")
    else:
        todo += [
            f"Put the files into {folder}, packed (zip or tar) or unpacked. Unpack 7z and rar "
            "yourself.",
            f"Run `{command}`. It unpacks archives and counts the files.",
        ]
    lines = [
        f"To get {name}:",
        *(f"  {number}. {step}" for number, step in enumerate(todo, start=1)),
        f"A complete {folder} holds, in this folder or any subfolder:",
    ]
    numbers = dict(counts)
    width = max(len(f"{need.count:,} {need.what}") for need in domain.needs)
    for need in domain.needs:
        line = f"  {f'{need.count:,} {need.what}':{width}}  {need.example}"
        lines.append(f"{line}  (now: {numbers[need]:,})" if need in numbers else line)
    return lines


def _files(folder: Path) -> list[str]:
    """List paths below a folder without hidden ones; a missing folder has none."""
    paths = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        start = Path(parent).relative_to(folder)
        paths += [(start / file).as_posix() for file in files if not file.startswith(".")]
    return paths
