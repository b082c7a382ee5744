"""RET-CLIP: model, loss, training (RET-R1, R2, R5, R6, R7, R9, R10), on a toy cohort with tiny towers."""

import copy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from helpers import patients as cohort
from helpers.paths import ROOT

from clipdr import DataError
from clipdr.models.report_encoder import SmallReportEncoder, tokenize_reports
from clipdr.pretrain import loop, run
from clipdr.pretrain.data import patients_table
from clipdr.pretrain.data.loader import Visits, mirrored, plan
from clipdr.pretrain.model import LEVELS, TARGETS, Aligned, compare, floor, tripartite
from clipdr.pretrain.settings import PRESETS, rules
from clipdr.training import distributed

TINY = {
    "image": "vit/32/2/8", "weights": "random", "side": 32, "width": 16, "length": 24, "batch_size": 16, "epochs": 2, "crop": 1.0,
    "jitter": 0.0, "rotate": 0.0, "save_every": 1000, "lr_image": 2e-3, "lr_text": 2e-3, "lr_heads": 4e-3,
}  # fmt: skip


def tiny(**changes):
    return rules("small", TINY | changes)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    cohort.make(folder, monocular=4)
    return folder


@pytest.fixture(scope="module")
def table(data):
    return patients_table.read(data / "patients" / "toy.csv")


def model_and_visits(table, data, **changes):
    settings = tiny(**changes)
    model, _ = run.build(settings, run.training_texts(table))
    return model, run.visits(table, "train", data, settings, model.text), settings


def test_r01_the_loss_decreases(data, tmp_path):
    """RET-R1 on the toy cohort: by more than 0.5 nats, and it stays above the printed floor."""
    run.train(
        tmp_path / "run",
        data / "patients" / "toy.csv",
        data,
        tiny(epochs=20, image="timm/test_efficientnet", lr_image=1e-3, lr_text=5e-4, lr_heads=1e-3),
    )
    history = pd.read_csv(tmp_path / "run" / "history.csv")
    assert history["loss"].iloc[-1] < history["loss"].iloc[0] - 0.5
    bottom = sum(history[f"floor_{level}"].iloc[-1] for level in LEVELS)
    assert bottom > 0 and history["loss"].iloc[-1] > bottom
    assert (
        history["selected"].sum() == 1
        and history.loc[history["selected"], "val_loss"].item() == history["val_loss"].min()
    )
    assert not (tmp_path / "run" / "resume.pt").exists()
    model, _ = run.load(tmp_path / "run")
    assert (model.log_scale >= 0).all() and (model.log_scale <= np.log(100)).all()


def test_r02_swapped_eyes_go_through_the_other_heads(table, data):
    """RET-R2, in evaluation mode."""
    model, train, _ = model_and_visits(table, data)
    rows = np.flatnonzero(train.present.all(1).numpy())[:6]
    batch = train.batch(rows)
    with torch.no_grad():
        model.eval()
        raw = model.raw(batch.image, batch.present)
        z = model.project(raw, batch.present)
        swapped = model.project(model.raw(batch.image.flip(1), batch.present), batch.present)
        for number, (level, other) in enumerate((("left", 1), ("right", 0))):
            expected = F.normalize(raw[:, other] @ model.image_heads[level].weight.T, dim=-1)
            assert torch.allclose(swapped[number], expected, atol=1e-6)
        assert (swapped[2] - z[2]).abs().max() > 1e-3
        changed = batch.image.clone()
        changed[:, 1] = changed[:, 1].flip(0)
        again = model.project(model.raw(changed, batch.present), batch.present)
        assert torch.allclose(again[0], z[0], atol=1e-6) and (again[1] - z[1]).abs().max() > 1e-3


WORKER = """
import sys, warnings
from pathlib import Path
sys.path[:0] = [sys.argv[2], str(Path(sys.argv[2]).parent)]
warnings.filterwarnings("ignore", message=".*all_gather.*")
import numpy as np, torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
import test_loop as t
from clipdr.pretrain import loop, run
torch.set_num_threads(1)
dist.init_process_group("gloo")
data, changes, out = Path(sys.argv[1]), eval(sys.argv[3]), sys.argv[4]
torch.save(t.three_steps(data, **changes), f"{out}/rank{dist.get_rank()}.pt")
dist.destroy_process_group()
"""


def three_steps(data, **changes):
    """Losses and gradients of the first step, and weights after three, of this process's share of the batches."""
    table = patients_table.read(Path(data) / "patients" / "toy.csv")
    model, train, settings = model_and_visits(table, Path(data), **changes)
    rank, world = distributed.world()
    inner, optimizer = (
        model,
        torch.optim.AdamW(loop.groups(model, settings), betas=settings.betas, eps=1e-3),
    )
    if world > 1:
        model = torch.nn.parallel.DistributedDataParallel(model, broadcast_buffers=False)
    scaler, found = torch.amp.GradScaler("cpu", enabled=False), {}
    for step, (epoch, rows) in enumerate(plan(train.patient, settings.batch_size, 2, 0)[:3]):
        share = rows[rank * len(rows) // world : (rank + 1) * len(rows) // world]
        batch = train.batch(share, epoch, 0)
        if step == 0:
            batch.member[0, :2] = False  # levels of different size on every rank
        losses, _ = loop.train_step(model, inner, optimizer, scaler, batch, settings)
        if step == 0:
            found = {
                "loss": losses,
                "gradient": {
                    name: parameter.grad.clone() for name, parameter in inner.named_parameters()
                },
            }
    return found | {
        "weights": {
            name: parameter.detach().clone() for name, parameter in inner.named_parameters()
        }
    }


def largest(one, other):
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.mark.parametrize("changes", [{"targets": "onehot"}, {"targets": "same_text", "chunk": 3}])
def test_r05_two_processes_give_the_loss_the_gradients_and_the_weights_of_one(
    data, tmp_path, changes
):
    """RET-R5: gloo, monocular rows, all levels; with and without accumulation. clip_norm off: its share is tested by the weights."""
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    arguments = [str(script), str(data), str(Path(__file__).parent), repr(changes), str(tmp_path)]
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node=2",
        *arguments,
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    two = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]
    first = plan_member_change(data, changes)
    for found in two:
        assert float((found["loss"] - first["loss"]).abs().max()) <= 1e-5
        assert largest(found["gradient"], first["gradient"]) <= 1e-5
        assert largest(found["weights"], first["weights"]) <= 1e-5


def plan_member_change(data, changes):
    """three_steps in one process, with the same rows taken out as both ranks take out: the first two of either half."""
    original = Visits.batch

    def halves(self, rows, epoch=None, seed=None):
        batch = original(self, rows, epoch, seed)
        if not halves.done:
            batch.member[0, len(rows) // 2 : len(rows) // 2 + 2] = False
            halves.done = True
        return batch

    halves.done = False
    Visits.batch = halves
    try:
        return three_steps(data, **(changes | {"chunk": 0}))
    finally:
        Visits.batch = original


def test_r05_accumulation_gives_the_large_batch(data):
    """RET-R5: chunks of 5 of a batch of 16, random augmentation included."""
    whole, parts = (
        three_steps(data, crop=0.8, jitter=0.2, rotate=10, chunk=chunk) for chunk in (0, 5)
    )
    assert float((whole["loss"] - parts["loss"]).abs().max()) <= 1e-5
    assert largest(whole["gradient"], parts["gradient"]) <= 1e-5
    assert largest(whole["weights"], parts["weights"]) <= 1e-5


def test_accumulation_with_live_batchnorm_is_refused(table, data):
    settings = tiny(image="timm/test_efficientnet", chunk=4)
    model, _ = run.build(settings, run.training_texts(table))
    with pytest.raises(DataError, match="freeze_norm"):
        loop.normalisation(model, settings, torch.device("cpu"))


class Cut(Exception):
    pass


@pytest.mark.parametrize("after", [1, 2, 3, 4])
def test_r06_a_cut_run_goes_on_bit_for_bit(data, tmp_path, monkeypatch, after):
    """RET-R6: cut after `after` of 4 steps, 2 to the epoch, saved at every step; a BatchNorm tower, with augmentation."""
    settings = tiny(
        image="timm/test_efficientnet", batch_size=16, epochs=2, save_every=1, crop=0.8, jitter=0.2
    )
    path = data / "patients" / "toy.csv"
    captured, original = {}, loop.State.save

    def save(self, step):
        original(self, step)
        captured[step] = torch.load(self.path, weights_only=True)
        if step == save.cut:
            raise Cut

    monkeypatch.setattr(loop.State, "save", save)
    save.cut = 0
    run.train(tmp_path / "whole", path, data, settings)
    whole = copy.deepcopy(captured)
    assert sorted(whole) == [1, 2, 3, 4]
    save.cut = after
    with pytest.raises(Cut):
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
    """Nested values, tensors bit for bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other or (one != one and other != other)


def test_a_state_of_other_settings_is_refused(data, tmp_path, monkeypatch):
    monkeypatch.setattr(loop.State, "end_epoch", lambda *arguments: (_ for _ in ()).throw(Cut))
    path = data / "patients" / "toy.csv"
    with pytest.raises(Cut):
        run.train(tmp_path, path, data, tiny(save_every=1))
    with pytest.raises(DataError, match="other settings"):
        run.train(tmp_path, path, data, tiny(save_every=1, lr_text=1e-4))


def test_r07_mirror_swap_keeps_laterality(table, data):
    """RET-R7: twice the identity on images and texts; a mirrored patient's left photograph is the right one, flipped."""
    image, present = (
        torch.rand(3, 2, 3, 8, 8),
        torch.tensor([[True, False], [True, True], [False, True]]),
    )
    member, chosen = (
        torch.tensor([[1, 1, 0], [0, 1, 1], [1, 1, 1]], dtype=torch.bool),
        torch.tensor([True, False, True]),
    )
    once = mirrored(image, present, member, chosen)
    assert torch.equal(once[0][0, 0], image[0, 1].flip(-1)) and torch.equal(once[0][1], image[1])
    twice = mirrored(*once, chosen)
    assert all(
        torch.equal(one, other) for one, other in zip(twice, (image, present, member), strict=True)
    )
    _, train, _ = model_and_visits(table, data, flip="mirror_swap", text_split="side")
    swapped, plain = train.texts(mirrored=True), train.texts()
    assert (swapped[:, 0] == plain[:, 1]).all() and (swapped[:, 1] == plain[:, 0]).all()
    assert all(
        other.startswith("Right eye: ")
        for one, other in zip(plain[:, 2], swapped[:, 2], strict=True)
        if one.startswith("Left eye")
    )
    rows = np.arange(len(train))
    batch = train.batch(rows, 0, 0)
    flipped = np.array([not torch.equal(batch.token[row], train.token[row]) for row in rows])
    assert 0 < flipped.sum() < len(rows)
    for row in rows:
        shown = batch.image[row].flip(-1).flip(0) if flipped[row] else batch.image[row]
        assert torch.allclose(shown, train.batch(rows[row : row + 1]).image[0], atol=1e-6)


def test_r07_no_training_photograph_is_mirrored_by_default(table, data):
    """RET-R7: the fixture's left half differs from its right half; `upstream` mirrors some, `none` none."""
    shown = {}
    for flip in ("none", "upstream"):
        _, train, _ = model_and_visits(table, data, flip=flip)
        rows = np.arange(len(train))
        image, plain = (
            train.batch(rows, 0, 0).image[train.present],
            train.batch(rows).image[train.present],
        )
        shown[flip] = [
            torch.allclose(one, other.flip(-1), atol=1e-6)
            for one, other in zip(image, plain, strict=True)
        ]
    assert not any(shown["none"]) and 0.3 < np.mean(shown["upstream"]) < 0.7
    assert PRESETS["paper"].flip == PRESETS["small"].flip == "none"


def test_mirror_swap_wants_texts_per_eye(table, data):
    with pytest.raises(DataError, match="whole report only"):
        model_and_visits(table.assign(text_left=""), data, flip="mirror_swap")


def test_r09_one_function_serves_left_right_and_unknown_eyes(table, data):
    """RET-R9: a duplicated eye is n((W_g[:, :E] + W_g[:, E:]) v); raw v cannot be compared with text."""
    model, train, _ = model_and_visits(table, data)
    model.eval()
    with torch.no_grad():
        image = train.batch(np.arange(5, 9)).image[:, 0]
        v = model.image(image)
        left, right = model.image_heads["patient"].weight.chunk(2, 1)
        expected = {
            "left": model.image_heads["left"](v),
            "right": model.image_heads["right"](v),
            "unknown": v @ (left + right).T,
        }
        for side, vector in expected.items():
            found = model.eyes(image, side)
            assert found.level == ("patient" if side == "unknown" else side)
            assert torch.allclose(found.vector, F.normalize(vector, dim=-1), atol=1e-6)
    with pytest.raises(DataError, match="side"):
        model.eyes(image, "both")
    text = Aligned("patient", F.normalize(torch.randn(2, 16), dim=-1))
    assert compare(model.eyes(image), text).shape == (4, 2)
    for wrong in (v, model.eyes(image, "left")):
        with pytest.raises(DataError, match="comparable"):
            compare(wrong, text)


@pytest.mark.parametrize("monocular", ["duplicate", "skip"])
def test_r10_left_eyes_only(table, data, monocular):
    """RET-R10: L_right is 0, gradients are finite, every parameter has one (so DDP does not wait for it)."""
    model, train, settings = model_and_visits(table, data, monocular=monocular)
    rows = np.flatnonzero(~train.present[:, 1].numpy())
    assert len(rows) > 1
    losses, seen = loop.backward(
        model, train.batch(rows), settings, torch.amp.GradScaler("cpu", enabled=False)
    )
    assert losses[1] == 0 and (losses[2] == 0) == (monocular == "skip") and "right" not in seen
    assert all(
        parameter.grad is not None and parameter.grad.isfinite().all()
        for parameter in model.parameters()
    )


def test_r10_two_processes_do_not_hang_on_left_eyes_only(tmp_path):
    """RET-R10 with DDP: every patient of the cohort has a left eye only."""
    cohort.make(tmp_path, patients=40, monocular=40)
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    arguments = [str(script), str(tmp_path), str(Path(__file__).parent), "{}", str(tmp_path)]
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node=2",
        *arguments,
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert float(torch.load(tmp_path / "rank1.pt", weights_only=True)["loss"][1]) == 0


def test_an_eye_of_unknown_side_takes_part_as_a_patient_only(table, data):
    _, train, _ = model_and_visits(table.assign(side_known="0"), data)
    assert not train.member[:2].any() and train.member[2].all()


def test_an_empty_report_takes_part_nowhere(table, data):
    _, train, _ = model_and_visits(table.assign(text=""), data)
    assert not train.member.any()


@pytest.mark.parametrize("targets", TARGETS)
def test_the_loss_of_one_process_is_that_of_the_levels(targets):
    z, u = (F.normalize(torch.randn(3, 6, 8), dim=-1) for _ in range(2))
    member = torch.ones(3, 6, dtype=torch.bool)
    member[0, 2:] = False
    content = torch.tensor([[0, 0, 1, 2, 3, 4]] * 3)
    losses, seen = tripartite(z, u, torch.full((3,), 5.0), member, content, targets)
    assert losses[0] == pytest.approx(
        float(TARGETS[targets](z[0, :2], u[0, :2], 5.0, content[0, :2]))
    )
    assert (
        seen["left"]["n"] == 2
        and seen["left"]["floor"] == pytest.approx(np.log(2))
        and seen["patient"]["floor"] == floor(content[0])
    )


def test_no_patient_stands_twice_in_a_batch():
    patient = np.array([f"p{number // 2}" for number in range(60)])
    batches = plan(patient, 10, 3, 0)
    assert len(batches) >= 15
    for epoch in range(3):
        rows = np.concatenate([rows for one, rows in batches if one == epoch])
        assert len(set(rows)) == len(rows)
    assert all(len(set(patient[rows])) == 10 for _, rows in batches)
    assert [rows.tolist() for _, rows in batches] == [
        rows.tolist() for _, rows in plan(patient, 10, 3, 0)
    ]


def test_a_batch_is_a_function_of_seed_epoch_and_row(table, data):
    _, train, _ = model_and_visits(table, data, crop=0.7, jitter=0.3, rotate=10, erase=0.5)
    whole, part = train.batch(np.array([3, 8, 5]), 1, 0), train.batch(np.array([8]), 1, 0)
    assert torch.equal(whole.image[1], part.image[0])
    assert not torch.equal(train.batch(np.array([8]), 2, 0).image[0], part.image[0])
    assert (whole.image >= 0).all() and (whole.image <= 1).all()


def test_a_small_text_encoder_does_not_see_padding():
    torch.manual_seed(0)
    encoder = SmallReportEncoder(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "左"], 12).eval()
    token, cut = tokenize_reports(encoder, ["a b 左 c", "a"])
    assert (
        token[0, :6].tolist() == [2, 4, 5, 6, 1, 3]
        and token[1].tolist() == [2, 4, 3] + [0] * 9
        and cut == 0
    )
    assert torch.allclose(encoder(token)[1], encoder(token[1:])[0], atol=1e-6)
    assert tokenize_reports(encoder, ["a " * 40])[1] == 1.0


@pytest.mark.parametrize(
    ("name", "decay"),
    [("image.trunk.fc_norm.weight", 0.0), ("log_scale", 0.0), ("text_heads.left.0.weight", 0.05)],
)
def test_vectors_are_not_decayed(table, data, name, decay):
    model, _, settings = model_and_visits(table, data)
    wanted = dict(model.named_parameters())[name]
    assert [
        group["weight_decay"]
        for group in loop.groups(model, settings)
        if any(p is wanted for p in group["params"])
    ] == [decay]


def test_the_rate_warms_up_and_falls_to_zero():
    assert [loop.rate(step, 100, 50) for step in (0, 49)] == [1 / 50, 1.0]
    assert (
        loop.rate(50, 100, 50) == 1.0
        and loop.rate(99, 100, 50) < 0.002
        and loop.rate(4, 100, 0.1) == 0.5
    )


def test_unknown_settings_are_named():
    with pytest.raises(DataError, match="lr_iamge"):
        rules("small", {"lr_iamge": 1})
    with pytest.raises(DataError, match="known are paper, small"):
        rules("large", {})
