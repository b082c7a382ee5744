"""A toy study of the multimodal system: forty synthetic patients, tiny settings, and how a run of them is assembled."""

import numpy as np

from clipdr.multimodal import assembly, losses
from clipdr.multimodal.data import label_files, packing, splits
from clipdr.multimodal.settings import settings

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


def pack(folder):
    """Photographs of noise whose brightness is the grade: quick to make, and something to learn. Returns the folder."""
    eyes = splits.split(
        label_files.synthetic("SIM_DEEPDR", 40, 0), 0, {"train": 0.5, "val": 0.25, "test": 0.25}
    )
    rng = np.random.default_rng(0)
    pictures = (
        np.clip(rng.normal(40 + 40 * grade, 20, (32, 32, 3)), 0, 255).astype(np.uint8)
        for grade in eyes["icdr"]
    )
    packing.pack(eyes, pictures, folder, "tiny")
    return folder


def built(packed, seed=0, **given):
    eyes, store = packing.open_pack(packed, "tiny")
    return assembly.assemble(eyes, store, settings(TINY | given), seed)[:2]


def weights_of(visits):
    return {
        name: losses.class_weights(np.bincount(g[g >= 0].numpy(), minlength=5))
        for name, g in visits["train"].grade.items()
    }
