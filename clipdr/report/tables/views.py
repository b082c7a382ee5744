"""View of a table for HTML: cells with text, second line, mark and number.

Input: a Table, or values of other files. Output: text and numbers without any markup;
templates/table.html renders them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd

from clipdr.report.tables.table import MISSING, UNDEFINED, Table, interval_text

NO_INTERVAL = "No interval: the score is undefined in over 5 % of the resamples (a rare grade)."


class Cell(NamedTuple):
    """Cell of a view.

    Attributes:
        text: As printed.
        small: Second line, for example an interval.
        mark: "best", "second", "clear" (a significant difference) or "".
        number: What the cell is sorted by; None for text.
    """

    text: str
    small: str = ""
    mark: str = ""
    number: float | None = None


class View(NamedTuple):
    """A table as HTML shows it.

    Attributes:
        caption: Sentence above.
        head: Titles of the columns.
        body: Rows of cells; the first cell of a row is its name.
        notes: Sentences below.
        foot: Rows below the body, which are never sorted.
        wraps: Whether long words of the cells are broken, for columns of text.
    """

    caption: str
    head: Sequence[str]
    body: Sequence[Sequence[Cell]]
    notes: Sequence[str] = ()
    foot: Sequence[Sequence[Cell]] = ()
    wraps: bool = False

    @property
    def numeric(self) -> list[bool]:
        """Per column, whether it holds a number. Such a column is set to the right."""
        return [
            any(row[column].number is not None for row in self.body)
            for column in range(len(self.head))
        ]


def cell(value: float, decimals: int = 0, sign: str = "") -> Cell:
    """Make the cell of a number.

    Args:
        value: Number; NaN where it is undefined.
        decimals: Digits after the point.
        sign: "+" prints the sign of a positive number too; "," separates thousands in any case.

    Returns:
        Cell with the printed number, never a negative zero; "n/a" for NaN.
    """
    if pd.isna(value):
        return Cell(UNDEFINED)
    return Cell(f"{round(value, decimals) + 0:{sign},.{decimals}f}", number=float(value))


def of_table(table: Table) -> View:
    """View of a table: printed cells, intervals below them, and a last row of image counts."""
    rows = table.rows()
    body = [[Cell(name), *map(_cell, cells)] for name, cells in rows]
    notes = list(table.notes)
    if any(_lacks_interval(cell) for _, cells in rows for cell in cells):
        notes.append(NO_INTERVAL)
    return View(
        table.caption, [table.corner, *table.columns], body, notes, _image_counts(table.cells)
    )


def _cell(cell: dict[str, Any]) -> Cell:
    """Cell of a view for a cell of a table."""
    number = next((cell[key] for key in ("order", "value") if pd.notna(cell.get(key))), None)
    if cell["text"] in (MISSING, UNDEFINED):
        number = None
    small = ""
    if number is not None and pd.notna(cell.get("low")) and pd.notna(cell.get("high")):
        decimals = int(cell["decimals"]) if pd.notna(cell.get("decimals")) else 2
        small = interval_text(cell["low"], cell["high"], decimals)
    return Cell(
        cell["text"], small, cell.get("mark") or "", None if number is None else float(number)
    )


def _lacks_interval(cell: dict[str, Any]) -> bool:
    """Whether a cell holds a score of resampled patients, but no interval of it."""
    resampled = pd.notna(cell.get("resamples")) and cell["resamples"] > 0
    defined = pd.notna(cell.get("value")) and pd.isna(cell.get("low"))
    return bool(resampled and defined and cell.get("scale") != "p")


def _image_counts(cells: pd.DataFrame) -> list[list[Cell]]:
    """Last row: images and patients of each column, where they are equal in all rows."""
    if not {"n", "clusters", "unit"} <= set(cells) or not cells["n"].notna().any():
        return []
    row = [Cell("Images", "resampled by")]
    for _, part in cells.groupby("column", sort=False):
        counts = part.loc[part["n"].notna(), ["n", "clusters", "unit"]].drop_duplicates()
        if len(counts) != 1:
            row.append(Cell(""))
            continue
        n, clusters, unit = counts.iloc[0]
        patients = f"{int(clusters)} patients" if pd.notna(clusters) else ""
        words = {"patient": patients, "image": "image: too narrow"}
        row.append(Cell(f"{int(n)}", words.get(unit, "patient or image")))
    return [row]
