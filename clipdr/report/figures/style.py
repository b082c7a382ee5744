"""FIGURES: their names, their common look and how they are written; each is drawn by the module of its name in clipdr/plots/.

Input: a Place, from which the module's `read` takes what its `draw` shows. Output: matplotlib Figures, readable in print at the width of a
text column, written as PNG, PDF and SVG that are equal byte for byte whenever the numbers are equal. An edit of one module of plots/
draws that figure again and no other; an edit here draws all of them again.
"""

from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from clipdr import DataError
from clipdr.artifacts.files import replacing
from clipdr.data.domains import is_synthetic
from clipdr.data.protocols import HELD_OUT

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
)
WIDTH = 4.8  # inches, the text width of a proceedings page; 7 points stay legible there
LETTER = 0.6  # width of a bold letter of a title in its size, measured, with a little room
WIDE = 1.5 * WIDTH  # inches, the text width of a page with one column
FORMATS = {  # suffix -> metadata left out
    ".png": {"Software": None},
    ".pdf": {"CreationDate": None, "Producer": None, "Creator": None},
    ".svg": {"Date": None, "Creator": None},
}
MARKERS = "osD^vXph<>"
# Okabe and Ito (2008) without yellow, which is lost in print, and three more
COLOURS = [
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#000000",
    "#8C510A",
    "#7F7F7F",
    "#332288",
]
SOURCE = HELD_OUT["esdg"].format("")  # before a source, in the name of what it is tested on
RC = {
    "font.family": "DejaVu Sans", "font.size": 7, "figure.labelsize": 7, "axes.titlesize": 8, "axes.labelsize": 7,
    "xtick.labelsize": 7, "ytick.labelsize": 7, "legend.fontsize": 7, "axes.linewidth": 0.6, "grid.linewidth": 0.4,
    "pdf.fonttype": 42, "svg.hashsalt": "clipdr", "savefig.dpi": 200,
}  # fmt: skip


class Place(NamedTuple):
    """What a figure may be drawn from.

    runs     : run folders .../{protocol}/{method}/{held_out}/{seed};  results : folder with comparisons.csv
    data     : folder with manifests/ and store/;  features : folder with the backbone's {domain}.npy and prompts.npz
    """

    runs: list
    results: Path
    data: Path
    features: Path


def module(name):
    """The module of clipdr/plots/ that draws a figure: read(place) -> content, draw(content, methods, domains) -> Figure."""
    if name not in FIGURES:
        raise DataError(f"figure {name!r} is unknown; known are {', '.join(FIGURES)}")
    return import_module(f"clipdr.report.figures.{name}")


@contextmanager
def style():
    """The look of every figure, as a context."""
    import matplotlib as mpl
    import seaborn as sns

    with mpl.rc_context(sns.axes_style("whitegrid") | RC):
        yield


def mark(number):
    """Colour and marker of the method of a number: no two of the first hundred have both in common."""
    return COLOURS[number % len(COLOURS)], MARKERS[(number + number // len(COLOURS)) % len(MARKERS)]


def label(held_out):
    """What a run holds out, in a figure: the domain; under esdg the source, as in the tables."""
    return held_out.removeprefix(SOURCE)


def kind(domains):
    """What the domains of a figure are: "held-out domain", under esdg "source domain"."""
    return (
        "source domain" if all(name.startswith(SOURCE) for name in domains) else "held-out domain"
    )


def two_lines(name):
    """SIM_APTOS on two lines, so that six names stand side by side at 7 points."""
    return name.replace("_", "_\n", 1) if len(name) > 6 and "_" in name else name


def suptitle(figure, domains, text, gap=" "):
    """The title of a figure of some domains, as `titled`."""
    titled(figure, text, any(map(is_synthetic, domains)), gap)


def titled(figure, text, synthetic, gap=" "):
    """The title, on as many lines as it needs; for drawn images it begins with SYNTHETIC, in a colour no reader overlooks."""
    shown = f"SYNTHETIC images:{gap}{text}" if synthetic else text[0].upper() + text[1:]
    figure.suptitle(
        _folded(figure, shown.split("\n")),
        fontsize=8,
        fontweight="bold" if synthetic else "normal",
        color="#A3262A" if synthetic else "black",
    )


def cautioned(figure, sentences):
    """Adds sentences to the title: which methods are not themselves in the figure, as the tables say."""
    title = next(text for text in figure.texts if text.get_text() == figure.get_suptitle())
    title.set_text(
        "\n".join([title.get_text(), _folded(figure, sentences)]) if sentences else title.get_text()
    )


def _folded(figure, lines):
    """Lines of a title, each on as many lines as it needs."""
    from textwrap import fill

    return "\n".join(fill(line, int(72 * figure.get_figwidth() / (8 * LETTER))) for line in lines)


def write(figure, name, folder, suffixes=tuple(FORMATS)):
    """Writes {name}.png (200 dpi), .pdf and .svg into the folder, without dates or versions, each beside its final name first."""
    import matplotlib as mpl

    with mpl.rc_context(RC):
        for suffix in suffixes:
            with replacing(Path(folder) / f"{name}{suffix}") as path:
                figure.savefig(path, metadata=FORMATS[suffix])
