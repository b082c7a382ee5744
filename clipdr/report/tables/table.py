"""TODO"""

from dataclasses import dataclass

import pandas as pd

MISSING, UNDEFINED = "X", "n/a"
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
]
CSV_COLUMNS += ["resamples", "undefined", "selection", "mark", "degenerate", "caption"]


@dataclass(frozen=True)
class Table:
    """cells: one row per method and column, in print order: column, text (as printed), mark ("best" | "second" | ""), and CSV_COLUMNS.

    corner : title of the first column, where its rows are not methods
    """

    name: str
    cells: pd.DataFrame
    caption: str
    notes: tuple[str, ...]
    corner: str = "Method"
    protocol: str = ""
