"""Markdown page of the datasets, docs/datasets.md, written from the facts in DOMAINS."""

from __future__ import annotations

from pathlib import Path

from clipdr import GRADES
from clipdr.data.domains import REAL, SPLITS_CITATION, SPLITS_PAGE
from clipdr.data.sources.catalog import ROUTES, steps

INTRODUCTION = (
    "# Datasets",
    "",
    "Written by `clipdr datasets --markdown` from `clipdr/data/domains.py`; do not edit it.",
    "Licences are abridged; the page of each dataset is authoritative. clipdr accepts no terms on",
    "your behalf and redistributes no image, grade or split file.",
    "",
    "| name | dataset | country | camera | images | source | to click, once | licence |",
    "|---|---|---|---|---:|---|---|---|",
)
SPLIT_FILES = (
    f"`clipdr fetch splits` downloads the 16 official lists from [GDRBench]({SPLITS_PAGE}) at one",
    "commit into `data/raw/splits/`. Each is checked against a fixed sha256. They state the split",
    "(train or crossval) and the grade of every image.",
    "",
    f"Cite: {SPLITS_CITATION}",
)
MIRROR = (
    "`--mirror FOLDER` or `--mirror https://host/path` replaces every remote, for all eight",
    "datasets and the splits. A mirror has one folder per dataset. The folder holds the files as",
    "the publisher gives them (archives or loose files), and a list of them with checksums:",
    "",
    "```text",
    "MIRROR/APTOS/aptos2019-blindness-detection.zip",
    "MIRROR/APTOS/SHA256SUMS",
    "MIRROR/IDRID/B. Disease Grading.zip",
    "MIRROR/IDRID/SHA256SUMS",
    "MIRROR/splits/APTOS_train.txt    and the other 15, which need no list (fixed checksums)",
    "```",
    "",
    "To make a list:",
    "`cd MIRROR/IDRID && find . -type f ! -name SHA256SUMS -exec sha256sum {} + > SHA256SUMS`.",
    "Then, where there is no network: `clipdr fetch IDRID --mirror MIRROR`.",
)


def markdown() -> str:
    """Create docs/datasets.md.

    Returns:
        Text of the page. It depends on the facts only, not on the files in data/raw.
    """
    lines = [*INTRODUCTION]
    for name, domain in REAL.items():
        cells = (
            name,
            f"[{domain.title}]({domain.page})",
            domain.country,
            domain.camera,
            f"{domain.total:,}",
            ROUTES[domain.access],
            domain.click,
            domain.licence,
        )
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "## Images by split and grade",
        "",
        f"| name | split | {' | '.join(GRADES)} | all |",
        "|---|---|" + "---:|" * 6,
    ]
    for name, domain in REAL.items():
        for split, counts in (domain.counts or {}).items():
            cells = " | ".join(f"{count:,}" for count in counts)
            lines.append(f"| {name} | {split} | {cells} | {sum(counts):,} |")
    for name, domain in REAL.items():
        text = ["```text", *steps(name, Path("data/raw")), "```"]
        lines += ["", f"## {name}", "", *text, "", f"Cite: {domain.citation}"]
    lines += ["", "## Split files", "", *SPLIT_FILES, "", "## Without a network", "", *MIRROR]
    return "\n".join(lines) + "\n"
