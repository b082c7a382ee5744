"""Report of a study: one HTML file that opens offline.

Input: tables, figures, comparisons, scores, leakage and data of RESULTS, manifests and stores of
DATA, run folders and docs/deviations.md. Output: RESULTS/report.html, without a date or a path of
this machine, so that equal results give an equal file. No model is loaded. All text is escaped; the
file's policy forbids every request and every script but its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clipdr.artifacts import run_folder
from clipdr.artifacts.files import write_text
from clipdr.data.manifest import read_manifest
from clipdr.report import html
from clipdr.report.page import content, sections
from clipdr.report.page.study_facts import Study

LIMIT = 15 * 2**20  # bytes that the file should stay under
TITLE = "Grading of diabetic retinopathy on unseen hospitals"


def write(
    path: Path | str,
    folders: Sequence[Path],
    *,
    tables: Sequence[str],
    figures: Sequence[str],
    domains: Sequence[str],
    data: Path | str,
    deviations: Path | str,
    reference: str = "",
    gallery: int = 4,
    further: Sequence[Path] = (),
) -> int:
    """Write the report.

    Args:
        path: HTML file, in the folder of results.
        folders: Run folders, in the order of the tables.
        tables: Names of the tables, in order; the first one is the main table.
        figures: Names of the figures, in order.
        domains: Domains of the study.
        data: Folder with manifests/, store/ and rejected/.
        deviations: Markdown file that lists the deviations.
        reference: Method whose largest errors and headline numbers are shown; the last method where
            it was not run.
        gallery: Images per held-out domain, the largest error first. 0 leaves every image out, also
            those of the data report.
        further: section.json of the sections of sister systems (clipdr.report.page.sections).

    Returns:
        Size of the file in bytes.

    Raises:
        DataError: If a run, a manifest or a score is missing or damaged, or a name is unknown. A
            table or figure whose file is missing is named in the report.
    """
    runs = [run_folder.read_run(folder) for folder in folders]
    methods = list(dict.fromkeys(run.method for run in runs))
    reference = reference if reference in methods else methods[-1]
    held = list(dict.fromkeys(run.held_out for run in runs if run.protocol == runs[0].protocol))
    data = Path(data)
    manifests = {name: read_manifest(data / "manifests" / f"{name}.csv") for name in domains}
    study = Study(Path(path).parent, data, runs, manifests, held, reference)
    collected = content.collect(study, tables, figures, Path(deviations), gallery)
    extra = [sections.read(section, gallery > 0) for section in further]
    text = render(collected | {"further": extra})
    write_text(path, text)
    return len(text.encode())


def render(collected: Mapping[str, Any]) -> str:
    """Render the report from its content."""
    body = html.render("page.html", title=TITLE, **collected)
    return html.document(f"{TITLE}: report", body, script=True)
