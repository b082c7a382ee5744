"""Figures of the report, embedded as data URIs.

Input: {name}.png and {name}.svg of a folder, as clipdr.report.figures.style writes them. Output:
plain values.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from PIL import Image

from clipdr.report import html
from clipdr.report.figures import catalog

VECTOR = 300 * 2**10  # bytes: a larger SVG is embedded as PNG


class Figure(NamedTuple):
    """A figure of the report.

    Attributes:
        name: Name of its files.
        source: Data URI, None where the file is missing.
        width: Width of the PNG in pixels.
        height: Height of the PNG in pixels.
        alt: Alternative text.
        caption: Text below the figure.
    """

    name: str
    source: str | None
    width: int
    height: int
    alt: str
    caption: str


def figure(folder: Path, name: str, count: str) -> Figure:
    """Embed a figure of `clipdr figure`.

    Args:
        folder: Folder of figures.
        name: A name of the catalogue of figures.
        count: Sentence on the number of images, added to the caption of a figure over all test
            images.

    Raises:
        DataError: If no figure has this name.
    """
    module = catalog.module(name)
    caption = module.CAPTION
    return embedded(folder, name, caption, f"{caption} {count}" if module.COUNTED else caption)


def embedded(folder: Path, name: str, alt: str, caption: str) -> Figure:
    """Embed a figure: {name}.svg where it is there and small, else {name}.png.

    Args:
        folder: Folder of figures.
        name: Name of the files.
        alt: Alternative text.
        caption: Text below the figure.

    Returns:
        Figure; without `source` where there is no PNG.
    """
    png, svg = (Path(folder) / f"{name}{suffix}" for suffix in (".png", ".svg"))
    if not png.is_file():
        return Figure(name, None, 0, 0, alt, caption)
    with Image.open(png) as image:
        width, height = image.size
    vector = svg.is_file() and svg.stat().st_size <= VECTOR
    kind, path = ("svg+xml", svg) if vector else ("png", png)
    return Figure(name, html.data_uri(kind, path.read_bytes()), width, height, alt, caption)
