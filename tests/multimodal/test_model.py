"""Multimodal model: two grading heads, missing modalities, settings."""

import json

import numpy as np
import pytest
import torch
from helpers.multimodal_toy import ALL, built, pack

from clipdr import DataError
from clipdr.multimodal import loop
from clipdr.multimodal.data import splits
from clipdr.multimodal.prediction import embed, predict
from clipdr.multimodal.settings import make_settings


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    return pack(tmp_path_factory.mktemp("packed"))


def test_heads_give_different_grades_where_the_scales_differ(packed):
    """Overfit to images whose two grades differ: each head gives its own grade."""
    model, datasets = built(
        packed,
        losses=dict.fromkeys(ALL, 0.0) | {"grading": 1.0},
        lr=3e-3,
        tower_lr=1e-3,
        inputs="demo",
        absent=0.0,
    )
    batch = datasets["train"].batch(0, 0)
    icdr = torch.tensor([0, 1, 2, 3, 4, 2, 1, 0])
    sdrg = torch.tensor(
        [1, 1, 3, 2, 4, 1, 2, 0]
    )  # icdr 2 goes with 3 and 1, sdrg 1 with icdr 0, 1 and 2
    batch, ones = (
        batch._replace(icdr=icdr, sdrg=sdrg),
        {name: torch.ones(5) for name in ("icdr", "sdrg")},
    )
    optimizer = loop.build_optimizer(model)
    for _ in range(60):
        loop.train_step(model, optimizer, batch, ones, False)
    model.eval()
    with torch.no_grad():
        summary, _ = model.join(model.encode_image(batch.image), row=model.row(batch.row))
        predicted = {name: logits.argmax(1) for name, logits in model.grades(summary).items()}
    assert torch.equal(predicted["icdr"], icdr)
    assert torch.equal(predicted["sdrg"], sdrg)
    assert (predicted["icdr"] != predicted["sdrg"]).any()


def test_one_checkpoint_takes_any_subset_of_the_modalities(packed):
    model, datasets = built(packed, inputs="history", text="history")
    predicted = {}
    for name, without in {
        "image": ("row", "text"),
        "image + row": ("text",),
        "image + text + row": (),
    }.items():
        predicted[name] = predict(model, datasets["test"], without=without)["icdr"]
        assert np.isfinite(predicted[name]).all()
    assert not np.array_equal(predicted["image"], predicted["image + row"])
    assert not np.array_equal(predicted["image + row"], predicted["image + text + row"])
    empty = datasets["test"].replaced(
        history=[()] * len(datasets["test"]), statements=[()] * len(datasets["test"])
    )
    assert np.isfinite(predict(model, empty)["icdr"]).all()
    assert np.isfinite(embed(model, empty)["text"]).all()
    gone = np.ones(len(datasets["test"]), bool)
    same = predict(model, datasets["test"], absent={"row": gone, "text": gone})["icdr"]
    assert np.array_equal(same, predicted["image"])


def test_inconsistent_settings_are_refused_and_leaky_ones_marked():
    with pytest.raises(DataError, match="Set inputs to history"):
        make_settings({"text": "history"})
    with pytest.raises(DataError, match="batch"):
        make_settings({"batch": 3})
    assert make_settings({"contrast": "fused"}).leaky
    assert make_settings({"split": "image_leaky"}).leaky
    assert not make_settings({}).leaky


def test_shuffled_rows_are_those_of_another_patient(packed):
    _, datasets = built(packed)
    patient = splits.patients_of(datasets["train"].eyes).to_numpy()
    other = splits.other_patients(patient, 0)
    assert (patient[other] != patient).all()
    assert torch.equal(datasets["train"].with_shuffled_rows(0).row, datasets["train"].row[other])


def test_settings_of_a_study_are_json(packed):
    assert (
        json.loads(json.dumps(make_settings({}, "full").model_dump()))["tower"]
        == "timm/vit_base_patch16_224"
    )
