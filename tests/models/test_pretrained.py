"""Models of timm and open_clip: position embeddings of another side, and the shape of CLIP."""

import timm
import torch
from safetensors.torch import save_file

from clipdr.models import pretrained
from clipdr.models.backbone import Backbone


def test_vit_of_another_side_gets_resized_position_embeddings(tmp_path):
    torch.manual_seed(3)
    model = timm.create_model("test_vit", img_size=160)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    trunk, _, _ = pretrained.load_timm("test_vit", str(tmp_path / "w.safetensors"), 64)
    assert trunk.pos_embed.shape == (1, 1 + 16, 64)
    assert torch.equal(trunk.blocks[0].attn.qkv.weight, model.blocks[0].attn.qkv.weight)


def test_rn50_quickgelu_has_the_shape_of_clip():
    backbone = Backbone(
        {"image": "open_clip/RN50-quickgelu", "weights": "random", "text": "own"}, 224
    )
    assert (backbone.dim, backbone.pooled_dim, backbone.text.width) == (1024, 1024, 512)
    assert "QuickGELU" in str(backbone.text.transformer)
