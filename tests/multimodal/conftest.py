"""Fixtures of the multimodal tests: a packed toy table, and results of three tiny models."""

import pytest
from helpers.multimodal_toy import ALL, LEAKY, ONLY, TINY, pack

from clipdr.multimodal import run
from clipdr.multimodal.data import splits, synthetic_eyes
from clipdr.multimodal.evaluation import score_run
from clipdr.multimodal.settings import make_settings


@pytest.fixture(scope="session")
def eyes():
    """Eye table of eighty synthetic patients, split by patient."""
    return splits.split(synthetic_eyes.synthetic("SIM_DEEPDR", 80, 0), 0)


@pytest.fixture(scope="session")
def packed(tmp_path_factory):
    return pack(tmp_path_factory.mktemp("packed"))


@pytest.fixture(scope="session")
def results(packed, tmp_path_factory):
    """Results of two unimodal-contrast models and a leaky one, by the functions behind commands."""
    results = tmp_path_factory.mktemp("results")
    models = {
        "multimodal": TINY | {"inputs": "history", "losses": ALL, "rerank": 5},
        "image_only": TINY | {"inputs": "none", "losses": ONLY | {"grading": 1.0}},
        "fused": TINY | LEAKY | {"epochs": 40},
    }
    for name, setting in models.items():
        folder = results / "models" / name / "0"
        run.train(folder, make_settings(setting), 0, packed, "tiny", "cpu")
        if name != "fused":
            score_run.classify(folder, packed, results, "SYNTHETIC", 50, "cpu")
        if name != "image_only":
            score_run.retrieve(folder, packed, 50, "cpu")
    return results


@pytest.fixture(scope="session")
def checks(results, packed):
    """Rows of the sanity checks of the model with all modalities and of the leaky one."""
    return {
        name: score_run.check_model(
            results / "models" / name / "0", packed, results, "SYNTHETIC", 50, "cpu"
        )
        for name in ("multimodal", "fused")
    }
