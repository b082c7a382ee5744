"""Exported backbone: equal features, use by every grading method, and the leakage check."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.toy import DOMAINS, SIDE

from clipdr import DataError
from clipdr.config.job import BACKBONES, folder_of
from clipdr.config.study import backbone_name
from clipdr.data.manifest import read_manifests
from clipdr.data.splits import fold
from clipdr.methods import METHODS, load
from clipdr.methods.base import Source
from clipdr.models.backbone import Backbone
from clipdr.models.exported import ExportedFolder
from clipdr.models.factory import build_image_tower
from clipdr.models.report_encoder import tokenize_reports
from clipdr.models.text_tower import encode_sentences
from clipdr.pretrain import run
from clipdr.pretrain.data import patients_table
from clipdr.training import run as grading_run
from clipdr.training.feature_cache import cache_features, cache_prompts
from clipdr.training.loop import OPTIMIZERS, predict, train_step
from clipdr.training.run import refuse_pretraining_overlap


@pytest.fixture(scope="module")
def graded(toy, manifests, settings, spec):
    """Function: name of a method -> method on the exported backbone, begun, and toy rows."""
    for domain in DOMAINS:
        cache_features(spec, SIDE, domain, toy)
    cache_prompts(spec, SIDE, toy)

    def make(name, frozen=None):
        manifest = read_manifests(manifests)
        frozen = load(name).reads == "features" if frozen is None else frozen
        chosen = settings(frozen, None, **({"augment": "fundus"} if name == "gdrnet" else {})) | {
            "backbone": spec
        }
        method, rows = grading_run.build(
            chosen, name, toy, manifest, fold(manifest, "dg", DOMAINS[0]), torch.device("cpu")
        )
        method.begin(Source(rows["train"], rows["val"], steps_per_epoch=2, steps=8))
        return method, rows

    return make


def test_exported_encoder_gives_the_features_of_the_run(trained, spec):
    """Raw features and the patient vector of a single eye agree to 1e-6."""
    data, folder, table = trained
    model, settings = run.load(folder)
    image = run.visits(table, "test", data, settings, model.text).batch(np.arange(6)).image[:, 0]
    tower = Backbone(spec, settings.side).image.eval()
    with torch.no_grad():
        assert torch.allclose(tower.pooled(image), model.image(image), atol=1e-6)
        assert torch.allclose(
            F.normalize(tower(image), dim=-1), model.eyes(image).vector, atol=1e-6
        )


def test_prompts_of_an_export_pass_through_the_patient_head(trained, spec):
    model, _ = run.load(trained[1])
    text = ["bright spot upper inner", "left eye bright spot"]
    sentences = encode_sentences(Backbone(spec, SIDE).text, text)
    with torch.no_grad():
        expected = model.report(tokenize_reports(model.text, text)[0][:, None])[2]
    assert torch.allclose(F.normalize(sentences, dim=-1), expected, atol=1e-6)
    assert Backbone(spec, SIDE).scale == pytest.approx(float(model.log_scale[2].detach().exp()))


@pytest.mark.parametrize("name", METHODS)
def test_every_grading_method_trains_and_predicts_on_an_export(graded, name):
    """."""
    method, rows = graded(name)
    steps = {
        key: OPTIMIZERS["sgd"](group, 1e-3, 0) for key, group in method.parameter_groups().items()
    }
    if steps:
        parts = train_step(method, steps, rows["train"].batch(0, 10, seed=0), 0)
        assert all(torch.isfinite(value) for value in parts.values())
    logits = predict(method, rows["test"])
    assert logits.shape == (len(rows["test"]), 5)
    assert np.isfinite(logits).all()


def test_feature_cache_of_an_export_holds_raw_features(graded, spec, toy):
    method, rows = graded("zero_shot")
    batch = next(rows["test"].chunks(5))
    live, _ = graded("clip_finetune", frozen=False)
    live.eval()
    stored = np.load(toy / "features" / "ours" / f"{DOMAINS[0]}.npy")
    assert np.allclose(batch.image.numpy(), stored[rows["test"].row[:5]])
    assert batch.image.shape[1] == 16
    image = next(graded("erm")[1]["test"].chunks(5)).image
    with torch.no_grad():
        assert torch.allclose(
            method.image(batch.image), Backbone(spec, SIDE).image.eval()(image), atol=1e-5
        )
    assert graded("linear_probe")[0].head.in_features == 16


@pytest.mark.parametrize("text", ["small"])
def test_export_with_another_text_encoder_gets_a_linear_bridge(spec, text):
    backbone = Backbone(spec | {"text": text}, SIDE)
    assert tuple(backbone.image.projection.weight.shape) == (backbone.text.dim, 16)
    assert backbone.image.projection.weight.requires_grad


def test_pretraining_image_of_the_test_domain_stops_the_run(
    exported, spec, toy, manifests, settings, tmp_path
):
    """Leakage check: one planted sha256, then one planted patient key."""
    parts = fold(read_manifests(manifests), "dg", DOMAINS[0])
    refuse_pretraining_overlap(spec, parts["test"], "fold")
    facts = json.loads((exported / "visual.json").read_text())
    planted = parts["test"].assign(
        sha256=[facts["seen"]["images"][3], *[""] * (len(parts["test"]) - 1)]
    )
    with pytest.raises(
        DataError, match=r"fold overlaps .*: 1 images or their patients \(first: SIM_APTOS/x/p000"
    ):
        refuse_pretraining_overlap(spec, planted, "fold")
    copied = tmp_path / "copy"
    copied.mkdir()
    for path in exported.iterdir():
        if path.is_file():
            (copied / path.name).write_bytes(path.read_bytes())
    facts["seen"]["patients"].append(f"{DOMAINS[0]}/p3")
    (copied / "visual.json").write_text(json.dumps(facts))
    backbone = spec | {"image": f"folder/{copied}"}
    chosen = settings(False) | {"backbone": backbone}
    with pytest.raises(DataError, match=r"dg/SIM_APTOS overlaps .*: 2 images"):
        grading_run.train(
            chosen,
            "dg",
            "erm",
            DOMAINS[0],
            0,
            manifests=manifests,
            data=toy,
            folder=tmp_path / "run",
            device="cpu",
        )


def test_export_lists_training_and_validation_but_no_test_images(trained, exported):
    lists, table = ExportedFolder(exported).facts["seen"], trained[2]
    keys = patients_table.patients(table)
    assert set(lists["patients"]) == set(keys[(table["split"] != "test").to_numpy()])
    assert len(lists["images"]) == int(
        (table.loc[table["split"] != "test", ["left_image", "right_image"]] != "").to_numpy().sum()
    )


def test_image_encoder_of_a_released_checkpoint_is_read(small_clips, tmp_path):
    """A flat dict of keys module.visual.* is read, as the released code saves it."""
    import open_clip

    visual = open_clip.create_model("ViT64-clipdr-test", pretrained=None).visual
    torch.save(
        {f"module.visual.{key}": value for key, value in visual.state_dict().items()}
        | {"module.bert.x": torch.ones(1)},
        tmp_path / "r.pt",
    )
    tower = build_image_tower(
        "open_clip/ViT64-clipdr-test", f"ret_clip:{tmp_path / 'r.pt'}", 64, 16
    )
    assert all(
        torch.equal(value, tower.trunk.state_dict()[key])
        for key, value in visual.state_dict().items()
    )
    torch.save({"module.visual.proj": torch.ones(2, 2)}, tmp_path / "bad.pt")
    with pytest.raises(DataError, match="cannot be read as weights"):
        build_image_tower("open_clip/ViT64-clipdr-test", f"ret_clip:{tmp_path / 'bad.pt'}", 64, 16)


def test_incomplete_export_is_refused_with_its_missing_files(tmp_path):
    with pytest.raises(DataError, match=r"visual\.json, visual\.safetensors, heads\.safetensors"):
        ExportedFolder(tmp_path)


def test_path_of_a_backbone_gives_a_name_for_its_cache():
    assert backbone_name("results/pretrain/odir/Backbone-1") == "results_pretrain_odir_backbone_1"
    assert backbone_name("demo") == "demo"


def test_fundus_tiny_is_small_and_complete():
    """At most 12 MB, float16, no benchmark patient, and a model card with all its sections."""
    folder = ExportedFolder(folder_of(BACKBONES["fundus_tiny"].image))
    assert sum(path.stat().st_size for path in folder.path.iterdir()) <= 12 * 2**20
    assert all(
        value.dtype == torch.float16 for value in folder.tensors("heads.safetensors").values()
    )
    assert all(patient.startswith("PRACTICE/") for patient in folder.facts["seen"]["patients"])
    card = (folder.path / "README.md").read_text()
    assert all(
        word in card
        for word in (
            "Data",
            "Seed",
            "Commit",
            "Steps",
            "Scores",
            "Limits",
            "clipdr pretrain",
        )
    )
    backbone = Backbone(
        {"name": "fundus_tiny", "weights": "random", "text": "own", "image": "package/fundus_tiny"},
        64,
    )
    image = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert backbone.image.eval()(image).shape == (2, 128)
        assert backbone.banks["B"].shape == (
            5,
            5,
            128,
        )
