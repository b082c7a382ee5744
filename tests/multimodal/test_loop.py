"""Training loop of the multimodal system: resume, ignored checkpoints, identity, processes."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers.multimodal_toy import TINY, built, pack
from helpers.paths import ROOT

from clipdr.artifacts import receipts
from clipdr.multimodal import loop, run
from clipdr.multimodal.settings import make_settings


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    return pack(tmp_path_factory.mktemp("packed"))


class CutError(Exception):
    pass


@pytest.mark.parametrize("steps", [3, 4, 7])
def test_interrupted_run_resumes_with_identical_results(packed, tmp_path, steps):
    """Interrupted in the middle of an epoch, after one and near the end, with dropout.

    A run has 8 steps and evaluations at 3, 5 and 8.
    """
    model, datasets = built(packed, dropout=0.1)
    whole = loop.fit(model, datasets, 0)
    model, datasets = built(packed, dropout=0.1)
    batch, trained_steps = datasets["train"].batch, []

    def cut(step, *arguments):
        if step == steps:
            raise CutError
        trained_steps.append(step)
        return batch(step, *arguments)

    datasets["train"].batch = cut
    with pytest.raises(CutError):
        loop.fit(model, datasets, 0, tmp_path / "resume.pt", "a")
    torch.manual_seed(99)
    again, datasets = built(packed, dropout=0.1)
    resumed = loop.fit(again, datasets, 0, tmp_path / "resume.pt", "a")
    assert trained_steps == list(range(steps))
    assert resumed.history.equals(whole.history)
    for rule, state in whole.states.items():
        assert all(
            torch.equal(value, resumed.states[rule][name]) for name, value in state.items()
        ), rule
    other, datasets = built(packed, dropout=0.1)
    optimizers = {"main": loop.build_optimizer(other)}
    assert loop.State(other, optimizers, tmp_path / "resume.pt", "b").load() == 0


PROCESS = """
import json, os, sys, torch
torch.set_num_threads(1)
sys.path.insert(0, {root!r}); sys.path.insert(0, {tests!r})
from helpers.multimodal_toy import ALL, built, weights_of
import torch.distributed as dist
from clipdr.multimodal import loop
from clipdr.training import distributed
from clipdr.training.state import cpu_copy
if "WORLD_SIZE" in os.environ:
    dist.init_process_group("gloo")
rank, count = distributed.world()
model, datasets = built({packed!r}, losses=ALL, inputs="history", every=1, lr=1e-4, tower_lr=1e-4)
optimizer, weights, losses = loop.build_optimizer(model), weights_of(datasets), []
for step in range(3):
    batch = datasets["train"].batch(step, 0, rank, count)
    terms = loop.train_step(model, optimizer, batch, weights, True)
    losses.append(float(terms["loss"]))
    if step == 0:
        named = dict(model.named_parameters())
        first = {{name: p.grad.clone() for name, p in named.items() if p.grad is not None}}
if rank == 0:
    state = cpu_copy(model.state_dict())
    torch.save({{"losses": losses, "first": first, "weights": state}}, {out!r})
"""


def test_two_processes_equal_one(packed, tmp_path):
    """Losses, clipped gradients of the first step and weights after three agree to 1e-5 (gloo).

    Every term is on. The rate is that of the full preset: AdamW divides by the size of a
    gradient, so that rounding of a tiny gradient moves a weight by the rate.
    """
    results = []
    for count in (1, 2):
        out = str(tmp_path / f"{count}.pt")
        script = tmp_path / f"run{count}.py"
        script.write_text(
            PROCESS.format(root=str(ROOT), tests=str(ROOT / "tests"), packed=str(packed), out=out)
        )
        launcher = (
            []
            if count == 1
            else ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        )
        done = subprocess.run(
            [sys.executable, *launcher, str(script)], capture_output=True, text=True, cwd=ROOT
        )
        assert done.returncode == 0, done.stderr[-3000:]
        results.append(torch.load(out, weights_only=True))
    one, two = results
    assert np.abs(np.subtract(one["losses"], two["losses"])).max() <= 1e-5
    assert set(one["first"]) == set(two["first"])
    for part in ("first", "weights"):
        assert (
            max(float((value - two[part][name]).abs().max()) for name, value in one[part].items())
            <= 1e-5
        ), part


def test_checkpoint_of_other_settings_is_ignored(packed, tmp_path, monkeypatch, capsys):
    def cut(self, step):
        save(self, step)
        raise CutError

    save = loop.State.save
    with monkeypatch.context() as patch:
        patch.setattr(loop.State, "save", cut)
        with pytest.raises(CutError):
            run.train(tmp_path / "cut" / "0", make_settings(TINY), 0, packed, "tiny", "cpu")
    other = make_settings(TINY | {"lr": 1e-4})
    capsys.readouterr()
    run.train(tmp_path / "cut" / "0", other, 0, packed, "tiny", "cpu")
    assert "resume.pt: written with different settings, data or code" in capsys.readouterr().err
    run.train(tmp_path / "fresh" / "0", other, 0, packed, "tiny", "cpu")
    assert capsys.readouterr().err == ""
    for name in run.WRITTEN:
        first, second = (tmp_path / folder / "0" / name for folder in ("cut", "fresh"))
        assert first.read_bytes() == second.read_bytes(), name
    receipt = receipts.read(tmp_path / "cut" / "0" / "provenance.json")
    assert {path.name for path in receipt.files} == set(run.WRITTEN)
    assert "torch" in receipt.content["versions"]
    assert not (tmp_path / "cut" / "0" / "resume.pt").exists()


def test_identity_follows_settings_seed_inputs_and_code(packed, monkeypatch):
    inputs = run.input_digests(packed, "tiny")
    assert set(inputs) == {"tiny.csv", "tiny.npy"}
    before = run.run_identity(make_settings(TINY), 0, inputs)
    assert run.run_identity(make_settings(TINY), 0, inputs) == before
    assert run.run_identity(make_settings(TINY), 1, inputs) != before
    assert run.run_identity(make_settings(TINY | {"lr": 1e-4}), 0, inputs) != before
    assert run.run_identity(make_settings(TINY), 0, inputs | {"tiny.npy": "another"}) != before
    monkeypatch.setattr(run, "source_digests", lambda command: {"multimodal/loop.py": command})
    assert run.run_identity(make_settings(TINY), 0, inputs) != before


def test_rule_without_defined_scores_keeps_the_first_weights(packed):
    model, _ = built(packed)
    state = loop.State(model, {}, None, "")
    first = state.weights()["log_scale"].clone()
    state.evaluate({}, {"val_qwk": float("nan"), "val_r1": 0.1})
    with torch.no_grad():
        model.log_scale += 1
    state.evaluate({}, {"val_qwk": float("nan"), "val_r1": 0.2})
    assert torch.equal(state.selected["grading"]["log_scale"], first)
    assert torch.equal(state.selected["retrieval"]["log_scale"], first + 1)
    state.evaluate({}, {"val_qwk": -0.5, "val_r1": 0.2})
    assert torch.equal(state.selected["grading"]["log_scale"], first + 1)
