"""DDAIG: its three losses and phases, warm-up, and the degenerate case."""

import copy

import pytest
import torch
import torch.nn.functional as F
from helpers.methods import (
    build,
)

from clipdr.data.loader import Images
from clipdr.methods.base import Source
from clipdr.methods.perturbation import without_updates
from clipdr.training.loop import OPTIMIZERS, train_step


def test_ddaig_generator_step_changes_no_other_network(rows, batch):
    method = build("ddaig", rows=rows, width=8).train()
    before = copy.deepcopy(method.state_dict())
    optimizer = OPTIMIZERS["sgd"](method.parameter_groups()["generator"], 0.1, 0)
    phases = method.phases(batch)
    phase, parts = next(phases)
    assert phase == "generator"
    optimizer.zero_grad()
    sum(parts.values()).backward()
    optimizer.step()
    moved = {
        key for key, value in method.state_dict().items() if not torch.equal(value, before[key])
    }
    assert moved == {key for key in before if key.startswith("generator.")}
    assert all(
        parameter.grad is None
        for key, parameter in method.named_parameters()
        if not key.startswith("generator.")
    )
    assert [phase for phase, _ in phases] == ["main", "domain"]


def test_ddaig_generator_hides_the_domain_and_keeps_the_grade(rows, batch):
    """The generator alone raises the domain loss and lowers the grade loss of trained networks."""
    method = build("ddaig", rows=rows, width=8).train()
    optimizers = {
        name: torch.optim.Adam(group, 1e-2) for name, group in method.parameter_groups().items()
    }
    # after two steps both networks are trained, with enough errors left for the generator
    for _ in range(2):
        train_step(method, optimizers, batch, 0)
    optimizer = torch.optim.Adam(method.parameter_groups()["generator"], 3e-3)
    history = []
    for _ in range(15):
        optimizer.zero_grad()
        parts = method.generator_loss(batch)
        sum(parts.values()).backward()
        optimizer.step()
        history.append([parts["generator_grade"].item(), -parts["generator_domain"].item()])
    assert history[-1][1] > 2 * history[0][1]
    assert history[-1][0] < 0.95 * history[0][0]


def test_ddaig_grade_network_uses_generator_after_warm_up(rows, batch):
    method = build("ddaig", rows=rows, steps=100, alpha=0.25, width=8).train()
    method.after_step(2)
    assert method.loss(batch).keys() == {"ce"}
    method.after_step(3)  # 3 % of 100 steps
    phases = method.phases(batch)
    next(phases)
    with torch.no_grad():
        for parameter in method.generator.parameters():
            parameter.add_(0.05)  # the generator's step
    _, parts = next(phases)
    with torch.no_grad(), without_updates(method):
        ce, new = (
            F.cross_entropy(method(image), batch.grade)
            for image in (batch.image, method.generator(batch.image))
        )
    assert parts["ce"].item() == pytest.approx(0.75 * ce.item(), abs=1e-5)
    assert parts["ce_perturbed"].item() == pytest.approx(0.25 * new.item(), abs=1e-5)
    before = [parameter.clone() for parameter in method.generator.parameters()]
    method.zero_grad()
    sum(parts.values()).backward()
    assert all(parameter.grad is None for parameter in method.generator.parameters())
    assert all(
        torch.equal(*pair) for pair in zip(before, method.generator.parameters(), strict=True)
    )


def test_ddaig_domain_network_is_a_copy_of_the_encoder(rows, batch):
    method = build("ddaig", rows=rows, width=8)
    assert torch.equal(method.domain_image.eval()(batch.image), method.image.eval()(batch.image))
    assert not {id(p) for p in method.domain_image.parameters()} & {
        id(p) for p in method.image.parameters()
    }
    features = method.domain_image.pooled(batch.image)
    assert method.domain_head(features).shape == (8, 2)


def test_ddaig_with_one_source_is_degenerate(rows, batch):
    one_source = {
        split: Images(part.frame, part.arrays, ["SIM_IDRID"], 64) for split, part in rows.items()
    }
    method = build("ddaig", width=8)
    source = Source(one_source["train"], one_source["val"], 2, 8)
    method.begin(source)
    assert "one source" in method.degenerate(source)
    assert method.degenerate(Source(rows["train"], rows["val"], 2, 8)) == ""
    phases = dict(method.train().phases(batch))
    assert phases.keys() == {"generator", "main"} == method.parameter_groups().keys()
    assert phases["generator"].keys() == {"generator_grade"}
