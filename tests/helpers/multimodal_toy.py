"""Toy study of the multimodal system: forty synthetic patients, tiny settings, and one assembly."""

import numpy as np

from clipdr.multimodal import losses
from clipdr.multimodal.assembly import assemble
from clipdr.multimodal.data import eye_table, packing, splits, synthetic_eyes
from clipdr.multimodal.settings import make_settings

TINY = {
    "side": 32,
    "width": 48,
    "embedding": 16,
    "joint_layers": 1,
    "dropout": 0.0,
    "batch_size": 8,
    "epochs": 2,
    "evaluations": 3,
}
ALL = {"it": 1.0, "rows": 0.5, "mim": 0.5, "mlm": 0.5, "grading": 1.0, "itm": 0.5}
ONLY = dict.fromkeys(ALL, 0.0)  # to be joined with the one loss that is on
LEAKY = {
    "contrast": "fused",
    "inputs": "none",
    "lr": 2e-3,
    "tower_lr": 1e-3,
    "batch_size": 24,
    "losses": ONLY | {"it": 1.0},
}


def pack(folder):
    """Pack images of noise whose brightness is the grade, so that there is something to learn."""
    eyes = splits.split(
        synthetic_eyes.synthetic("SIM_DEEPDR", 40, 0), 0, {"train": 0.5, "val": 0.25, "test": 0.25}
    )
    rng = np.random.default_rng(0)
    images = (
        np.clip(rng.normal(40 + 40 * grade, 20, (32, 32, 3)), 0, 255).astype(np.uint8)
        for grade in eyes["icdr"]
    )
    packing.pack(eyes, images, folder, "tiny")
    return folder


def built(packed, seed=0, **changes):
    """Model and datasets of the packed table under tiny settings with some changes."""
    eyes, store = eye_table.open_pack(packed, "tiny")
    return assemble(eyes, store, make_settings(TINY | changes), seed)[:2]


def weights_of(datasets):
    """Weights of the grades of the training split, per scale."""
    return {
        name: losses.class_weights(np.bincount(grade[grade >= 0].numpy(), minlength=5))
        for name, grade in datasets["train"].grade.items()
    }
