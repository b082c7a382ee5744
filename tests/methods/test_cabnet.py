"""CABNet: both attention blocks against loops, the feature map, and the degenerate case."""

import numpy as np
import pytest
import torch
from helpers.methods import (
    EFFICIENTNET,
    RESNET,
    VIT,
    build,
    sigmoid,
)

from clipdr.methods import load
from clipdr.methods.cabnet import CategoryAttention, GlobalAttention
from clipdr.models.backbone import Backbone


def test_global_attention_follows_its_definition():
    torch.manual_seed(0)
    block = GlobalAttention(8, 4).eval()
    torch.nn.init.normal_(block.place[1].running_mean, 0, 0.3)
    z = torch.randn(2, 8, 5, 5)
    first, second = (block.channel[k].weight.detach().numpy() for k in (0, 2))
    x = z.numpy()
    gate = sigmoid(
        sum(
            np.maximum(pooled @ first.T, 0) @ second.T for pooled in (x.mean((2, 3)), x.max((2, 3)))
        )
    )
    x = x * gate[:, :, None, None]
    summary = np.pad(np.stack([x.max(1), x.mean(1)], 1), ((0, 0), (0, 0), (3, 3), (3, 3)))
    kernel = block.place[0].weight.detach().numpy()[0]
    spatial = np.array(
        [
            [[(kernel * s[:, i : i + 7, j : j + 7]).sum() for j in range(5)] for i in range(5)]
            for s in summary
        ]
    )
    norm = block.place[1]
    spatial = (spatial - norm.running_mean.numpy()) / np.sqrt(norm.running_var.numpy() + norm.eps)
    assert np.abs(block(z).detach().numpy() - x * sigmoid(spatial)[:, None]).max() < 1e-5


def test_category_attention_takes_means_over_maps_and_grades():
    """Loops over images, grades and maps. Sums, as in GDRBench, would be 25 times as large."""
    torch.manual_seed(0)
    block, z = CategoryAttention(6, 5, 0.1).eval(), torch.randn(3, 6, 4, 4)
    weight = block.maps[0].weight.detach().numpy()[:, :, 0, 0]
    got = block(z).detach().numpy()
    for image in range(3):
        a = np.zeros((4, 4))
        for grade in range(5):
            maps = [
                np.maximum(
                    np.tensordot(weight[5 * grade + j], z[image].numpy(), 1) / np.sqrt(1 + 1e-5), 0
                )
                for j in range(5)
            ]
            a += np.mean([each.max() for each in maps]) * np.mean(maps, 0) / 5
        assert np.abs(got[image, 0] - a).max() < 1e-5
    block.dropout.p = 1.0
    assert torch.equal(block(z), torch.from_numpy(got))  # off in evaluation
    assert not block.train()(z).any()  # in training it drops scores


@pytest.mark.parametrize(
    ("spec", "shape"), [(RESNET, (96, 2, 2)), (EFFICIENTNET, (256, 2, 2)), (VIT, (64, 4, 4))]
)
def test_cabnet_reads_the_feature_map(spec, shape, batch):
    """The blocks read the map, not the pooled vector as in GDRBench.

    Where the encoder pools by the mean, the map's mean is the pooled feature.
    """
    method, inputs_read = build("cabnet", spec).eval(), []
    method.global_attention.register_forward_hook(
        lambda module, inputs, output: inputs_read.append(inputs[0])
    )
    method(batch.image)
    assert inputs_read[0].shape == (8, *shape)
    if spec is not VIT:
        assert torch.allclose(
            inputs_read[0].mean((2, 3)), method.image.pooled(batch.image), atol=1e-5
        )
    else:  # patch tokens row by row: the class token is left out
        trunk = method.image.trunk
        tokens = trunk.forward_features((batch.image - method.image.mean) / method.image.std)
        assert torch.allclose(inputs_read[0][:, :, 1, 2], tokens[:, 1 + 4 + 2], atol=1e-5)


def test_cabnet_with_map_of_one_position_is_degenerate():
    assert (
        load("cabnet")(Backbone(EFFICIENTNET, 32)).degenerate(None)
        == "1 x 1 feature map: attention has no effect"
    )
    assert load("cabnet")(Backbone(EFFICIENTNET, 64)).degenerate(None) == ""
