"""Backbone: equality with timm and open_clip, widths, independence of the seed, and wrong specs."""

import open_clip
import pytest
import timm
import torch
from safetensors.torch import save_file

from clipdr import DataError
from clipdr.config.job import BACKBONES
from clipdr.models.backbone import Backbone

DEMO = BACKBONES["demo"].model_dump()


def test_backbone_does_not_depend_on_the_seed():
    features = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        features.append(Backbone(DEMO, 64).image.eval()(torch.full((1, 3, 64, 64), 0.3)))
    assert torch.equal(*features)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_efficientnet"])
def test_timm_encoder_from_a_file_equals_timm(tmp_path, name):
    side = 64
    fixed = {"img_size": side} if timm.get_pretrained_cfg(name).fixed_input_size else {}
    torch.manual_seed(3)
    model = timm.create_model(name, **fixed).eval()
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    backbone = Backbone(
        {"image": f"timm/{name}", "weights": str(tmp_path / "w.safetensors"), "text": "small"}, side
    )
    image = torch.rand(2, 3, side, side)
    config = model.pretrained_cfg
    mean, std = (torch.tensor(config[key]).view(3, 1, 1) for key in ("mean", "std"))
    expected = model.forward_head(model.forward_features((image - mean) / std), pre_logits=True)
    assert torch.allclose(backbone.image.eval().pooled(image), expected, atol=1e-5)
    assert backbone.pooled_dim == model.num_features
    assert backbone.image(image).shape == (2, backbone.dim)


def test_open_clip_from_a_file_equals_open_clip(tiny_clip):
    path, model = tiny_clip
    backbone = Backbone(
        {"image": "open_clip/ViT-clipdr-test", "weights": str(path), "text": "own"}, 32
    )
    image = torch.rand(2, 3, 32, 32)
    mean, std = (
        torch.tensor(v).view(3, 1, 1)
        for v in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    )
    assert torch.allclose(
        backbone.image.eval()(image), model.encode_image((image - mean) / std), atol=1e-5
    )
    assert backbone.scale == pytest.approx(model.logit_scale.exp().item())
    text = open_clip.get_tokenizer("RN50")(["a photo of no DR."])
    assert torch.allclose(backbone.banks["A"][0, 0], model.encode_text(text)[0], atol=1e-5)


def test_width_of_small_text_encoder_is_known_without_loading_it():
    """A method with a head never loads the text encoder, whose width is the known one."""
    backbone = Backbone({"image": "timm/test_resnet", "weights": "random", "text": "small"}, 32)
    width = backbone.dim
    assert "text" not in vars(backbone)
    assert backbone.image.projection.out_features == width
    assert backbone.text.dim == width
    assert "text" in vars(backbone)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"image": "keras/x"}, "unknown"),
        ({"image": "timm/no_such_model"}, "no model"),
        ({"image": "open_clip/NoSuch"}, "no model"),
        ({"image": "open_clip/RN50-quickgelu", "weights": "laion9"}, "one of its tags"),
        ({"image": "timm/test_resnet", "weights": "nowhere.safetensors"}, "no such file"),
        ({"image": "timm/test_resnet", "text": "grunt"}, "unknown"),
    ],
)
def test_wrong_spec_is_named(spec, message):
    with pytest.raises(DataError, match=message):
        _ = Backbone({"weights": "random", "text": "small"} | spec, 32).text
