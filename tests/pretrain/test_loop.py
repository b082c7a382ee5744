"""Training loop of pre-training: loss, selection, resume, settings."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import patients as cohort
from helpers.pretrain_toy import model_and_visits, tiny

from clipdr import DataError
from clipdr.pretrain import loop, run
from clipdr.pretrain.data import patients_table
from clipdr.pretrain.model import LEVELS
from clipdr.pretrain.settings import rules


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    cohort.make(folder, monocular=4)
    return folder


@pytest.fixture(scope="module")
def table(data):
    return patients_table.read(data / "patients" / "toy.csv")


def test_training_lowers_the_loss_to_above_its_bound(data, tmp_path):
    """The loss falls by more than 0.5 nats and stays above its lower bound."""
    run.train(
        tmp_path / "run",
        data / "patients" / "toy.csv",
        data,
        tiny(epochs=20, image="timm/test_efficientnet", lr_image=1e-3, lr_text=5e-4, lr_heads=1e-3),
    )
    history = pd.read_csv(tmp_path / "run" / "history.csv")
    assert history["loss"].iloc[-1] < history["loss"].iloc[0] - 0.5
    bottom = sum(history[f"floor_{level}"].iloc[-1] for level in LEVELS)
    assert bottom > 0
    assert history["loss"].iloc[-1] > bottom
    assert history["selected"].sum() == 1
    assert history.loc[history["selected"], "val_loss"].item() == history["val_loss"].min()
    assert not (tmp_path / "run" / "resume.pt").exists()
    model, _ = run.load(tmp_path / "run")
    assert (model.log_scale >= 0).all()
    assert (model.log_scale <= np.log(100)).all()


class CutError(Exception):
    pass


@pytest.mark.parametrize("after", [1, 2, 3, 4])
def test_interrupted_run_resumes_with_identical_results(data, tmp_path, monkeypatch, after):
    """Interrupted after 1 to 4 of 4 steps, two per epoch, saved at every step.

    The encoder has BatchNorm, and images are augmented.
    """
    settings = tiny(
        image="timm/test_efficientnet", batch_size=16, epochs=2, save_every=1, crop=0.8, jitter=0.2
    )
    path = data / "patients" / "toy.csv"
    captured, original = {}, loop.State.save

    def save(self, step):
        original(self, step)
        captured[step] = torch.load(self.path, weights_only=True)
        if step == save.cut:
            raise CutError

    monkeypatch.setattr(loop.State, "save", save)
    save.cut = 0
    run.train(tmp_path / "whole", path, data, settings)
    whole = copy.deepcopy(captured)
    assert sorted(whole) == [1, 2, 3, 4]
    save.cut = after
    with pytest.raises(CutError):
        run.train(tmp_path / "cut", path, data, settings)
    save.cut = 0
    torch.rand(7)  # another random state must not matter
    run.train(tmp_path / "cut", path, data, settings)
    assert equal(captured[4], whole[4])
    for name in run.WRITTEN:
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), (
            name
        )


def equal(one, other):
    """Compare nested values, tensors bitwise."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other or (one != one and other != other)


def test_checkpoint_of_other_settings_is_ignored(data, tmp_path, monkeypatch, capsys):
    path = data / "patients" / "toy.csv"
    with monkeypatch.context() as patch:
        patch.setattr(loop.State, "end_epoch", lambda *arguments: (_ for _ in ()).throw(CutError))
        with pytest.raises(CutError):
            run.train(tmp_path / "cut", path, data, tiny(save_every=1))
    other = tiny(save_every=1, lr_text=1e-4)
    capsys.readouterr()
    run.train(tmp_path / "cut", path, data, other)
    assert "resume.pt: written with different settings, data or code" in capsys.readouterr().err
    run.train(tmp_path / "fresh", path, data, other)
    assert capsys.readouterr().err == ""
    for name in run.WRITTEN:
        cut, fresh = (tmp_path / folder / name for folder in ("cut", "fresh"))
        assert cut.read_bytes() == fresh.read_bytes(), name


def test_identity_follows_settings_table_and_code(data, table, monkeypatch):
    path = data / "patients" / "toy.csv"
    _, visits, settings = model_and_visits(table, data)
    before = run.run_identity(settings, path, visits)
    assert run.run_identity(settings, path, visits) == before
    assert run.run_identity(tiny(seed=1), path, visits) != before
    assert run.run_identity(settings, data / "manifests" / "TOY.csv", visits) != before
    monkeypatch.setattr(run, "source_digests", lambda command: {"pretrain/loop.py": command})
    assert run.run_identity(settings, path, visits) != before


def test_warm_up_is_a_number_of_steps_or_a_share():
    assert loop.warmup_steps(tiny(warmup=50), 100) == 50
    assert loop.warmup_steps(tiny(warmup=0.1), 100) == 10
    assert loop.warmup_steps(tiny(warmup=0), 100) == 0


def test_unknown_settings_are_named_in_the_error():
    with pytest.raises(DataError, match="lr_iamge"):
        rules("small", {"lr_iamge": 1})
    with pytest.raises(DataError, match="Use one of paper, small"):
        rules("large", {})
