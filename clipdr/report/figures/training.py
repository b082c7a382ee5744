"""Training curves: loss of training and source validation, and validation AUC, over the epochs; one line per run.

Input: history.csv of the runs, lowest seed. Output: one column of panels per method that trains step by step.
"""

import pandas as pd

from clipdr import DataError
from clipdr.artifacts.run_folder import RunFolder, first_seed
from clipdr.report.figures.style import COLOURS, WIDE, domain_kind, domain_label, style, suptitle

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


def read(inputs):
    """history.csv rows of every run with its method and held_out; runs without steps have none."""
    frames = []
    for run in first_seed(inputs.runs):
        history = pd.read_csv(run / "history.csv")
        if len(history):
            frames.append(
                history.assign(method=RunFolder(run).method, held_out=RunFolder(run).held_out)
            )
    return (
        pd.concat(frames, ignore_index=True)
        if frames
        else pd.DataFrame(columns=["method", "held_out", "epoch", *PANELS, "selected"])
    )


def plot(histories, methods, domains):
    """Colour: held-out domain; ring: the evaluation whose weights were selected. Validation sets are those of the source domains."""
    from matplotlib.figure import Figure

    shown = [method for method in methods if method in set(histories["method"])]
    if not shown:
        raise DataError("training: none of these methods trains step by step; choose another")
    columns, blocks = min(len(shown), COLUMNS), -(-len(shown) // COLUMNS)
    with style():
        size = (max(WIDE * min(columns, 4) / 4, 3.2), (1.45 * len(PANELS) + 0.2) * blocks + 0.7)
        figure = Figure(figsize=size, layout="constrained")
        share = "row" if len(shown) > 1 else False
        axes = figure.subplots(len(PANELS) * blocks, columns, squeeze=False, sharey=share)
        for axis in axes[len(PANELS) * (blocks - 1) :, len(shown) - columns * (blocks - 1) :].flat:
            axis.set_visible(False)
        for number, method in enumerate(shown):
            block, column = divmod(number, columns)
            lines = axes[len(PANELS) * block : len(PANELS) * (block + 1), column]
            _panels(lines, histories[histories["method"] == method], domains)
            lines[0].set_title(method)
            lines[-1].set_xlabel("epochs")
            for axis, title in zip(lines, PANELS.values(), strict=True):
                axis.set_ylabel(title if column == 0 else "")
        figure.legend(
            *axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False,
            title=f"{domain_kind(domains)} (ring: selected checkpoint)", title_fontsize=7,
        )  # fmt: skip
        suptitle(figure, domains, "training curves, one seed")
    return figure


def _panels(axes, rows, domains):
    """The curves of one method, a panel below the other."""
    for axis, column in zip(axes, PANELS, strict=True):
        factor = 100 if column == "val_auc" else 1
        for number, domain in enumerate(domains):
            part = rows[rows["held_out"] == domain]
            colour = COLOURS[number % len(COLOURS)]
            axis.plot(
                part["epoch"],
                factor * part[column],
                color=colour,
                linewidth=0.9,
                marker=".",
                markersize=3,
                label=domain_label(domain),
            )
            chosen = part[part["selected"].astype(bool)]
            ring = {"s": 22, "facecolors": "none", "edgecolors": colour, "linewidths": 0.9}
            axis.scatter(chosen["epoch"], factor * chosen[column], **ring, zorder=3)
        if column != list(PANELS)[-1]:
            axis.tick_params(labelbottom=False)
