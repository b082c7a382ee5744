"""Encoders by name: the small ViT, widths, and unknown names."""

import pytest
import torch
from torch import nn

from clipdr import DataError
from clipdr.models import factory


def test_small_vit_averages_its_patches():
    trunk, mean, std = factory.load_trunk("vit/64/1/16", "random", 32)
    assert mean == std == (0.5, 0.5, 0.5)
    pixels = torch.randn(2, 3, 32, 32)
    patches = trunk.eval().forward_features(pixels)
    assert patches.shape == (2, 4, 64)
    assert torch.allclose(trunk(pixels), trunk.fc_norm(patches.mean(1)), atol=1e-5)


def test_image_encoder_without_own_projection_has_the_width_asked_for(small_clips):
    image = torch.rand(2, 3, 64, 64)
    tower = factory.build_image_tower("timm/test_resnet", "random", 64, 24)
    assert tower.eval()(image).shape == (2, 24)
    tower = factory.build_image_tower("open_clip/RN-clipdr-test", "random", 64, 24)
    assert isinstance(tower.projection, nn.Identity)
    assert tower.eval()(image).shape == (2, 16)


@pytest.mark.parametrize(
    ("image", "weights"), [("vit/64/1/16", "tag"), ("keras/x", "random"), ("x", "random")]
)
def test_unknown_image_encoder_is_refused(image, weights):
    with pytest.raises(DataError, match=r"is unknown\. Use timm/NAME"):
        factory.load_trunk(image, weights, 32)
