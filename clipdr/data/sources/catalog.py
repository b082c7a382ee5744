"""What each data set is, what of it is here, what is missing, and what to do next.

Input: DOMAINS and the user's folder data/raw. Output: a table for the terminal, one data set in detail, and docs/datasets.md.
"""

import os
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from clipdr import GRADES, DataError
from clipdr.data.domains import DOMAINS, REAL, SPLITS, SPLITS_CITATION, SPLITS_PAGE, Domain, Need

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
ROUTES = {"kaggle": "Kaggle", "github": "GitHub", "request": "by hand"}


class State(NamedTuple):
    """What of a data set is in data/raw.

    found     : how many files there are of each of its needs, in order
    files     : files of any kind in data/raw/{D}
    processed : photographs in GDRBench's layout, data/raw/images/{D}/*/
    splits    : of the two split files, how many there are
    """

    found: tuple[tuple[Need, int], ...]
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
            for need, count in self.found
            if count < need.count
        ]

    def complete(self, total: int) -> bool:
        return not self.missing or self.processed >= total


def known(name: str) -> Domain:
    """The facts of a real data set; DataError for any other name."""
    if name in REAL:
        return REAL[name]
    if name in DOMAINS:
        raise DataError(
            f"{name} is drawn, not fetched: clipdr synthesize data/synthetic --domains {name}"
        )
    raise DataError(f"unknown data set {name!r}: use one of {', '.join(REAL)}")


def state(name: str, raw: Path) -> State:
    """Look into data/raw; names are compared without regard to case, hidden files do not count."""
    raw, needs = Path(raw), known(name).needs
    paths = [path.lower() for path in _files(raw / name)]
    found = tuple(
        (need, sum(any(fnmatchcase(path, p) for p in need.patterns) for path in paths))
        for need in needs
    )
    processed = sum(path.lower().endswith(PICTURES) for path in _files(raw / "images" / name))
    splits = sum(
        (raw / "splits" / f"{name}_{word}.txt").is_file() for word in ("train", "crossval")
    )
    return State(found, len(paths), processed, splits)


def here(name: str, now: State) -> str:
    """What is here, in a few words."""
    total = known(name).total
    if now.processed and now.missing:
        words = f"{now.processed:,} of {total:,} photographs (GDRBench's layout)"
    elif not now.files:
        words = f"nothing (of {total:,} photographs)"
    elif now.missing:
        words = f"incomplete: lacks {'; '.join(now.missing)}"
    else:
        words = f"complete ({total:,} photographs)"
    return words + {0: "", 1: ", 1 of 2 split files", 2: ", splits"}[now.splits]


def following(name: str, now: State) -> str:
    """The verb to use next, behind `python -m clipdr`."""
    domain = known(name)
    if not now.complete(domain.total):
        return f"{'fetch' if domain.sources and not now.files else 'datasets'} {name}"
    return f"prepare {name}" if now.splits == 2 else "fetch splits"


def table(raw: Path):
    """All data sets as a rich Table."""
    from rich.table import Table

    shown = Table(
        title=f"Data sets in {raw}",
        title_justify="left",
        title_style="bold",
        show_lines=True,
        caption_justify="left",
    )
    shown.caption = (
        "`next` is what follows python -m clipdr. Steps, terms and citation: clipdr datasets NAME"
    )
    for column, width in {
        "name": 8,
        "what it is": 15,
        "how to have it": 11,
        "what is here": 13,
        "next": 17,
    }.items():  # fit into 80
        shown.add_column(column, min_width=width, no_wrap=column in ("name", "next"))
    for name, domain in REAL.items():
        now = state(name, raw)
        route = f"{ROUTES[domain.access]}: {domain.click}"
        shown.add_row(
            name, f"{domain.title}. {domain.country}", route, here(name, now), following(name, now)
        )
    count = sum((Path(raw) / "splits" / source.file).is_file() for source in SPLITS)
    todo = "" if count == len(SPLITS) else "fetch splits"
    shown.add_row(
        "splits",
        "GDRBench's lists, train and crossval",
        "GitHub: nothing to click",
        f"{count} of {len(SPLITS)} files",
        todo,
    )
    return shown


def detail(name: str, raw: Path) -> str:
    """One data set: facts, what is here, what to do, what to cite."""
    domain, now = known(name), state(name, raw)
    facts = {
        "photographs": f"{domain.total:,} in GDRBench's split files: "
        + ", ".join(
            f"{sum(pair):,} {grade}"
            for grade, *pair in zip(GRADES, *domain.counts.values(), strict=True)
        ),
        "taken in": f"{domain.country}; camera: {domain.camera}",
        "patients": "known from the file names"
        if domain.patient
        else "unknown: intervals are over images, and too narrow",
        "licence": domain.licence,
        "page": domain.page,
        "cite": domain.citation,
        "here": here(name, now),
    }
    lines = [
        f"{name}: {domain.title}",
        *(f"  {key:12}{value}" for key, value in facts.items()),
        "",
        *instructions(name, raw),
    ]
    return "\n".join(lines)


def instructions(name: str, raw: Path) -> list[str]:
    """What the user must do to have a data set, with what is here counted; where it is complete, the next command."""
    now = state(name, raw)
    if now.complete(known(name).total):
        return [f"{name} is complete. Next: clipdr {following(name, now)}"]
    return steps(name, raw, now.found)


def steps(name: str, raw: Path, found=()) -> list[str]:
    """The steps from nothing to a complete folder, and what such a folder holds; `found`: State.found, to be shown beside it."""
    domain, folder = known(name), Path(raw) / name
    option = "" if Path(raw) == Path("data/raw") else f" --raw {raw}"
    todo = [f"Open {domain.page}", *domain.steps]
    command = f"clipdr fetch {name}{option}"
    if domain.sources:
        count = len(domain.sources)
        todo.append(
            f"Run `{command}`: it downloads {'one archive' if count == 1 else f'{count} files'} and unpacks into {folder}."
        )
    else:
        todo.append(
            f"Put what you were given into {folder}, packed or not (zip and tar; 7z and rar must be unpacked by you)."
        )
        todo.append(f"Run `{command}`: it unpacks what is packed and counts what is there.")
    lines = [
        f"To have {name}:",
        *(f"  {number}. {step}" for number, step in enumerate(todo, start=1)),
    ]
    lines.append(f"A complete {folder} holds, below any further folders:")
    counts = dict(found)
    width = max(len(f"{need.count:,} {need.what}") for need in domain.needs)
    for need in domain.needs:
        line = f"  {f'{need.count:,} {need.what}':{width}}  {need.example}"
        lines.append(f"{line}  (now: {counts[need]:,})" if need in counts else line)
    return lines


def markdown() -> str:
    """docs/datasets.md."""
    lines = [
        "# Data sets",
        "",
        "Made by `clipdr datasets --markdown` from `clipdr/data/domains.py`; do not edit. Licences are quoted in short: read the",
        "page. clipdr accepts no terms for you and gives no photograph, grade or split file to anybody.",
        "",
        "| name | what it is | country | camera | photographs | comes from | to click, once | licence |",
        "|---|---|---|---|---:|---|---|---|",
    ]
    for name, domain in REAL.items():
        what = (f"[{domain.title}]({domain.page})", domain.country, domain.camera)
        cells = (
            name,
            *what,
            f"{domain.total:,}",
            ROUTES[domain.access],
            domain.click,
            domain.licence,
        )
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "## Photographs by split and grade",
        "",
        f"| name | split | {' | '.join(GRADES)} | all |",
        "|---|---|" + "---:|" * 6,
    ]
    for name, domain in REAL.items():
        for split, counts in domain.counts.items():
            lines.append(
                f"| {name} | {split} | {' | '.join(f'{count:,}' for count in counts)} | {sum(counts):,} |"
            )
    for name in REAL:
        lines += [
            "",
            f"## {name}",
            "",
            "```text",
            *steps(name, Path("data/raw")),
            "```",
            "",
            f"Cite: {REAL[name].citation}",
        ]
    lines += ["", "## Split files", "", *SPLIT_WORDS, "", "## Without a network", "", *MIRROR_WORDS]
    return "\n".join(lines) + "\n"


SPLIT_WORDS = (
    f"`clipdr fetch splits` takes the 16 official lists from [GDRBench]({SPLITS_PAGE}) at one commit into `data/raw/splits/`;",
    "each is checked against a fixed sha256. They say which photograph is in train and which in crossval, and its grade.",
    "",
    f"Cite: {SPLITS_CITATION}",
)
MIRROR_WORDS = (
    "`--mirror FOLDER` or `--mirror https://host/path` replaces every remote, for all eight data sets and the splits. A mirror has one",
    "folder per data set, with the files as their publishers give them (archives or loose files), and a list of them with checksums:",
    "",
    "```text",
    "MIRROR/APTOS/aptos2019-blindness-detection.zip",
    "MIRROR/APTOS/SHA256SUMS",
    "MIRROR/IDRID/B. Disease Grading.zip",
    "MIRROR/IDRID/SHA256SUMS",
    "MIRROR/splits/APTOS_train.txt    and the other 15; they need no list, their checksums are fixed",
    "```",
    "",
    "To make a list: `cd MIRROR/IDRID && find . -type f ! -name SHA256SUMS -exec sha256sum {} + > SHA256SUMS`.",
    "Then, where there is no network: `clipdr fetch IDRID --mirror MIRROR`.",
)


def _files(folder: Path) -> list[str]:
    """Paths below a folder, hidden ones left out; none where there is no folder."""
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = Path(place).relative_to(folder).as_posix()
        found += [
            file if below == "." else f"{below}/{file}"
            for file in files
            if not file.startswith(".")
        ]
    return found
