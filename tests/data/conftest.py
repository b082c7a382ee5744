"""Fixtures of the tests of duplicates and leakage."""

import numpy as np
import pytest
from helpers.copies import COPIES, packed
from PIL import Image

from clipdr.data import leakage
from clipdr.data.synthetic import dataset


@pytest.fixture(scope="session")
def eyes(tmp_path_factory):
    """100 synthetic images of 50 patients in two styles."""
    raw = tmp_path_factory.mktemp("raw")
    dataset.write(raw, ["SIM_APTOS", "SIM_RLDR"], 50, 160, 7, 1)
    paths = sorted((raw / "images").rglob("*.*"))
    return [Image.open(path).convert("RGB") for path in paths[:50] + paths[-50:]]


@pytest.fixture(scope="session")
def originals(eyes, tmp_path_factory):
    """Manifest and packed array of `eyes` as domain SIM_APTOS."""
    return packed(eyes, tmp_path_factory.mktemp("originals"), "SIM_APTOS")


@pytest.fixture(scope="session")
def planted(eyes, originals, tmp_path_factory):
    """{kind of copy: pairs of the originals and their copies}.

    The copies are training images of another domain.
    """
    pairs, rng = {}, np.random.default_rng(0)
    for kind, change in COPIES.items():
        folder = tmp_path_factory.mktemp("copies")
        manifest, squares = packed([change(image, rng) for image in eyes], folder, "SIM_RLDR")
        pairs[kind] = leakage.find_pairs(
            {"SIM_APTOS": originals[0], "SIM_RLDR": manifest},
            {"SIM_APTOS": originals[1], "SIM_RLDR": squares},
        )[0]
    return pairs
