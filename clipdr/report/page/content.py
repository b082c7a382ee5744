"""Content of the report: all that its template shows, by name.

Input: a study: runs, manifests, and the files of its folder of results. Output: views, figures,
facts and sentences.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from clipdr import GRADES
from clipdr.artifacts import run_folder
from clipdr.data.domains import is_synthetic
from clipdr.evaluation import aggregate, schema
from clipdr.report import checklist, data_report
from clipdr.report.checklist import Fact
from clipdr.report.figures import catalog as figure_catalog
from clipdr.report.page import (
    deviations,
    error_gallery,
    images,
    layout,
    placement,
    run_tables,
    similarity,
    study_facts,
    study_tables,
)
from clipdr.report.page.images import Figure
from clipdr.report.page.study_facts import Study
from clipdr.report.tables import table as table_module
from clipdr.report.tables import views
from clipdr.report.tables.notes import remarks
from clipdr.report.tables.views import View

SUMMARY_FIGURES = ("scores_by_domain", "similarity", "differences")
NOTHING = "No table or figure of this section was requested (config.yaml: tables, figures)."


def collect(
    study: Study,
    tables: Sequence[str],
    figures: Sequence[str],
    deviations_path: Path,
    gallery: int,
) -> dict[str, Any]:
    """Collect all that the template shows.

    Args:
        study: The study.
        tables: Names of the tables, in order; the first one is the main table.
        figures: Names of the figures, in order. Without a gallery those that show single images are
            left out.
        deviations_path: Markdown file that lists the deviations.
        gallery: Images per held-out domain.

    Returns:
        Values by name. A missing table or figure is a sentence in `missing`.
    """
    figures = [name for name in figures if gallery or not figure_catalog.module(name).PER_IMAGE]
    scores = aggregate.collect([run.folder for run in study.runs])
    shown_tables = {name: _table(study.results / "tables", name) for name in tables}
    count = image_count(study, scores)
    shown_figures = {
        name: images.figure(study.results / "figures", name, count) for name in figures
    }
    tables_of, folded = computed(study, scores)
    for section, names in placement.by_section(tables, placement.table_section).items():
        written = [view for name in names if (view := shown_tables[name]) is not None]
        tables_of[section] = written + tables_of[section]
    figures_of = {
        section: [shown_figures[name] for name in names if shown_figures[name].source]
        for section, names in placement.by_section(figures, placement.figure_section).items()
    }
    content = _from_files(study, deviations_path, gallery)
    facts = study_facts.of_study(study) | study_facts.of_report(study, content, figures_of)
    missing = _missing(shown_tables, shown_figures)
    for section in placement.requested_sections():
        matrices = section == "similarity" and content["matrices"]
        if not (tables_of[section] or figures_of[section] or missing[section] or matrices):
            missing[section] = [NOTHING]
    summary_figures = [shown_figures[name] for name in SUMMARY_FIGURES if name in shown_figures]
    return (
        content
        | _identity(study)
        | _checklists(facts)
        | {
            "sections": layout.SECTIONS,
            "views": tables_of,
            "folded": folded,
            "figures": figures_of,
            "missing": missing,
            "headline": shown_tables[tables[0]] if tables else None,
            "summary_figures": [figure for figure in summary_figures if figure.source],
            "summary": study_facts.summary(study, facts),
            "with_images": gallery > 0,
        }
    )


def _table(folder: Path, name: str) -> View | None:
    """A written table, None where its JSON is missing."""
    table = table_module.read(folder / f"{name}.json")
    return None if table is None else views.of_table(table)


def _from_files(study: Study, deviations_path: Path, gallery: int) -> dict[str, Any]:
    """Similarity matrices, largest errors of the reference, data report and deviations."""
    runs = [run for run in study.runs if run.method == study.reference]
    store, folder = study.data / "store", study.results / "data"
    return {
        "matrices": similarity.similarities(study.runs),
        "gallery": error_gallery.errors(runs, study.manifests, store, gallery),
        "data_report": data_report.data_report(folder, study.data, study.manifests, gallery > 0),
        "deviations": deviations.read(deviations_path),
    }


def _missing(
    tables: Mapping[str, View | None], figures: Mapping[str, Figure]
) -> dict[str, list[str]]:
    """{section: sentences on the tables and figures that are missing}."""
    missing: dict[str, list[str]] = {section: [] for section in layout.SECTIONS}
    for name in (name for name, view in tables.items() if view is None):
        missing[placement.table_section(name)].append(
            f"results/tables/{name}.json is missing: run `clipdr table {name}`."
        )
    for name in (name for name, figure in figures.items() if not figure.source):
        missing[placement.figure_section(name)].append(
            f"results/figures/{name}.png is missing: run `clipdr figure {name}`."
        )
    return missing


def _identity(study: Study) -> dict[str, Any]:
    """Protocols, domains and commits of a study."""
    return {
        "protocols": {
            protocol: layout.PROTOCOLS.get(protocol, protocol)
            for protocol in run_folder.by_protocol(study.runs)
        },
        "domains": run_tables.domains(study.manifests),
        "synthetic": [name for name in study.manifests if is_synthetic(name)],
        "real": [name for name in study.manifests if not is_synthetic(name)],
        "reference": study.reference,
        "commits": sorted({run.provenance["commit"] or "unknown" for run in study.runs}),
        "grades": GRADES,
    }


def _checklists(facts: Mapping[str, Fact]) -> dict[str, Any]:
    """Answers of both checklists, their counts by status, and their sources."""
    answers = {
        "tripod": checklist.answer(checklist.TRIPOD, facts),
        "claim": checklist.answer(checklist.CLAIM, facts),
    }
    return {
        "answers": answers,
        "counts": {name: checklist.counted(items) for name, items in answers.items()},
        "sources": {"tripod": checklist.TRIPOD_SOURCE, "claim": checklist.CLAIM_SOURCE},
    }


def image_count(study: Study, scores: pd.DataFrame) -> str:
    """Sentence on the number of test images of the figures, those of the first protocol."""
    protocol = study.runs[0].protocol
    averages = aggregate.average(
        scores[(scores["protocol"] == protocol) & scores["held_out"].isin(study.held)]
    )
    n = int(averages.loc[averages["held_out"] == schema.AVERAGE, "n"].max())
    if protocol == "esdg":
        return (
            f"n = {n:,} test images, each tested once for every other one of the "
            f"{len(study.held)} source domains."
        )
    return f"n = {n:,} test images of {len(study.held)} held-out domains."


def computed(
    study: Study, scores: pd.DataFrame
) -> tuple[dict[str, list[View]], dict[str, list[View]]]:
    """Tables that the report computes, per protocol where there are several.

    Returns:
        {section: tables}, and {section: tables that are folded}.
    """
    by_section: dict[str, list[View]] = {section: [] for section in layout.SECTIONS}
    folded: dict[str, list[View]] = {section: [] for section in layout.SECTIONS}
    parts = run_folder.by_protocol(study.runs)
    for protocol, runs in parts.items():
        compared = study_tables.comparisons(
            study.results / "comparisons.csv", protocol, remarks([run.folder for run in runs])
        )
        rules, steps = run_tables.selection(runs, scores[scores["protocol"] == protocol])
        if len(parts) > 1:  # each table names its protocol
            *compared, rules, steps = (
                view._replace(caption=f"{protocol}: {view.caption}")
                for view in (*compared, rules, steps)
            )
        by_section["comparisons"] += compared[:1]
        folded["comparisons"] += compared[1:]
        held = list(dict.fromkeys(run.held_out for run in runs))
        by_section["leaks"].append(study_tables.folds(study.results, protocol, held))
        by_section["selection"].append(rules)
        folded["selection"].append(steps)
    by_section["leaks"] += study_tables.leaks(study.results)
    by_section["training"].append(run_tables.settings(study.runs))
    by_section["environment"].append(run_tables.environment(study.runs))
    return by_section, folded
