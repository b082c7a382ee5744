"""Finished tables as the page shows them: cells with their text, second line, mark and number; read from the files of `clipdr table`.

Input: {name}.md and {name}.csv of a folder of tables. Output: Views, text and numbers without any markup.
"""

import re
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from markdown_it import MarkdownIt

from clipdr.report.tables.table import UNDEFINED

NO_INTERVAL = "No interval: the score is undefined in over 5 % of the resamples (a rare grade)."


class Cell(NamedTuple):
    """text as printed; small: a second line (an interval); mark: "best", "second" or ""; number: what it is sorted by, None for text."""

    text: str
    small: str = ""
    mark: str = ""
    number: float | None = None


class View(NamedTuple):
    """A table: its heads, rows of Cells of which the first is the row's name, a caption above, notes below, rows that are never sorted."""

    caption: str
    head: list[str]
    body: list[list[Cell]]
    notes: tuple[str, ...] = ()
    foot: tuple[list[Cell], ...] = ()

    @property
    def numeric(self):
        """Per column, whether it holds a number: such a column is set to the right."""
        return [
            any(row[place].number is not None for row in self.body)
            for place in range(len(self.head))
        ]


def number(text):
    """The number that a printed cell begins with ("94.5 ± 0.3" -> 94.5), None where it holds none."""
    found = re.match(r"[+-]?\d[\d,]*(\.\d+)?", text)
    return float(found[0].replace(",", "")) if found else None


def cell(value, decimals=0, sign=""):
    """A number as a Cell, with a sign before positive ones if asked; n/a where it is undefined; never -0."""
    return (
        Cell(UNDEFINED)
        if pd.isna(value)
        else Cell(f"{round(value, decimals) + 0:{sign},.{decimals}f}", number=float(value))
    )


def printed_table(folder, name):
    """A table of `clipdr table` -> View: the printed cells of its Markdown, with the intervals of its CSV below them.

    None where either file is missing. The CSV has one line per cell, in the order of the printed body.
    """
    markdown, tidy = Path(folder) / f"{name}.md", Path(folder) / f"{name}.csv"
    if not (markdown.is_file() and tidy.is_file()):
        return None
    caption, head, body, notes = _parsed(markdown.read_text(encoding="utf-8"))
    cells = pd.read_csv(tidy, keep_default_na=False)
    width = len(head) - 1
    if len(cells) == width * len(body) and {"low", "high"} <= set(cells):
        for place, (low, high) in enumerate(zip(cells["low"], cells["high"], strict=True)):
            row, column = divmod(place, width)
            if low != "" and high != "" and body[row][column + 1].number is not None:
                decimals = len(
                    re.match(r"[^.]*\.?(\d*)", body[row][column + 1].text)[1]
                )  # of "94.5 ± 0.3" and of "-7.4†"
                body[row][column + 1] = body[row][column + 1]._replace(
                    small=f"{float(low):.{decimals}f} to {float(high):.{decimals}f}"
                )
    values = [one for row in body for one in row[1:] if one.number is not None]
    if any(one.small for one in values) and not all(one.small for one in values):
        notes.append(NO_INTERVAL)
    return View(caption, head, body, notes, _sizes(cells, width, len(body)))


def _sizes(cells, width, height):
    """A last row with the photographs and patients of each column, where a column has the same in all rows."""
    if len(cells) != width * height or not {"n", "clusters", "unit"} <= set(cells):
        return []
    row = [Cell("Photographs", "resampled by")]
    for column in range(width):
        part = cells.iloc[column::width]
        facts = part.loc[part["n"] != "", ["n", "clusters", "unit"]].astype(str).drop_duplicates()
        if len(facts) == 1:
            n, clusters, unit = facts.iloc[0]
            word = {"patient": f"{clusters} patients", "image": "photograph: too narrow"}.get(
                unit, "patient or photograph"
            )
            row.append(Cell(n, word))
        else:
            row.append(Cell(""))
    return [row]


def _parsed(text):
    """caption, head, body, notes of a Markdown file with one pipe table. Any markup but bold and <u> becomes text."""
    before, head, body, after, row = [], [], [], [], None
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        if token.type == "tr_open":
            row = []
        elif token.type == "tr_close":
            if head:
                body.append(
                    [
                        Cell(row[0][0]),
                        *(Cell(said, mark=mark, number=number(said)) for said, mark in row[1:]),
                    ]
                )
            else:
                head = [said for said, _ in row]
            row = None
        elif token.type == "inline" and row is not None:
            row.append(_inline(token))
        elif token.type == "inline":
            (after if head else before).append(_inline(token)[0])
    return " ".join(before), head, body, after


def _inline(token):
    """Plain text and mark of an inline token."""
    kinds = [child.type for child in token.children]
    tags = [child.content for child in token.children if child.type == "html_inline"]
    said = "".join(
        " " if child.type == "softbreak" else child.content
        for child in token.children
        if child.content not in ("<u>", "</u>")
    )
    return said, "best" if "strong_open" in kinds else "second" if tags == ["<u>", "</u>"] else ""
