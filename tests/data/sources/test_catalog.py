"""The table of facts and what is shown of it: complete, consistent, and telling the next step."""

import dataclasses
import re
import subprocess
import sys

import pytest
from helpers import raw_layouts as layouts
from helpers.paths import ROOT
from rich.console import Console

from clipdr import DataError
from clipdr.data.domains import REAL, SPLITS, SYNTHETIC
from clipdr.data.sources import catalog


def shown(raw, width=120):
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115 - the console's own
    console.print(catalog.table(raw))
    return console.export_text()


def test_the_page_is_made_from_the_facts():
    """docs/datasets.md: remake it with `python -m clipdr datasets --markdown > docs/datasets.md`."""
    assert (ROOT / "docs/datasets.md").read_text() == catalog.markdown()


def test_the_page_does_not_depend_on_what_is_here(tmp_path, monkeypatch):
    before = catalog.markdown()
    layouts.build("APTOS", tmp_path / "data/raw")
    monkeypatch.chdir(tmp_path)
    assert catalog.markdown() == before


@pytest.mark.parametrize("name", REAL)
def test_every_fact_is_stated(name):
    domain = REAL[name]
    for field in ("title", "country", "camera", "licence", "page", "click", "citation", "layout"):
        assert getattr(domain, field), field
    assert domain.access in catalog.ROUTES
    assert bool(domain.sources) == (domain.access != "request")
    assert bool(domain.rules) == (domain.access == "kaggle")
    assert all(
        address.startswith("https://")
        for address in (domain.page, *(source.url for source in domain.sources))
    )
    assert re.search(r"\b(19|20)\d\d\b", domain.citation)
    photographs = sum(need.count for need in domain.needs if need.count > 1)
    assert photographs == domain.total
    assert all(pattern == pattern.lower() for need in domain.needs for pattern in need.patterns)
    assert all(
        any(catalog.fnmatchcase(need.example.lower(), p) for p in need.patterns)
        for need in domain.needs
    )


def test_the_split_files_are_sixteen_at_one_commit():
    assert sorted(source.file for source in SPLITS) == sorted(
        f"{name}_{word}.txt" for name in REAL for word in ("train", "crossval")
    )
    assert all(re.fullmatch(r"[0-9a-f]{64}", source.sha256) for source in SPLITS)
    assert len({re.search(r"/([0-9a-f]{40})/", source.url)[1] for source in SPLITS}) == 1


@pytest.mark.parametrize("width", [80, 120, 200])
def test_the_table_fits_and_loses_no_word(tmp_path, width):
    text = shown(tmp_path, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for name in [*REAL, "splits"]:
        assert re.search(rf"^│ {name} ", text, re.M)


@pytest.mark.parametrize("name", REAL)
def test_what_is_here_step_by_step(tmp_path, monkeypatch, name):
    """Nothing; a part; all photographs; the splits too."""
    empty = catalog.state(name, tmp_path)
    assert catalog.here(name, empty).startswith("nothing")
    assert (
        catalog.following(name, empty) == f"{'fetch' if REAL[name].sources else 'datasets'} {name}"
    )
    layouts.build(name, tmp_path)
    part = catalog.state(name, tmp_path)
    assert catalog.here(name, part).startswith("incomplete: lacks ") and catalog.here(
        name, part
    ).endswith(", splits")
    assert catalog.following(name, part) == f"datasets {name}"
    needs = tuple(dataclasses.replace(need, count=count) for need, count in part.found)
    monkeypatch.setitem(REAL, name, dataclasses.replace(REAL[name], needs=needs))
    whole = catalog.state(name, tmp_path)
    assert catalog.here(name, whole).startswith("complete")
    assert catalog.following(name, whole) == f"prepare {name}"
    assert catalog.instructions(name, tmp_path) == [
        f"{name} is complete. Next: python -m clipdr prepare {name}"
    ]
    (tmp_path / f"splits/{name}_train.txt").unlink()
    assert catalog.following(name, catalog.state(name, tmp_path)) == "fetch splits"


def test_the_processed_layout_is_seen(tmp_path):
    layouts.build("FGADR", tmp_path, layout="gdrbench")
    now = catalog.state("FGADR", tmp_path)
    assert now.files == 0 and now.processed == 12
    assert catalog.here("FGADR", now) == "12 of 1,842 photographs (GDRBench's layout), splits"


def test_hidden_files_do_not_count(tmp_path):
    (tmp_path / "APTOS/.cache").mkdir(parents=True)
    (tmp_path / "APTOS/.gitignore").write_text("*")
    (tmp_path / "APTOS/.cache/train.csv").write_text("")
    assert catalog.state("APTOS", tmp_path).files == 0


@pytest.mark.parametrize("name", REAL)
def test_the_detail_says_what_to_do_and_what_to_cite(tmp_path, name):
    text = catalog.detail(name, tmp_path)
    domain = REAL[name]
    for word in (
        domain.page,
        domain.citation,
        domain.licence,
        *domain.steps,
        f"python -m clipdr fetch {name} --raw {tmp_path}",
    ):
        assert word in text
    numbers = [int(number) for number in re.findall(r"^  (\d)\. ", text, re.M)]
    assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) >= 2


@pytest.mark.parametrize("name", ["NOWHERE", *SYNTHETIC])
def test_names_without_a_page(name, tmp_path):
    with pytest.raises(DataError, match=r"use one of|synthesize"):
        catalog.detail(name, tmp_path)


def test_the_verb(tmp_path):
    for arguments, says in (
        (["--raw", tmp_path], "IDRID"),
        (["IDRID"], "27 grades"),
        (["--markdown"], "# Data sets"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "clipdr", "datasets", *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        assert says in done.stdout
    wrong = subprocess.run(
        [sys.executable, "-m", "clipdr", "fetch", "NOWHERE"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (
        wrong.returncode == 2
        and wrong.stderr.startswith("clipdr: unknown data set 'NOWHERE'")
        and wrong.stderr.count("\n") == 1
    )
