"""Report of a study: complete, escaped and self-contained."""

import re
import shutil

import numpy as np
import pandas as pd
from helpers.finished_study import METHODS, NAMES, OTHER, Outline, write

from clipdr.artifacts import run_folder
from clipdr.data.manifest import read_manifest
from clipdr.report import checklist
from clipdr.report.page import content, error_gallery, layout, study_facts
from clipdr.report.tables import table, views


def manifests(root):
    """Manifests of the toy study by domain."""
    return {name: read_manifest(root / "data" / "manifests" / f"{name}.csv") for name in NAMES}


def test_sections_are_complete_and_headings_in_order(report):
    outline = Outline(report)
    sections = [
        value for tag, name, value in outline.attributes if tag == "section" and name == "id"
    ]
    assert sections == ["summary", *layout.SECTIONS]
    assert outline.headings[0] == 1
    assert outline.headings.count(1) == 1
    assert all(
        after - before <= 1
        for before, after in zip(outline.headings, outline.headings[1:], strict=False)
    )
    links = [value[1:] for tag, name, value in outline.attributes if tag == "a" and name == "href"]
    assert set(sections) <= set(links)
    assert set(links) <= {value for _, name, value in outline.attributes if name == "id"}


def test_nothing_is_active_but_its_own_script(report):
    """Markup in names, commits, options, reasons and Markdown stays text."""
    outline = Outline(report)
    assert outline.tags.count("script") == 1
    assert not [name for _, name, _ in outline.attributes if name.startswith("on")]
    assert outline.text.count("window.broken=1") > 10  # shown, as text
    sources = [
        value
        for _, name, value in outline.attributes
        if name in ("src", "srcset", "data", "action", "poster")
    ]
    assert sources
    assert all(source.startswith("data:image/") for source in sources)
    assert all(
        value.startswith(("#", "data:,")) for _, name, value in outline.attributes if name == "href"
    )
    assert "@import" not in report.read_text()
    assert "url(" not in report.read_text()


def test_every_image_has_a_text_and_every_table_a_caption(report):
    outline = Outline(report)
    alts = [value for tag, name, value in outline.attributes if tag == "img" and name == "alt"]
    assert len(alts) == outline.tags.count("img")
    assert all(len(alt) > 10 for alt in alts)
    assert (
        outline.tags.count("caption") == outline.tags.count("table") - 1
    )  # the one of the Markdown file


def test_summary_states_runs_and_synthetic_images(report):
    text = Outline(report).text
    for text_part in (
        "SYNTHETIC images.",
        "9: 3 methods, 3 held-out domains, seed 0",
        "120 images of 60 known patients",
        "not be redistributed",
    ):
        assert (text_part in text) == (text_part != "not be redistributed"), text_part


def test_real_images_carry_their_terms(study, monkeypatch):
    monkeypatch.setattr(content, "is_synthetic", lambda name: False)
    text = Outline(write(study, "real.html")).text
    assert "SYNTHETIC images." not in text.split("Summary")[0]
    assert "Real images must not be redistributed" in text


def test_gallery_zero_leaves_every_image_out(study, report):
    content = write(study, "bare.html", gallery=0).read_text()
    assert "Images were left out of this file" in content
    assert content.count("data:image/jpeg") < report.read_text().count("data:image/jpeg")
    assert 'alt="images of' not in content
    assert 'alt="Image ' not in content
    shutil.copy(
        study[0] / "results/figures/similarity.png", study[0] / "results/figures/cam.png"
    )  # a figure of single images is left out too
    assert 'alt="Grad-CAM' in write(study, "maps.html", figures=["cam"]).read_text()
    assert 'alt="Grad-CAM' not in write(study, "bare.html", figures=["cam"], gallery=0).read_text()


def test_gallery_holds_the_worst_errors(study):
    root, runs = study
    part = [run_folder.read_run(folder) for folder in runs if folder.parts[-3] == "clip_dr"]
    worst = error_gallery.errors(part, manifests(root), root / "data" / "store", 3)
    assert list(worst) == ["dg"]
    assert list(worst["dg"]) == list(NAMES)
    for name, rows in worst["dg"].items():
        predictions = pd.read_parquet(
            root / "results/runs/dg/clip_dr" / name / "0/predictions.parquet"
        )
        predictions = predictions[
            (predictions["split"] == "test") & (predictions["selection"] == "source_val")
        ]
        error = (
            (predictions["expected_grade"] - predictions["grade"])
            .abs()
            .sort_values(ascending=False)
        )
        np.testing.assert_allclose([abs(row["expected"] - row["grade"]) for row in rows], error[:3])


def test_several_protocols_have_their_own_headings(several):
    """Each protocol has its own heading; its domains are one level lower."""
    report, _ = several
    text = report.read_text()
    for section in ("similarity", "gallery"):
        part = text.split(f'<section id="{section}">')[1].split("</section>")[0]
        heads = re.findall(r"<h([34])>(.*?)</h", part)
        dg, esdg = layout.PROTOCOLS["dg"], layout.PROTOCOLS["esdg"]
        assert [title for level, title in heads if level == "3"] == [dg, esdg], section
        below = {}
        for level, title in heads:
            below.setdefault(title, []) if level == "3" else below[list(below)[-1]].append(title)
        assert [name for name in below[dg] if "mean" not in name] == list(NAMES)
        assert [name for name in below[esdg] if "mean" not in name] == [
            f"all_but_{name}" for name in NAMES
        ]
    assert "esdg: Unweighted mean" in text
    assert "dg: Unweighted mean" in text
    outline = Outline(report)
    assert all(
        after - before <= 1
        for before, after in zip(outline.headings, outline.headings[1:], strict=False)
    )
    assert (
        "n = 120 test images of 3 held-out domains" in outline.text
    )  # the figures are of the first protocol


def test_figures_of_esdg_state_their_image_count(several, study):
    runs = [folder for folder in several[1] if folder.parts[-4] == "esdg"]
    text = Outline(write((study[0], runs), "esdg.html")).text
    assert (
        "n = 120 test images, each tested once for every other one of the 3 source domains" in text
    )
    assert "mean of 3 source domains" in text
    assert "3: 1 methods, 3 source domains, seed 0" in text
    assert "held-out domains (95" not in text


def test_missing_table_or_figure_is_named(study):
    text = Outline(write(study, "less.html", tables=["dg", "dg_mae"], figures=["roc"])).text
    assert "results/tables/dg_mae.json is missing: run `clipdr table dg_mae`." in text
    assert "results/figures/roc.png is missing: run `clipdr figure roc`." in text
    assert content.NOTHING in text


def test_differing_and_unclean_commits_are_named(report):
    text = Outline(report).text
    assert "The runs are of 2 different commits" in text
    assert f"Commit {OTHER} had uncommitted changes." in text


def test_cells_and_intervals_are_those_of_the_tables(study):
    root, _ = study
    view = views.of_table(table.read(root / "results" / "tables" / "dg_auc.json"))
    tidy = pd.read_csv(root / "results" / "tables" / "dg_auc.csv")
    assert [row[0].text for row in view.body] == list(METHODS)
    cells = [cell for row in view.body for cell in row[1:]]
    assert [cell.text for cell in cells] == [f"{value:.1f}" for value in tidy["value"]]
    for cell, low, high in zip(cells, tidy["low"], tidy["high"], strict=True):
        assert cell.small == ("" if pd.isna(low) else f"{low:.1f} to {high:.1f}")
    assert [row[0].text for row in view.body if row[-1].mark == "best"] == ["clip_dr"]


def test_checklists_name_known_sections_and_facts(report, study):
    root, runs = study
    parts = [run_folder.read_run(folder) for folder in runs]
    finished = study_facts.Study(
        root / "results", root / "data", parts, manifests(root), list(NAMES), "clip_dr"
    )
    facts = study_facts.of_study(finished)
    assert {fact.section for fact in facts.values()} <= {"summary", *layout.SECTIONS}
    names = {
        *facts,
        "failures",
        "explanation",
        "deviations",
        "licences",
        "cameras",
    }  # the last two: real domains
    assert {name for item in (*checklist.TRIPOD, *checklist.CLAIM) for name in item.facts} <= names
    assert not [fact.text for fact in facts.values() if re.search(r"\bnan\b|None|\{|\}", fact.text)]
    assert "author must fill" in Outline(report).text
    assert (
        Outline(report).text.count(
            "the wording is paraphrased and shorter . Hand in the published form"
        )
        == 2
    )


def test_equal_results_give_an_equal_file(study, report):
    assert write(study, "again.html").read_bytes() == report.read_bytes()
    assert str(study[0]) not in report.read_text()
    assert "/home/" not in report.read_text()
