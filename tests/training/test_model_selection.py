"""Model selection: isolation of the held-out domain, choice of the step, resume."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from helpers.toy import DOMAINS

from clipdr import DataError
from clipdr.evaluation.metrics import METRICS
from clipdr.training import model_selection, run
from clipdr.training.model_selection import best_step, leave_one_out

HELD_OUT = DOMAINS[0]
SOURCES = DOMAINS[1:]
EVALUATIONS = {"evaluations": 6, "lr": 1e-2}


def study(settings, method, data, folder):
    """Run, its inner runs and the selection by further rules: the run folder."""
    manifests = {domain: data / "manifests" / f"{domain}.csv" for domain in DOMAINS}
    run.train(
        settings,
        "dg",
        method,
        HELD_OUT,
        0,
        manifests=manifests.values(),
        data=data,
        folder=folder,
        keep=True,
        device="cpu",
    )
    inner = {}
    for left_out in SOURCES:
        history = model_selection.curve(
            settings,
            method,
            left_out,
            0,
            manifests=[manifests[d] for d in SOURCES],
            data=data,
            device="cpu",
        )
        inner[left_out] = folder / f"{left_out}.csv"
        inner[left_out].write_text(history.to_csv(index=False) if len(history) else "step\n")
    model_selection.select(
        folder, ["loso", "oracle"], inner, manifests=manifests.values(), data=data, device="cpu"
    )
    return folder


def noisy(data, folder, seed=0):
    """A copy of a data folder with the grades of the held-out domain replaced by noise."""
    shutil.copytree(data, folder)
    path = folder / "manifests" / f"{HELD_OUT}.csv"
    frame = pd.read_csv(path, keep_default_na=False)
    frame["grade"] = np.random.default_rng(seed).permutation(frame["grade"])
    frame.to_csv(path, index=False)
    return folder


@pytest.fixture(scope="module")
def truth(settings, cached, tmp_path_factory):
    return study(settings(**EVALUATIONS), "erm", cached, tmp_path_factory.mktemp("truth"))


@pytest.mark.slow
def test_noise_in_test_grades_changes_only_the_choice_of_the_oracle(
    settings, cached, truth, tmp_path
):
    source_only, oracles = set(), set()
    for seed in range(3):
        folder = study(
            settings(**EVALUATIONS),
            "erm",
            noisy(cached, tmp_path / f"data{seed}", seed),
            tmp_path / f"run{seed}",
        )
        assert (folder / "model.safetensors").read_bytes() == (
            truth / "model.safetensors"
        ).read_bytes()
        assert (folder / "history.csv").read_bytes() == (truth / "history.csv").read_bytes()
        chosen = json.loads((folder / "selected.json").read_text())
        source_only.add(chosen["loso"])
        oracles.add(chosen["oracle"])
        for name in ("source_val", "last"):
            logits = [
                predictions(one, "predictions.parquet", name).filter(like="logit").to_numpy()
                for one in (folder, truth)
            ]
            assert np.array_equal(*logits)
    chosen = json.loads((truth / "selected.json").read_text())
    assert source_only == {chosen["loso"]}
    assert oracles != {chosen["oracle"]}


def predictions(folder, name, rule, split="test"):
    frame = pd.read_parquet(folder / name)
    return frame[(frame["selection"] == rule) & (frame["split"] == split)]


def test_oracle_has_the_best_test_auc_of_all_checkpoints(truth):
    def auc(frame):
        return METRICS["auc"](
            frame["grade"].to_numpy(), frame[[f"p{k}" for k in range(5)]].to_numpy()
        )[0]

    oracle = auc(predictions(truth, "selected.parquet", "oracle"))
    others = [predictions(truth, "selected.parquet", "loso")]
    others += [predictions(truth, "predictions.parquet", rule) for rule in ("source_val", "last")]
    assert all(oracle >= auc(frame) for frame in others)


def test_choice_is_predicted_with_the_weights_of_its_step(truth):
    """Rules that choose the same step give the same predictions, others do not."""
    history = pd.read_csv(truth / "history.csv")
    step = json.loads((truth / "selected.json").read_text())["loso"]
    assert step in set(history.step)
    assert step > 0.3 * history.step.max()
    ours = predictions(truth, "selected.parquet", "loso").filter(like="logit").to_numpy()
    theirs = {
        history.step[history.selected].item(): predictions(
            truth, "predictions.parquet", "source_val"
        ),
        history.step.max(): predictions(truth, "predictions.parquet", "last"),
    }
    for other, frame in theirs.items():
        assert np.allclose(ours, frame.filter(like="logit").to_numpy(), atol=1e-6) == (
            step == other
        )


def test_leave_one_out_takes_the_evaluation_with_the_best_mean():
    history = pd.DataFrame({"step": [10, 20, 30, 40], "val_auc": [0.9, 0.9, 0.5, 0.5]})
    curves = {"A": [0.9, 0.8, 0.6, 0.5], "B": [0.9, 0.5, 0.8, 0.6]}
    inner = {
        name: pd.DataFrame({"step": [7, 14, 21, 28], "val_auc": values})
        for name, values in curves.items()
    }
    assert leave_one_out(history, inner) == 30  # means .90 (too early), .65, .70, .55
    assert leave_one_out(pd.DataFrame({"step": []}), inner) is None
    with pytest.raises(DataError, match="B: 3 evaluations for 4"):
        leave_one_out(history, inner | {"B": inner["B"].head(3)})


def test_best_step_is_the_earliest_late_and_defined_one():
    assert best_step({10: 0.9, 40: 0.5, 70: 0.7, 100: 0.7}, 100) == 70
    assert best_step({40: 0.5, 70: float("nan")}, 100) == 40
    with pytest.raises(DataError, match="every grade"):
        best_step({10: 0.9, 40: float("nan")}, 100)


def test_curve_needs_nothing_of_the_held_out_domain(settings, cached, tmp_path):
    """With its manifest, store and features gone, the curve is the same."""
    data = tmp_path / "data"
    shutil.copytree(cached, data)
    for path in data.rglob(f"{HELD_OUT}.*"):
        path.unlink()
    manifests = [data / "manifests" / f"{domain}.csv" for domain in SOURCES]
    curve = model_selection.curve(
        settings(**EVALUATIONS), "erm", SOURCES[0], 0, manifests=manifests, data=data, device="cpu"
    )
    assert len(curve) == 6
    assert f"val_auc_{SOURCES[0]}" in curve
    assert f"val_auc_{SOURCES[1]}" not in curve


def test_method_without_steps_has_one_set_of_weights(settings, cached, tmp_path):
    folder = study(settings(True), "zero_shot", cached, tmp_path / "run")
    assert json.loads((folder / "selected.json").read_text()) == {"loso": None, "oracle": None}
    for rule in ("loso", "oracle"):
        ours = predictions(folder, "selected.parquet", rule).filter(like="logit").to_numpy()
        assert np.array_equal(
            ours,
            predictions(folder, "predictions.parquet", "source_val")
            .filter(like="logit")
            .to_numpy(),
        )


def test_checkpoints_are_kept_when_a_run_resumes(
    settings, cached, manifests, tmp_path, monkeypatch
):
    from clipdr.training import loop

    def keep(folder):
        rules = settings(**EVALUATIONS)
        run.train(
            rules,
            "dg",
            "erm",
            HELD_OUT,
            0,
            manifests=manifests,
            data=cached,
            folder=folder,
            keep=True,
            device="cpu",
        )
        return (folder / "checkpoints.safetensors").read_bytes()

    whole, original, count = keep(tmp_path / "whole"), loop.train_step, [0]

    def dying(*arguments):
        count[0] += 1
        if count[0] == 25:
            raise KeyboardInterrupt
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", dying)
        with pytest.raises(KeyboardInterrupt):
            keep(tmp_path / "cut")
    assert keep(tmp_path / "cut") == whole
