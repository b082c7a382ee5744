"""Settings of a run of the multimodal system, as frozen, typed models that refuse an unknown key.

Imports no torch, so that the command line can read settings quickly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from clipdr import DataError
from clipdr.config.job import Model


class Weights(Model):
    """Weight of each loss; 0 switches the term off.

    The paper states the kinds of loss only, so all values are choices of this implementation.
    """

    it: float = Field(default=1.0, ge=0, description="contrastive loss of image and narrative")
    rows: float = Field(
        default=0.5,
        ge=0,
        description="contrastive losses of structured data with image and with narrative, each",
    )
    mim: float = Field(default=0.5, ge=0, description="reconstruction of masked patches")
    mlm: float = Field(default=0.5, ge=0, description="prediction of masked words")
    grading: float = Field(default=1.0, ge=0, description="both grades, each")
    itm: float = Field(
        default=0.0,
        ge=0,
        description="image-text matching; above 0 `rerank` is scored (the study uses 0.5)",
    )


class Settings(Model):
    """Settings of one model."""

    tower: str = Field(
        default="small",
        description="image encoder: small (ViT, width 192, 6 layers, patch 16) or timm/NAME, "
        "a ViT or a convolutional network",
    )
    weights: str = Field(
        default="random",
        description="of a timm/ encoder: a tag, a file, package:efficientnet_lite0 or random",
    )
    side: int = Field(default=96, ge=32, description="side of the network's input, pixels")
    text_tower: str = Field(
        default="small",
        description="text encoder: small (2 layers) or hf:FOLDER, a local model of the "
        "transformers library",
    )
    text_layers: int = Field(
        default=4, ge=0, description="last layers of an hf: encoder that are trained"
    )
    width: int = Field(default=192, description="d, width of every token of the joint transformer")
    embedding: int = Field(default=128, description="e, size of the embeddings that are compared")
    joint_layers: int = Field(default=2, ge=1, description="layers of the joint transformer")
    heads: int = Field(default=3, ge=1, description="attention heads of the joint transformer")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="dropout probability")
    tokens: int = Field(default=256, ge=8, description="longest text in tokens; 77 in CLIP")
    inputs: Literal["none", "demo", "history"] = Field(
        "demo", description="structured columns that a classifier reads"
    )
    text: Literal["none", "history"] = Field(
        "none", description="text that a classifier reads beside the image"
    )
    kind: Literal["findings", "full", "history", "description"] = Field(
        "findings", description="kind of narrative in the retrieval pass"
    )
    with_grades: bool = Field(
        False, description="state both grades in the narrative of the retrieval pass"
    )
    contrast: Literal["unimodal", "fused"] = Field(
        "unimodal", description="fused: LEAKY, for the demonstration fused_paper only"
    )
    shuffle: Literal["none", "rows", "pairs"] = Field(
        default="none",
        description="controls: structured data of other patients; narratives of other eyes",
    )
    losses: Weights = Field(default=Weights(), description="weights of the losses")
    ordinal: bool = Field(default=False, description="CORN instead of weighted cross-entropy")
    every: int = Field(default=4, ge=1, description="steps between two reconstruction passes")
    fellow_eye_positive: bool = Field(
        False, description="ignore the side of the eye where structured rows are compared"
    )
    absent: float = Field(
        default=0.3,
        ge=0,
        lt=1,
        description="probability that structured data or text is dropped from a training eye; "
        "the image never is",
    )
    split: Literal["patient", "image_leaky"] = Field(
        "patient", description="unit of the split; image_leaky: LEAKY"
    )
    fractions: dict[str, float] = Field(
        default={"train": 0.8, "val": 0.1, "test": 0.1},
        description="fractions of the patients in each split",
    )
    lr: float = Field(default=5e-4, gt=0, description="learning rate of new parts")
    tower_lr: float = Field(
        default=5e-4, gt=0, description="learning rate of image and text encoder"
    )
    weight_decay: float = Field(
        default=0.05, ge=0, description="of parameters with two axes or more"
    )
    epochs: float = Field(default=15, gt=0, description="passes over the training eyes")
    batch_size: int = Field(default=48, ge=2, description="eyes per step, over all processes")
    warmup: float = Field(
        default=0.05, ge=0, lt=1, description="share of the steps with linear warm-up"
    )
    clip_norm: float = Field(default=1.0, gt=0, description="largest norm of the gradient")
    precision: Literal["fp32", "bf16"] = Field(
        default="fp32", description="precision of the encoders"
    )
    evaluations: int = Field(
        5, ge=1, description="number of validations, evenly spaced over the steps"
    )
    rerank: int = Field(
        default=50, ge=1, description="first items of `dual` that `rerank` scores again"
    )

    @property
    def leaky(self) -> bool:
        """Whether training or split leaks, so that no result is a measure of skill."""
        return self.contrast == "fused" or self.split == "image_leaky"

    @model_validator(mode="after")
    def agree(self) -> Settings:
        """Check settings that depend on each other."""
        if self.text == "history" and self.inputs != "history":
            raise ValueError(
                "text: history states diabetes and its duration. "
                "Set inputs to history, so that the controls read them too."
            )
        if self.width % self.heads or self.width % 2:
            raise ValueError("width must be even and a multiple of heads")
        if (
            set(self.fractions) != {"train", "val", "test"}
            or abs(sum(self.fractions.values()) - 1) > 1e-9
        ):
            raise ValueError("fractions must name train, val and test, and sum to 1")
        return self


FULL = {
    "tower": "timm/vit_base_patch16_224",
    "weights": "augreg_in21k",
    "side": 224,
    "width": 768,
    "embedding": 512,
    "joint_layers": 4,
    "heads": 12,
    "lr": 1e-4,
    "tower_lr": 1e-5,
    "epochs": 30,
    "batch_size": 128,
    "precision": "bf16",
}
PRESETS: dict[str, dict[str, Any]] = {"small": {}, "full": FULL}


def make_settings(changes: Mapping[str, Any], preset: str = "small") -> Settings:
    """Create settings from a preset and changes.

    Args:
        changes: Nested mapping of the values that differ from the preset.
        preset: "small" or "full".

    Returns:
        The settings.

    Raises:
        DataError: If the preset or a key is unknown, or a value is not allowed. The message names
            the key.
    """
    if preset not in PRESETS:
        raise DataError(f"preset {preset!r} is unknown. Choose {', '.join(PRESETS)}.")
    try:
        return Settings(**{**PRESETS[preset], **changes})
    except ValidationError as error:
        first = error.errors()[0]
        where = "".join(f"{key}: " for key in first["loc"])
        reason = first["msg"].removeprefix("Value error, ").rstrip(".")
        raise DataError(f"multimodal settings: {where}{reason}.") from None
