"""Training curves: losses and source validation AUC over the epochs, one line per run.

Input: history.csv of the runs, lowest seed. Output: one column of panels per method that trains
step by step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from clipdr import DataError
from clipdr.artifacts.run_folder import RunFolder, first_seed
from clipdr.report.figures.style import (
    COLOURS,
    WIDE,
    domain_kind,
    domain_label,
    figure_style,
    set_domains_title,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from clipdr.report.figures.catalog import FigureInputs

TITLE = "Training curves"
CAPTION = (
    "Loss and AUC (%) on source validation at every evaluation; the selected checkpoint is marked."
)
SECTION = "training"
PER_IMAGE = False
COUNTED = False
USES_METHODS = True

COLUMNS = 6  # methods side by side
PANELS = {
    "loss": "training loss",
    "val_loss": "source validation loss",
    "val_auc": "source validation AUC (%)",
}


def read(inputs: FigureInputs) -> pd.DataFrame:
    """Return the rows of history.csv of every run with method and held_out.

    A run without steps has no rows.
    """
    frames = []
    for run in first_seed(inputs.runs):
        history = pd.read_csv(run / "history.csv")
        if len(history):
            folder = RunFolder(run)
            frames.append(history.assign(method=folder.method, held_out=folder.held_out))
    return (
        pd.concat(frames, ignore_index=True)
        if frames
        else pd.DataFrame(columns=["method", "held_out", "epoch", *PANELS, "selected"])
    )


def plot(histories: pd.DataFrame, methods: Sequence[str], domains: Sequence[str]) -> Figure:
    """Plot the curves in the colour of the held-out domain; a ring marks the selected weights.

    Validation sets are those of the source domains.

    Args:
        histories: As `read` returns them.
        methods: Methods, in the order of the columns; those without steps have none.
        domains: Held-out domains, in the order of their colours.

    Raises:
        DataError: If none of the methods trains step by step.
    """
    from matplotlib.figure import Figure

    trained = [method for method in methods if method in set(histories["method"])]
    if not trained:
        raise DataError(
            "figure training: none of these methods trains step by step. Choose another method."
        )
    columns, blocks = min(len(trained), COLUMNS), -(-len(trained) // COLUMNS)
    with figure_style():
        size = (max(WIDE * min(columns, 4) / 4, 3.2), (1.45 * len(PANELS) + 0.2) * blocks + 0.7)
        figure = Figure(figsize=size, layout="constrained")
        share = "row" if len(trained) > 1 else False
        axes = figure.subplots(len(PANELS) * blocks, columns, squeeze=False, sharey=share)
        unused = axes[len(PANELS) * (blocks - 1) :, len(trained) - columns * (blocks - 1) :]
        for axis in unused.flat:
            axis.set_visible(False)
        for number, method in enumerate(trained):
            block, column = divmod(number, columns)
            lines = axes[len(PANELS) * block : len(PANELS) * (block + 1), column]
            _panels(lines, histories[histories["method"] == method], domains)
            lines[0].set_title(method)
            lines[-1].set_xlabel("epochs")
            for axis, title in zip(lines, PANELS.values(), strict=True):
                axis.set_ylabel(title if column == 0 else "")
        figure.legend(
            *axes[0, 0].get_legend_handles_labels(),
            loc="outside lower center",
            ncols=3,
            frameon=False,
            title=f"{domain_kind(domains)} (ring: selected checkpoint)",
            title_fontsize=7,
        )
        set_domains_title(figure, domains, "training curves, one seed")
    return figure


def _panels(axes: Iterable[Axes], rows: pd.DataFrame, domains: Sequence[str]) -> None:
    """Plot the curves of one method, one panel below the other."""
    for axis, column in zip(axes, PANELS, strict=True):
        factor = 100 if column == "val_auc" else 1
        for number, domain in enumerate(domains):
            run = rows[rows["held_out"] == domain]
            colour = COLOURS[number % len(COLOURS)]
            axis.plot(
                run["epoch"],
                factor * run[column],
                color=colour,
                linewidth=0.9,
                marker=".",
                markersize=3,
                label=domain_label(domain),
            )
            selected = run[run["selected"].astype(bool)]
            ring: dict[str, Any] = {
                "s": 22,
                "facecolors": "none",
                "edgecolors": colour,
                "linewidths": 0.9,
            }
            axis.scatter(selected["epoch"], factor * selected[column], **ring, zorder=3)
        if column != list(PANELS)[-1]:
            axis.tick_params(labelbottom=False)
