"""Image encoders: the feature map is what the pooling reads."""

import pytest
import torch

from clipdr.models.backbone import Backbone


@pytest.mark.parametrize("name", ["RN-clipdr-test", "ViT64-clipdr-test"])
def test_feature_map_of_open_clip_is_what_its_pooling_reads(small_clips, name):
    backbone = Backbone({"image": f"open_clip/{name}", "weights": "random", "text": "own"}, 64)
    channels, *_ = backbone.use_feature_map()
    tower, trunk = backbone.image.eval(), backbone.image.trunk
    image = torch.rand(2, 3, 64, 64)
    features = tower.feature_map(image)
    if name.startswith("RN"):
        assert features.shape == (2, channels, 2, 2)
        assert torch.allclose(trunk.attnpool(features), tower.pooled(image), atol=1e-5)
        assert not any(parameter.requires_grad for parameter in trunk.attnpool.parameters())
        assert all(parameter.requires_grad for parameter in trunk.layer4.parameters())
    else:
        tokens = trunk.ln_post(trunk.transformer(trunk._embeds((image - tower.mean) / tower.std)))
        assert torch.allclose(features[:, :, 1, 2], tokens[:, 1 + 4 + 2], atol=1e-5)
        assert not trunk.proj.requires_grad
        assert trunk.ln_post.weight.requires_grad
