"""Training loop: resume, selection, sanity checks of learning, isolation of the held-out domain."""

import inspect
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.toy import DOMAINS, SIDE
from safetensors.torch import load_file

from clipdr import DataError
from clipdr.config.job import Training
from clipdr.data.manifest import read_manifests
from clipdr.data.splits import fold
from clipdr.evaluation.metrics import METRICS
from clipdr.training import loop, run


def train(settings, method, toy, manifests, folder, seed=0):
    run.train(
        settings,
        "dg",
        method,
        DOMAINS[0],
        seed,
        manifests=manifests,
        data=toy,
        folder=folder,
        device="cpu",
    )
    return folder


@pytest.fixture
def stopped(monkeypatch):
    """Interrupt `train_step` at a given step, as a kill would."""

    def at(step):
        original, count = loop.train_step, [0]

        def dying(*arguments):
            if count[0] == step:
                raise KeyboardInterrupt
            count[0] += 1
            return original(*arguments)

        monkeypatch.setattr(loop, "train_step", dying)

    yield at
    monkeypatch.undo()


@pytest.mark.parametrize("method", ["clip_dr", "erm"])
@pytest.mark.parametrize("step", [7, 12])
def test_interrupted_run_resumes_with_identical_results(
    settings, cached, manifests, tmp_path, monkeypatch, stopped, method, step
):
    rules = settings(evaluations=6)
    whole = train(rules, method, cached, manifests, tmp_path / "whole")
    with monkeypatch.context():
        stopped(step)
        with pytest.raises(KeyboardInterrupt):
            train(rules, method, cached, manifests, tmp_path / "cut")
    monkeypatch.undo()
    assert (tmp_path / "cut" / "resume.pt").is_file()
    assert not (tmp_path / "cut" / "predictions.parquet").exists()
    cut = train(rules, method, cached, manifests, tmp_path / "cut")
    for name in ("settings.json", "history.csv", "predictions.parquet", "model.safetensors"):
        assert (whole / name).read_bytes() == (cut / name).read_bytes(), name
    assert not (cut / "resume.pt").exists()


def test_checkpoint_of_other_settings_is_ignored(
    settings, cached, manifests, tmp_path, monkeypatch, stopped, capsys
):
    with monkeypatch.context():
        stopped(12)
        with pytest.raises(KeyboardInterrupt):
            train(settings(evaluations=6), "erm", cached, manifests, tmp_path / "a")
    monkeypatch.undo()
    other = settings(evaluations=6, lr=1e-4)
    fresh = train(other, "erm", cached, manifests, tmp_path / "b")
    assert "starts from scratch" not in capsys.readouterr().err
    mixed = train(other, "erm", cached, manifests, tmp_path / "a")
    assert capsys.readouterr().err.endswith(
        f"{mixed}/resume.pt: written with different settings, data or code. "
        "Training starts from scratch.\n"
    )
    assert (fresh / "predictions.parquet").read_bytes() == (
        mixed / "predictions.parquet"
    ).read_bytes()


def test_grades_of_the_held_out_domain_do_not_change_training(
    settings, cached, manifests, tmp_path
):
    """With its grades replaced by noise, weights and history are the same bytes."""
    noisy = tmp_path / "data"
    shutil.copytree(cached, noisy)
    path = noisy / "manifests" / f"{DOMAINS[0]}.csv"
    frame = pd.read_csv(path, keep_default_na=False)
    frame["grade"] = np.random.default_rng(0).permutation(frame["grade"])
    frame.to_csv(path, index=False)
    for method, frozen in (
        ("clip_dr", False),
        ("zero_shot", True),
        ("linear_probe", True),
        ("coop", True),
    ):
        rules = settings(frozen)
        one = train(rules, method, cached, manifests, tmp_path / "one" / method)
        two = train(
            rules,
            method,
            noisy,
            [noisy / "manifests" / path.name for path in manifests],
            tmp_path / "two" / method,
        )
        assert (one / "model.safetensors").read_bytes() == (two / "model.safetensors").read_bytes()
        assert (one / "history.csv").read_bytes() == (two / "history.csv").read_bytes()


def test_fit_has_no_argument_for_a_test_set():
    names = set(inspect.signature(loop.fit).parameters)
    assert names == {
        "method",
        "train",
        "val",
        "training",
        "seed",
        "resume",
        "digest",
        "keep",
        "device",
    }


@pytest.mark.parametrize("method", ["erm", "clip_dr"])
def test_toy_study_is_learned_and_shuffled_grades_are_not(
    settings, cached, manifests, tmp_path, method
):
    """Intervals of QWK with true and with shuffled training grades are disjoint."""
    from clipdr.evaluation.scoring import score

    rules = settings(epochs=20, lr=3e-3, augment="none")
    shuffled = tmp_path / "shuffled"
    shutil.copytree(cached, shuffled)
    for path in (shuffled / "manifests").glob("*.csv"):
        frame = pd.read_csv(path, keep_default_na=False)
        if frame.domain[0] != DOMAINS[0]:
            training = frame.split == "train"
            frame.loc[training, "grade"] = np.random.default_rng(1).permutation(
                frame.grade[training]
            )
            frame.to_csv(path, index=False)
    qwk = {}
    for name, data in (("true", cached), ("shuffled", shuffled)):
        paths = [data / "manifests" / path.name for path in manifests]
        folder = train(rules, method, data, paths, tmp_path / name)
        scores = score(
            pd.read_parquet(folder / "predictions.parquet"), read_manifests(paths), 500
        ).scores
        qwk[name] = scores[
            (scores.selection == "last") & (scores.split == "test") & (scores.metric == "qwk")
        ].iloc[0]
    assert qwk["true"].low > 0.5
    assert qwk["shuffled"].high < qwk["true"].low


def test_selection_takes_the_best_late_evaluation(settings, cached, manifests, tmp_path):
    folder = train(settings(evaluations=6), "erm", cached, manifests, tmp_path / "run")
    history = pd.read_csv(folder / "history.csv")
    late = history[history.step > 0.3 * history.step.max()]
    assert history.selected.sum() == 1
    assert history.index[history.selected][0] == late.val_auc.idxmax()
    predictions = pd.read_parquet(folder / "predictions.parquet")
    val = predictions[(predictions.split == "val") & (predictions.selection == "source_val")]
    again = METRICS["auc"](val.grade.to_numpy(), val[[f"p{k}" for k in range(5)]].to_numpy())[0]
    assert again == pytest.approx(history.val_auc[history.selected].item(), abs=1e-12)


def test_non_finite_loss_stops_the_run(settings, cached, manifests, tmp_path):
    with pytest.raises(DataError, match="NaN or infinite"):
        train(settings(lr=1e30, optimizer="sgd"), "erm", cached, manifests, tmp_path / "run")
    assert not (tmp_path / "run" / "predictions.parquet").exists()


def test_run_folder_has_its_schema(settings, cached, manifests, tmp_path):
    """Schema of every file; the saved weights give the saved predictions."""
    rules = settings(True)
    folder = train(rules, "coop", cached, manifests, tmp_path / "run", seed=3)
    stored = json.loads((folder / "settings.json").read_text())
    assert stored == rules | {"protocol": "dg", "method": "coop", "held_out": DOMAINS[0], "seed": 3}
    provenance = json.loads((folder / "provenance.json").read_text())
    assert set(provenance["inputs"]) == {str(path) for path in manifests}
    predictions = pd.read_parquet(folder / "predictions.parquet")
    assert set(predictions.selection) == {"source_val", "last"}
    assert set(predictions[predictions.split == "test"].domain) == {DOMAINS[0]}
    assert set(predictions[predictions.split == "val"].domain) == set(DOMAINS[1:])
    assert np.allclose(predictions[[f"p{k}" for k in range(5)]].sum(axis=1), 1, atol=1e-12)
    manifest = read_manifests(manifests)
    parts = fold(manifest, "dg", DOMAINS[0])
    model, rows = run.build(rules, "coop", cached, manifest, parts, torch.device("cpu"))
    loop.restore(model, load_file(folder / "model.safetensors"))
    logits = loop.predict(model, rows["test"])
    saved = predictions[(predictions.split == "test") & (predictions.selection == "source_val")]
    assert np.abs(logits - saved[[f"logit_{k}" for k in range(5)]].to_numpy()).max() < 1e-5


def test_learning_rate_follows_schedule_and_warm_up():
    rules = {
        "epochs": 10,
        "batch_size": 2,
        "optimizer": "sgd",
        "lr": 0.1,
        "weight_decay": 0,
        "augment": "none",
        "evaluations": 1,
    }
    parameter = torch.nn.Parameter(torch.zeros(1))

    def rate(step, **more):
        optimizers = {"main": torch.optim.SGD([parameter], lr=1)}
        loop.set_rate(optimizers, Training(**rules, **more), step, 100, 10)
        return optimizers["main"].param_groups[0]["lr"]

    assert rate(99, schedule="constant") == 0.1
    assert rate(59, schedule="step", milestone=0.6) == 0.1
    assert rate(60, schedule="step", milestone=0.6) == pytest.approx(0.01)
    assert rate(50, schedule="cosine") == pytest.approx(0.05)
    assert rate(9, schedule="cosine", warmup_epochs=1) == 1e-5
    assert rate(10, schedule="constant", warmup_epochs=1) == 0.1


def test_weights_of_another_method_are_refused(settings, cached, manifests, tmp_path):
    folder = train(settings(True), "coop", cached, manifests, tmp_path / "run")
    manifest = read_manifests(manifests)
    parts = fold(manifest, "dg", DOMAINS[0])
    model, _ = run.build(
        settings(True), "linear_probe", cached, manifest, parts, torch.device("cpu")
    )
    with pytest.raises(DataError, match="do not fit"):
        loop.restore(model, load_file(folder / "model.safetensors"))


def test_peak_memory_of_loading_does_not_grow_with_the_store(tmp_path):
    """A store of 1 GiB is read batch by batch: less than a tenth of it becomes resident."""
    import resource

    from clipdr.data.loader import Images

    count, side = 12000, 170
    array = np.lib.format.open_memmap(
        tmp_path / "store.npy", mode="w+", dtype=np.uint8, shape=(count, side, side, 3)
    )
    del array
    frame = pd.DataFrame(
        {
            "domain": "A",
            "row": range(count),
            "grade": 0,
            **dict.fromkeys(("cx", "cy", "r", "w", "h"), 1.0),
        }
    )
    rows = Images(frame, {"A": np.load(tmp_path / "store.npy", mmap_mode="c")}, ["A"], SIDE)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for step in range(40):
        rows.batch(step, 16, 0)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 100
