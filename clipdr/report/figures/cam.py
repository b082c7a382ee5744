"""Class activation maps: one image of each grade, and the map of each method for that grade.

Input: images, maps and their numbers (`clipdr.inference.grad_cam`). Output: one row for the images
and one per method, one column per grade, with the sanity checks beside each method.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from clipdr import GRADES, DataError
from clipdr.report.figures.style import WIDE, figure_style, set_domains_title

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from matplotlib.figure import Figure

    from clipdr.report.figures.catalog import FigureInputs

TITLE = "Class activation maps"
CAPTION = (
    "Grad-CAM of the logit of the true grade on the same images, one per grade, with the "
    "map of random weights as a check."
)
SECTION = "maps"
PER_IMAGE = True
COUNTED = False
USES_METHODS = True

SHADES: dict[str, Any] = {"cmap": "inferno", "alpha": 0.5, "vmin": 0, "vmax": 1}


class TrainedMaps(Protocol):
    """Maps of a method."""

    @property
    def trained(self) -> np.ndarray:
        """(N, S, S) float32, maps of the trained weights."""
        ...


def read(_inputs: FigureInputs) -> None:
    """Refuse: the maps need trained models, so the command `clipdr cam` makes this figure.

    Raises:
        DataError: Always.
    """
    raise DataError("figure cam: it needs trained models. Run `clipdr cam`.")


def plot(
    rows: pd.DataFrame,
    images: np.ndarray,
    maps: Mapping[str, TrainedMaps],
    numbers: pd.DataFrame,
) -> Figure:
    """Plot the first image of each grade, and over it the map of its true grade by each method.

    Every map is scaled from 0 to 1 on its own.

    Args:
        rows: N manifest rows, in the order of the names.
        images: (N, 3, S, S) float32 in [0, 1].
        maps: Maps of each method.
        numbers: As `clipdr.inference.grad_cam.measure` returns them.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    grades = rows["grade"].to_numpy()
    first = [int(np.flatnonzero(grades == g)[0]) for g in range(len(GRADES)) if (grades == g).any()]
    with figure_style():
        figure = Figure(figsize=(WIDE, 1.2 * (1 + len(maps)) + 0.7), layout="constrained")
        axes = figure.subplots(1 + len(maps), len(first), squeeze=False)
        for axis in axes.flat:
            axis.set_xticks([])
            axis.set_yticks([])
            axis.grid(visible=False)
            axis.set_frame_on(False)
        for axis, index in zip(axes[0], first, strict=True):
            axis.imshow(images[index].transpose(1, 2, 0))
            axis.set_title(f"grade {grades[index]}\n{GRADES[grades[index]]}")
        axes[0, 0].set_ylabel("image")
        for line, (method, method_maps) in zip(axes[1:], maps.items(), strict=True):
            for axis, index in zip(line, first, strict=True):
                values = method_maps.trained[index]
                axis.imshow(images[index].transpose(1, 2, 0))
                if np.ptp(values) > 0:
                    axis.imshow((values - values.min()) / np.ptp(values), **SHADES)
                else:  # no activation of the last map supports this grade
                    axis.set_xlabel("no map")
            line[0].set_ylabel(f"{method}\n{_checks(numbers[numbers['method'] == method])}")
        bar = figure.colorbar(
            ScalarMappable(Normalize(0, 1), SHADES["cmap"]),
            ax=axes[1:],
            shrink=0.6,
            aspect=25,
            pad=0.01,
        )
        bar.set_label("Grad-CAM (0 to 1)")
        bar.outline.set_visible(False)
        domain = rows["domain"].iloc[0]
        title = f"maps of the true grade, test images of {domain}; numbers: means of {len(rows)}"
        set_domains_title(figure, [domain], title)
    return figure


def _checks(numbers: pd.DataFrame) -> str:
    """Both sanity checks of a method as text, means over the images.

    These are the rank correlation with the maps of random weights and, where lesions are known, the
    share of the map on lesions beside the lesions' share of the retina.
    """
    text = f"correlation with\nrandom weights {_mean(numbers['rank_correlation'], '{:.2f}')}"
    if numbers["energy"].notna().any():
        energy, area = (_mean(100 * numbers[name], "{:.0f}") for name in ("energy", "area"))
        text += f"\non lesions {energy} %\n(area {area} %)"
    return text


def _mean(values: pd.Series, form: str) -> str:
    """Formatted mean, n/a where every value is undefined."""
    return form.format(values.mean()) if values.notna().any() else "n/a"
