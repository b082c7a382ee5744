"""Fixtures of the tests of data sources: a publisher, published layouts, and a mirror."""

import dataclasses
import hashlib

import pytest
from helpers import http_server, raw_layouts
from helpers.downloads import files, pack

from clipdr.data.domains import REAL, SPLITS
from clipdr.data.sources import catalog, download, fetch


@pytest.fixture
def server():
    with http_server.publisher() as running:
        yield running


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Short waits, and no user's own tokens."""
    monkeypatch.setattr(download, "WAIT", 0.01)
    monkeypatch.setattr(download, "STALL", 0.5)
    monkeypatch.setattr(download, "CONNECT", 0.5)
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def originals(tmp_path_factory):
    """All eight domains in their published layouts, with synthetic images."""
    raw = tmp_path_factory.mktemp("originals")
    for name in REAL:
        raw_layouts.build(name, raw)
    return raw


@pytest.fixture
def kept(originals, tmp_path):
    """A mirror with one zipped dataset (IDRID) and one of loose files (MESSIDOR)."""
    folder = tmp_path / "mirror"
    pack(originals / "IDRID", folder / "IDRID" / "B. Disease Grading.zip")
    for path, content in files(originals / "MESSIDOR").items():
        (folder / "MESSIDOR" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "MESSIDOR" / path).write_bytes(content)
    for name in ("IDRID", "MESSIDOR"):
        http_server.sums(folder / name)
    return folder


@pytest.fixture
def small(originals, monkeypatch):
    """Every need counts the files of the synthetic datasets."""
    for name, domain in list(REAL.items()):
        counted = catalog.state(name, originals).counts
        assert all(count for _, count in counted), name  # the patterns fit the layouts
        needs = tuple(dataclasses.replace(need, count=count) for need, count in counted)
        monkeypatch.setitem(REAL, name, dataclasses.replace(domain, needs=needs))


@pytest.fixture
def official(originals, monkeypatch):
    """The synthetic split files replace the official ones."""
    shas = {
        p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in (originals / "splits").iterdir()
    }
    fixed = tuple(dataclasses.replace(source, sha256=shas[source.file]) for source in SPLITS)
    monkeypatch.setattr(fetch, "SPLITS", fixed)
