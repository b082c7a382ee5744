"""The report: complete, escaped, self-contained; in a real browser: quiet, without requests, sortable, usable by keyboard, on a phone."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from browser import Browser, found

from clipdr import __main__ as verbs
from clipdr import account, checklist, page
from clipdr.predictions import LOGITS, PROBABILITIES

NAMES = ("SIM_APTOS", "SIM_IDRID", "SIM_RLDR")
METHODS = ("erm", "ordinal_clip", "clip_dr")
TABLES, FIGURES = ["dg", "dg_auc", "dg_recall"], ["scores_by_domain", "similarity"]
EVIL = "<script>window.broken=1</script><img src=x onerror=window.broken=1>\"'&=cmd()"
OTHER = "0123456789012345678901234567890123456789-dirty"
SHARPNESS = {"erm": 0.5, "ordinal_clip": 1.5, "clip_dr": 3.0}  # of the logits about the true grade


def predictions(manifest, method, held_out):
    """Predictions of one run: logits that fall with the distance from the true grade, and noise. `last` has other noise."""
    frames = []
    for place, selection in enumerate(("source_val", "last")):
        for split, rows in (("val", manifest[(manifest["domain"] != held_out) & (manifest["split"] == "val")]),
                            ("test", manifest[manifest["domain"] == held_out])):  # fmt: skip
            rng = np.random.default_rng([place, METHODS.index(method), NAMES.index(held_out), len(rows)])
            far = np.abs(rows["grade"].to_numpy()[:, None] - np.arange(5))
            logits = -SHARPNESS[method] * far + rng.normal(0, 1.5, far.shape)
            share = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
            frame = rows[["image", "domain", "grade"]].assign(protocol="dg", method=method, held_out=held_out, seed=0, selection=selection)
            frame[LOGITS], frame[PROBABILITIES] = logits.astype("float32"), share
            frames.append(frame.assign(split=split, expected_grade=share @ np.arange(5.0), scale=np.nan if method == "erm" else 10.0))
    return pd.concat(frames, ignore_index=True)


def run(folder, manifest, method, held_out, evil):
    """One finished run folder."""
    folder.mkdir(parents=True)
    predictions(manifest, method, held_out).to_parquet(folder / "predictions.parquet", index=False)
    training = {"epochs": 2.0, "batch_size": 16, "optimizer": "adamw", "lr": 5e-4, "schedule": "cosine", "augment": "flip"}
    settings = {
        "backbone": {"name": "tiny", "image": "timm/x", "weights": f"/home/{'x' * 90}.safetensors", "text": "small"},
        "frozen": False,
    }
    settings |= {"training": training | {"evaluations": 2, "precision": "fp32"}, "image": {"size": 32, "input": 32}}
    settings["options"] = {"note": EVIL} if evil else {}
    (folder / "settings.json").write_text(json.dumps(settings))
    facts = {"commit": OTHER if evil else OTHER[:40], "python": "3.11.7", "device": "cpu", "threads": 1, "seconds": 90.0, "peak_mib": 512.0}
    facts["versions"] = {"torch": EVIL if evil else "2.14.1"}
    (folder / "provenance.json").write_text(json.dumps(facts))
    (folder / "history.csv").write_text("step,epoch,lr,loss,val_loss,val_auc,selected\n4,1,.1,1,1,.7,False\n8,2,.1,.5,.9,.8,True\n")
    verbs.score(folder, ",".join(NAMES), folder.parents[5] / "data", 50)
    return folder


@pytest.fixture(scope="session")
def study(toy, tmp_path_factory):
    """root, run folders: a scored study of three methods, whose names, commits and reasons hold markup."""
    root = tmp_path_factory.mktemp("study")
    data, results = root / "data", root / "results"
    for folder in ("manifests", "store"):
        shutil.copytree(toy / folder, data / folder)
    (data / "rejected").mkdir()
    for name in NAMES:
        rows = [(f"{name}/x/{EVIL}.png", 2, "val", EVIL)] if name == "SIM_RLDR" else []
        pd.DataFrame(rows, columns=["image", "grade", "split", "reason"]).to_csv(data / "rejected" / f"{name}.csv", index=False)
        manifest = pd.read_csv(data / "manifests" / f"{name}.csv", keep_default_na=False)
        manifest["image"] = [image.replace(".png", f"{EVIL}.png".replace("/", "")) for image in manifest["image"]]
        manifest.to_csv(data / "manifests" / f"{name}.csv", index=False)
    manifest = pd.concat([account.pd.read_csv(data / "manifests" / f"{name}.csv", keep_default_na=False) for name in NAMES])
    runs = [
        run(results / "runs" / "dg" / method / held_out / "0", manifest, method, held_out, method == "clip_dr" and held_out == NAMES[0])
        for method in METHODS
        for held_out in NAMES
    ]
    verbs.collect(runs, results)
    verbs.compare(runs, "clip_dr", results)
    verbs.leaks(",".join(NAMES), data, results)
    for name in NAMES:
        verbs.gate("dg", name, ",".join(NAMES), data, results, True)
    verbs.data_report(",".join(NAMES), data, results)
    for name in TABLES:
        verbs.table(name, runs, results)
    for name in FIGURES:
        verbs.figure(name, runs, results, data)
    (root / "deviations.md").write_text(f"# Title\n\n## Part\n\n| # | what |\n|---|---|\n| 1 | {EVIL} |\n")
    return root, runs


def write(study, name="report.html", **changes):
    root, runs = study
    options = {"tables": TABLES, "figures": FIGURES, "domains": NAMES, "data": root / "data", "deviations": root / "deviations.md"}
    path = root / "results" / name
    page.write(path, runs, **(options | {"reference": "clip_dr", "gallery": 2} | changes))
    return path


@pytest.fixture(scope="session")
def report(study):
    return write(study)


class Outline(HTMLParser):
    """Tags, headings, attributes and visible text of a page."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.headings, self.attributes, self.text, self.hidden = [], [], [], [], 0
        self.feed(Path(path).read_text(encoding="utf-8"))
        self.text = " ".join(" ".join(self.text).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        self.hidden = tag in ("script", "style")
        if re.fullmatch(r"h[1-6]", tag):
            self.headings.append(int(tag[1]))

    def handle_endtag(self, tag):
        self.hidden = 0

    def handle_data(self, data):
        if not self.hidden:
            self.text.append(data)


def test_every_section_is_there_and_the_headings_are_in_order(report):
    outline = Outline(report)
    sections = [value for tag, name, value in outline.attributes if tag == "section" and name == "id"]
    assert sections == ["summary", *page.TOPICS]
    assert outline.headings[0] == 1 and outline.headings.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(outline.headings, outline.headings[1:], strict=False))
    links = [value[1:] for tag, name, value in outline.attributes if tag == "a" and name == "href"]
    assert set(sections) <= set(links) and set(links) <= {value for _, name, value in outline.attributes if name == "id"}


def test_nothing_in_the_file_is_active_but_its_own_script(report):
    """Markup in names, commits, options, reasons and Markdown stays text."""
    outline = Outline(report)
    assert outline.tags.count("script") == 1
    assert not [name for _, name, _ in outline.attributes if name.startswith("on")]
    assert outline.text.count("window.broken=1") > 10  # shown, as text
    sources = [value for _, name, value in outline.attributes if name in ("src", "srcset", "data", "action", "poster")]
    assert sources and all(source.startswith("data:image/") for source in sources)
    assert all(value.startswith(("#", "data:,")) for _, name, value in outline.attributes if name == "href")
    assert "@import" not in report.read_text() and "url(" not in report.read_text()


def test_every_picture_has_words_and_every_table_a_caption(report):
    outline = Outline(report)
    alts = [value for tag, name, value in outline.attributes if tag == "img" and name == "alt"]
    assert len(alts) == outline.tags.count("img") and all(len(alt) > 10 for alt in alts)
    assert outline.tags.count("caption") == outline.tags.count("table") - 1  # the one of the Markdown file


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
    monkeypatch.setattr(page, "is_synthetic", lambda name: False)
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
    part = [account.read_run(folder) for folder in runs if folder.parts[-3] == "clip_dr"]
    worst = page.exhibits.errors(part, page.exhibits.read_data(root / "data", NAMES), root / "data" / "store", 3)
    assert list(worst) == list(NAMES)
    for name, rows in worst.items():
        known = pd.read_parquet(root / "results/runs/dg/clip_dr" / name / "0/predictions.parquet")
        known = known[(known["split"] == "test") & (known["selection"] == "source_val")]
        error = (known["expected_grade"] - known["grade"]).abs().sort_values(ascending=False)
        np.testing.assert_allclose([abs(row["expected"] - row["grade"]) for row in rows], error[:3])


def test_a_missing_table_or_figure_is_said(study):
    text = Outline(write(study, "less.html", tables=["dg", "dg_mae"], figures=["roc"])).text
    assert "results/tables/dg_mae.md or .csv is missing: run clipdr table dg_mae." in text
    assert "results/figures/roc.png is missing: run clipdr figure roc." in text
    assert page.NOTHING in text


def test_differing_and_unclean_commits_are_said(report):
    text = Outline(report).text
    assert "The runs are of 2 different commits" in text
    assert f"Commit {OTHER} had changes that were not committed." in text


def test_the_printed_cells_and_intervals_are_those_of_the_tables(study):
    root, _ = study
    view = account.printed_table(root / "results" / "tables", "dg_auc")
    tidy = pd.read_csv(root / "results" / "tables" / "dg_auc.csv")
    assert [row[0].text for row in view.body] == list(METHODS)
    shown = [cell for row in view.body for cell in row[1:]]
    assert [cell.text for cell in shown] == [f"{value:.1f}" for value in tidy["value"]]
    for cell, low, high in zip(shown, tidy["low"], tidy["high"], strict=True):
        assert cell.small == ("" if pd.isna(low) else f"{low:.1f} to {high:.1f}")
    assert [row[0].text for row in view.body if row[-1].mark == "best"] == ["clip_dr"]


def test_the_checklists_point_to_sections_that_exist_and_name_facts_that_are_made(report, study):
    root, runs = study
    manifests = page.exhibits.read_data(root / "data", NAMES)
    parts = [account.read_run(folder) for folder in runs]
    known = page.all_facts(page.Study(root / "results", root / "data", parts, manifests, list(NAMES), "clip_dr"))
    assert {fact.section for fact in known.values()} <= {"summary", *page.TOPICS}
    made = {*known, "failures", "explanation", "deviations", "licences", "cameras"}  # the last two: real domains
    assert {name for item in (*checklist.TRIPOD, *checklist.CLAIM) for name in item.facts} <= made
    assert not [fact.text for fact in known.values() if re.search(r"\bnan\b|None|\{|\}", fact.text)]
    assert "author must fill" in Outline(report).text


def test_equal_results_give_an_equal_file(study, report):
    assert write(study, "again.html").read_bytes() == report.read_bytes()
    assert str(study[0]) not in report.read_text() and "/home/" not in report.read_text()


# ---------------------------------------------------------------- in a browser
needs_browser = pytest.mark.skipif(found() is None, reason="no Chromium: apt-get install chromium, or name one in CLIPDR_CHROMIUM")


@pytest.fixture(scope="module")
def browser():
    with Browser() as started:
        yield started


@needs_browser
@pytest.mark.parametrize(("name", "width", "dark"), [("light", 1280, False), ("dark", 1280, True), ("phone", 400, False)])
def test_the_page_opens_quietly_asks_for_nothing_and_fits(browser, report, tmp_path, name, width, dark):
    """No message in the console, no request but the file itself, no sideways scrolling; the pictures are left in tmp_path."""
    browser.open(report, width, dark=dark)
    browser.js("Promise.all([...document.images].map((image) => image.decode()))")
    browser.picture(tmp_path / f"{name}.png")
    assert browser.complaints() == []
    assert browser.requests() == [report.resolve().as_uri()]
    assert browser.js("window.broken") is None
    assert browser.js("document.documentElement.scrollWidth") <= width
    assert (
        browser.js("[...document.querySelectorAll('main > section')].filter((one) => one.getBoundingClientRect().height < 40).length") == 0
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
    assert report.stat().st_size < page.LIMIT


@needs_browser
def test_tables_sort_on_click_and_say_so(browser, report):
    browser.open(report)
    column = "#benchmark table.sortable thead th:nth-child(2)"
    values = "[...document.querySelector('#benchmark table.sortable').tBodies[0].rows].map((row) => Number(row.cells[1].dataset.sort))"
    first = browser.js(values)
    seen = {}
    for _ in range(3):
        browser.mouse(f"{column} button", click=True)
        seen[browser.js(f"document.querySelector('{column}').getAttribute('aria-sort')")] = browser.js(values)
    assert seen == {"descending": sorted(first, reverse=True), "ascending": sorted(first), "none": first}


@needs_browser
def test_hover_and_keyboard_show_the_values_of_the_similarity_matrices(browser, report):
    browser.open(report)
    shown = "document.getElementById('tip').hidden ? null : document.getElementById('tip').textContent"
    assert browser.js(shown) is None
    browser.mouse("#similarity [data-held-out]:not([hidden]) td:nth-of-type(2)")
    said = browser.js(shown)
    assert re.search(r"true grade 0 \(no DR\), text of grade 1 \(mild NPDR\): mean cosine -?\d\.\d{3}; n = 24 photographs", said)
    browser.js("document.querySelector('#similarity [data-held-out]:not([hidden]) td[tabindex=\"0\"]').focus()")
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
    browser.js("(() => { const s = document.getElementById('held-out'); s.value = 'SIM_IDRID'; s.dispatchEvent(new Event('change')); })()")
    assert browser.js(visible) == ["SIM_IDRID"]


@needs_browser
def test_the_colour_scheme_can_be_changed_and_the_first_tab_skips_to_the_content(browser, report):
    browser.open(report)
    browser.key("Tab", 9)
    assert browser.js("document.activeElement.className") == "skip"
    browser.mouse("#scheme", click=True)
    assert browser.js("getComputedStyle(document.body).backgroundColor") == "rgb(18, 22, 28)"
    assert browser.js("document.getElementById('scheme').textContent") == "Light colours"
