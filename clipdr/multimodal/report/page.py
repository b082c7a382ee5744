"""Report of the multimodal system: retrieval with upper bounds, grades and sanity checks.

Input: files of model folders and run folders. Output: RESULTS/report.html (opens offline),
section.html (its body), section.json (its section in the report of a study), tables/ and figures/.
No model is loaded. The leaky protocol stands under its label. A recall without its upper bound and
a multimodal claim without its four controls are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from clipdr.artifacts.files import write_text
from clipdr.evaluation.operating_point import MEASURES
from clipdr.multimodal.evaluation.leaky_protocol import WHY
from clipdr.multimodal.report.content import Content, collect
from clipdr.multimodal.report.tables import as_table, printed
from clipdr.report import html
from clipdr.report.figures import style
from clipdr.report.page import sections
from clipdr.report.tables import views, writers
from clipdr.report.tables.views import View

PERCENT = "95 % intervals are over patients and stand in the CSV."
BOUND = "C_K: the largest recall that any scorer of these texts can expect."


class Layout(NamedTuple):
    """Layout of a table: columns that name a row, title of the first column, caption, notes."""

    keys: tuple[str, ...]
    corner: str
    caption: str
    notes: tuple[str, ...] = ()


WRITTEN = {  # tables that are files of their own and stand in the report of a study
    "retrieval": Layout(
        ("model", "mode", "direction", "text"),
        "Retrieval",
        "Retrieval of every mode that encodes image and text separately.",
        (PERCENT, BOUND),
    ),
    "leaky": Layout(
        ("status", "mode", "direction"),
        "Protocol",
        "LEAKY: the fused protocol. These numbers do not measure retrieval.",
    ),
    "icdr": Layout(
        ("method",), "Method", "Scores on the ICDR scale of every run and control.", (PERCENT,)
    ),
    "sdrg": Layout(
        ("method",), "Method", "Scores on the SDRG scale of every run and control.", (PERCENT,)
    ),
}
LAYOUTS = WRITTEN | {
    "checks": Layout(
        ("model", "check", "mode"),
        "Check",
        "Sanity checks K1 to K5. Unimodal modes must pass; fused_paper must fail K1 to K3.",
    ),
    "attribution": Layout(
        ("model", "modality", "scale"),
        "Model",
        "Attribution: mean change of the expected grade when one modality is masked.",
    ),
    "transfers": Layout(
        ("model", "mode", "direction", "text"),
        "Retrieval",
        "Zero-shot transfer to another data set, without structured data and without tuning.",
        (PERCENT, BOUND),
    ),
    "upper_bounds": Layout(
        ("table", "content", "part"),
        "Text",
        "Upper bounds of strict recall, by the content of the text.",
    ),
    "noise": Layout(
        ("what",),
        "Model",
        "Pairs of independent Gaussian noise, LEAKY and unimodal: unseen pairs, then the same "
        "tokens with shuffled partners.",
    ),
}
CSV_NAMES = {  # table -> name of tables/multimodal_NAME.csv
    "retrieval": "retrieval",
    "leaky": "leaky",
    "checks": "sanity_checks",
    "transfers": "transfers",
    "upper_bounds": "upper_bounds",
    "icdr": "icdr",
    "sdrg": "sdrg",
}
FIGURES = {  # name -> alternative text, caption
    "multimodal_recall": (
        "recall of each mode with its upper bound",
        "Strict text to image R@1 (%) and its upper bound (line). Right: the LEAKY fused protocol.",
    ),
    "multimodal_curves": (
        "QWK without a modality",
        "QWK x 100 against the share of test eyes (%) without the modality.",
    ),
}
NOT_RUN = (
    "zero-shot CLIP",
    "BiomedCLIP",
    "FLAIR (pre-trained on BRSET and DeepEyeNet: not zero-shot there)",
)
PUBLISHED = (
    "Published (Samanta et al., 2025, abstract): BRSET text to image R@1 99.94 %, fine-tuned CLIP "
    "1.29 %; DeepEyeNet zero-shot R@1 93.95 %, CLIP 0.22 %; accuracy ICDR 97.97 %, SDRG 97.05 %. "
    "A constant grade 0 gives 93.51 and 93.52 % on BRSET."
)
NOT_SKILL = (
    "A strict text-to-image Recall@1 of 99.94 % on BRSET exceeds the largest value that any scorer "
    "of (text, image) can reach with text built from the label table (70.3 % when every column is "
    "verbalised). We do not treat it as retrieval skill. We reach a value of that size only with "
    "the leaky fused protocol, which also scores near 100 % on noise. The abstract does not state "
    "which mechanism the authors used."
)


def write(
    folders: Sequence[Path | str],
    held_out: str,
    data: Path | str,
    results: Path | str,
    with_images: bool = True,
) -> str:
    """Write the report, its section for the report of a study, tables and figures.

    Args:
        folders: Model folders .../NAME/SEED.
        held_out: Name of the test patients in run folders.
        data: Folder of packed eye tables.
        results: Folder of results.
        with_images: Whether the examples show their images.

    Returns:
        A line about the report.

    Raises:
        DataError: If a recall lacks its upper bound, or a leaky row stands among the others.
    """
    results, models = Path(results), [Path(folder) for folder in folders]
    content = collect(models, held_out, Path(data), results, with_images)
    for name, file in CSV_NAMES.items():
        frame = pd.DataFrame(printed(content.rows[name]))
        frame = frame.assign(trained_on="SYNTHETIC" if content.synthetic else held_out)
        write_text(results / "tables" / f"multimodal_{file}.csv", frame.to_csv(index=False))
    for name, figure in content.figures.items():
        style.write(figure, name, results / "figures", (".svg", ".png"))
    write_section(results, content)
    section = html.render("section.html", Path(__file__).parent, **_values(content, results))
    write_text(results / "section.html", str(section))
    write_text(results / "report.html", html.document("clipdr: multimodal", section))
    rows = len(content.rows["retrieval"])
    return f"{results / 'report.html'}: {rows} rows of retrieval, {len(MEASURES)} measures per run"


def write_section(results: Path, content: Content) -> None:
    """Write the tables and section.json. Only report.html shows images."""
    names = [name for name in WRITTEN if content.rows[name]]
    for name in names:
        layout, rows = LAYOUTS[name], content.rows[name]
        table = as_table(name, rows, *layout[:3], synthetic=content.synthetic, notes=layout.notes)
        writers.write(table, results / "tables")
    words = []
    if content.synthetic:
        words.append("SYNTHETIC eyes: these numbers say nothing about patients.")
    words += [*_warnings(content), *(sentence for sentence, _ in content.claims)]
    words += [NOT_SKILL, PUBLISHED]
    words.append(
        "Sanity checks, upper bounds, examples, attribution and transfer: "
        f"{results.name}/report.html."
    )
    figures = {name: FIGURES[name] for name in content.figures}
    title = "Image, clinical text and structured data in one transformer"
    sections.write(results, title, words, names, figures)


def _values(content: Content, results: Path) -> dict[str, Any]:
    """Values of section.html."""
    tables = {name: _view(name, content) for name in LAYOUTS}
    return {
        "tables": tables,
        "captions": {name: layout.caption for name, layout in LAYOUTS.items()},
        "claims": [(sentence, _differences(rows)) for sentence, rows in content.claims],
        "figures": {
            name: html.data_uri("svg+xml", (results / "figures" / f"{name}.svg").read_bytes())
            for name in content.figures
        },
        "alts": {name: alt for name, (alt, _) in FIGURES.items()},
        "examples": content.examples,
        "warnings": _warnings(content),
        "synthetic": content.synthetic,
        "not_run": NOT_RUN,
        "not_skill": NOT_SKILL,
        "published": PUBLISHED,
        "why": WHY,
    }


def _view(name: str, content: Content) -> View | None:
    """View of a table, None where it has no rows."""
    layout, rows = LAYOUTS[name], content.rows[name]
    if not rows:
        return None
    return views.of_table(as_table(name, rows, *layout[:3], synthetic=False, notes=layout.notes))


def _differences(rows: Sequence[dict[str, Any]]) -> View:
    """View of the paired differences behind a claim."""
    caption = "Paired differences on the same resamples of patients."
    keys = ("difference",)
    return views.of_table(as_table("claim", rows, keys, "Difference", caption, synthetic=False))


def _warnings(content: Content) -> list[str]:
    """A sentence per model that failed a sanity check."""
    return [
        f"{name}: a sanity check failed. Its numbers are marked and must not be used."
        for name in content.broken
    ]
