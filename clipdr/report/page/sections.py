"""Sections of the report that a sub-package adds: what it says in words, and the tables and figures that it made.

Input: {folder}/tables/{name}.{md,csv} (clipdr.report.tables.writers), {folder}/figures/{name}.{png,svg} (clipdr.report.figures.style). Output: {folder}/section.json,
written by the sub-package; and that file as a Section, for the page. No text of it is taken for markup.
"""

import json
import re
from pathlib import Path
from typing import NamedTuple

from clipdr import DataError
from clipdr.artifacts.files import digest, write_text
from clipdr.report.page.images import Figure, picture
from clipdr.report.page.layout import TOPICS
from clipdr.report.page.views import View, printed_table

NAME = "section.json"
SHOWN = {"tables": (".md", ".csv"), "figures": (".png", ".svg")}  # what the page reads of each


class Section(NamedTuple):
    """id: of the section in the page, the name of its folder; words: paragraphs under its title; missing: what was left out, and why."""

    id: str
    title: str
    words: list[str]
    tables: list[View]
    figures: list[Figure]
    missing: list[str]


def write(folder, title, words, tables=(), figures=None, photographs=()):
    """Write {folder}/section.json.

    folder      : {results}/NAME, with tables/ and figures/; NAME in small letters, digits and _, is the section's id in the page
    title       : heading;  words : list of paragraphs under it, plain text: what was run, on what data, n; SYNTHETIC where images are drawn
    tables      : names of finished tables, as `typeset.write` wrote them, in their order
    figures     : {name: (alternative text, caption with units and n)} of figures, as `figures.write` wrote them, in their order
    photographs : those of the figures that show single photographs: left out of a page without photographs (gallery: 0)

    Raises DataError where a file is missing. The file names the digest of all it shows, so that it changes when one of them does.
    """
    folder, figures = Path(folder), figures or {}
    _checked(folder.name)
    shown = [f"tables/{name}{suffix}" for name in tables for suffix in SHOWN["tables"]]
    shown += [f"figures/{name}{suffix}" for name in figures for suffix in SHOWN["figures"]]
    absent = [name for name in shown if not (folder / name).is_file()]
    if absent:
        raise DataError(f"{folder / absent[0]}: missing, but the section shows it; write it first")
    content = {
        "title": title,
        "words": list(words),
        "tables": list(tables),
        "figures": figures,
        "photographs": list(photographs),
    }
    content |= {"files": {name: digest(folder / name) for name in shown}}
    write_text(folder / NAME, json.dumps(content, indent=1) + "\n")


def read(path, photographs=True):
    """A section.json -> Section. photographs: False leaves out the figures that show single photographs.

    Raises DataError where it is no such file, or where a file that it shows is missing or another than it was.
    """
    folder = Path(path).parent
    _checked(folder.name)
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        title, words, tables, figures, files, private = (
            content[key] for key in ("title", "words", "tables", "figures", "files", "photographs")
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: no section of a report ({error}); make it again") from None
    for name, expected in files.items():
        if not (folder / name).is_file() or digest(folder / name) != expected:
            raise DataError(
                f"{folder / name}: missing, or another than when {path} was written; make the section again"
            )
    hidden = [] if photographs else [name for name in figures if name in private]
    missing = [
        f"{name}: left out, it shows photographs (config.yaml: gallery: 0)." for name in hidden
    ]
    drawn = [
        picture(folder / "figures", name, *said)
        for name, said in figures.items()
        if name not in hidden
    ]
    return Section(
        folder.name,
        title,
        words,
        [printed_table(folder / "tables", name) for name in tables],
        drawn,
        missing,
    )


def _checked(name):
    if not re.fullmatch("[a-z][a-z0-9_]*", name) or name in (*TOPICS, "summary"):
        raise DataError(
            f"section {name!r}: name its folder in small letters, digits and _, and not as a section that the page has"
        )
