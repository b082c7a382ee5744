"""Common look of the figures, their titles, and how they are written.

Figures are readable in print at the width of a text column. They are written as PNG, PDF and SVG,
which are equal byte for byte whenever the numbers are equal. The names of the figures are in
`clipdr.report.figures.catalog`. An edit here makes all of them again.
"""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipdr.artifacts.files import replacing
from clipdr.data.domains import is_synthetic
from clipdr.data.protocols import HELD_OUT

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from matplotlib.figure import Figure

WIDTH = 4.8  # inches, the text width of a proceedings page; 7 points stay legible there
LETTER = 0.6  # measured width of a bold letter of a title in units of its size, with a little room
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
SOURCE = HELD_OUT["esdg"].format("")  # prefix of a source domain in the held-out name of its run
RC: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 7,
    "figure.labelsize": 7,
    "axes.titlesize": 8,
    "axes.labelsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "axes.linewidth": 0.6,
    "grid.linewidth": 0.4,
    "pdf.fonttype": 42,
    "svg.hashsalt": "clipdr",
    "savefig.dpi": 200,
}


@contextmanager
def figure_style() -> Generator[None]:
    """Apply the look of every figure inside a `with` block."""
    import matplotlib as mpl
    import seaborn as sns

    rc: dict[Any, Any] = sns.axes_style("whitegrid") | RC
    with mpl.rc_context(rc):
        yield


def colour_and_marker(number: int) -> tuple[str, str]:
    """Return colour and marker of the method of a number; the first hundred pairs all differ."""
    marker = MARKERS[(number + number // len(COLOURS)) % len(MARKERS)]
    return COLOURS[number % len(COLOURS)], marker


def domain_label(held_out: str) -> str:
    """Return what a run holds out as figures name it: the domain; under esdg the source domain."""
    return held_out.removeprefix(SOURCE)


def domain_kind(domains: Sequence[str]) -> str:
    """Return what the domains of a figure are: "held-out domain", under esdg "source domain"."""
    every_source = all(name.startswith(SOURCE) for name in domains)
    return "source domain" if every_source else "held-out domain"


def two_lines(name: str) -> str:
    """Break SIM_APTOS into two lines, so that six names fit side by side at 7 points."""
    return name.replace("_", "_\n", 1) if len(name) > 6 and "_" in name else name


def set_domains_title(figure: Figure, domains: Sequence[str], text: str, gap: str = " ") -> None:
    """Set the title of a figure over some domains; see `set_title`."""
    set_title(figure, text, any(map(is_synthetic, domains)), gap)


def set_title(figure: Figure, text: str, synthetic: bool, gap: str = " ") -> None:
    """Set the title of a figure, on as many lines as it needs.

    Args:
        figure: The figure, at its final size.
        text: The title; its first letter becomes a capital where it begins the title.
        synthetic: The figure is about synthetic images: the title begins with SYNTHETIC, in bold
            red.
        gap: What separates the word from the text.
    """
    title = f"SYNTHETIC images:{gap}{text}" if synthetic else text[0].upper() + text[1:]
    figure.suptitle(
        _folded(figure, title.split("\n")),
        fontsize=8,
        fontweight="bold" if synthetic else "normal",
        color="#A3262A" if synthetic else "black",
    )


def add_caution(figure: Figure, sentences: Sequence[str]) -> None:
    """Append sentences to the title: the methods that are degenerate, as the tables state them."""
    title = next(text for text in figure.texts if text.get_text() == figure.get_suptitle())
    if sentences:
        title.set_text("\n".join([title.get_text(), _folded(figure, sentences)]))


def _folded(figure: Figure, lines: Sequence[str]) -> str:
    """Lines of a title, each on as many lines as it needs."""
    from textwrap import fill

    return "\n".join(fill(line, int(72 * figure.get_figwidth() / (8 * LETTER))) for line in lines)


def write(
    figure: Figure, name: str, folder: str | Path, suffixes: Sequence[str] = tuple(FORMATS)
) -> None:
    """Write {name}.png (200 dpi), {name}.pdf and {name}.svg, each file whole or not at all.

    Args:
        figure: The figure.
        name: Name of the files, without a suffix.
        folder: Folder of the files.
        suffixes: Formats, keys of `FORMATS`. The files hold neither dates nor versions.
    """
    import matplotlib as mpl

    with mpl.rc_context(RC):
        for suffix in suffixes:
            with replacing(Path(folder) / f"{name}{suffix}") as path:
                figure.savefig(path, metadata=FORMATS[suffix])
