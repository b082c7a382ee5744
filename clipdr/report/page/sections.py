"""Further sections of the report, written by a sister system: paragraphs, tables and figures.

Input: {folder}/tables/{name}.json (clipdr.report.tables.writers) and {folder}/figures/{name}.png
and .svg (clipdr.report.figures.style). Output: {folder}/section.json, written by the sister system;
and that file as a Section for the report. No text of it is taken for markup.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from json import loads
from pathlib import Path
from typing import NamedTuple

from clipdr import DataError
from clipdr.artifacts.files import as_json, digest, write_text
from clipdr.report.page.images import Figure, embedded
from clipdr.report.page.layout import SECTIONS
from clipdr.report.tables import table, views
from clipdr.report.tables.views import View

NAME = "section.json"
SUFFIXES = {"tables": (".json",), "figures": (".png", ".svg")}  # files that the report reads


class Section(NamedTuple):
    """A further section of the report.

    Attributes:
        id: Anchor in the report, the name of its folder.
        title: Heading.
        words: Paragraphs below the heading.
        tables: Tables.
        figures: Figures.
        missing: Figures that were left out, with the reason.
    """

    id: str
    title: str
    words: list[str]
    tables: list[View]
    figures: list[Figure]
    missing: list[str]


def write(
    folder: Path | str,
    title: str,
    words: Sequence[str],
    tables: Sequence[str] = (),
    figures: Mapping[str, Sequence[str]] | None = None,
    with_images: Sequence[str] = (),
) -> None:
    """Write {folder}/section.json.

    Args:
        folder: RESULTS/NAME, with tables/ and figures/. NAME, in small letters, digits and _, is
            the section's anchor.
        title: Heading.
        words: Paragraphs below it, plain text: what was run, on what data, n; SYNTHETIC where
            images are synthetic.
        tables: Names of written tables, in order.
        figures: {name: (alternative text, caption with units and n)} of written figures, in order.
        with_images: Those of the figures that show single images. A report without images (gallery:
            0) leaves them out.

    Raises:
        DataError: If a file is missing, or the name cannot be an anchor. The file names the digest
            of every file that the section shows, so that it changes with each of them.
    """
    folder, figures = Path(folder), figures or {}
    _check_name(folder.name)
    files = [f"tables/{name}{suffix}" for name in tables for suffix in SUFFIXES["tables"]]
    files += [f"figures/{name}{suffix}" for name in figures for suffix in SUFFIXES["figures"]]
    if absent := [name for name in files if not (folder / name).is_file()]:
        raise DataError(
            f"{folder / absent[0]}: missing, but the section shows it. Write this file first."
        )
    content = {
        "title": title,
        "words": list(words),
        "tables": list(tables),
        "figures": {name: list(texts) for name, texts in figures.items()},
        "with_images": list(with_images),
        "files": {name: digest(folder / name) for name in files},
    }
    write_text(folder / NAME, as_json(content))


def read(path: Path | str, with_images: bool = True) -> Section:
    """Read a section.json.

    Args:
        path: The file.
        with_images: False leaves out the figures that show single images.

    Raises:
        DataError: If it is no such file, or a file of the section is missing or has changed since.
    """
    folder = Path(path).parent
    _check_name(folder.name)
    keys = ("title", "words", "tables", "figures", "files", "with_images")
    try:
        content = loads(Path(path).read_text(encoding="utf-8"))
        title, words, names, figures, files, private = (content[key] for key in keys)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: no section of a report ({error}). Write it again.") from None
    for name, expected in files.items():
        if not (folder / name).is_file() or digest(folder / name) != expected:
            raise DataError(
                f"{folder / name}: missing, or changed since {path} was written. "
                "Write the section again."
            )
    hidden = [] if with_images else [name for name in figures if name in private]
    missing = [f"{name}: left out, it shows images (config.yaml: gallery: 0)." for name in hidden]
    embedded_figures = [
        embedded(folder / "figures", name, *texts)
        for name, texts in figures.items()
        if name not in hidden
    ]
    read_tables = [table.read(folder / "tables" / f"{name}.json") for name in names]
    table_views = [views.of_table(item) for item in read_tables if item is not None]
    return Section(folder.name, title, words, table_views, embedded_figures, missing)


def _check_name(name: str) -> None:
    """Refuse a name that is no anchor, or that a section of the report has."""
    if not re.fullmatch("[a-z][a-z0-9_]*", name) or name in (*SECTIONS, "summary"):
        raise DataError(
            f"section {name!r}: not a free name. Name its folder in small letters, digits and _, "
            "and not like a section of the report."
        )
