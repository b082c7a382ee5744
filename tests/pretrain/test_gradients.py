"""Gradients of pre-training: exact on several processes and over chunks, for every batch."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import patients as cohort
from helpers.paths import ROOT
from helpers.pretrain_toy import model_and_visits, tiny

from clipdr import DataError
from clipdr.pretrain import run
from clipdr.pretrain.data import patients_table
from clipdr.pretrain.data.loader import Visits, plan
from clipdr.pretrain.gradients import backward, parameter_groups, prepare_batchnorm, train_step
from clipdr.training import distributed


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    cohort.make(folder, monocular=4)
    return folder


@pytest.fixture(scope="module")
def table(data):
    return patients_table.read(data / "patients" / "toy.csv")


WORKER = """
import sys, warnings
from pathlib import Path
sys.path[:0] = [sys.argv[2], str(Path(sys.argv[2]).parent)]
warnings.filterwarnings("ignore", message=".*all_gather.*")
import numpy as np, torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
import test_gradients as t
torch.set_num_threads(1)
dist.init_process_group("gloo")
data, changes, out = Path(sys.argv[1]), eval(sys.argv[3]), sys.argv[4]
torch.save(t.three_steps(data, **changes), f"{out}/rank{dist.get_rank()}.pt")
dist.destroy_process_group()
"""


def three_steps(data, **changes):
    """Losses and gradients of the first step, weights after three, of this process's share."""
    table = patients_table.read(Path(data) / "patients" / "toy.csv")
    model, train, settings = model_and_visits(table, Path(data), **changes)
    rank, world = distributed.world()
    inner, optimizer = (
        model,
        torch.optim.AdamW(parameter_groups(model, settings), betas=settings.betas, eps=1e-3),
    )
    if world > 1:
        model = torch.nn.parallel.DistributedDataParallel(model, broadcast_buffers=False)
    scaler, results = torch.amp.GradScaler("cpu", enabled=False), {}
    for step, (epoch, rows) in enumerate(plan(train.patient, settings.batch_size, 2, 0)[:3]):
        share = rows[rank * len(rows) // world : (rank + 1) * len(rows) // world]
        batch = train.batch(share, epoch, 0)
        if step == 0:
            batch.member[0, :2] = False  # levels of different size on every rank
        losses, _ = train_step(model, inner, optimizer, scaler, batch, settings)
        if step == 0:
            results = {
                "loss": losses,
                "gradient": {
                    name: parameter.grad.clone() for name, parameter in inner.named_parameters()
                },
            }
    return results | {
        "weights": {
            name: parameter.detach().clone() for name, parameter in inner.named_parameters()
        }
    }


def largest(one, other):
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.mark.parametrize("changes", [{"targets": "onehot"}, {"targets": "same_text", "chunk": 3}])
def test_two_processes_equal_one_in_loss_gradients_and_weights(data, tmp_path, changes):
    """Two processes (gloo), monocular rows, all levels, with and without accumulation.

    Gradients are not clipped, so that they can be compared.
    """
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
    for result in two:
        assert float((result["loss"] - first["loss"]).abs().max()) <= 1e-5
        assert largest(result["gradient"], first["gradient"]) <= 1e-5
        assert largest(result["weights"], first["weights"]) <= 1e-5


def plan_member_change(data, changes):
    """Run `three_steps` in one process without the rows that both ranks leave out.

    These are the first two rows of either half.
    """
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


def test_accumulated_gradients_equal_those_of_the_whole_batch(data):
    """Chunks of 5 of a batch of 16, with random augmentation."""
    whole, parts = (
        three_steps(data, crop=0.8, jitter=0.2, rotate=10, chunk=chunk) for chunk in (0, 5)
    )
    assert float((whole["loss"] - parts["loss"]).abs().max()) <= 1e-5
    assert largest(whole["gradient"], parts["gradient"]) <= 1e-5
    assert largest(whole["weights"], parts["weights"]) <= 1e-5


def test_accumulation_with_trained_batchnorm_is_refused(table, data):
    settings = tiny(image="timm/test_efficientnet", chunk=4)
    model, _ = run.build(settings, run.training_texts(table))
    with pytest.raises(DataError, match="freeze_norm"):
        prepare_batchnorm(model, settings, torch.device("cpu"))


@pytest.mark.parametrize("monocular", ["duplicate", "skip"])
def test_batch_of_left_eyes_has_finite_gradients(table, data, monocular):
    """L_right is 0, and every parameter has a finite gradient, for which DDP waits."""
    model, train, settings = model_and_visits(table, data, monocular=monocular)
    rows = np.flatnonzero(~train.present[:, 1].numpy())
    assert len(rows) > 1
    losses, levels = backward(
        model, train.batch(rows), settings, torch.amp.GradScaler("cpu", enabled=False)
    )
    assert losses[1] == 0
    assert (losses[2] == 0) == (monocular == "skip")
    assert "right" not in levels
    assert all(
        parameter.grad is not None and parameter.grad.isfinite().all()
        for parameter in model.parameters()
    )


def test_two_processes_train_on_left_eyes_only(tmp_path):
    """Under DDP, every patient of the cohort has a left eye only."""
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


@pytest.mark.parametrize(
    ("name", "decay"),
    [("image.trunk.fc_norm.weight", 0.0), ("log_scale", 0.0), ("text_heads.left.0.weight", 0.05)],
)
def test_vectors_have_no_weight_decay(table, data, name, decay):
    model, _, settings = model_and_visits(table, data)
    wanted = dict(model.named_parameters())[name]
    assert [
        group["weight_decay"]
        for group in parameter_groups(model, settings)
        if any(p is wanted for p in group["params"])
    ] == [decay]
