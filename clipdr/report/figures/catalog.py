"""Catalogue of the figures: their names in order, the module of a name, and the inputs of a figure.

A figure is one module of this folder. It states:

- `TITLE` and `CAPTION`: the name in words, and what it shows, with units;
- `SECTION`: key of its section of the report (`clipdr.report.page.layout`);
- `PER_IMAGE`: it shows single images, which a report without images leaves out;
- `COUNTED`: its numbers are over all test images, so the report adds their count to the caption;
- `USES_METHODS`: it compares methods, so its title names those that are degenerate.

`read(inputs)` returns the content of the figure and `plot(content, methods, domains)` a matplotlib
Figure. The catalogue imports a module only when it is asked for, so that it is light and an edit of
one figure makes no other again.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from clipdr import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

FIGURES = (
    "similarity",
    "similarity_by_domain",
    "scores_by_domain",
    "differences",
    "confusion",
    "reliability",
    "roc",
    "training",
    "embedding",
    "cam",
)
FROM_MODELS = ("cam",)  # made by a command of their own, because they need trained models


class FigureInputs(NamedTuple):
    """What a figure may read.

    Attributes:
        runs: Run folders .../{protocol}/{method}/{held_out}/{seed}.
        results: Folder with comparisons.csv.
        data: Folder with manifests/ and store/.
        features: Folder with the backbone's {domain}.npy and prompts.npz.
    """

    runs: Sequence[Path]
    results: Path
    data: Path
    features: Path


def module(name: str) -> ModuleType:
    """Return the module of a figure; see the top of this file for what it holds.

    Raises:
        DataError: If no figure has this name.
    """
    if name not in FIGURES:
        raise DataError(
            f"figure {name!r}: no figure has this name. Use one of {', '.join(FIGURES)}."
        )
    return import_module(f"clipdr.report.figures.{name}")
