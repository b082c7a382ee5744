"""Shared fixtures: a toy study, whose grade is the number of bright bars, and its settings."""

import json

import numpy as np
import pandas as pd
import pytest
from helpers.paths import REALDATA
from helpers.toy import DOMAINS, SIDE, render_toy


@pytest.fixture(scope="session")
def toy(tmp_path_factory):
    """A data folder of three domains in the schema of `prepare`.

    Each has 40 images of 20 patients with two eyes.
    """
    data = tmp_path_factory.mktemp("toy")
    (data / "manifests").mkdir()
    (data / "store").mkdir()
    for number, domain in enumerate(DOMAINS):
        rng = np.random.default_rng(number)
        grade = np.resize(np.arange(5), 40)
        tint = np.array([90, 60, 40]) + 15 * number
        np.save(
            data / "store" / f"{domain}.npy", np.stack([render_toy(g, tint, rng) for g in grade])
        )
        frame = pd.DataFrame(
            {
                "image": [f"{domain}/x/p{i:03d}.png" for i in range(40)],
                "row": range(40),
                "domain": domain,
                "grade": grade,
            }
        )
        frame["split"] = ["train"] * 30 + ["val"] * 10
        frame["patient"] = [f"p{i // 2}" for i in range(40)]
        frame["eye"] = ["left", "right"] * 20
        for column, value in {
            "camera": "",
            "cx": 16.0,
            "cy": 16.0,
            "r": 16.0,
            "w": 32.0,
            "h": 32.0,
            "width": 32,
            "height": 32,
            "flag": "",
            "sha256": "",
            "phash": "",
        }.items():
            frame[column] = value
        frame.to_csv(data / "manifests" / f"{domain}.csv", index=False)
    return data


@pytest.fixture(scope="session")
def settings():
    """Settings of a run on the toy study, as Study.settings gives them.

    Keywords change the training, `frozen` and `options` the rest.
    """
    from clipdr.config.job import Training

    def make(frozen=False, options=None, **training):
        rules = {
            "epochs": 6,
            "batch_size": 10,
            "optimizer": "radam",
            "lr": 3e-3,
            "weight_decay": 0,
            "schedule": "cosine",
            "augment": "flip",
        }
        return {
            "backbone": {
                "name": "tiny",
                "image": "timm/test_efficientnet",
                "weights": "random",
                "text": "small",
            },
            "frozen": frozen,
            "image": {"size": SIDE, "input": SIDE},
            "training": Training(**(rules | {"evaluations": 3} | training)).model_dump(),
            "options": options or {},
        }

    return make


@pytest.fixture(scope="session")
def small_clips(tmp_path_factory):
    """Register two small CLIPs for 64 pixels with open_clip, with random weights.

    Their names are RN-clipdr-test and ViT64-clipdr-test.
    """
    import open_clip

    towers = {
        "RN-clipdr-test": {"layers": [1, 1, 1, 1], "width": 8},
        "ViT64-clipdr-test": {"layers": 2, "width": 32, "head_width": 16, "patch_size": 16},
    }
    text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    folder = tmp_path_factory.mktemp("clips")
    for name, vision in towers.items():
        (folder / f"{name}.json").write_text(
            json.dumps(
                {"embed_dim": 16, "vision_cfg": {"image_size": 64} | vision, "text_cfg": text}
            )
        )
    open_clip.add_model_config(folder)


@pytest.fixture(scope="session")
def manifests(toy):
    return [toy / "manifests" / f"{domain}.csv" for domain in DOMAINS]


@pytest.fixture(scope="session")
def cached(toy):
    """The toy study's features and prompts of the tiny backbone."""
    from clipdr.training.feature_cache import cache_features, cache_prompts

    spec = {"name": "tiny", "image": "timm/test_efficientnet", "weights": "random", "text": "small"}
    for domain in DOMAINS:
        cache_features(spec, SIDE, domain, toy)
    cache_prompts(spec, SIDE, toy)
    return toy


@pytest.fixture(scope="session")
def study(toy, tmp_path_factory):
    """Root and run folders of a finished study; see helpers.finished_study.build."""
    from helpers.finished_study import build

    return build(tmp_path_factory.mktemp("study"), toy)


@pytest.fixture
def realdata():
    if not REALDATA.is_dir():
        pytest.skip(f"no real images at {REALDATA} (CLIPDR_REALDATA names another folder)")
    return REALDATA
