"""Figures of the multimodal system: recall beside its ceiling, and grades where a modality is missing."""

import numpy as np
import pandas as pd

from clipdr.multimodal.evaluation.leaky_protocol import LEAKY
from clipdr.report.figures.style import COLOURS, style, titled


def recall_figure(rows, leaky, synthetic):
    """Strict text-to-image R@1 of every mode beside its ceiling; leaky bars stand apart, under a title that says so."""
    from matplotlib.figure import Figure

    honest = [
        row
        for row in rows
        if row["direction"] == "text_to_image" and row["mode"] in ("dual", "rerank")
    ]
    leaky = [row for row in leaky if row["direction"] == "text_to_image"]
    with style():
        figure = Figure(figsize=(7.2, 3.0), layout="constrained")
        panels = figure.subplots(
            1, 2, sharey=True, width_ratios=[max(len(honest), 2), max(len(leaky), 2)]
        )
        for axis, some, title in zip(
            panels,
            (honest, leaky),
            ("Honest: one tower per vector", f"{LEAKY}: fused_paper,\nnot retrieval"),
            strict=True,
        ):
            at = np.arange(len(some))
            ceiling = [100 * row.get("honest_ceiling_1", row["ceiling_1"]) for row in some]
            axis.bar(
                at,
                [100 * row["recall_1"] for row in some],
                0.55,
                color="#A3262A" if some is leaky else COLOURS[0],
            )
            axis.hlines(
                ceiling,
                at - 0.35,
                at + 0.35,
                color="black",
                linewidth=1,
                label="ceiling of these texts",
            )
            axis.set_xticks(at, [f"{row['model']}\n{row['mode']}" for row in some])
            axis.set_title(title, color="#A3262A" if some is leaky else "black")
        panels[0].set_ylabel("strict text to image R@1 (%)")
        handles, labels = panels[0 if honest else 1].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", frameon=False)
        titled(figure, "recall beside its ceiling", synthetic)
    return figure


def curve_figure(rows, synthetic):
    """QWK of both scales against the share of test eyes without a modality."""
    from matplotlib.figure import Figure

    rows = pd.DataFrame(rows)
    with style():
        figure = Figure(figsize=(6.4, 2.4), layout="constrained")
        axis = figure.subplots()
        for number, ((model, modality, scale), part) in enumerate(
            rows.groupby(["model", "modality", "scale"])
        ):
            axis.plot(
                100 * part["share"], 100 * part["qwk"], marker="o", markersize=3, color=COLOURS[number % len(COLOURS)],
                label=f"{model}, {scale.upper()}, {modality} absent",
            )  # fmt: skip
        axis.set_xlabel("test eyes without the modality (%)")
        axis.set_ylabel("QWK x 100")
        figure.legend(loc="outside right center", frameon=False, fontsize=6)
        titled(figure, "grades where a modality is missing", synthetic)
    return figure
