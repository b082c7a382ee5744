"""The report in a browser: quiet, without requests, sortable, usable by keyboard."""

import base64
import re

import pytest
from helpers.chromium import Browser, binary

from clipdr import GRADES
from clipdr.report.page import build

VISIBLE = "[...document.querySelectorAll('[data-held-out]')].filter((one) => !one.hidden)"
VISIBLE += ".map((one) => one.dataset.heldOut)"


def choose(browser, number, held_out):
    """Choose a held-out domain for the similarity matrices of one protocol."""
    chooser = f"document.querySelectorAll('.protocol select')[{number}]"
    browser.js(
        f"(() => {{ const s = {chooser}; s.value = '{held_out}';"
        " s.dispatchEvent(new Event('change')); })()"
    )


needs_browser = pytest.mark.skipif(
    binary() is None, reason="no Chromium: apt-get install chromium, or set CLIPDR_CHROMIUM"
)


@pytest.fixture(scope="module")
def browser():
    with Browser() as started:
        yield started


@needs_browser
@pytest.mark.parametrize(
    ("name", "width", "dark"), [("light", 1280, False), ("dark", 1280, True), ("phone", 400, False)]
)
def test_report_opens_quietly_without_requests_and_fits(
    browser, report, tmp_path, name, width, dark
):
    """No message in the console, no request but the file itself, no sideways scrolling."""
    browser.open(report, width, dark=dark)
    browser.js("Promise.all([...document.images].map((image) => image.decode()))")
    browser.screenshot(tmp_path / f"{name}.png")
    assert browser.complaints() == []
    assert browser.requests() == [report.resolve().as_uri()]
    assert browser.js("window.broken") is None
    assert browser.js("document.documentElement.scrollWidth") <= width
    assert (
        browser.js(
            "[...document.querySelectorAll('main > section')]"
            ".filter((one) => one.getBoundingClientRect().height < 40).length"
        )
        == 0
    )
    background = browser.js("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(18, 22, 28)") == dark
    assert (tmp_path / f"{name}.png").stat().st_size > 10_000


@needs_browser
def test_report_is_small_and_loads_in_two_seconds(browser, report):
    browser.open(report)
    browser.call("Performance.enable")
    spent = {one["name"]: one["value"] for one in browser.call("Performance.getMetrics")["metrics"]}
    assert spent["TaskDuration"] < 2
    assert report.stat().st_size < build.LIMIT


@needs_browser
def test_tables_sort_on_click(browser, report):
    browser.open(report)
    column = "#benchmark table.sortable thead th:nth-child(2)"
    values = "[...document.querySelector('#benchmark table.sortable').tBodies[0].rows]"
    values += ".map((row) => Number(row.cells[1].dataset.sort))"
    first = browser.js(values)
    orders = {}
    for _ in range(3):
        browser.mouse(f"{column} button", click=True)
        orders[browser.js(f"document.querySelector('{column}').getAttribute('aria-sort')")] = (
            browser.js(values)
        )
    assert orders == {
        "descending": sorted(first, reverse=True),
        "ascending": sorted(first),
        "none": first,
    }


@needs_browser
def test_hover_and_keyboard_show_similarity_values(browser, report):
    browser.open(report)
    tip_text = (
        "document.getElementById('tip').hidden ? null : document.getElementById('tip').textContent"
    )
    assert browser.js(tip_text) is None
    browser.mouse("#similarity [data-held-out]:not([hidden]) td:nth-of-type(2)")
    label = browser.js(tip_text)
    assert re.search(
        r"true grade 0 \(no DR\), text of grade 1 \(mild NPDR\): "
        r"mean cosine -?\d\.\d{3}; n = 24 images",
        label,
    )
    browser.js(
        "document.querySelector('#similarity [data-held-out]:not([hidden]) td[tabindex=\"0\"]')"
        ".focus()"
    )
    assert "text of grade 0" in browser.js(tip_text)
    browser.key("ArrowRight", 39)
    browser.key("ArrowDown", 40)
    assert "true grade 1 (mild NPDR), text of grade 1" in browser.js(tip_text)
    browser.key("Escape", 27)
    assert browser.js(tip_text) is None


@needs_browser
def test_another_held_out_domain_can_be_chosen(browser, report):
    browser.open(report)
    assert browser.js(VISIBLE) == ["mean of 3 held-out domains"]
    choose(browser, 0, "SIM_IDRID")
    assert browser.js(VISIBLE) == ["SIM_IDRID"]


@needs_browser
def test_each_protocol_has_its_own_held_out_choice(browser, several):
    browser.open(several[0])
    choose(browser, 1, "all_but_SIM_IDRID")
    assert browser.js(VISIBLE) == ["mean of 3 held-out domains", "all_but_SIM_IDRID"]


@needs_browser
def test_colour_scheme_changes_and_first_tab_skips(browser, report):
    browser.open(report)
    browser.key("Tab", 9)
    assert browser.js("document.activeElement.className") == "skip"
    browser.mouse("#scheme", click=True)
    assert browser.js("getComputedStyle(document.body).backgroundColor") == "rgb(18, 22, 28)"
    assert browser.js("document.getElementById('scheme').textContent") == "Light colours"


PAPER = 184  # mm that a line may be long: A4 without the margins of @page (13 mm)


@pytest.fixture(params=["system", "chosen"])
def printed(browser, several, request):
    """The printed report, opened in dark colours of the system or of the button."""
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
def test_print_is_dark_on_white(printed):
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
def test_print_cuts_and_folds_nothing(printed):
    """No element is wider than the paper; all content is there, and no control is."""
    wide = "[...document.querySelectorAll('main *')]"
    wide += ".filter((one) => one.getBoundingClientRect().right > innerWidth + 1)"
    assert (
        printed.js(
            f"{wide}.map((one) => one.tagName + one.className + one.textContent.slice(0, 40))"
        )
        == []
    )
    gone = "(one) => one.getBoundingClientRect().height < 5"
    elements = "[data-held-out], details.more, table, figure img, .gallery > li"
    assert printed.js(f"[...document.querySelectorAll('{elements}')].filter({gone}).length") == 0
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
def test_report_prints(browser, several):
    browser.open(several[0])
    pages = base64.b64decode(browser.call("Page.printToPDF", preferCSSPageSize=True)["data"])
    assert pages.startswith(b"%PDF")
    assert 5 < len(re.findall(rb"/Type\s*/Page\b", pages)) < 40
