"""Figures of pre-training: loss curves, and reports with the eyes retrieved for them.

Input: history.csv and examples.json of the runs. Output: matplotlib figures.
"""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from clipdr.data.manifest import open_store, read_manifest
from clipdr.pretrain.report_tables import LEVELS
from clipdr.report.figures.style import COLOURS, WIDE, figure_style, set_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

QUERIES = 4  # reports in the figure of pairs
SYNTHETIC = ("PRACTICE", "SIM_", "TOY")  # beginnings of the names of synthetic data sets


def curves(histories: Mapping[str, pd.DataFrame], synthetic: Collection[str]) -> Figure:
    """Plot the loss per level with its lower bound, and the in-batch accuracy, over the epochs.

    Args:
        histories: {run: history.csv}.
        synthetic: Names of the runs on synthetic images.
    """
    from matplotlib.figure import Figure

    with figure_style():
        figure = Figure(figsize=(WIDE, 2.2 * len(histories)), layout="constrained")
        axes = figure.subplots(len(histories), 2, squeeze=False)
        for (losses, accuracies), (name, history) in zip(axes, histories.items(), strict=True):
            _plot_history(losses, accuracies, history)
            title = f"{name} (SYNTHETIC images)" if name in synthetic else name
            losses.set(title=title, xlabel="epoch", ylabel="loss per level (nats)")
            accuracies.set(title=title, xlabel="epoch", ylabel="in-batch accuracy (%)")
        dotted = {"color": "0.3", "linestyle": ":", "linewidth": 0.8}
        axes[0, 0].plot([], [], label="lower bound", **dotted)
        handles = axes[0, 0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", ncols=3, frameon=False)
    return figure


def _plot_history(losses: Axes, accuracies: Axes, history: pd.DataFrame) -> None:
    """Curves of one run: loss and its lower bound per level, validation loss, and accuracy."""
    epoch, points = history["epoch"], {"marker": ".", "markersize": 3}
    for (level, title), colour in zip(LEVELS.items(), COLOURS, strict=False):
        losses.plot(epoch, history[f"loss_{level}"], color=colour, label=title, **points)
        floor = {"color": colour, "linestyle": ":", "linewidth": 0.8}
        losses.plot(epoch, history[f"floor_{level}"], **floor)
        both = history[f"image_to_text_{level}"] + history[f"text_to_image_{level}"]
        accuracies.plot(epoch, 100 * both / 2, color=colour, **points)
    validation = {"color": "black", "linewidth": 0.9, "label": "validation, mean"}
    losses.plot(epoch, history["val_loss"] / len(LEVELS), **validation)
    selected = history[history["selected"]]
    ring = {"s": 22, "facecolors": "none", "edgecolors": "black", "label": "selected"}
    losses.scatter(selected["epoch"], selected["val_loss"] / len(LEVELS), **ring)


def retrieved_pairs(examples: Sequence[Mapping[str, Any]], data: Path) -> Figure | None:
    """Plot reports and the eyes of the first three patients retrieved for them.

    Args:
        examples: Entries of examples.json.
        data: Folder with manifests/ and store/ of the images.

    Returns:
        Figure of synthetic patients only, None where no query is of one.
    """
    from matplotlib.figure import Figure

    queries = [
        example
        for example in examples
        if example["direction"] == "text_to_image" and is_synthetic(example)
    ][:QUERIES]
    if not queries:
        return None
    with figure_style():
        figure = Figure(figsize=(WIDE, 1.1 * len(queries) + 0.2), layout="constrained")
        axes = figure.subplots(len(queries), 7, squeeze=False, width_ratios=[3, 1, 1, 1, 1, 1, 1])
        for line, query in zip(axes, queries, strict=True):
            for axis in line:
                axis.axis("off")
            text = textwrap.shorten(query["query"]["text"], 330, placeholder=" …")
            text = f"rank of the true patient: {query['rank']:g}\n{textwrap.fill(text, 52)}"
            line[0].text(0, 0.95, text, va="top", fontsize=5)
            for number, patient in enumerate(query["found"]):
                right, left = line[1 + 2 * number : 3 + 2 * number]  # as an examiner faces them
                for axis, side in ((right, "right"), (left, "left")):
                    if patient[f"{side}_image"]:
                        axis.imshow(_image(patient[f"{side}_image"], data))
                title = f"{number + 1}.{' true' if patient['true'] else ''}"
                right.set_title(title, loc="left", fontsize=6)
        title = "reports, and the right and left eyes of the first three patients retrieved"
        set_title(figure, title, True)
    return figure


def is_synthetic(example: Mapping[str, Any]) -> bool:
    """Return whether the images of an example are synthetic."""
    return example["query"]["dataset"].startswith(SYNTHETIC)


def _image(name: str, data: Path) -> np.ndarray:
    """Image (S, S, 3) of a name DOMAIN/..., from the store of its domain."""
    domain = name.partition("/")[0]
    manifest = read_manifest(Path(data) / "manifests" / f"{domain}.csv")
    store = open_store(Path(data) / "store" / f"{domain}.npy", manifest)
    return store[int(manifest.index[manifest["image"] == name][0])]
