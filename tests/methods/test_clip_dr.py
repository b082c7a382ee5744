"""CLIP-DR: frozen text encoder, smoothing in training only, precision."""

import numpy as np
import torch
from helpers.toy import DOMAINS, SIDE

from clipdr.data.loader import Images
from clipdr.data.manifest import read_manifest
from clipdr.methods import load
from clipdr.methods.clip_dr import ClipDr
from clipdr.models.backbone import Backbone
from clipdr.training.loop import OPTIMIZERS, predict, train_step, trained


def test_text_encoder_is_neither_trained_nor_saved(prepared):
    method, rows = prepared("clip_dr")
    assert not any(parameter.requires_grad for parameter in method.prompts.tower.parameters())
    assert not any("tower" in key for key in trained(method))
    scale = method.scale
    train_step(
        method,
        {"main": OPTIMIZERS["radam"](method.parameter_groups()["main"], 1e-3, 0)},
        rows["train"].batch(0, 10, 0),
        0,
    )
    assert method.scale == scale


def test_predictions_do_not_depend_on_the_smoother(prepared):
    method, rows = prepared("clip_dr")
    before = predict(method, rows["test"])
    method.smoother.mean0.normal_()
    method.smoother.active.fill_(True)
    method.smoother.usable.fill_(True)
    assert np.array_equal(before, predict(method, rows["test"]))


def test_smoother_starts_with_the_second_epoch(prepared):
    method, _ = prepared("clip_dr")
    assert isinstance(method, ClipDr)
    active = []
    for step in (1, 2, 3):  # an epoch is two steps
        method.after_step(step)
        active.append(bool(method.smoother.active))
    assert active == [False, True, True]


def test_bf16_applies_to_the_image_encoder_only(cached):
    backbone = Backbone(
        {"image": "timm/test_efficientnet", "weights": "random", "text": "small"},
        SIDE,
        precision="bf16",
    )
    frame = read_manifest(cached / "manifests" / f"{DOMAINS[0]}.csv")
    rows = Images(
        frame, {DOMAINS[0]: np.load(cached / "store" / f"{DOMAINS[0]}.npy")}, [DOMAINS[0]], SIDE
    )
    method = load("clip_dr")(backbone).eval()
    batch = next(rows.chunks(4))
    assert backbone.image.pooled(batch.image).dtype == torch.float32
    assert method.prompts().dtype == torch.float32
    assert method(batch.image).dtype == torch.float32
