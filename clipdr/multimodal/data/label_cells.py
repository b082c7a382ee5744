"""Cells of published label files: reading as text, and decoding by a layout of columns and codings.

A layout maps a canonical column to its published names and its coding. A coding is `str` (text as
it stands), `float` (a number, blank allowed) or a dict from cell to value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from clipdr import DataError

Coding = type | Mapping[str, Any]
Layout = Mapping[str, tuple[tuple[str, ...], Coding]]

BLANK = ("", "NA", "nan", "NaN", "unknown", "other")  # cells of a missing number or answer
GRADE = {str(grade): grade for grade in range(5)}


def read_cells(path: str | Path) -> pd.DataFrame:
    """Read a label file as text cells.

    Args:
        path: CSV file, UTF-8 with or without byte-order mark, any line ends.

    Returns:
        Table of stripped text; ".0" behind whole numbers is removed.

    Raises:
        DataError: If the file cannot be read.
    """
    try:
        cells = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: cannot be read as a table ({error}). Check the path and the format."
        ) from None
    return cells.apply(
        lambda column: column.str.strip().str.replace(r"^(\d+)\.0$", r"\1", regex=True)
    )


def decode_layout(
    cells: pd.DataFrame, layout: Layout, ignored: Iterable[str], path: str | Path
) -> pd.DataFrame:
    """Decode text cells to canonical columns.

    Args:
        cells: Text cells of N rows.
        layout: Layout of the file.
        ignored: Known columns of the file that are not read.
        path: File that error messages name.

    Returns:
        (N, columns of the layout) table of objects.

    Raises:
        DataError: If a column of the layout is missing or occurs under two names, if a column of
            the file is unknown, or if a value is unknown.
    """
    decoded, used = {}, set(ignored)
    for name, (aliases, coding) in layout.items():
        present = [alias for alias in aliases if alias in cells]
        if len(present) != 1:
            raise DataError(
                f"{path}: has {'no' if not present else 'more than one'} column "
                f"{' or '.join(aliases)}. Use the published label file."
            )
        used.add(present[0])
        decoded[name] = [
            decode_cell(cell, coding, path, row, present[0])
            for row, cell in enumerate(cells[present[0]])
        ]
    if unknown := [name for name in cells if name not in used]:
        raise DataError(
            f"{path}: column {unknown[0]!r} is unknown. "
            "State in clipdr/multimodal/data/brset_labels.py what it is before it is read."
        )
    return pd.DataFrame(decoded, dtype=object)


def decode_cell(cell: str, coding: Coding, path: str | Path, row: int, column: str) -> Any:
    """Decode one text cell.

    Args:
        cell: Text of the cell.
        coding: `str`, `float` or a dict from cell to value.
        path: File that an error message names.
        row: Row that an error message names, 0 = first data row.
        column: Column that an error message names.

    Returns:
        The value, None for a missing number.

    Raises:
        DataError: If the coding does not hold the cell.
    """
    if coding is str:
        return cell
    if isinstance(coding, Mapping) and cell in coding:
        return coding[cell]
    if coding is float and cell in BLANK:
        return None
    try:
        if coding is float:
            return float(cell)
    except ValueError:
        pass
    raise DataError(
        f"{path}: row {row}, column {column}: value {cell!r} is unknown. "
        "Look it up in the description of the data set."
    )
