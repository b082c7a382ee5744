"""Table of the report: cells with values, intervals and marks, a caption and notes.

`Table.to_json` is the form that the report, MLflow and other programs read. CSV, Markdown, LaTeX
and HTML are for people (clipdr.report.tables.writers). `Entry` is what the catalogue of tables
knows of one table.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from clipdr import DataError
from clipdr.artifacts.files import as_json

MISSING, UNDEFINED = "X", "n/a"
SYNTHETIC = "SYNTHETIC images: "  # before the caption of every table of synthetic images
CSV_COLUMNS = [
    "table",
    "method",
    "held_out",
    "metric",
    "value",
    "se",
    "n_seeds",
    "low",
    "high",
    "scale",
    "n",
    "clusters",
    "unit",
    "resamples",
    "undefined",
    "selection",
    "mark",
    "degenerate",
    "caption",
]
CELL_COLUMNS = ["column", "text", "decimals", "order", *CSV_COLUMNS]
COUNTS = ("decimals", "n_seeds", "n", "clusters", "resamples", "undefined")
NUMBERS = [*COUNTS, "order", "value", "se", "low", "high"]
TEXTS = [column for column in CELL_COLUMNS if column not in NUMBERS]


@dataclass(frozen=True)
class Table:
    """A table of the report.

    Attributes:
        name: Name of its files, without suffix.
        cells: One row per printed cell, in print order. Columns: `column` (title of the printed
            column), `text` (as printed), `decimals` of the text, `order` (number to sort by where
            it is not the value) and CSV_COLUMNS. `method` is the name of the printed row. `value`,
            `se`, `low` and `high` are in the units of `scale`. `mark` is "best", "second" or "".
            Absent columns count as missing.
        caption: Sentence above the table.
        notes: Sentences below it.
        corner: Title of the first column.
        protocol: Protocol of the runs, "" where there is none.
    """

    name: str
    cells: pd.DataFrame
    caption: str
    notes: tuple[str, ...] = ()
    corner: str = "Method"
    protocol: str = ""

    @classmethod
    def of(
        cls,
        name: str,
        cells: Iterable[Mapping[str, Any]] | pd.DataFrame,
        caption: str,
        notes: Sequence[str] = (),
        *,
        corner: str = "Method",
        protocol: str = "",
        synthetic: bool = False,
    ) -> Table:
        """Make a table of cells.

        Args:
            name: Name of its files.
            cells: Cells in print order, as dicts of CELL_COLUMNS; absent keys are missing.
            caption: Sentence above the table.
            notes: Sentences below it.
            corner: Title of the first column.
            protocol: Protocol of the runs.
            synthetic: Whether the images are synthetic. The caption then starts with SYNTHETIC.
        """
        rows = cells if isinstance(cells, pd.DataFrame) else list(cells)
        frame = pd.DataFrame(rows, columns=CELL_COLUMNS)
        frame[TEXTS] = frame[TEXTS].astype("object").fillna("")
        caption = f"{SYNTHETIC}{caption}" if synthetic else caption
        table = cls(name, frame, caption, tuple(notes), corner, protocol)
        return table.relabelled(caption)

    def relabelled(
        self, caption: str, *, name: str | None = None, notes: Sequence[str] | None = None
    ) -> Table:
        """Copy the table with another caption and, if given, another name and other notes."""
        name = self.name if name is None else name
        cells = self.cells.assign(table=name, caption=caption)
        notes = self.notes if notes is None else tuple(notes)
        return replace(self, name=name, cells=cells, caption=caption, notes=notes)

    @property
    def columns(self) -> list[str]:
        """Titles of the printed columns after the first one, in print order."""
        return list(dict.fromkeys(self.cells["column"]))

    def rows(self) -> list[tuple[str, list[dict[str, Any]]]]:
        """Name and cells of every printed row, in print order."""
        groups = self.cells.groupby("method", sort=False)
        return [(str(name), part.to_dict("records")) for name, part in groups]

    def to_json(self) -> str:
        """Encode as JSON.

        Returns:
            An object with the attributes of the table. `cells` is a list of objects with the keys
            of CELL_COLUMNS; keys without a value are left out, and so are `table` and `caption`,
            which the table states once.
        """
        columns = [name for name in CELL_COLUMNS if name not in ("table", "caption")]
        cells = [
            {key: value for key, value in map(_plain, cell.items()) if value not in (None, "")}
            for cell in self.cells.reindex(columns=columns).to_dict("records")
        ]
        content = {
            "name": self.name,
            "protocol": self.protocol,
            "caption": self.caption,
            "corner": self.corner,
            "notes": list(self.notes),
            "cells": cells,
        }
        return as_json(content)

    @classmethod
    def from_json(cls, text: str) -> Table:
        """Decode what `to_json` wrote.

        Raises:
            ValueError: If the text is no JSON, or lacks a key of a table.
        """
        content = json.loads(text)
        try:
            notes, cells = tuple(content["notes"]), pd.DataFrame(content["cells"])
            cells = cells.reindex(columns=CELL_COLUMNS)
            cells[NUMBERS] = cells[NUMBERS].astype("float64")
            cells[TEXTS] = cells[TEXTS].astype("object").fillna("")
            cells = cells.assign(table=content["name"], caption=content["caption"])
            caption, corner, protocol = (content[key] for key in ("caption", "corner", "protocol"))
            return cls(content["name"], cells, caption, notes, corner, protocol)
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a table of clipdr ({error!r})") from error


def read(path: Path | str) -> Table | None:
    """Read a table from its JSON file.

    Returns:
        The table, None where there is no file.

    Raises:
        DataError: If the file is damaged.
    """
    path = Path(path)
    if not path.is_file():
        return None
    try:
        return Table.from_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: {error}. Write the table again.") from None


def interval_text(low: float, high: float, decimals: int, sign: str = "") -> str:
    """Print an interval.

    Args:
        low: Lower end; NaN where the interval is undefined.
        high: Upper end.
        decimals: Digits after the point.
        sign: "+" prints the sign of positive ends too.

    Returns:
        "LOW to HIGH", never with a negative zero; "n/a" where it is undefined.
    """
    if pd.isna(low) or pd.isna(high):
        return UNDEFINED
    low, high = (round(end, decimals) + 0 for end in (low, high))
    return f"{low:{sign}.{decimals}f} to {high:{sign}.{decimals}f}"


@dataclass(frozen=True)
class Entry:
    """One table of the catalogue. Calling it makes the table.

    Attributes:
        make: make(content, methods, domains, remarks) -> Table.
        protocol: Protocol whose runs the table shows.
        section: Section of the report that shows it, a key of clipdr.report.page.layout.SECTIONS.
        read: read(runs, results) -> content of `make`, from run folders and the folder of results.
    """

    make: Callable[..., Table]
    protocol: str
    section: str
    read: Callable[[list[Path], Path], pd.DataFrame] = field(repr=False)

    def __call__(self, *args: Any, **options: Any) -> Table:
        """Make the table; arguments as `make`."""
        return self.make(*args, **options)


def _plain(item: tuple[str, Any]) -> tuple[str, Any]:
    """Key and value of a cell as JSON has them: counts as integers, None for a missing value."""
    key, value = item
    if not isinstance(value, str) and pd.isna(value):
        return key, None
    return key, int(value) if key in COUNTS else value
