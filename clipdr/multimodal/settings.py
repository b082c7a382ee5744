"""Settings of a run of the multimodal system as frozen, typed models. An unknown key is refused. Imports no torch."""

from typing import Literal

from pydantic import Field, ValidationError, model_validator

from clipdr import DataError
from clipdr.config.job import Model


class Weights(Model):
    """Weight of each loss; 0 switches the term off. The paper states the kinds of loss only: all values are ours."""

    it: float = Field(1.0, ge=0, description="contrast of photograph and narrative")
    rows: float = Field(
        0.5, ge=0, description="contrast of the row with photograph and with narrative, each"
    )
    mim: float = Field(0.5, ge=0, description="masked patches")
    mlm: float = Field(0.5, ge=0, description="masked words")
    grading: float = Field(1.0, ge=0, description="both grades, each")
    itm: float = Field(
        0.0,
        ge=0,
        description="match of photograph and narrative; above 0 `rerank` is scored (0.5 is the study's)",
    )


class Settings(Model):
    tower: str = Field(
        "small",
        description="small (ViT width 192, 6 layers, patch 16) | timm/NAME, a ViT or a convolutional net",
    )
    weights: str = Field(
        "random", description="of a timm tower: a tag, a file, package:efficientnet_lite0 or random"
    )
    side: int = Field(96, ge=32, description="pixels, side that the network sees")
    text_tower: str = Field(
        "small",
        description="small (2 layers) | hf:FOLDER, a local model of the transformers library",
    )
    text_layers: int = Field(4, ge=0, description="last layers of an hf: tower that are trained")
    width: int = Field(192, description="d, of every token of the joint transformer")
    embedding: int = Field(128, description="e, of the unit vectors that are compared")
    joint_layers: int = Field(2, ge=1)
    heads: int = Field(3, ge=1)
    dropout: float = Field(0.1, ge=0, lt=1)
    tokens: int = Field(256, ge=8, description="longest text in tokens; CLIP's is 77")
    inputs: Literal["none", "demo", "history"] = Field(
        "demo", description="structured columns that a classifier reads"
    )
    text: Literal["none", "history"] = Field(
        "none", description="text that a classifier reads, beside the photograph"
    )
    kind: Literal["findings", "full", "history", "description"] = Field(
        "findings", description="narrative of the retrieval pass"
    )
    with_grades: bool = Field(
        False, description="state both grades in the narrative of the retrieval pass"
    )
    contrast: Literal["unimodal", "fused"] = Field(
        "unimodal", description="fused: LEAKY, for the demonstration fused_paper only"
    )
    shuffle: Literal["none", "rows", "pairs"] = Field(
        "none", description="controls: rows of other patients; narratives of other eyes"
    )
    losses: Weights = Weights()
    ordinal: bool = Field(False, description="CORN instead of weighted cross-entropy")
    every: int = Field(4, ge=1, description="steps between two reconstruction passes")
    fellow_eye_positive: bool = Field(
        False, description="leave the eye out where rows are compared"
    )
    absent: float = Field(
        0.3,
        ge=0,
        lt=1,
        description="chance that row or text is left out of a training eye; the photograph never is",
    )
    split: Literal["patient", "image_leaky"] = "patient"
    fractions: dict[str, float] = Field(
        default={"train": 0.8, "val": 0.1, "test": 0.1}, description="of patients"
    )
    lr: float = Field(5e-4, gt=0, description="of new parts")
    tower_lr: float = Field(5e-4, gt=0, description="of the image and text towers")
    weight_decay: float = Field(0.05, ge=0, description="of parameters with two axes or more")
    epochs: float = Field(15, gt=0)
    batch_size: int = Field(48, ge=2, description="eyes per step, over all processes")
    warmup: float = Field(0.05, ge=0, lt=1, description="share of the steps")
    clip_norm: float = Field(1.0, gt=0)
    precision: Literal["fp32", "bf16"] = "fp32"
    evaluations: int = Field(
        5, ge=1, description="times that validation is scored, evenly over the steps"
    )
    rerank: int = Field(50, ge=1, description="first items of `dual` that `rerank` scores again")

    @property
    def leaky(self) -> bool:
        return self.contrast == "fused" or self.split == "image_leaky"

    @model_validator(mode="after")
    def agree(self):
        if self.text == "history" and self.inputs != "history":
            raise ValueError(
                "text: history says diabetes and its duration: set inputs to history, so that the controls read them too"
            )
        if self.width % self.heads or self.width % 2:
            raise ValueError("width must be a multiple of heads")
        if (
            set(self.fractions) != {"train", "val", "test"}
            or abs(sum(self.fractions.values()) - 1) > 1e-9
        ):
            raise ValueError("fractions: train, val and test, summing to 1")
        return self


FULL = {
    "tower": "timm/vit_base_patch16_224", "weights": "augreg_in21k", "side": 224, "width": 768, "embedding": 512, "joint_layers": 4,
    "heads": 12, "lr": 1e-4, "tower_lr": 1e-5, "epochs": 30, "batch_size": 128, "precision": "bf16",
}  # fmt: skip
PRESETS = {"small": {}, "full": FULL}


def settings(given, preset="small"):
    """Settings of a preset with some values replaced; DataError naming the key that is wrong. given: nested mapping"""
    if preset not in PRESETS:
        raise DataError(f"preset {preset!r} is unknown; choose {', '.join(PRESETS)}")
    try:
        return Settings(**(PRESETS[preset] | given))
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(f"settings: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
