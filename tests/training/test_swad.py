"""SWAD: the online average against the rule of the paper on complete lists, and in the loop."""

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.toy import DOMAINS
from safetensors.torch import load_file

from clipdr.data.manifest import read_manifests
from clipdr.data.splits import fold
from clipdr.methods.erm import Erm
from clipdr.training import loop, run
from clipdr.training.swad import CONVERGE, OVERFIT, Swad


def averaged(losses, steps, weights):
    """Run Swad over made-up evaluations; steps[j] steps in segment j, weights[i] after step i."""
    swad, step = Swad(), iter(weights)
    for loss, count in zip(losses, steps, strict=True):
        for _ in range(count):
            swad.update({"w": next(step)})
        swad.evaluate(loss)
    state, inside = swad.finish()
    return state["w"], inside


def by_hand(losses, steps, weights):
    """The rule of Swad's docstring on the complete lists, all in float64."""
    total = len(losses)
    starts = [j for j in range(total - CONVERGE + 1) if losses[j] == min(losses[j : j + CONVERGE])]
    first = starts[0] if starts else total - 1
    last = total
    if starts:
        limit = 1.3 * np.mean(losses[first : first + CONVERGE])
        ends = [
            j for j in range(first + 1, total - OVERFIT + 1) if min(losses[j : j + OVERFIT]) > limit
        ]
        last = ends[0] if ends else total
    bounds = np.cumsum([0, *steps])
    return np.stack([w.double().numpy() for w in weights])[bounds[first] : bounds[last]].mean(
        0
    ), list(range(first, last))


@pytest.mark.parametrize("seed", range(40))
def test_average_equals_the_mean_by_hand(seed):
    rng = np.random.default_rng(seed)
    steps = rng.integers(1, 4, 20).tolist()
    shape = rng.choice(["noise", "valley", "rising"])
    segment = np.arange(20)
    losses = {
        "noise": rng.random(20),
        "valley": 1 + 0.02 * (segment - 7.0) ** 2,
        "rising": 0.2 * segment + 0.1,
    }[shape] + 0.05 * rng.random(20)
    weights = [torch.from_numpy(rng.normal(size=(2, 3))).float() for _ in range(sum(steps))]
    ours, inside = averaged(losses.tolist(), steps, weights)
    theirs, expected = by_hand(losses.tolist(), steps, weights)
    assert inside == expected
    assert np.allclose(ours.numpy(), theirs, atol=1e-5)


def test_valley_ends_where_the_loss_stays_above_the_limit():
    losses = [3, 2, 1, 1, 1, 1] + [2.0] * 8  # limit 1.3: the six from index 6 on are above it
    weights = [torch.full((1,), float(j)) for j in range(14)]
    value, inside = averaged(losses, [1] * 14, weights)
    assert inside == [2, 3, 4, 5]
    assert value.item() == pytest.approx(3.5)


def test_valley_without_an_end_lasts_to_the_last_step():
    value, inside = averaged(
        [3, 2, 1, 1, 1, 1.2], [2] * 6, [torch.full((1,), float(step)) for step in range(12)]
    )
    assert inside == [2, 3, 4, 5]
    assert value.item() == pytest.approx(np.mean(range(4, 12)))


def test_valley_that_never_starts_is_the_last_segment():
    value, inside = averaged(
        [5, 4, 3, 2], [2] * 4, [torch.full((1,), float(step)) for step in range(8)]
    )
    assert inside == [3]
    assert value.item() == pytest.approx(6.5)


def test_constant_weights_are_returned_unchanged():
    weight = torch.randn(4)
    value, _ = averaged([2, 1, 1, 1, 1], [3] * 5, [weight] * 15)
    assert torch.equal(value, weight)


def test_flags_and_counters_are_those_of_the_last_step():
    swad = Swad()
    for count in range(4):
        swad.update({"count": torch.tensor(count), "flag": torch.tensor(count == 3)})
    swad.evaluate(1.0)
    assert {key: value.item() for key, value in swad.finish()[0].items()} == {
        "count": 3,
        "flag": True,
    }


RULES = {"average": "swad", "evaluations": 6}


def train(rules, cached, manifests, folder):
    run.train(
        rules,
        "dg",
        "erm",
        DOMAINS[0],
        0,
        manifests=manifests,
        data=cached,
        folder=folder,
        device="cpu",
    )
    return folder


def test_interrupted_run_resumes_with_identical_results(
    settings, cached, manifests, tmp_path, monkeypatch
):
    whole = train(settings(**RULES), cached, manifests, tmp_path / "whole")
    original, count = loop.train_step, [0]

    def dying(*arguments):
        count[0] += 1
        if count[0] == 30:
            raise KeyboardInterrupt
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", dying)
        with pytest.raises(KeyboardInterrupt):
            train(settings(**RULES), cached, manifests, tmp_path / "cut")
    assert (tmp_path / "cut" / "resume.pt").is_file()
    cut = train(settings(**RULES), cached, manifests, tmp_path / "cut")
    for name in ("settings.json", "history.csv", "predictions.parquet", "model.safetensors"):
        assert (whole / name).read_bytes() == (cut / name).read_bytes(), name


def test_averaged_weights_are_saved_and_predicted_with(settings, cached, manifests, tmp_path):
    """The weights after every step, averaged by hand over the steps that history.csv marks."""
    weights, original = [], loop.State.add

    def recording(state, parts):
        weights.append(loop.trained(state.method))
        original(state, parts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.State, "add", recording)
        folder = train(settings(**RULES), cached, manifests, tmp_path / "run")
    history = pd.read_csv(folder / "history.csv")
    marked = [
        step
        for step in range(len(weights))
        if history.selected[history.step.searchsorted(step + 1)]
    ]
    saved = load_file(folder / "model.safetensors")
    for name in (
        "head.weight",
        "image.trunk.bn1.running_mean" if "image.trunk.bn1.running_mean" in saved else "head.bias",
    ):
        assert torch.allclose(
            saved[name],
            torch.stack([weights[step][name] for step in marked]).mean(0),
            atol=1e-5,
        )
    predictions = pd.read_parquet(folder / "predictions.parquet")
    assert set(predictions.selection) == {"swad", "last"}
    manifest = read_manifests(manifests)
    model, rows = run.build(
        settings(**RULES),
        "erm",
        cached,
        manifest,
        fold(manifest, "dg", DOMAINS[0]),
        torch.device("cpu"),
    )
    loop.restore(model, saved)
    test = predictions[(predictions.selection == "swad") & (predictions.split == "test")]
    assert (
        np.abs(
            loop.predict(model, rows["test"]) - test[[f"logit_{k}" for k in range(5)]].to_numpy()
        ).max()
        < 1e-4
    )


def test_method_requires_an_average_and_a_sampler(settings, monkeypatch):
    needy = type("Needy", (Erm,), {"sampler": "domain", "average": "swad"})
    monkeypatch.setattr(run, "load", {"needy": needy}.get)
    rules = run.with_method_rules(settings(), "needy")["training"]
    assert (rules["sampler"], rules["average"]) == ("domain", "swad")
    rules = run.with_method_rules(settings(sampler="class"), "needy")["training"]
    assert rules["sampler"] == "class"
    rules = run.with_method_rules(settings() | {"variant_of": "needy"}, "some_variant")["training"]
    assert rules["average"] == "swad"


def test_evaluations_are_one_per_epoch_under_swad(settings):
    from clipdr.config.job import Training

    def count(**rules):
        return len(loop.evaluation_steps(Training(**settings(**rules)["training"]), 1000))

    assert count(average="swad", epochs=20, evaluations=10) == 20
    assert count(average="swad", epochs=100, evaluations=10) == 50
    assert count(average="swad", epochs=2, evaluations=5) == 5
    assert count(epochs=20, evaluations=10) == 10
