"""Fixtures that the tests of several methods share."""

import numpy as np
import pytest
import torch
from helpers.methods import TOWERS
from helpers.toy import DOMAINS, SIDE

from clipdr.data.loader import Images
from clipdr.data.manifest import read_manifests
from clipdr.data.splits import fold
from clipdr.methods import load
from clipdr.methods.base import Source
from clipdr.training import run


@pytest.fixture(scope="module")
def prepared(cached, manifests, settings, small_clips):
    """Function that returns a method, begun on its source, and the rows of the fold.

    With a key of TOWERS the input has 64 pixels.
    """

    def make(name, frozen=None, options=None, seed=0, tower=None):
        manifest = read_manifests(manifests)
        splits = fold(manifest, "dg", DOMAINS[0])
        frozen = load(name).reads == "features" if frozen is None else frozen
        required = {"augment": "fundus"} if name == "gdrnet" else {}
        chosen = settings(frozen, options, **required)
        if tower:
            chosen |= {
                "backbone": {"name": tower} | TOWERS[tower],
                "image": {"size": SIDE, "input": 64},
            }
        torch.manual_seed(seed)
        method, rows = run.build(chosen, name, cached, manifest, splits, torch.device("cpu"))
        method.begin(Source(rows["train"], rows["val"], steps_per_epoch=2, steps=8))
        return method, rows

    return make


@pytest.fixture(scope="module")
def prepared_source(cached, manifests, settings):
    """Function that returns a method begun on some sources, the fold's rows, and the Source."""

    def make(
        name, sources=DOMAINS[1:], steps_per_epoch=2, steps=8, augment=None, frozen=False, **options
    ):
        manifest = read_manifests(manifests)
        splits = fold(manifest, "dg", DOMAINS[0])
        splits = splits | {
            split: splits[split][splits[split].domain.isin(sources)] for split in ("train", "val")
        }
        augment = augment or ("fundus" if name == "gdrnet" else "flip")
        torch.manual_seed(0)
        method, rows = run.build(
            settings(frozen, options, augment=augment),
            name,
            cached,
            manifest,
            splits,
            torch.device("cpu"),
        )
        source = Source(rows["train"], rows["val"], steps_per_epoch, steps)
        method.begin(source)
        return method, rows, source

    return make


@pytest.fixture(scope="module")
def rows(toy, manifests):
    """Training and validation rows of two source domains at 64 pixels, without augmentation."""
    splits = fold(read_manifests(manifests), "dg", DOMAINS[0])
    arrays = {domain: np.load(toy / "store" / f"{domain}.npy") for domain in DOMAINS}
    return {
        split: Images(splits[split], arrays, list(DOMAINS[1:]), 64) for split in ("train", "val")
    }


@pytest.fixture(scope="module")
def batch(rows):
    """First training batch of 8 images."""
    return rows["train"].batch(0, 8, seed=0)
