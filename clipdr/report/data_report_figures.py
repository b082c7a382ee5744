"""Figures of the data report: a sheet of sample images per domain, and image quality by domain.

Input: a prepared domain: its manifest, its store, and its measures of quality. Output: matplotlib
figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from clipdr import GRADES
from clipdr.report.figures import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 8  # images per grade on a sample sheet
PANELS = {  # column of quality.measure -> title, factor, least width of the axis
    "sharpness": ("sharpness (grey levels²)", 1, 10),
    "brightness": ("mean brightness (0 to 255)", 1, 128),
    "bright_clipped": ("overexposed pixels (%)", 100, 1),
    "dark_clipped": ("underexposed pixels (%)", 100, 1),
}


def samples(manifest: pd.DataFrame) -> pd.DataFrame:
    """Sample up to COLUMNS images per grade at random, always the same for the same manifest.

    Args:
        manifest: Of one domain.

    Returns:
        Columns domain, grade, place (0 to COLUMNS - 1), image, row (of the store).
    """
    name, frames = str(manifest["domain"].iloc[0]), []
    for grade, rows in manifest.groupby("grade", sort=True):
        rng = np.random.default_rng([*name.encode(), int(str(grade))])
        chosen = np.sort(rng.permutation(len(rows))[:COLUMNS])
        frame = rows.iloc[chosen][["domain", "grade", "image", "row"]]
        frames.append(frame.assign(place=range(len(chosen))))
    return pd.concat(frames)[["domain", "grade", "place", "image", "row"]]


def sheet(manifest: pd.DataFrame, store: np.ndarray) -> Figure:
    """Plot the sample sheet of a domain: one line per grade with COLUMNS images.

    Args:
        manifest: Of the domain.
        store: Its images (N, S, S, 3), uint8.

    Returns:
        Figure in which a grade with fewer images leaves places empty.
    """
    from matplotlib.figure import Figure

    name, side = str(manifest["domain"].iloc[0]), store.shape[1]
    step = side + max(side // 32, 2)  # a gap between images
    mosaic = np.full((len(GRADES) * step, COLUMNS * step, 3), 255, np.uint8)
    for grade, place, row in samples(manifest)[["grade", "place", "row"]].itertuples(index=False):
        top, left = grade * step, place * step
        mosaic[top : top + side, left : left + side] = store[row]
    totals = manifest["grade"].value_counts()
    with style.figure_style():
        figure = Figure(figsize=(1.5 * style.WIDTH, 4.25), layout="constrained")
        axis = figure.subplots()
        axis.imshow(mosaic[: -(step - side), : -(step - side)])
        labels = [
            f"{grade}  {title}\n{totals.get(grade, 0)} images" for grade, title in enumerate(GRADES)
        ]
        axis.set_yticks([grade * step + side / 2 for grade in range(len(GRADES))], labels)
        axis.set_xticks([])
        axis.tick_params(length=0)
        axis.grid(visible=False)
        axis.set_frame_on(False)
        style.set_domains_title(
            figure, [name], f"{name}, {COLUMNS} of each grade, sampled at random"
        )
    return figure


def quality_figure(measures: Mapping[str, pd.DataFrame]) -> Figure:
    """Plot one panel per measure of quality.

    Args:
        measures: {domain: measures of quality (quality.measure)}.

    Returns:
        Figure: box of the middle half, line at the median, whiskers from the 5th to the 95th
        percentile.
    """
    from matplotlib.figure import Figure

    names = list(measures)
    lines = {"linewidth": 0.6}
    with style.figure_style():
        height = 0.9 + 2 * (0.45 + 0.2 * len(names))
        figure = Figure(figsize=(1.5 * style.WIDTH, height), layout="constrained")
        axes = figure.subplots(2, 2, sharey=True)
        for axis, (column, (title, factor, least)) in zip(axes.flat, PANELS.items(), strict=True):
            values = [factor * frame[column].dropna().to_numpy() for frame in measures.values()]
            boxes = axis.boxplot(
                values,
                orientation="horizontal",
                whis=(5, 95),
                showfliers=False,
                widths=0.55,
                patch_artist=True,
                medianprops={"color": "black"},
                boxprops=lines,
                whiskerprops=lines,
            )
            for box in boxes["boxes"]:
                box.set_facecolor(style.COLOURS[4])
            axis.set_xlim(0, max(axis.get_xlim()[1], least))
            axis.set_xlabel(title)
            axis.set_yticks(range(1, len(names) + 1), names)
            axis.grid(axis="y", visible=False)
        axes[0, 0].invert_yaxis()
        style.set_domains_title(
            figure, names, "sharpness and exposure inside the disc, at the stored size"
        )
    return figure
