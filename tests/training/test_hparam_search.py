"""Hyper-parameter search: budget, first trial, isolation of the held-out domain, options."""

import json
import shutil

import pytest
from helpers.study import config
from helpers.toy import DOMAINS

from clipdr import DataError
from clipdr.config.paths import StudyPaths
from clipdr.config.search_space import SPACES
from clipdr.config.study import read_study
from clipdr.methods import METHODS
from clipdr.training import hparam_search
from clipdr.training.hparam_search import layer, over, space_of

WITHOUT_STEPS = {"majority", "zero_shot", "linear_probe"}


@pytest.fixture
def sources(cached, tmp_path):
    """The toy study without any file of the held-out domain: data folder, manifests."""
    data = tmp_path / "data"
    shutil.copytree(cached, data)
    for path in data.rglob(f"{DOMAINS[0]}.*"):
        path.unlink()
    return data, [data / "manifests" / f"{domain}.csv" for domain in DOMAINS[1:]]


def test_search_reads_nothing_of_the_held_out_domain(settings, sources):
    data, manifests = sources
    rules = settings(True, epochs=3)
    result = hparam_search.search(rules, "coop", 0, 3, manifests=manifests, data=data, device="cpu")
    assert result["domains"] == list(DOMAINS[1:])
    assert len(result["trials"]) == 3
    assert result["trials"][0]["options"] == {
        "training": {"lr": rules["training"]["lr"]},
        "context": 16,
    }
    options = [json.dumps(trial["options"], sort_keys=True) for trial in result["trials"]]
    assert len(set(options)) == 3
    best = max(trial["val_auc"] for trial in result["trials"])
    assert (
        next(trial["options"] for trial in result["trials"] if trial["val_auc"] == best)
        == result["chosen"]
    )
    again = hparam_search.search(rules, "coop", 0, 3, manifests=manifests, data=data, device="cpu")
    assert again == result


def test_trial_is_scored_by_the_weights_a_run_would_select(settings, cached, manifests, tmp_path):
    """The score of the first trial is the selected AUC in history.csv of a run."""
    import pandas as pd

    from clipdr.training import run

    rules = settings(evaluations=4)
    result = hparam_search.search(
        rules, "erm", 0, 1, manifests=manifests[1:], data=cached, device="cpu"
    )
    run.train(
        rules,
        "dg",
        "erm",
        DOMAINS[0],
        0,
        manifests=manifests,
        data=cached,
        folder=tmp_path / "run",
        device="cpu",
    )
    history = pd.read_csv(tmp_path / "run" / "history.csv")
    assert result["trials"][0]["val_auc"] == pytest.approx(
        history.val_auc[history.selected].item(), abs=1e-9
    )


def test_diverging_trial_is_recorded_and_never_chosen(settings, sources, monkeypatch):
    data, manifests = sources
    rules = settings(True, epochs=2, optimizer="sgd", lr=1e30)
    with pytest.raises(DataError, match="no trial of coop"):
        hparam_search.search(rules, "coop", 0, 1, manifests=manifests, data=data, device="cpu")
    monkeypatch.setattr(hparam_search, "LR_FACTORS", (1.0, 1e-33))
    result = hparam_search.search(rules, "coop", 0, 6, manifests=manifests, data=data, device="cpu")
    assert result["trials"][0]["val_auc"] is None
    assert result["chosen"]["training"]["lr"] == pytest.approx(1e-3)


def test_every_method_with_steps_has_one_parameter_of_its_own(settings):
    assert set(METHODS) - WITHOUT_STEPS <= set(SPACES)
    for method in SPACES:
        space = space_of(settings(), method)
        assert len(space) == 2
        assert "training.lr" in space
        for own, choices in space.values():
            assert own in choices
            assert 2 <= len(choices) <= 4


def test_layer_of_options_overrides_settings(settings):
    options = layer({"training.lr": 0.1, "weight": 3})
    assert options == {"training": {"lr": 0.1}, "weight": 3}
    rules = over(settings(options={"start": 5}), options)
    assert rules["options"] == {"start": 5, "weight": 3}
    assert rules["training"]["lr"] == 0.1
    assert settings()["training"]["lr"] != 0.1


def test_study_reads_the_chosen_options(tmp_path):
    (tmp_path / "coop.json").write_text(
        json.dumps({"chosen": {"training": {"lr": 0.25}, "context": 8}})
    )
    methods = {
        "methods": ["zero_shot", "coop", "short"],
        "variants": {"short": {"method": "coop", "context": 4}},
    }
    study = read_study(config(**methods, tuned=str(tmp_path)))
    plain = read_study(config(**methods))
    assert study.settings("coop")["options"]["context"] == 8
    assert study.settings("coop")["training"]["lr"] == 0.25
    assert (
        study.settings("coop")["training"]["epochs"] == plain.settings("coop")["training"]["epochs"]
    )
    assert study.settings("short")["options"]["context"] == 4
    assert study.settings("short")["training"]["lr"] == 0.25
    assert study.settings("coop", tuned=False) == plain.settings("coop")
    assert StudyPaths(plain).search_files() == ["results/search/coop.json"]
    with pytest.raises(DataError, match=r"erm\.json. Run `snakemake searched`"):
        read_study(config(methods=["erm"], tuned=str(tmp_path)))
