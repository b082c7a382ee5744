"""Contract of every method: shapes, losses, gradients, state and unusual batches."""

import numpy as np
import pytest
import torch
from helpers.methods import (
    TOWERS,
    rows_where,
    total,
)
from helpers.toy import DOMAINS

from clipdr import DataError
from clipdr.data.loader import Batch
from clipdr.methods import METHODS, load
from clipdr.training.loop import OPTIMIZERS, predict, restore, train_step, trained


@pytest.mark.parametrize("name", METHODS)
def test_method_fulfils_the_contract(prepared, name):
    """Right shape, finite loss, only trained parameters move, predictions image by image."""
    method, rows = prepared(name)
    batch = rows["train"].batch(0, 10, seed=0)
    logits = method.eval()(batch.image)
    assert logits.shape == (10, 5)
    assert logits.dtype == torch.float32
    parts = method.loss(batch)
    assert all(torch.isfinite(value) and value.ndim == 0 for value in parts.values())
    before = {key: value.clone() for key, value in method.state_dict().items()}
    groups = method.parameter_groups()
    frozen = {key for key, parameter in method.named_parameters() if not parameter.requires_grad}
    if groups:
        train_step(
            method,
            {key: OPTIMIZERS["sgd"](group, 0.1, 0) for key, group in groups.items()},
            batch,
            0,
        )
        moved = {
            key for key, value in method.state_dict().items() if not torch.equal(value, before[key])
        }
        assert moved & {
            key for key, parameter in method.named_parameters() if parameter.requires_grad
        }
        assert not moved & frozen
    whole = predict(method, rows["test"])
    single = torch.cat([method(chunk.image).detach() for chunk in rows["test"].chunks(7)]).numpy()
    assert np.abs(whole - single).max() < 1e-4


def check_gradients(method, batch):
    """Check that each trained parameter is in one group and gets a gradient in its phase.

    A frozen parameter gets no gradient.
    """
    groups = {
        phase: OPTIMIZERS["sgd"](group, 1e-3, 0).param_groups
        for phase, group in method.train().parameter_groups().items()
    }
    groups = {
        phase: [parameter for group in parts for parameter in group["params"]]
        for phase, parts in groups.items()
    }
    phases = []
    for phase, parts in method.phases(batch):
        method.zero_grad()
        assert all(torch.isfinite(value) and value.ndim == 0 for value in parts.values()), parts
        sum(parts.values()).backward()
        assert all(parameter.grad is not None for parameter in groups[phase]), phase
        phases.append(phase)
    numbers = [id(parameter) for phase in phases for parameter in groups[phase]]
    assert sorted(numbers) == sorted(
        id(parameter) for parameter in method.parameters() if parameter.requires_grad
    )
    assert all(
        parameter.grad is None for parameter in method.parameters() if not parameter.requires_grad
    )


@pytest.mark.parametrize("name", METHODS)
def test_every_trained_parameter_has_a_gradient(prepared, name):
    method, rows = prepared(name)
    if not method.parameter_groups():
        assert name in ("majority", "zero_shot", "linear_probe")
        return
    check_gradients(method, rows["train"].batch(0, 10, seed=0))


def chosen_rows(batch, keep):
    return Batch(*(value if value is None else value[keep] for value in batch))


@pytest.mark.parametrize("tower", TOWERS)
@pytest.mark.parametrize("name", [name for name in METHODS if load(name).reads != "features"])
def test_method_fulfils_the_contract_on_every_encoder(prepared, name, tower):
    """Gradients, dependence on the seed alone, restored state, loss of unusual batches."""
    if name == "mixstyle" and "vit" in tower:
        with pytest.raises(DataError, match="convolutional"):
            prepared(name, tower=tower)
        return
    states, options = [], {"width": 8} if name in ("ddaig", "ats") else {}
    for _ in range(2):
        method, rows = prepared(name, options=options, tower=tower)
        batch = rows["train"].batch(0, 6, seed=0)
        groups = method.parameter_groups()
        optimizers = {phase: OPTIMIZERS["sgd"](group, 1e-3, 0) for phase, group in groups.items()}
        for step in range(2):
            train_step(method, optimizers, batch, 0)
            method.after_step(step + 1)
        states.append(trained(method))
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    expected = method.eval()(batch.image).detach()
    assert expected.shape == (6, 5)
    other, _ = prepared(name, options=options, seed=1, tower=tower)
    restore(other, states[0])
    assert torch.equal(other.eval()(batch.image), expected)
    check_gradients(method, batch)
    for keep in (
        batch.domain == batch.domain[0],
        batch.grade == batch.grade[0],
        torch.arange(6) == 0,
    ):  # the last: one image
        for _, parts in method.train().phases(chosen_rows(batch, keep)):
            assert all(torch.isfinite(value) for value in parts.values()), parts


@pytest.mark.parametrize(
    "name", ["clip_dr", "ordinal_clip", "coop_lvt", "erm", "mixup", "green", "corn"]
)
def test_methods_that_read_any_run_on_cached_features(prepared, name):
    method, rows = prepared(name, frozen=True)
    assert not any(key.startswith("image.") for key, _ in method.named_parameters())
    assert torch.isfinite(sum(method.loss(rows["train"].batch(0, 10, seed=0)).values()))


def test_unknown_option_and_unfrozen_feature_method_are_named(prepared):
    with pytest.raises(DataError, match="max_rnk"):
        prepared("clip_dr", options={"max_rnk": 2})
    with pytest.raises(DataError, match=r"options\.coop\.frozen"):
        prepared("coop", frozen=False)


@pytest.mark.parametrize("name", [name for name in METHODS if load(name).reads == "images"])
def test_method_that_reads_images_refuses_cached_features(prepared, name):
    with pytest.raises(DataError, match=rf"Set options\.{name}\.frozen to false"):
        prepared(name, frozen=True)


@pytest.mark.parametrize("name", ["fishr", "mdlt", "drgen", "gdrnet"])
def test_batches_of_one_domain_grade_or_image_have_finite_loss(prepared_source, name):
    method, rows, _ = (
        prepared_source(name, start=0.0) if name != "gdrnet" else prepared_source(name)
    )
    batch = rows["train"].batch(0, 20, 0, "domain")
    method.train()
    for part in (
        batch,
        rows_where(batch, domain=0),
        rows_where(batch, grade=3),
        Batch(*(t if t is None else t[:1] for t in batch)),
    ):
        method.zero_grad()
        if len(part.grade) == 1:
            method.eval()
        value = total(method.loss(part))
        value.backward()
        assert torch.isfinite(value)
        assert all(torch.isfinite(p.grad).all() for p in method.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", ["fishr", "mdlt", "drgen"])
def test_losses_of_features_run_on_cached_features(prepared_source, name):
    method, rows, _ = prepared_source(name, frozen=True, start=0.0)
    method.after_step(1)
    parts = method.loss(rows["train"].batch(0, 10, 0, "domain"))
    assert all(torch.isfinite(value) and value > 0 for value in parts.values())
    with pytest.raises(DataError, match="reads images"):
        prepared_source("gdrnet", frozen=True)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("fishr", "frozen BatchNorm"), ("drgen", "frozen BatchNorm"), ("mdlt", "one domain")],
)
def test_one_source_is_degenerate_and_two_are_not(prepared_source, name, reason):
    method, _, source = prepared_source(name)
    assert method.degenerate(source) == ""
    method, rows, source = prepared_source(name, DOMAINS[1:2], start=0.0)
    assert reason in method.degenerate(source)
    method.after_step(1)
    parts = method.loss(rows["train"].batch(0, 10, 0, "domain"))
    assert all(value == 0 for part, value in parts.items() if part != "ce")
