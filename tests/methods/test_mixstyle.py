"""MixStyle: mixed statistics, gradients, stages of the image encoder, and partners."""

import copy

import numpy as np
import pytest
import torch
from helpers.methods import (
    CLIP_RESNET,
    EFFICIENTNET,
    RESNET,
    VIT,
    ConstantBeta,
    build,
)

from clipdr import DataError
from clipdr.methods import mixstyle
from clipdr.methods.mixstyle import MixStyleLayer, mix_statistics
from clipdr.models.backbone import Backbone


def test_mixstyle_mixes_statistics_only():
    torch.manual_seed(0)
    z, partner = 3 + 2 * torch.randn(5, 4, 6, 6, dtype=torch.float64), torch.tensor([2, 0, 1, 4, 3])
    weight = torch.rand(5, 1, 1, 1, dtype=torch.float64)
    new = mix_statistics(z, weight, partner).numpy()
    x, w = z.numpy(), weight.numpy()
    mu, sig = x.mean((2, 3), keepdims=True), np.sqrt(x.var((2, 3), keepdims=True, ddof=1) + 1e-6)
    expected = (x - mu) / sig * (w * sig + (1 - w) * sig[partner]) + w * mu + (1 - w) * mu[partner]
    assert np.abs(new - expected).max() < 1e-12
    content = (new - new.mean((2, 3), keepdims=True)) / new.std(
        (2, 3), keepdims=True
    )  # the content, without the statistics
    assert np.abs(content - (x - mu) / x.std((2, 3), keepdims=True)).max() < 1e-6
    assert (mix_statistics(z, torch.ones_like(weight), partner) - z).abs().max() < 1e-5


def test_mixstyle_statistics_are_constants_for_the_gradient():
    z = torch.randn(2, 1, 3, 3, dtype=torch.float64, requires_grad=True)
    weight, partner = torch.full((2, 1, 1, 1), 0.25, dtype=torch.float64), torch.tensor([1, 0])
    mix_statistics(z, weight, partner).sum().backward()
    std = (z.detach().flatten(1).var(1) + 1e-6).sqrt()
    expected = (0.25 * std + 0.75 * std[partner]) / std  # d z' / d z; other gradients are 0
    assert torch.allclose(z.grad, expected.view(2, 1, 1, 1).expand_as(z), atol=1e-10)


@pytest.mark.parametrize("spec", [RESNET, EFFICIENTNET])
def test_mixstyle_keeps_weights_and_acts_in_training_only(monkeypatch, spec, batch):
    """Same parameters as ERM. Off in evaluation and with p = 0. The identity with weights of 1."""
    erm, method = build("erm", spec), build("mixstyle", spec, p=1.0)
    assert method.state_dict().keys() == erm.state_dict().keys()
    assert all(
        torch.equal(value, erm.state_dict()[key]) for key, value in method.state_dict().items()
    )
    assert torch.equal(method.eval()(batch.image), erm.eval()(batch.image))
    statistics = copy.deepcopy(erm.state_dict())
    usual = erm.train()(batch.image)
    assert not torch.allclose(method.train()(batch.image), usual, atol=1e-2)
    monkeypatch.setattr(mixstyle, "Beta", ConstantBeta(1.0))
    assert torch.allclose(method(batch.image), usual, atol=1e-3)
    method.load_state_dict(statistics)
    method.mix.p = 0.0
    assert torch.equal(method(batch.image), usual)


@pytest.mark.parametrize("spec", [RESNET, EFFICIENTNET, CLIP_RESNET])
def test_mixstyle_stages_have_a_fourth_and_an_eighth_of_the_side(spec, small_clips):
    backbone, sides = Backbone(spec, 64), []
    for stage in backbone.stages():
        stage.register_forward_hook(lambda module, inputs, output: sides.append(output.shape[2]))
    backbone.image(torch.rand(2, 3, 64, 64))
    assert sides == [16, 8]


def test_mixstyle_copy_is_hooked_to_its_own_layer(batch):
    method = build("mixstyle", p=1.0)
    other = copy.deepcopy(method)
    other.mix.p = 0.0
    erm = build("erm").train()
    assert torch.equal(other.train()(batch.image), erm(batch.image))


def test_mixstyle_partners_across_domains_and_transformer_refused():
    mix = MixStyleLayer()
    mix.domain = torch.tensor([0, 0, 0, 1, 2, 2])
    for _ in range(20):
        assert (mix.domain[mix.partners(6)] != mix.domain).all()
    mix.domain = torch.zeros(6, dtype=torch.int64)
    assert sorted(mix.partners(6).tolist()) == list(range(6))
    with pytest.raises(DataError, match="test_vit has no maps"):
        build("mixstyle", VIT)


def test_mixstyle_mixes_with_probability_p():
    torch.manual_seed(0)
    mix, z = MixStyleLayer(p=0.3).train(), torch.randn(4, 2, 3, 3)
    changed = [not torch.equal(mix(z), z) for _ in range(600)]
    assert abs(np.mean(changed) - 0.3) < 0.06  # three standard errors
