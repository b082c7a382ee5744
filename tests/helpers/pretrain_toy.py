"""Toy pre-training: settings, model and visits of a tiny run on a cohort of toy patients."""

from clipdr.pretrain import run
from clipdr.pretrain.settings import rules

TINY = {
    "image": "vit/32/2/8",
    "weights": "random",
    "side": 32,
    "width": 16,
    "length": 24,
    "batch_size": 16,
    "epochs": 2,
    "crop": 1.0,
    "jitter": 0.0,
    "rotate": 0.0,
    "save_every": 1000,
    "lr_image": 2e-3,
    "lr_text": 2e-3,
    "lr_heads": 4e-3,
}


def tiny(**changes):
    """Settings of a tiny run."""
    return rules("small", TINY | changes)


def model_and_visits(table, data, **changes):
    """Model, training visits and settings of a tiny run."""
    settings = tiny(**changes)
    model, _ = run.build(settings, run.training_texts(table))
    return model, run.visits(table, "train", data, settings, model.text), settings
