"""Fishr: gradients, variances and penalty against autograd and numpy."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.methods import (
    EFFICIENTNET,
    rows_where,
    total,
)
from helpers.toy import SIDE
from torch import nn
from torch.func import functional_call, grad, vmap

from clipdr import DataError
from clipdr.config.job import Training
from clipdr.data.loader import Batch
from clipdr.methods import load
from clipdr.methods.fishr import domain_variance, head_gradients
from clipdr.models.backbone import Backbone
from clipdr.training.loop import OPTIMIZERS, fit, train_step


def example(batch=12, width=7, domains=3, seed=0, dtype=torch.float64):
    """Features, grades, alternating domains, and a head."""
    draw = torch.Generator().manual_seed(seed)
    head = nn.Linear(width, 5).to(dtype)
    with torch.no_grad():
        head.weight.copy_(torch.randn(5, width, generator=draw))
        head.bias.copy_(torch.randn(5, generator=draw))
    feature = (
        torch.randn(batch, width, generator=draw, dtype=torch.float64).to(dtype).requires_grad_()
    )
    return (
        feature,
        torch.randint(0, 5, (batch,), generator=draw),
        torch.arange(batch) % domains,
        head,
    )


def per_sample(head, feature, grade):
    """(B, P) gradients of each sample's cross-entropy by torch.func, weight before bias."""

    def loss(weights, image_feature, image_grade):
        return F.cross_entropy(
            functional_call(head, weights, (image_feature[None],)), image_grade[None]
        )

    gradients = vmap(grad(loss), in_dims=(None, 0, 0))(
        dict(head.named_parameters()), feature, grade
    )
    return torch.cat([gradients["weight"].flatten(1), gradients["bias"]], 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_closed_form_gradients_equal_autograd(dtype):
    feature, grade, _, head = example(dtype=dtype)
    ours = head_gradients(feature, head(feature), grade)
    assert torch.allclose(ours, per_sample(head, feature, grade), atol=1e-6)
    parameters = list(head.parameters())
    each = [
        torch.autograd.grad(F.cross_entropy(head(f[None]), g[None]), parameters)
        for f, g in zip(feature, grade, strict=True)
    ]
    assert torch.allclose(
        ours, torch.stack([torch.cat([weight.flatten(), bias]) for weight, bias in each]), atol=1e-6
    )


def numpy_penalty(gradients, domains, ema):
    """Penalty of Fishr after several batches with loops, as in the paper and DomainBed."""
    running = {}
    for gradient, domain in zip(gradients, domains, strict=True):
        corrected = {}
        for d in set(domain.tolist()):
            v = gradient[domain == d].var(axis=0)
            running[d] = ema * running.get(d, 0) + (1 - ema) * v
            corrected[d] = running[d] / (1 - ema)
        centre = sum(corrected.values()) / len(corrected)
        value = sum(((u - centre) ** 2).mean() for u in corrected.values()) / len(corrected)
    return value


def test_penalty_follows_formula_with_running_variance(prepared_source):
    method, _, _ = prepared_source("fishr")
    method.head, method.variance = nn.Linear(7, 5).double(), torch.zeros(3, 40, dtype=torch.float64)
    batches = [example(seed=seed) for seed in range(3)]
    gradients = [
        head_gradients(feature, head(feature), grade) for feature, grade, _, head in batches
    ]
    ours = [
        method.penalty(gradient, domain)
        for gradient, (*_, domain, _) in zip(gradients, batches, strict=True)
    ]
    for count in (1, 2, 3):
        arrays = [gradient.detach().numpy() for gradient in gradients[:count]]
        expected = numpy_penalty(
            arrays, [domain.numpy() for *_, domain, _ in batches[:count]], 0.95
        )
        assert ours[count - 1].item() == pytest.approx(expected, rel=1e-9)


def test_variance_is_biased_and_per_domain():
    gradient, domain = (
        torch.randn(9, 4, dtype=torch.float64),
        torch.tensor([0, 0, 0, 2, 2, 2, 2, 2, 1]),
    )
    variance, count = domain_variance(gradient, domain, 4)
    assert count.tolist() == [3, 1, 5, 0]
    for d in (0, 2):
        assert np.allclose(variance[d], gradient[domain == d].numpy().var(axis=0))


def test_penalty_of_identical_domains_is_zero(prepared_source):
    """In GDRBench every batch is one group, so that the penalty is 0 for any data."""
    method, rows, _ = prepared_source("fishr", start=0.0)
    batch = rows["train"].batch(0, 10, 0, "domain")
    assert sorted(set(batch.domain.tolist())) == [0, 1]
    half = rows_where(batch, domain=0)
    twice = Batch(*(t if t is None else torch.cat([t, t]) for t in half))._replace(
        domain=torch.arange(2).repeat_interleave(len(half.grade))
    )
    state = copy.deepcopy(method.state_dict())
    same = method.loss(twice)["fishr"].item()
    method.load_state_dict(state)
    other = method.loss(batch)["fishr"].item()
    assert same < 1e-9 < other
    assert other > 1e3 * same


def test_penalty_gradient_passes_through_features():
    """The gradient equals that of the penalty on per-sample gradients of torch.func."""
    method = load("fishr")(Backbone(EFFICIENTNET, SIDE)).double()
    feature, grade, domain, head = example()
    grads = []
    for gradient in (
        head_gradients(feature, head(feature), grade),
        per_sample(head, feature, grade),
    ):
        method.variance = torch.zeros(3, 40, dtype=torch.float64)
        grads.append(torch.autograd.grad(method.penalty(gradient, domain), [feature, head.weight]))
    for ours, theirs in zip(*grads, strict=True):
        assert ours.abs().max() > 0
        assert torch.allclose(ours, theirs, atol=1e-12)


def test_fishr_trains_encoder_and_keeps_batchnorm_statistics(prepared_source):
    method, rows, _ = prepared_source("fishr", start=0.0)
    batch = rows["train"].batch(0, 10, 0, "domain")
    method.train().loss(batch)["fishr"].backward()
    trained = [p for p in method.parameters() if p.requires_grad]
    assert sum(p.grad is not None and p.grad.abs().sum() > 0 for p in trained) > 0.9 * len(trained)
    layers = [m for m in method.modules() if isinstance(m, nn.BatchNorm2d)]
    before = [m.running_mean.clone() for m in layers]
    train_step(method, {"main": OPTIMIZERS["sgd"](trained, 1e-3, 0)}, batch, 0)
    assert layers
    assert all(
        not m.training and torch.equal(m.running_mean, mean)
        for m, mean in zip(layers, before, strict=True)
    )
    assert method.training


def test_fishr_with_one_image_per_domain_is_refused(prepared_source):
    method, rows, _ = prepared_source("fishr")
    with pytest.raises(DataError, match="batch_size"):
        method.loss(rows["train"].batch(0, 2, 0, "domain"))


def test_penalty_starts_late_and_optimizer_state_is_reset(prepared_source, monkeypatch):
    method, rows, _ = prepared_source("fishr", steps=10, weight=1.0)  # start .3: after 3 steps
    batch, values = rows["train"].batch(0, 10, 0, "domain"), []
    for step in range(1, 6):
        values.append(method.loss(batch)["fishr"].item())
        method.after_step(step)
    assert [value > 0 for value in values] == [False, False, False, True, True]
    assert [step for step in range(1, 11) if method.restarts(step)] == [3]
    assert method.variance.abs().sum() > 0  # the running variance is kept from the first step on
    optimizers = []
    monkeypatch.setitem(
        OPTIMIZERS,
        "sgd",
        lambda *values: (
            optimizers.append(torch.optim.SGD(values[0], values[1], momentum=0.9)) or optimizers[-1]
        ),
    )
    rules = {
        "epochs": 2,
        "batch_size": 10,
        "optimizer": "sgd",
        "lr": 1e-3,
        "weight_decay": 0,
        "schedule": "constant",
    }
    training = Training(**rules, augment="flip", sampler="domain", evaluations=2)
    # the state is dropped after the last step, or half-way, after which there is momentum again
    for start, dropped in ((1.0, True), (0.5, False)):
        method, rows, _ = prepared_source("fishr", start=start)
        fit(method, rows["train"], rows["val"], training, seed=0)
        assert (len(optimizers[-1].state) == 0) == dropped
        assert optimizers[-1].param_groups[0]["lr"] == 1e-3


def test_fishr_without_penalty_equals_erm_with_frozen_batchnorm(prepared_source):
    control, rows, _ = prepared_source("fishr", start=0.0, weight=0.0)
    erm, _, _ = prepared_source("erm")
    batch = rows["train"].batch(0, 10, 0, "domain")
    for method in (control, erm):
        method.eval()
        method.zero_grad()
        total(method.loss(batch)).backward()
    for ours, theirs in zip(control.parameters(), erm.parameters(), strict=True):
        assert ours.grad is theirs.grad or torch.allclose(ours.grad, theirs.grad, atol=1e-7)
