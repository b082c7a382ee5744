"""HTML of the data report: a file, and the fragment that the report of a study shows.

Input: the table of counts, a summary per domain, and the folder of the figures. Output: HTML;
figures are embedded.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

from clipdr.report import html
from clipdr.report.tables import views
from clipdr.report.tables.table import Table
from clipdr.report.tables.views import Cell, View

SHOWN = 20  # rejected files and sizes listed; the rest is counted
HEADS = (
    "Domain",
    "Images",
    "Patients",
    "Rejected",
    "Flagged",
    "Sizes",
    "Measured",
    "Sharpness",
    "Brightness",
    "Over %",
    "Under %",
)


class Summary(NamedTuple):
    """Facts of one domain.

    Attributes:
        name: Domain.
        facts: Title and what else is known of the data set.
        synthetic: Whether its images are synthetic.
        images: Number of prepared images.
        patients: Number of known patients, or "unknown".
        sizes: Sizes of the files with their number of images, the most frequent first.
        flagged: Images with a flag.
        flags: Flags with their number of images.
        rejected: (image, reason) of every rejected file.
        measured: Images whose quality was measured.
        quality: Medians of the measures of quality, as printed.
    """

    name: str
    facts: list[str]
    synthetic: bool
    images: int
    patients: str
    sizes: list[str]
    flagged: int
    flags: list[str]
    rejected: list[tuple[str, str]]
    measured: int
    quality: list[str]


def page(fragment: Markup) -> str:
    """Make the HTML file of the data report around its fragment."""
    return html.document("Data report", Markup("<main>\n{}</main>").format(fragment))


def fragment(
    table: Table, summaries: Sequence[Summary], folder: Path, with_images: bool = True
) -> Markup:
    """Render the data report as one section.

    Args:
        table: Of the counts.
        summaries: Of the domains, in order.
        folder: With samples_DOMAIN.png and quality.png.
        with_images: False leaves the sample sheets out.
    """
    sheets = {
        summary.name: html.file_uri(folder / f"samples_{summary.name}.png")
        for summary in summaries
        if with_images
    }
    return html.render(
        "data_report.html",
        counts=views.of_table(table),
        overview=overview(summaries),
        rejected={summary.name: rejected(summary) for summary in summaries},
        quality=html.file_uri(folder / "quality.png"),
        sheets=sheets,
        summaries=summaries,
        images=sum(summary.images for summary in summaries),
        synthetic=[summary.name for summary in summaries if summary.synthetic],
        limit=SHOWN,
    )


def overview(summaries: Sequence[Summary]) -> View:
    """One row per domain: numbers of images and patients, and medians of image quality."""
    body = []
    for summary in summaries:
        numbers = (
            summary.images,
            len(summary.rejected),
            summary.flagged,
            len(summary.sizes),
            summary.measured,
        )
        images, *others = (Cell(str(number), number=number) for number in numbers)
        measures = [Cell(text, number=_number(text)) for text in summary.quality]
        patients = Cell(summary.patients, number=_number(summary.patients))
        body.append([Cell(summary.name), images, patients, *others, *measures])
    caption = (
        "Images, and medians of their quality inside the disc at the stored size. "
        "Images whose disc is unknown are not measured."
    )
    return View(caption, HEADS, body)


def rejected(summary: Summary) -> View:
    """The rejected files of a domain with their reasons, the first SHOWN of them."""
    number = len(summary.rejected)
    caption = f"{number} rejected."
    if number > SHOWN:
        caption += f" The first {SHOWN}; all are in data/rejected/{summary.name}.csv."
    body = [[Cell(image), Cell(reason)] for image, reason in summary.rejected[:SHOWN]]
    return View(caption, ("Rejected image", "Reason"), body, wraps=True)


def _number(text: str) -> float | None:
    """Number of a printed value, None for a word."""
    try:
        return float(text)
    except ValueError:
        return None
