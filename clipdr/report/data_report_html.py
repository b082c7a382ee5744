"""The data report as HTML: one page without a network, or the fragment of it that another page takes in.

Input: a table of counts, a summary per domain, and the folder of the figures. Output: HTML text; figures are embedded, all text is escaped.
"""

import base64
import io
from html import escape
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from clipdr.report.tables import writers

SHOWN = 20  # rejected files and sizes named on the page; the rest is counted
HEADS = [
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
]
STYLE = """
body { margin: 2rem auto; max-width: 66rem; padding: 0 1.25rem; color: #1c2430; background: #fff;
  font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
.data-report h2 { font-size: 1.6rem; margin: 0 0 .5rem; }
.data-report h3 { font-size: 1.15rem; margin: 2.5rem 0 .25rem; padding-top: 1rem; border-top: 1px solid #d8dee6; }
.data-report p { margin: .4rem 0; max-width: 50rem; }
.data-report .quiet, .data-report caption, .data-report figcaption { color: #566272; font-size: .87rem; }
.data-report .synthetic { color: #a3262a; font-weight: 600; }
.data-report .wide { overflow-x: auto; }
.data-report table { border-collapse: collapse; margin: .75rem 0; font-size: .87rem; font-variant-numeric: tabular-nums; }
.data-report caption { text-align: left; caption-side: top; padding-bottom: .35rem; }
.data-report th, .data-report td { padding: .22rem .65rem; text-align: right; white-space: nowrap; border-bottom: 1px solid #e8ecf1; }
.data-report thead th { border-bottom: 1.5px solid #7a8594; vertical-align: bottom; }
.data-report th:first-child, .data-report td:first-child, .data-report table.text td { text-align: left; }
.data-report table.text td { white-space: normal; overflow-wrap: anywhere; }
.data-report figure { margin: .75rem 0; }
.data-report img { max-width: 100%; height: auto; }
"""


class Summary(NamedTuple):
    """One domain in words. facts: title and what else is known; quality: medians, as printed; rejected: (image, reason)."""

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


def page(title, fragment):
    """A whole page around fragments."""
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    return f'<!DOCTYPE html>\n<html lang="en">\n<head>{head}<style>{STYLE}</style></head>\n<body>\n{fragment}</body>\n</html>\n'


def fragment(table, summaries, folder, photographs=True):
    """The data report without head and style (STYLE): what the report of a study takes in.

    table       : tables.Table of the counts;  folder : with samples_{D}.png and quality.png
    photographs : False leaves the sample sheets out
    """
    synthetic = [one.name for one in summaries if one.synthetic]
    warning = (
        f"SYNTHETIC: the photographs of {', '.join(synthetic)} are drawn; they say nothing about patients."
        if synthetic
        else ""
    )
    images = sum(one.images for one in summaries)
    parts = [
        f"<h2>Data</h2>\n<p>{images:,} photographs of {len(summaries)} domains, as prepared for training.</p>",
        f'<p class="synthetic">{escape(warning)}</p>' if warning else "",
        counts(table),
        overview(summaries),
        figure(folder / "quality.png", "sharpness and exposure by domain", "Box: middle half of the photographs; line: median; "
               "whiskers: 5th to 95th percentile. Sharpness is the variance of the Laplacian of the green channel."),
        *(domain(one, folder, photographs) for one in summaries),
    ]  # fmt: skip
    return "\n".join(
        ['<section class="data-report">', *(part for part in parts if part), "</section>", ""]
    )


def counts(table):
    """A tables.Table as HTML, its caption above and its notes below."""
    head, body = writers.grid(table, escape, {})
    notes = " ".join(map(escape, table.notes))
    return f'{_table(head, body, escape(table.caption))}\n<p class="quiet">{notes}</p>'


def overview(summaries):
    """One line per domain: numbers, and medians of the quality."""
    numbers = [
        (one.images, one.patients, len(one.rejected), one.flagged, len(one.sizes), one.measured)
        for one in summaries
    ]
    body = [
        [escape(str(cell)) for cell in (one.name, *first, *one.quality)]
        for one, first in zip(summaries, numbers, strict=True)
    ]
    caption = "Photographs, and medians of their quality inside the disc at the stored size; not measured where the disc is unknown."
    return _table(HEADS, body, caption)


def domain(one, folder, photographs=True):
    """The section of one domain: facts, sizes, flags, rejected files, sample sheet."""
    sizes = _first(one.sizes, "sizes")
    lines = [
        f"<h3>{escape(one.name)}</h3>",
        f'<p class="quiet">{escape(" · ".join(fact for fact in one.facts if fact))}</p>',
        f"<p>Pixels (width x height: images): {escape(sizes)}.</p>",
        f"<p>Flags: {escape(', '.join(one.flags))}.</p>" if one.flags else "",
        _rejected(one),
        figure(folder / f"samples_{one.name}.png", f"photographs of {one.name} by grade", "")
        if photographs
        else "",
    ]
    return "\n".join(line for line in lines if line)


def figure(path, alt, caption):
    """A figure, embedded as the smaller of PNG and JPEG."""
    with Image.open(path) as image:
        buffer = io.BytesIO()
        image.convert("RGB").save(buffer, "JPEG", quality=85)
    kind, content = min(
        ("jpeg", buffer.getvalue()), ("png", Path(path).read_bytes()), key=lambda pair: len(pair[1])
    )
    said = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure><img src="data:image/{kind};base64,{base64.b64encode(content).decode()}" alt="{escape(alt)}">{said}</figure>'


def _rejected(one):
    if not one.rejected:
        return "<p>No photograph was rejected.</p>"
    more = (
        f" The first {SHOWN}; all are in data/rejected/{one.name}.csv."
        if len(one.rejected) > SHOWN
        else ""
    )
    body = [[escape(cell) for cell in row] for row in one.rejected[:SHOWN]]
    return _table(
        ["Rejected photograph", "Reason"],
        body,
        escape(f"{len(one.rejected)} rejected.{more}"),
        "text",
    )


def _first(texts, what):
    return ", ".join(texts[:SHOWN]) + (
        f" and {len(texts) - SHOWN} more {what}" if len(texts) > SHOWN else ""
    )


def _table(head, body, caption, kind="numbers"):
    """head, body, caption: escaped."""
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    rows = "\n".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in body)
    table = f'<table class="{kind}"><caption>{caption}</caption>\n<thead><tr>{top}</tr></thead>\n<tbody>\n{rows}\n</tbody></table>'
    return f'<div class="wide">{table}</div>'
