"""Further sections of the report: shown as text, refused when a file is not as written."""

import json

import pandas as pd
import pytest
from helpers.finished_study import EVIL, Outline, write
from matplotlib.figure import Figure

from clipdr import DataError
from clipdr.report.figures import style
from clipdr.report.page import layout, sections
from clipdr.report.tables.table import CSV_COLUMNS, Table
from clipdr.report.tables.writers import write as write_table


@pytest.fixture
def probes(tmp_path):
    """Folder of a finished section; a cell and a paragraph hold markup."""
    folder = tmp_path / "probes"
    values = {
        "column": "Recall@1",
        "text": "61.5",
        "method": f"encoder {EVIL}",
        "mark": "best",
        "value": 61.5,
        "decimals": 1,
        "low": 58.0,
        "high": 64.9,
    }
    values |= {"n": 120, "clusters": 60, "unit": "patient", "scale": "percent", "degenerate": ""}
    cells = pd.DataFrame([values], columns=["column", "text", "decimals", *CSV_COLUMNS]).assign(
        table="recall", caption="Recall@1 (%)."
    )
    write_table(Table("recall", cells, "Recall@1 (%).", (), "Encoder"), folder / "tables")
    for name in ("curve", "faces"):
        figure = Figure(figsize=(2, 2))
        figure.subplots().plot([0, 1], [0, 1])
        style.write(figure, name, folder / "figures")
    texts = {
        "curve": ("curve of recall", "Recall (%) by rank, n = 120."),
        "faces": ("images found", "Four images."),
    }
    sections.write(
        folder, "Retrieval", [f"SYNTHETIC reports. {EVIL}"], ["recall"], texts, ["faces"]
    )
    return folder


def test_section_stands_before_the_data(study, probes):
    outline = Outline(write(study, "further.html", further=[probes / "section.json"]))
    ids = [value for tag, name, value in outline.attributes if tag == "section" and name == "id"]
    assert ids == [
        "summary",
        *(
            one
            for name in layout.SECTIONS
            for one in (["probes", name] if name == "data" else [name])
        ),
    ]
    assert ("a", "href", "#probes") in outline.attributes
    for text in (
        "Retrieval",
        f"SYNTHETIC reports. {EVIL}",
        "Recall@1 (%).",
        "58.0 to 64.9",
        "Recall (%) by rank, n = 120.",
        f"encoder {EVIL}",
    ):
        assert text in outline.text
    assert outline.tags.count("script") == 1
    assert "images found" in [value for _, name, value in outline.attributes if name == "alt"]


def test_section_without_images_names_what_is_left_out(study, probes):
    outline = Outline(write(study, "bare.html", further=[probes / "section.json"], gallery=0))
    assert "curve of recall" in [value for _, name, value in outline.attributes if name == "alt"]
    assert "faces: left out, it shows images" in outline.text
    assert "Four images" not in outline.text


def test_section_changes_with_every_file_that_it_shows(probes):
    """A file that changed since is refused."""
    before = (probes / "section.json").read_text()
    (probes / "figures" / "curve.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    with pytest.raises(DataError, match=r"curve\.svg: missing, or changed"):
        sections.read(probes / "section.json")
    sections.write(probes, "Retrieval", [], ["recall"], {"curve": ("a", "b")})
    assert (probes / "section.json").read_text() != before
    assert sections.read(probes / "section.json").figures[0].source.startswith("data:image/svg")


def test_section_without_files_or_free_name_is_refused(probes):
    with pytest.raises(DataError, match=r"mrr\.json: missing"):
        sections.write(probes, "Retrieval", [], ["mrr"])
    with pytest.raises(DataError, match="section 'leaks'"):
        sections.write(probes.parent / "leaks", "Leaks", [])
    (probes / "section.json").write_text(json.dumps({"title": "Retrieval"}))
    with pytest.raises(DataError, match="no section of a report"):
        sections.read(probes / "section.json")
