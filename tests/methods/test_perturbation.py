"""Generator of DDAIG and ATS, and forward passes that leave networks unchanged."""

import copy

import pytest
import torch
from helpers.methods import (
    EFFICIENTNET,
    RESNET,
)

from clipdr.methods.perturbation import Generator, without_updates
from clipdr.models.backbone import Backbone


def test_generator_stays_near_the_image_and_in_range(batch):
    torch.manual_seed(0)
    generator = Generator(strength=0.1, width=8)
    with torch.no_grad():
        generator.colour.weight.mul_(1000)
        new = generator(batch.image)
    assert new.shape == batch.image.shape
    assert (new - batch.image).abs().max() <= 0.1 + 1e-6
    assert (new - batch.image).abs().max() > 0.09
    assert new.min() >= 0
    assert new.max() <= 1
    weights = torch.cat(
        [
            module.weight.flatten()
            for module in Generator().modules()
            if isinstance(module, torch.nn.Conv2d)
        ]
    )
    assert weights.std().item() == pytest.approx(0.02, rel=0.02)


@pytest.mark.parametrize("spec", [RESNET, EFFICIENTNET])
def test_without_updates_keeps_networks_and_uses_batch_statistics(spec, batch):
    tower = Backbone(spec, 64).image.train()
    before = copy.deepcopy(tower.state_dict())
    image = batch.image.clone().requires_grad_()
    with without_updates(tower):
        inside = tower.pooled(image)
    inside.sum().backward()
    assert image.grad.abs().sum() > 0
    assert all(
        parameter.grad is None and parameter.requires_grad for parameter in tower.parameters()
    )
    assert all(torch.equal(value, before[key]) for key, value in tower.state_dict().items())
    assert torch.equal(
        tower.pooled(batch.image), inside
    )  # training mode, which now updates the statistics
    assert any(not torch.equal(value, before[key]) for key, value in tower.state_dict().items())
