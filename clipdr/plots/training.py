"""Training curves: loss of training and source validation, and validation AUC, over the epochs; one line per run.

Input: history.csv of the runs, lowest seed. Output: one column of panels per method that trains step by step.
"""

import pandas as pd

from clipdr import DataError
from clipdr.figures import COLOURS, WIDE, first_seed, style, suptitle

PANELS = {"loss": "training loss", "val_loss": "source validation loss", "val_auc": "source validation AUC (%)"}


def read(place):
    """history.csv rows of every run with its method and held_out; runs without steps have none."""
    frames = []
    for run in first_seed(place.runs):
        history = pd.read_csv(run / "history.csv")
        if len(history):
            frames.append(history.assign(method=run.parts[-3], held_out=run.parts[-2]))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=["method", "held_out", "epoch", *PANELS, "selected"])


def draw(histories, methods, domains):
    """Colour: held-out domain; ring: the evaluation whose weights were selected. Validation sets are those of the source domains."""
    from matplotlib.figure import Figure

    shown = [method for method in methods if method in set(histories["method"])]
    if not shown:
        raise DataError("training: none of these methods trains step by step; choose another")
    with style():
        figure = Figure(figsize=(max(WIDE * min(len(shown), 4) / 4, 3.2), 1.45 * len(PANELS) + 0.9), layout="constrained")
        axes = figure.subplots(len(PANELS), len(shown), squeeze=False, sharex="col", sharey="row" if len(shown) > 1 else False)
        for (column, label), line in zip(PANELS.items(), axes, strict=True):
            factor = 100 if column == "val_auc" else 1
            for axis, method in zip(line, shown, strict=True):
                for number, domain in enumerate(domains):
                    rows = histories[(histories["method"] == method) & (histories["held_out"] == domain)]
                    colour = COLOURS[number % len(COLOURS)]
                    axis.plot(rows["epoch"], factor * rows[column], color=colour, linewidth=0.9, marker=".", markersize=3, label=domain)
                    chosen = rows[rows["selected"]]
                    ring = {"s": 22, "facecolors": "none", "edgecolors": colour, "linewidths": 0.9}
                    axis.scatter(chosen["epoch"], factor * chosen[column], **ring, zorder=3)
            line[0].set_ylabel(label)
        for axis, method in zip(axes[0], shown, strict=True):
            axis.set_title(method)
        for axis in axes[-1]:
            axis.set_xlabel("epochs")
        figure.legend(
            *axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False,
            title="held-out domain (ring: selected checkpoint)", title_fontsize=7,
        )  # fmt: skip
        suptitle(figure, domains, "training curves, one seed")
    return figure
