"""The report: complete, escaped, self-contained; in a real browser: quiet, without requests, sortable, usable by keyboard, on a phone."""

import base64
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from helpers.chromium import Browser, found
from helpers.finished_study import METHODS, NAMES, OTHER, Outline, read_manifest, run, write

from clipdr import GRADES
from clipdr.artifacts import run_folder
from clipdr.report import checklist
from clipdr.report.page import build
from clipdr.report.page.views import printed_table


@pytest.fixture(scope="session")
def report(study):
    return write(study)


def test_every_section_is_there_and_the_headings_are_in_order(report):
    outline = Outline(report)
    sections = [
        value for tag, name, value in outline.attributes if tag == "section" and name == "id"
    ]
    assert sections == ["summary", *build.TOPICS]
    assert outline.headings[0] == 1 and outline.headings.count(1) == 1
    assert all(
        after - before <= 1
        for before, after in zip(outline.headings, outline.headings[1:], strict=False)
    )
    links = [value[1:] for tag, name, value in outline.attributes if tag == "a" and name == "href"]
    assert set(sections) <= set(links) and set(links) <= {
        value for _, name, value in outline.attributes if name == "id"
    }


def test_nothing_in_the_file_is_active_but_its_own_script(report):
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
    assert sources and all(source.startswith("data:image/") for source in sources)
    assert all(
        value.startswith(("#", "data:,")) for _, name, value in outline.attributes if name == "href"
    )
    assert "@import" not in report.read_text() and "url(" not in report.read_text()


def test_every_picture_has_words_and_every_table_a_caption(report):
    outline = Outline(report)
    alts = [value for tag, name, value in outline.attributes if tag == "img" and name == "alt"]
    assert len(alts) == outline.tags.count("img") and all(len(alt) > 10 for alt in alts)
    assert (
        outline.tags.count("caption") == outline.tags.count("table") - 1
    )  # the one of the Markdown file


def test_the_summary_says_what_was_run_and_that_the_images_are_synthetic(report):
    text = Outline(report).text
    for said in (
        "SYNTHETIC images.",
        "9: 3 methods, 3 held-out domains, seed 0",
        "120 photographs of 60 known patients",
        "not be redistributed",
    ):
        assert (said in text) == (said != "not be redistributed"), said


def test_real_photographs_carry_their_terms(study, monkeypatch):
    monkeypatch.setattr(build, "is_synthetic", lambda name: False)
    text = Outline(write(study, "real.html")).text
    assert "SYNTHETIC images." not in text.split("Summary")[0]
    assert "Real photographs must not be redistributed" in text


def test_gallery_zero_leaves_every_photograph_out(study, report):
    content = write(study, "bare.html", gallery=0).read_text()
    assert "Photographs were left out of this file" in content
    assert content.count("data:image/jpeg") < report.read_text().count("data:image/jpeg")
    assert 'alt="photographs of' not in content and 'alt="Photograph ' not in content
    shutil.copy(
        study[0] / "results/figures/similarity.png", study[0] / "results/figures/cam.png"
    )  # a figure of photographs is left out too
    assert 'alt="Grad-CAM' in write(study, "maps.html", figures=["cam"]).read_text()
    assert 'alt="Grad-CAM' not in write(study, "bare.html", figures=["cam"], gallery=0).read_text()


def test_the_worst_errors_are_the_worst(study):
    root, runs = study
    part = [run_folder.read_run(folder) for folder in runs if folder.parts[-3] == "clip_dr"]
    worst = build.exhibits.errors(
        part, build.exhibits.read_data(root / "data", NAMES), root / "data" / "store", 3
    )
    assert list(worst) == ["dg"] and list(worst["dg"]) == list(NAMES)
    for name, rows in worst["dg"].items():
        known = pd.read_parquet(root / "results/runs/dg/clip_dr" / name / "0/predictions.parquet")
        known = known[(known["split"] == "test") & (known["selection"] == "source_val")]
        error = (known["expected_grade"] - known["grade"]).abs().sort_values(ascending=False)
        np.testing.assert_allclose([abs(row["expected"] - row["grade"]) for row in rows], error[:3])


@pytest.fixture(scope="session")
def several(study):
    """A page of two protocols, and its run folders: clip_dr under esdg beside the study's dg."""
    root, runs = study
    manifest = read_manifest(root / "data")
    more = [
        run(root / "results/runs/esdg/clip_dr" / f"all_but_{name}" / "0", manifest)
        for name in NAMES
    ]
    return write((root, [*runs, *more]), "several.html"), [*runs, *more]


def test_several_protocols_are_set_apart_by_headings(several):
    """Matrices, gallery, selection: each protocol by itself, under its own heading, the domains one level lower."""
    report, _ = several
    text = report.read_text()
    for section in ("similarity", "gallery"):
        part = text.split(f'<section id="{section}">')[1].split("</section>")[0]
        heads = re.findall(r"<h([34])>(.*?)</h", part)
        dg, esdg = build.PROTOCOLS["dg"], build.PROTOCOLS["esdg"]
        assert [said for level, said in heads if level == "3"] == [dg, esdg], section
        below = {}
        for level, said in heads:
            below.setdefault(said, []) if level == "3" else below[list(below)[-1]].append(said)
        assert [name for name in below[dg] if "mean" not in name] == list(NAMES)
        assert [name for name in below[esdg] if "mean" not in name] == [
            f"all_but_{name}" for name in NAMES
        ]
    assert "esdg: Unweighted mean" in text and "dg: Unweighted mean" in text
    outline = Outline(report)
    assert all(
        after - before <= 1
        for before, after in zip(outline.headings, outline.headings[1:], strict=False)
    )
    assert (
        "n = 120 test photographs of 3 held-out domains" in outline.text
    )  # the figures are of the first protocol


def test_what_figures_of_esdg_count_is_said(several, study):
    runs = [folder for folder in several[1] if folder.parts[-4] == "esdg"]
    text = Outline(write((study[0], runs), "esdg.html")).text
    assert (
        "n = 120 test photographs, each tested once for every other one of the 3 source domains"
        in text
    )
    assert (
        "mean of 3 source domains" in text
        and "3: 1 methods, 3 source domains, seed 0" in text
        and "held-out domains (95" not in text
    )


def test_a_missing_table_or_figure_is_said(study):
    text = Outline(write(study, "less.html", tables=["dg", "dg_mae"], figures=["roc"])).text
    assert "results/tables/dg_mae.md or .csv is missing: run clipdr table dg_mae." in text
    assert "results/figures/roc.png is missing: run clipdr figure roc." in text
    assert build.NOTHING in text


def test_differing_and_unclean_commits_are_said(report):
    text = Outline(report).text
    assert "The runs are of 2 different commits" in text
    assert f"Commit {OTHER} had changes that were not committed." in text


def test_the_printed_cells_and_intervals_are_those_of_the_tables(study):
    root, _ = study
    view = printed_table(root / "results" / "tables", "dg_auc")
    tidy = pd.read_csv(root / "results" / "tables" / "dg_auc.csv")
    assert [row[0].text for row in view.body] == list(METHODS)
    shown = [cell for row in view.body for cell in row[1:]]
    assert [cell.text for cell in shown] == [f"{value:.1f}" for value in tidy["value"]]
    for cell, low, high in zip(shown, tidy["low"], tidy["high"], strict=True):
        assert cell.small == ("" if pd.isna(low) else f"{low:.1f} to {high:.1f}")
    assert [row[0].text for row in view.body if row[-1].mark == "best"] == ["clip_dr"]


def test_the_checklists_point_to_sections_that_exist_and_name_facts_that_are_made(report, study):
    root, runs = study
    manifests = build.exhibits.read_data(root / "data", NAMES)
    parts = [run_folder.read_run(folder) for folder in runs]
    known = build.all_facts(
        build.Study(root / "results", root / "data", parts, manifests, list(NAMES), "clip_dr")
    )
    assert {fact.section for fact in known.values()} <= {"summary", *build.TOPICS}
    made = {
        *known,
        "failures",
        "explanation",
        "deviations",
        "licences",
        "cameras",
    }  # the last two: real domains
    assert {name for item in (*checklist.TRIPOD, *checklist.CLAIM) for name in item.facts} <= made
    assert not [fact.text for fact in known.values() if re.search(r"\bnan\b|None|\{|\}", fact.text)]
    assert "author must fill" in Outline(report).text
    assert (
        Outline(report).text.count(
            "the wording is paraphrased and shorter : hand in the published form"
        )
        == 2
    )


def test_equal_results_give_an_equal_file(study, report):
    assert write(study, "again.html").read_bytes() == report.read_bytes()
    assert str(study[0]) not in report.read_text() and "/home/" not in report.read_text()


# ---------------------------------------------------------------- in a browser
def choose(browser, number, held_out):
    """Choose a held-out domain for the similarity matrices of one protocol."""
    chooser = f"document.querySelectorAll('.protocol select')[{number}]"
    browser.js(
        f"(() => {{ const s = {chooser}; s.value = '{held_out}'; s.dispatchEvent(new Event('change')); }})()"
    )


needs_browser = pytest.mark.skipif(
    found() is None, reason="no Chromium: apt-get install chromium, or name one in CLIPDR_CHROMIUM"
)


@pytest.fixture(scope="module")
def browser():
    with Browser() as started:
        yield started


@needs_browser
@pytest.mark.parametrize(
    ("name", "width", "dark"), [("light", 1280, False), ("dark", 1280, True), ("phone", 400, False)]
)
def test_the_page_opens_quietly_asks_for_nothing_and_fits(
    browser, report, tmp_path, name, width, dark
):
    """No message in the console, no request but the file itself, no sideways scrolling; the pictures are left in tmp_path."""
    browser.open(report, width, dark=dark)
    browser.js("Promise.all([...document.images].map((image) => image.decode()))")
    browser.picture(tmp_path / f"{name}.png")
    assert browser.complaints() == []
    assert browser.requests() == [report.resolve().as_uri()]
    assert browser.js("window.broken") is None
    assert browser.js("document.documentElement.scrollWidth") <= width
    assert (
        browser.js(
            "[...document.querySelectorAll('main > section')].filter((one) => one.getBoundingClientRect().height < 40).length"
        )
        == 0
    )
    background = browser.js("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(18, 22, 28)") == dark
    assert (tmp_path / f"{name}.png").stat().st_size > 10_000


@needs_browser
def test_the_page_is_small_and_loads_in_two_seconds_of_work(browser, report):
    browser.open(report)
    browser.call("Performance.enable")
    spent = {one["name"]: one["value"] for one in browser.call("Performance.getMetrics")["metrics"]}
    assert spent["TaskDuration"] < 2
    assert report.stat().st_size < build.LIMIT


@needs_browser
def test_tables_sort_on_click_and_say_so(browser, report):
    browser.open(report)
    column = "#benchmark table.sortable thead th:nth-child(2)"
    values = "[...document.querySelector('#benchmark table.sortable').tBodies[0].rows].map((row) => Number(row.cells[1].dataset.sort))"
    first = browser.js(values)
    seen = {}
    for _ in range(3):
        browser.mouse(f"{column} button", click=True)
        seen[browser.js(f"document.querySelector('{column}').getAttribute('aria-sort')")] = (
            browser.js(values)
        )
    assert seen == {
        "descending": sorted(first, reverse=True),
        "ascending": sorted(first),
        "none": first,
    }


@needs_browser
def test_hover_and_keyboard_show_the_values_of_the_similarity_matrices(browser, report):
    browser.open(report)
    shown = (
        "document.getElementById('tip').hidden ? null : document.getElementById('tip').textContent"
    )
    assert browser.js(shown) is None
    browser.mouse("#similarity [data-held-out]:not([hidden]) td:nth-of-type(2)")
    said = browser.js(shown)
    assert re.search(
        r"true grade 0 \(no DR\), text of grade 1 \(mild NPDR\): mean cosine -?\d\.\d{3}; n = 24 photographs",
        said,
    )
    browser.js(
        "document.querySelector('#similarity [data-held-out]:not([hidden]) td[tabindex=\"0\"]').focus()"
    )
    assert "text of grade 0" in browser.js(shown)
    browser.key("ArrowRight", 39)
    browser.key("ArrowDown", 40)
    assert "true grade 1 (mild NPDR), text of grade 1" in browser.js(shown)
    browser.key("Escape", 27)
    assert browser.js(shown) is None


@needs_browser
def test_another_held_out_domain_can_be_chosen(browser, report):
    browser.open(report)
    visible = "[...document.querySelectorAll('[data-held-out]')].filter((one) => !one.hidden).map((one) => one.dataset.heldOut)"
    assert browser.js(visible) == ["mean of 3 held-out domains"]
    choose(browser, 0, "SIM_IDRID")
    assert browser.js(visible) == ["SIM_IDRID"]


@needs_browser
def test_each_protocol_has_its_own_choice_of_held_out_domain(browser, several):
    browser.open(several[0])
    visible = "[...document.querySelectorAll('[data-held-out]')].filter((one) => !one.hidden).map((one) => one.dataset.heldOut)"
    choose(browser, 1, "all_but_SIM_IDRID")
    assert browser.js(visible) == ["mean of 3 held-out domains", "all_but_SIM_IDRID"]


@needs_browser
def test_the_colour_scheme_can_be_changed_and_the_first_tab_skips_to_the_content(browser, report):
    browser.open(report)
    browser.key("Tab", 9)
    assert browser.js("document.activeElement.className") == "skip"
    browser.mouse("#scheme", click=True)
    assert browser.js("getComputedStyle(document.body).backgroundColor") == "rgb(18, 22, 28)"
    assert browser.js("document.getElementById('scheme').textContent") == "Light colours"


PAPER = 184  # mm that a line may be long: A4 without the margins of @page (13 mm)


@pytest.fixture(params=["system", "chosen"])
def printed(browser, several, request):
    """The page as paper shows it, opened in dark colours: the system's, or chosen with the button."""
    browser.open(several[0], round(PAPER / 25.4 * 96), dark=request.param == "system")
    if request.param == "chosen":
        browser.mouse("#scheme", click=True)
    browser.call(
        "Emulation.setEmulatedMedia",
        media="print",
        features=[{"name": "prefers-color-scheme", "value": "dark"}],
    )
    browser.js("dispatchEvent(new Event('beforeprint'))")
    yield browser
    browser.call("Emulation.setEmulatedMedia", media="")


@needs_browser
def test_on_paper_everything_is_dark_on_white(printed):
    """A dark scheme is one of the screen: on paper the ink would be pale."""
    assert (
        printed.js("getComputedStyle(document.documentElement).getPropertyValue('--page')")
        == "#ffffff"
    )
    assert printed.js("getComputedStyle(document.body).color") == "rgb(27, 34, 44)"
    assert (
        printed.js("getComputedStyle(document.querySelector('.gallery > li')).backgroundColor")
        == "rgb(246, 248, 250)"
    )


@needs_browser
def test_on_paper_nothing_is_cut_folded_or_left_to_the_mouse(printed):
    """No element is wider than the paper; all held-out domains, folded tables and grade names are there; controls are not."""
    wide = "[...document.querySelectorAll('main *')].filter((one) => one.getBoundingClientRect().right > innerWidth + 1)"
    assert (
        printed.js(
            f"{wide}.map((one) => one.tagName + one.className + one.textContent.slice(0, 40))"
        )
        == []
    )
    gone = "(one) => one.getBoundingClientRect().height < 5"
    shown = "[data-held-out], details.more, table, figure img, .gallery > li"
    assert printed.js(f"[...document.querySelectorAll('{shown}')].filter({gone}).length") == 0
    assert printed.js("document.querySelectorAll('details:not([open])').length") == 0
    screen = "nav, .control, .screen, #scheme, #tip"
    assert printed.js(f"[...document.querySelectorAll('{screen}')].every({gone})")
    for grade, name in enumerate(
        GRADES
    ):  # in the heads of the matrices they are to be read on hovering
        assert f"{grade} {name}" in printed.js(
            "document.querySelector('#similarity .protocol .quiet').textContent"
        )


@needs_browser
def test_the_page_prints(browser, several):
    browser.open(several[0])
    pages = base64.b64decode(browser.call("Page.printToPDF", preferCSSPageSize=True)["data"])
    assert pages.startswith(b"%PDF") and 5 < len(re.findall(rb"/Type\s*/Page\b", pages)) < 40
