"""Catalogue of the datasets: facts are complete and consistent, and the next step is stated."""

import dataclasses
import io
import re
import subprocess
import sys

import pytest
from helpers import raw_layouts as layouts
from helpers.paths import ROOT
from rich.console import Console

from clipdr import DataError
from clipdr.data.domains import REAL, SPLITS, SYNTHETIC
from clipdr.data.sources import catalog, catalog_markdown


def printed_table(raw, width=120):
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(catalog.table(raw))
    return console.export_text()


def test_markdown_equals_the_page_in_docs():
    """Write it again with `clipdr datasets --markdown > docs/datasets.md`."""
    assert (ROOT / "docs/datasets.md").read_text() == catalog_markdown.markdown()


def test_markdown_does_not_depend_on_the_raw_folder(tmp_path, monkeypatch):
    before = catalog_markdown.markdown()
    layouts.build("APTOS", tmp_path / "data/raw")
    monkeypatch.chdir(tmp_path)
    assert catalog_markdown.markdown() == before


@pytest.mark.parametrize("name", REAL)
def test_domain_states_every_fact(name):
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
    images = sum(need.count for need in domain.needs if need.count > 1)
    assert images == domain.total
    assert all(pattern == pattern.lower() for need in domain.needs for pattern in need.patterns)
    assert all(
        any(catalog.fnmatchcase(need.example.lower(), p) for p in need.patterns)
        for need in domain.needs
    )


def test_splits_are_sixteen_files_of_one_commit():
    assert sorted(source.file for source in SPLITS) == sorted(
        f"{name}_{word}.txt" for name in REAL for word in ("train", "crossval")
    )
    assert all(re.fullmatch(r"[0-9a-f]{64}", source.sha256) for source in SPLITS)
    assert len({re.search(r"/([0-9a-f]{40})/", source.url)[1] for source in SPLITS}) == 1


@pytest.mark.parametrize("width", [80, 120, 200])
def test_table_fits_and_loses_no_word(tmp_path, width):
    text = printed_table(tmp_path, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for name in [*REAL, "splits"]:
        assert re.search(rf"^│ {name} ", text, re.M)


@pytest.mark.parametrize("name", REAL)
def test_availability_and_next_command_at_every_step(tmp_path, monkeypatch, name):
    """Steps: nothing, some files, all images, and all splits."""
    empty = catalog.state(name, tmp_path)
    assert catalog.availability(name, empty).startswith("nothing")
    assert (
        catalog.next_command(name, empty)
        == f"{'fetch' if REAL[name].sources else 'datasets'} {name}"
    )
    layouts.build(name, tmp_path)
    part = catalog.state(name, tmp_path)
    assert catalog.availability(name, part).startswith("incomplete: lacks ")
    assert catalog.availability(name, part).endswith(", splits")
    assert catalog.next_command(name, part) == f"datasets {name}"
    needs = tuple(dataclasses.replace(need, count=count) for need, count in part.counts)
    monkeypatch.setitem(REAL, name, dataclasses.replace(REAL[name], needs=needs))
    whole = catalog.state(name, tmp_path)
    assert catalog.availability(name, whole).startswith("complete")
    assert catalog.next_command(name, whole) == f"prepare {name}"
    assert catalog.instructions(name, tmp_path) == [
        f"{name} is complete. Next: clipdr prepare {name}"
    ]
    (tmp_path / f"splits/{name}_train.txt").unlink()
    assert catalog.next_command(name, catalog.state(name, tmp_path)) == "fetch splits"


def test_state_counts_the_processed_layout(tmp_path):
    layouts.build("FGADR", tmp_path, layout="gdrbench")
    now = catalog.state("FGADR", tmp_path)
    assert now.files == 0
    assert now.processed == 12
    assert catalog.availability("FGADR", now) == "12 of 1,842 images (GDRBench's layout), splits"


def test_state_ignores_hidden_files(tmp_path):
    (tmp_path / "APTOS/.cache").mkdir(parents=True)
    (tmp_path / "APTOS/.gitignore").write_text("*")
    (tmp_path / "APTOS/.cache/train.csv").write_text("")
    assert catalog.state("APTOS", tmp_path).files == 0


@pytest.mark.parametrize("name", REAL)
def test_detail_states_steps_and_citation(tmp_path, name):
    text = catalog.detail(name, tmp_path)
    domain = REAL[name]
    for word in (
        domain.page,
        domain.citation,
        domain.licence,
        *domain.steps,
        f"clipdr fetch {name} --raw {tmp_path}",
    ):
        assert word in text
    numbers = [int(number) for number in re.findall(r"^  (\d)\. ", text, re.M)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= 2


@pytest.mark.parametrize("name", ["NOWHERE", *SYNTHETIC])
def test_detail_unknown_or_synthetic_name_is_refused(name, tmp_path):
    with pytest.raises(DataError, match=r"use one of|synthesize"):
        catalog.detail(name, tmp_path)


def test_command_prints_table_detail_and_markdown(tmp_path):
    for arguments, says in (
        (["--raw", tmp_path], "IDRID"),
        (["IDRID"], "27 grades"),
        (["--markdown"], "# Datasets"),
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
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("clipdr: unknown dataset 'NOWHERE'")
    assert wrong.stderr.count("\n") == 1
