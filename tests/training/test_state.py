"""Training state: means, non-finite losses, selection, checkpoint, progress bar."""

import math

import pytest
import torch
from torch import nn

from clipdr import DataError
from clipdr.training import checkpoint
from clipdr.training.state import TrainingState, cpu_copy, progress


def build(path=None, digest="a", seed=0):
    torch.manual_seed(seed)
    model = nn.Linear(2, 1)
    optimizers = {"main": torch.optim.AdamW(model.parameters(), lr=0.1)}
    return TrainingState(model, optimizers, path, digest)


def step(state):
    """Train on random numbers and add the loss."""
    optimizer = state.optimizers["main"]
    optimizer.zero_grad()
    loss = state.model(torch.rand(4, 2)).square().mean()
    loss.backward()
    optimizer.step()
    state.add({"loss": loss})


def test_means_are_those_since_the_last_evaluation():
    state = build()
    for value in (1.0, 3.0):
        state.add({"ce": torch.tensor(value), "n": 2})
    assert state.means(2) == {"ce": 2.0, "n": 2.0}
    state.add({"ce": torch.tensor(5.0)})
    assert state.means(3) == {"ce": 5.0}


def test_means_of_a_term_that_is_absent_from_some_steps():
    for per_step, expected in ((False, 4.0), (True, 2.0)):
        state = build()
        state.add({"ce": torch.tensor(1.0), "extra": torch.tensor(4.0)})
        state.add({"ce": torch.tensor(3.0)})
        assert state.means(2, per_step=per_step) == {"ce": 2.0, "extra": expected}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_non_finite_loss_is_an_error_at_the_evaluation(value):
    state = build()
    state.add({"ce": torch.tensor(1.0)})
    state.add({"ce": torch.tensor(value)})
    with pytest.raises(
        DataError, match=r"NaN or infinite between steps 5 and 7 .*Lower the learning"
    ):
        state.means(7)


def test_non_finite_loss_is_never_written_to_a_checkpoint(tmp_path):
    state = build(tmp_path / "resume.pt")
    state.add({"ce": torch.tensor(math.nan)})
    with pytest.raises(DataError, match="NaN or infinite"):
        state.save(1)
    assert not (tmp_path / "resume.pt").exists()


def test_selection_takes_the_earliest_best_score_and_no_undefined_one():
    state = build()
    scores = [math.nan, -3.0, 1.0, 1.0, 0.0, math.nan]
    assert [state.improves("val", score) for score in scores] == [0, 1, 1, 0, 0, 0]
    assert state.best == {"val": 1.0}
    assert state.improves("other", 0.0)


def test_weights_are_copies_on_the_cpu():
    model = nn.Linear(2, 1)
    copy = cpu_copy(model.state_dict())
    before = copy["weight"].clone()
    with torch.no_grad():
        model.weight += 1
    assert torch.equal(copy["weight"], before)
    assert not copy["weight"].requires_grad


def test_resumed_state_continues_with_identical_results(tmp_path):
    """Interrupted in the middle of an evaluation interval: sums and generators are restored."""
    path = tmp_path / "resume.pt"
    state = build(path)
    for number in range(5):
        step(state)
        if number == 1:
            state.history.append({"step": 2} | state.means(2))
            state.improves("val", 0.5)
            state.selected["val"] = state.weights()
        if number == 2:
            state.save(3)
    whole = state.means(5), state.weights(), state.history, state.best, state.selected
    resumed = build(path, seed=1)
    torch.rand(9)
    assert resumed.load() == 3
    step(resumed)
    step(resumed)
    assert resumed.means(5) == whole[0]
    for name, value in resumed.weights().items():
        assert torch.equal(value, whole[1][name])
    assert resumed.history == whole[2]
    assert resumed.best == whole[3]
    assert torch.equal(resumed.selected["val"]["weight"], whole[4]["val"]["weight"])


def test_checkpoint_of_another_digest_is_ignored_with_a_message(tmp_path, capsys):
    path = tmp_path / "resume.pt"
    state = build(path)
    step(state)
    state.save(1)
    other = build(path, digest="b", seed=2)
    before = other.weights()
    assert other.load() == 0
    assert capsys.readouterr().err == (
        f"{path}: written with different settings, data or code. Training starts from scratch.\n"
    )
    assert torch.equal(other.weights()["weight"], before["weight"])
    assert path.is_file()


def test_checkpoint_of_other_processes_is_ignored(tmp_path, capsys, monkeypatch):
    path = tmp_path / "resume.pt"
    state = build(path)
    state.save(1)
    monkeypatch.setattr(checkpoint, "world", lambda: (0, 2))
    assert build(path).load() == 0
    assert "written by 1 processes instead of 2" in capsys.readouterr().err
    monkeypatch.setattr(checkpoint, "world", lambda: (1, 2))
    assert build(path).load() == 0
    assert capsys.readouterr().err == ""


def test_training_without_a_checkpoint_starts_silently(tmp_path, capsys):
    assert build().load() == 0
    build().save(1)
    assert build(tmp_path / "resume.pt").load() == 0
    assert capsys.readouterr().err == ""


def test_progress_prints_nothing_outside_a_terminal(capsys):
    with progress(3, 1) as advance:
        advance()
    assert capsys.readouterr().err.strip() == ""
