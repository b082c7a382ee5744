"""FIGURES: what the scores and the similarities look like, readable in print at the width of a text column.

Input: predictions of the runs (similarity) or averages of `evaluate.average` (scores_by_domain). Output: matplotlib Figures, written as PNG
and PDF that are equal byte for byte whenever the numbers are equal.
"""

from contextlib import contextmanager
from pathlib import Path

import numpy as np

from clipdr import GRADES, DataError
from clipdr.evaluate import AVERAGE, HEADLINE
from clipdr.files import replacing
from clipdr.predictions import LOGITS
from clipdr.tables import STYLES, is_synthetic

WIDTH = 4.8  # inches, the text width of a proceedings page; 7 points stay legible there
FORMATS = {".png": {"Software": None}, ".pdf": {"CreationDate": None, "Producer": None, "Creator": None}}  # suffix -> metadata left out
MARKERS = "osD^vXph<>"
# Okabe and Ito (2008) without yellow, which is lost in print, and three more
COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#8C510A", "#7F7F7F", "#332288"]
RC = {
    "font.family": "DejaVu Sans", "font.size": 7, "axes.titlesize": 8, "axes.labelsize": 7, "xtick.labelsize": 7, "ytick.labelsize": 7,
    "legend.fontsize": 7, "axes.linewidth": 0.6, "grid.linewidth": 0.4, "pdf.fonttype": 42, "svg.hashsalt": "clipdr", "savefig.dpi": 200,
}  # fmt: skip

SIMILARITY_COLUMNS = ["method", "held_out", "seed", "selection", "split", "grade", *LOGITS, "scale"]  # all that `similarity` reads


@contextmanager
def style():
    """The look of every figure, as a context."""
    import matplotlib as mpl
    import seaborn as sns

    with mpl.rc_context(sns.axes_style("whitegrid") | RC):
        yield


def similarity_matrix(predictions):
    """Mean cosine of the test images of each true grade with the text of each grade (Yu et al., 2024, fig. 3), selected checkpoint.

    predictions : rows of one run, with `scale`
    returns       (5, 5) float64, rows = true grade (NaN without images), columns = grade of the text; None for a method without texts
    """
    rows = predictions[(predictions["split"] == "test") & (predictions["selection"] == HEADLINE)]
    if rows.empty or rows["scale"].isna().any():
        return None
    cosine = rows[LOGITS].to_numpy(np.float64) / rows["scale"].to_numpy(np.float64)[:, None]
    grade = rows["grade"].to_numpy()
    return np.stack([cosine[grade == g].mean(axis=0) if (grade == g).any() else np.full(len(GRADES), np.nan) for g in range(len(GRADES))])


def wrong_order(matrix):
    """Adjacent pairs of texts in the wrong order: in row g the cosine must fall with each step away from g.

    matrix  : (5, 5), rows = true grade; a pair with NaN is not counted
    returns   wrong pairs, pairs compared (20 when all are defined)
    """
    steps = np.diff(matrix, axis=1)  # (5, 4): from text k to text k + 1
    towards = np.arange(len(GRADES) - 1)[None, :] < np.arange(len(GRADES))[:, None]
    return int((np.where(towards, steps <= 0, steps >= 0) & ~np.isnan(steps)).sum()), int((~np.isnan(steps)).sum())


def mean_similarity(runs, methods, domains):
    """Unweighted mean of the runs' similarity matrices over the held-out domains, lowest seed.

    runs    : iterable of frames, predictions of one run each; only the columns of `SIMILARITY_COLUMNS` are read
    returns   {method: (5, 5)} for those of `methods`, in order, that have texts; a cell undefined in one domain is undefined in the mean
    """
    found = {}
    for predictions in runs:
        method, held_out, seed = predictions[["method", "held_out", "seed"]].iloc[0]
        matrix = similarity_matrix(predictions) if method in methods and held_out in domains else None
        if matrix is not None and seed <= found.get((method, held_out), (seed, None))[0]:
            found[method, held_out] = seed, matrix
    result = {}
    for method in methods:
        present = [domain for domain in domains if (method, domain) in found]
        if present and len(present) < len(domains):
            raise DataError(
                f"similarity: {method} was not run on {', '.join(d for d in domains if d not in present)}; train it or leave it out"
            )
        if present:
            result[method] = np.mean([found[method, domain][1] for domain in domains], axis=0)
    return result


def similarity(runs, methods, domains):
    """Panels side by side, one per method with texts: mean cosine by true grade (rows) and text (columns). See `mean_similarity`."""
    import seaborn as sns
    from matplotlib.figure import Figure

    matrices = mean_similarity(runs, methods, domains)
    if not matrices:
        raise DataError("similarity: none of the methods compares images with texts; choose methods with prompts")
    low, high = (limit([limit(matrix) for matrix in matrices.values()]) for limit in (np.nanmin, np.nanmax))
    columns = min(len(matrices), 2)
    rows = -(-len(matrices) // columns)
    with style():
        figure = Figure(figsize=(WIDTH * (0.1 + 0.45 * columns), 2.35 * rows + 0.2), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False)
        for axis in axes.flat[len(matrices) :]:
            axis.set_visible(False)
        for axis, (method, matrix) in zip(axes.flat, matrices.items(), strict=False):
            text = np.vectorize(lambda value: "n/a" if np.isnan(value) else f"{value:.3f}", otypes=[object])(matrix)
            look = {"vmin": low, "vmax": high, "cmap": "crest", "cbar": False, "square": True, "linewidths": 0.5}
            sns.heatmap(matrix, ax=axis, annot=text, fmt="", annot_kws={"size": 7}, **look)
            for g in range(len(GRADES)):
                axis.add_patch(_frame(g))
            for row, column in np.argwhere(np.isnan(matrix)):  # the heat map leaves masked cells blank
                axis.text(column + 0.5, row + 0.5, "n/a", ha="center", va="center", size=7)
            wrong, pairs = wrong_order(matrix)
            axis.set_title(method)
            axis.set_xlabel(f"grade of the text\nmisordered adjacent pairs: {wrong} of {pairs}")
            axis.set_ylabel("true grade")
            axis.tick_params(length=0)
            axis.grid(visible=False)
        bar = figure.colorbar(axes.flat[0].collections[0], ax=axes, shrink=0.7, aspect=18, pad=0.02)
        bar.set_label("mean cosine")
        bar.outline.set_visible(False)
        suptitle(figure, domains, f"mean of {len(domains)} held-out domain{'s' if len(domains) > 1 else ''}", "\n" if columns == 1 else " ")
    return figure


def _frame(g):
    """The outline that marks the text of the true grade."""
    from matplotlib.patches import Rectangle

    return Rectangle((g + 0.04, g + 0.04), 0.92, 0.92, fill=False, edgecolor="#FFB000", linewidth=1.2)


def scores_by_domain(averages, methods, domains, metrics=("auc", "qwk")):
    """One panel per metric: mean over seeds with its 95 % interval, by held-out domain and their average, one colour per method.

    averages : one protocol and selection, as `evaluate.average` returns them; a cell not run or undefined has no mark
    """
    from matplotlib.figure import Figure

    known = averages.set_index(["method", "held_out", "metric"])
    if known.index.has_duplicates:
        raise DataError("scores_by_domain: averages of several protocols or selections; choose one")
    places = [*domains, AVERAGE]
    offset = (np.arange(len(methods)) - (len(methods) - 1) / 2) * 0.8 / max(len(methods), 4)
    with style():
        width = WIDTH if len(places) * len(methods) <= 60 else 1.5 * WIDTH
        figure = Figure(figsize=(width, 1.9 * len(metrics) + 0.7), layout="constrained")
        axes = figure.subplots(len(metrics), 1, sharex=True, squeeze=False)[:, 0]
        for axis, metric in zip(axes, metrics, strict=True):
            factor = STYLES[metric].factor
            for index, method in enumerate(methods):
                at = [place for place in range(len(places)) if (method, places[place], metric) in known.index]
                cells = factor * np.array(
                    [known.loc[(method, places[place], metric), ["mean", "low", "high"]] for place in at], float
                ).reshape(-1, 3)
                error = np.abs(cells[:, 1:] - cells[:, :1]).T
                axis.errorbar(
                    np.array(at) + offset[index], cells[:, 0], yerr=error, label=method, color=COLOURS[index % len(COLOURS)],
                    marker=MARKERS[index % len(MARKERS)], markersize=3.8, linestyle="none", elinewidth=0.9, markeredgewidth=0,
                )  # fmt: skip
            for between in range(len(domains)):
                axis.axvline(between + 0.5, color="0.4" if between == len(domains) - 1 else "0.88", linewidth=0.6)
            axis.grid(axis="x", visible=False)
            axis.set_ylabel(f"{STYLES[metric].title} (%)" if factor == 100 else STYLES[metric].title)
            axis.set_xlim(-0.55, len(places) - 0.45)
        _mark_places(axes[-1], averages[averages["metric"].isin(metrics)], places)
        handles = axes[0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", ncols=min(len(methods), 4), frameon=False)
        suptitle(figure, domains, "held-out domains with 95 % bootstrap intervals")
    return figure


def _mark_places(axis, averages, places):
    """Names of the places below the axis; a sign at those whose intervals need a word, and that word."""
    without = averages["mean"].notna() & averages["low"].isna() & (averages["resamples"] > 0)
    signs = {
        "*": (set(averages.loc[averages["unit"] != "patient", "held_out"]), "patients unknown, resampled by image: interval too narrow"),
        "†": (set(averages.loc[without, "held_out"]), "an interval is missing: undefined in over 5 % of the resamples (a rare grade)"),
    }
    used = {sign: (names, word) for sign, (names, word) in signs.items() if names}
    axis.set_xticks(
        range(len(places)), [_two_lines(name) + "".join(s for s, (names, _) in used.items() if name in names) for name in places]
    )
    axis.set_xlabel("\n".join(f"{sign} {word}" for sign, (_, word) in used.items()))


def _two_lines(name):
    """SIM_APTOS on two lines, so that six names stand side by side at 7 points."""
    return name.replace("_", "_\n", 1) if len(name) > 6 and "_" in name else name


def suptitle(figure, domains, text, gap=" "):
    """The title; for drawn images it begins with SYNTHETIC, in a colour no reader overlooks."""
    synthetic = any(map(is_synthetic, domains))
    shown = f"SYNTHETIC images:{gap}{text}" if synthetic else text[0].upper() + text[1:]
    figure.suptitle(shown, fontsize=8, fontweight="bold" if synthetic else "normal", color="#A3262A" if synthetic else "black")


# name of the file -> f(source, methods, domains) -> Figure; the source is what READS names
FIGURES = {"similarity": similarity, "scores_by_domain": scores_by_domain}
READS = {"similarity": "predictions", "scores_by_domain": "averages"}


def write(figure, name, folder, suffixes=tuple(FORMATS)):
    """Writes {name}.png (200 dpi) and {name}.pdf into the folder, without dates or versions, each beside its final name first."""
    import matplotlib as mpl

    with mpl.rc_context(RC):
        for suffix in suffixes:
            with replacing(Path(folder) / f"{name}{suffix}") as path:
                figure.savefig(path, metadata=FORMATS[suffix])
