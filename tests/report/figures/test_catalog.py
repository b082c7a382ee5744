"""Catalogue of the figures: every module of the folder is in it and states where it belongs."""

from pathlib import Path

import pytest

from clipdr import DataError
from clipdr.report.figures import catalog
from clipdr.report.page.layout import SECTIONS

FOLDER = Path(catalog.__file__).parent
SHARED = {"__init__", "catalog", "similarity_panel", "style"}  # modules that are no figure


def test_catalog_names_every_figure_of_the_folder():
    assert set(catalog.FIGURES) == {path.stem for path in FOLDER.glob("*.py")} - SHARED
    assert len(set(catalog.FIGURES)) == len(catalog.FIGURES)
    assert set(catalog.FROM_MODELS) <= set(catalog.FIGURES)


@pytest.mark.parametrize("name", catalog.FIGURES)
def test_figure_states_title_caption_and_section(name):
    module = catalog.module(name)
    assert module.__name__ == f"clipdr.report.figures.{name}"
    assert module.TITLE
    assert module.CAPTION.endswith(".")
    assert module.SECTION in SECTIONS
    assert {type(value) for value in (module.PER_IMAGE, module.COUNTED, module.USES_METHODS)} == {
        bool
    }
    assert callable(module.read)
    assert callable(module.plot)
    assert not (module.PER_IMAGE and module.COUNTED)


def test_unknown_figure_is_refused_with_the_known_names():
    with pytest.raises(DataError, match=r"'similarty'.*Use one of similarity,"):
        catalog.module("similarty")


def test_figure_of_a_model_names_its_command():
    with pytest.raises(DataError, match="Run `clipdr cam`"):
        catalog.module("cam").read(None)
