"""Towers, joint transformer, losses and training of the multimodal system: checks M9 and M11 to M13 of its specification."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers.multimodal_toy import ALL, built, pack, weights_of
from helpers.paths import ROOT

from clipdr import DataError
from clipdr.multimodal import loop, losses
from clipdr.multimodal.data import splits
from clipdr.multimodal.data.loader import other_patients
from clipdr.multimodal.settings import Weights, settings

OWN = {  # term -> parameters that no other term reaches
    "mim": ("pixels.",), "mlm": ("words.",), "grading": ("heads.", "fusion.kind.row"), "itm": ("match.",), "rows": ("project.row",),
}  # fmt: skip


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    return pack(tmp_path_factory.mktemp("packed"))


def gradients(model, visit, weights, on):
    """Names of the parameters with a gradient when only some terms are on, and the terms' values."""
    model.setting = model.setting.model_copy(
        update={"losses": Weights(**(dict.fromkeys(ALL, 0.0) | on))}
    )
    model.zero_grad(set_to_none=True)
    found = losses.parts(model, visit, weights, True)
    losses.total(found, model.setting.losses).backward()
    return {
        name
        for name, p in model.named_parameters()
        if p.grad is not None and p.grad.abs().sum() > 0
    }, found


def test_m9_each_loss_falls_alone_and_in_the_sum(packed):
    torch.manual_seed(0)
    for on in (*({name: 1.0} for name in ALL), ALL):
        model, visits = built(
            packed,
            losses=dict.fromkeys(ALL, 0.0) | on,
            every=1,
            lr=1e-3,
            tower_lr=1e-3,
            inputs="history",
        )
        optimizer, weights, visit = (
            loop.optimizer_of(model),
            weights_of(visits),
            visits["train"].batch(0, 0),
        )
        steps = 40 if on == {"itm": 1.0} else 8  # the hardest negatives change from step to step
        values = [
            float(loop.train_step(model, optimizer, visit, weights, True)["loss"])
            for _ in range(steps)
        ]
        assert min(values[-4:]) < values[0], on


def test_m9_each_switch_removes_just_its_gradients(packed):
    model, visits = built(packed, inputs="history")
    weights, visit = weights_of(visits), visits["train"].batch(0, 0)
    every, _ = gradients(model, visit, weights, ALL)
    assert every == {name for name, p in model.named_parameters() if p.requires_grad}
    for term, own in OWN.items():
        without, found = gradients(model, visit, weights, ALL | {term: 0.0})
        assert (
            term not in found
            and every - without
            and all(name.startswith(own) for name in every - without - {"image.mask"})
        ), term
        assert all(name not in without for name in every if name.startswith(own))


def test_m9_no_grades_give_no_gradient_to_the_heads(packed):
    model, visits = built(packed)
    visit = visits["train"].batch(0, 0)
    nothing = torch.full_like(visit.icdr, -1)
    losses.total(
        losses.parts(model, visit._replace(icdr=nothing, sdrg=nothing), weights_of(visits), False),
        Weights(),
    ).backward()
    assert all(not p.grad.any() for p in model.heads.parameters())
    for part in losses.grading(torch.randn(4, 5), torch.full((4,), -1), torch.ones(5)).flatten():
        assert part == 0


def test_m9_values_by_hand():
    a, b = (
        torch.nn.functional.normalize(torch.randn(4, 3), dim=1),
        torch.nn.functional.normalize(torch.randn(4, 3), dim=1),
    )
    q = losses.positives(torch.tensor([0, 1, 1, 2]))
    assert q.tolist() == [[1, 0, 0, 0], [0, 0.5, 0.5, 0], [0, 0.5, 0.5, 0], [0, 0, 0, 1]]
    s = 5 * a @ b.T
    hand = (
        sum(
            -q[i, j] * (torch.log_softmax(s[i], 0)[j] + torch.log_softmax(s[:, i], 0)[j])
            for i in range(4)
            for j in range(4)
        )
        / 8
    )
    assert torch.isclose(losses.contrast(a, b, q, 5.0), hand)
    weight = losses.class_weights([100, 4, 0, 1, 0])
    assert torch.allclose(
        weight, torch.tensor([(105 / 500) ** 0.5, (105 / 20) ** 0.5, 0, (105 / 5) ** 0.5, 0])
    )
    image = torch.rand(2, 3, 32, 32)
    found = losses.patches(image, (2, 2))
    assert found.shape == (2, 4, 768) and torch.allclose(
        found.mean(-1), torch.zeros(2, 4), atol=1e-5
    )
    assert losses.hardest(
        torch.tensor([[0.0, 3, 1], [1, 2, 9], [0, 1, 2]]), torch.tensor([0, 0, 1])
    ).tolist() == [2, 2, 1]


def test_m11_the_heads_disagree_where_the_scales_do(packed):
    """Overfit to photographs whose two grades differ: both heads give their own grade, neither is a function of the other."""
    model, visits = built(
        packed,
        losses=dict.fromkeys(ALL, 0.0) | {"grading": 1.0},
        lr=3e-3,
        tower_lr=1e-3,
        inputs="demo",
        absent=0.0,
    )
    visit = visits["train"].batch(0, 0)
    icdr = torch.tensor([0, 1, 2, 3, 4, 2, 1, 0])
    sdrg = torch.tensor(
        [1, 1, 3, 2, 4, 1, 2, 0]
    )  # icdr 2 goes with 3 and 1, sdrg 1 with icdr 0, 1 and 2
    visit, ones = (
        visit._replace(icdr=icdr, sdrg=sdrg),
        {name: torch.ones(5) for name in ("icdr", "sdrg")},
    )
    optimizer = loop.optimizer_of(model)
    for _ in range(60):
        loop.train_step(model, optimizer, visit, ones, False)
    model.eval()
    with torch.no_grad():
        summary, _ = model.join(model.see(visit.image), row=model.row(visit.row))
        found = {name: logits.argmax(1) for name, logits in model.grades(summary).items()}
    assert torch.equal(found["icdr"], icdr) and torch.equal(found["sdrg"], sdrg)
    assert (found["icdr"] != found["sdrg"]).any()


def test_m12_one_checkpoint_takes_any_subset_of_the_modalities(packed):
    model, visits = built(packed, inputs="history", text="history")
    found = {}
    for name, without in {
        "image": ("row", "text"),
        "image + row": ("text",),
        "image + text + row": (),
    }.items():
        found[name] = loop.predict(model, visits["test"], without=without)["icdr"]
        assert np.isfinite(found[name]).all()
    assert not np.array_equal(found["image"], found["image + row"]) and not np.array_equal(
        found["image + row"], found["image + text + row"]
    )
    empty = visits["test"]._with(told=[()] * len(visits["test"]), said=[()] * len(visits["test"]))
    assert (
        np.isfinite(loop.predict(model, empty)["icdr"]).all()
        and np.isfinite(loop.embed(model, empty)["text"]).all()
    )
    gone = np.ones(len(visits["test"]), bool)
    same = loop.predict(model, visits["test"], absent={"row": gone, "text": gone})["icdr"]
    assert np.array_equal(same, found["image"])


def test_text_for_a_classifier_needs_the_history_and_a_leaky_setting_says_so():
    with pytest.raises(DataError, match="set inputs to history"):
        settings({"text": "history"})
    with pytest.raises(DataError, match="batch"):
        settings({"batch": 3})
    assert (
        settings({"contrast": "fused"}).leaky
        and settings({"split": "image_leaky"}).leaky
        and not settings({}).leaky
    )


def test_shuffled_rows_are_those_of_another_patient(packed):
    _, visits = built(packed)
    patient = splits.patients_of(visits["train"].eyes).to_numpy()
    other = other_patients(patient, 0)
    assert (patient[other] != patient).all()
    assert torch.equal(visits["train"].shuffled(0).row, visits["train"].row[other])


class Cut(Exception):
    pass


@pytest.mark.parametrize("steps", [3, 4, 7])
def test_m13_a_cut_run_goes_on_bit_for_bit(packed, tmp_path, steps):
    """Cut in the middle of an epoch, after one and near the end (8 steps, evaluations at 3, 5, 8); dropout: the generators matter."""
    model, visits = built(packed, dropout=0.1)
    whole = loop.fit(model, visits, 0)
    model, visits = built(packed, dropout=0.1)
    batch, seen = visits["train"].batch, []

    def cut(step, *arguments):
        if step == steps:
            raise Cut
        seen.append(step)
        return batch(step, *arguments)

    visits["train"].batch = cut
    with pytest.raises(Cut):
        loop.fit(model, visits, 0, tmp_path / "resume.pt", "a")
    torch.manual_seed(99)
    again, visits = built(packed, dropout=0.1)
    resumed = loop.fit(again, visits, 0, tmp_path / "resume.pt", "a")
    assert seen == list(range(steps))
    assert resumed.history.equals(whole.history)
    for rule, state in whole.states.items():
        assert all(
            torch.equal(value, resumed.states[rule][name]) for name, value in state.items()
        ), rule
    other, visits = built(packed, dropout=0.1)
    assert loop.State(other, loop.optimizer_of(other), tmp_path / "resume.pt", "b").load() == 0


PROCESS = """
import json, os, sys, torch
torch.set_num_threads(1)
sys.path.insert(0, {root!r}); sys.path.insert(0, {tests!r})
from helpers.multimodal_toy import ALL, built, weights_of
import torch.distributed as dist
from clipdr.multimodal import loop as training
from clipdr.training import distributed as processes
if "WORLD_SIZE" in os.environ:
    dist.init_process_group("gloo")
rank, count = processes.world()
model, visits = built({packed!r}, losses=ALL, inputs="history", every=1, lr=1e-4, tower_lr=1e-4)
optimizer, weights, losses = training.optimizer_of(model), weights_of(visits), []
for step in range(3):
    found = training.train_step(model, optimizer, visits["train"].batch(step, 0, rank, count), weights, True)
    losses.append(float(found["loss"]))
    if step == 0:
        first = {{name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}}
if rank == 0:
    torch.save({{"losses": losses, "first": first, "weights": training.copied(model)}}, {out!r})
"""


def test_m13_two_processes_equal_one(packed, tmp_path):
    """gloo, every term on: loss, gradients of the first step (after clipping) and weights after three steps agree to 1e-5.

    At the rate of the full preset: AdamW divides by the size of a gradient, so that rounding of a tiny one moves a weight by the rate.
    """
    found = []
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
        found.append(torch.load(out, weights_only=True))
    one, two = found
    assert np.abs(np.subtract(one["losses"], two["losses"])).max() <= 1e-5
    assert set(one["first"]) == set(two["first"])
    for part in ("first", "weights"):
        assert (
            max(float((value - two[part][name]).abs().max()) for name, value in one[part].items())
            <= 1e-5
        ), part


def test_settings_of_a_study_are_json(packed):
    assert (
        json.loads(json.dumps(settings({}, "full").model_dump()))["tower"]
        == "timm/vit_base_patch16_224"
    )
