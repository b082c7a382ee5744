"""Settings of a pre-training run as a frozen, typed model, and its presets. Imports no torch."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError

from clipdr import DataError
from clipdr.config.job import Model


class Rules(Model):
    """Settings of a pre-training run; each field's description is its documentation."""

    image: str = Field(
        description="image encoder: timm/NAME, open_clip/NAME, or vit/WIDTH/DEPTH/PATCH, a small "
        "transformer"
    )
    weights: str = Field(
        description="first weights of the image encoder: a file, a pretrained tag, "
        "package:efficientnet_lite0 or random"
    )
    side: int = Field(ge=16, description="S, side of the image encoder's input in pixels")
    width: int = Field(
        ge=8, description="E of timm and vit encoders; an open_clip encoder has its own"
    )
    text: str = Field(
        description="small, or hf:FOLDER with a model of the transformers library and its tokenizer"
    )
    length: int = Field(ge=8, description="L, tokens read of a report")
    batch_size: int = Field(ge=2, description="patients of a global batch, over all processes")
    chunk: int = Field(
        0,
        ge=0,
        description="patients that pass at a time (gradient accumulation, exact); 0: the whole "
        "batch",
    )
    epochs: int = Field(ge=1, description="passes over the training visits")
    lr_image: float = Field(gt=0, description="learning rate of the image encoder")
    lr_text: float = Field(gt=0, description="learning rate of the text encoder")
    lr_heads: float = Field(gt=0, description="learning rate of the heads and of t_x")
    weight_decay: float = Field(ge=0, description="of matrices; vectors and t_x have none")
    betas: tuple[float, float] = Field((0.9, 0.98), description="AdamW's betas")
    eps: float = Field(1e-6, description="AdamW's epsilon")
    clip_norm: float = Field(0.0, ge=0, description="largest norm of the gradient; 0: no clipping")
    warmup: float = Field(ge=0, description="steps, or below 1 a share of all steps")
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32", description="of both encoders (autocast); fp16 on a GPU, with loss scaling"
    )
    checkpointing: bool = Field(
        False,
        description="recompute activations of the image encoder: less memory, more time",
    )
    freeze_norm: bool = Field(
        False,
        description="BatchNorm keeps its statistics: needed with `chunk`, and with two processes "
        "on a CPU",
    )
    start: float = Field(description="first value of the three t_x")
    targets: Literal["onehot", "same_text"] = Field(
        "same_text",
        description="onehot: equal reports of a batch are negatives; same_text: they share the "
        "target",
    )
    text_split: Literal["none", "side"] = Field(
        "none", description="side: the eyes' heads read text_left and text_right"
    )
    monocular: Literal["duplicate", "skip"] = Field(
        "duplicate",
        description="patient level of a patient with one eye: the eye fills both halves, or no "
        "patient level",
    )
    flip: Literal["none", "mirror_swap", "upstream"] = Field(
        "none",
        description="mirror_swap exchanges eyes and side words; upstream flips each eye alone, "
        "which destroys laterality",
    )
    crop: float = Field(0.9, gt=0, le=1, description="smallest area of a random crop, as a share")
    jitter: float = Field(
        0.2,
        ge=0,
        description="half width of the factors of brightness, contrast, saturation; a quarter "
        "of it for the hue",
    )
    rotate: float = Field(0.0, ge=0, le=15, description="largest rotation in degrees")
    erase: float = Field(0.1, ge=0, le=1, description="probability of an erased rectangle")
    permute: bool = Field(
        False,
        description="sanity check: training reports are permuted, so that nothing can be learnt",
    )
    save_every: int = Field(
        50,
        ge=1,
        description="steps between two saved states for resuming; one more is saved per epoch",
    )
    seed: int = Field(0, ge=0, description="of weights, batches and augmentation")


_ADAM = {"betas": (0.9, 0.98), "eps": 1e-6}
PRESETS = {
    # What the released code does, without its defects. The weights of Chinese-CLIP have no name
    # here: give image, weights and text.
    "paper": Rules(
        image="open_clip/ViT-B-16-quickgelu",
        weights="openai",
        side=224,
        width=512,
        text="hf:roberta-wwm-ext",
        length=100,
        batch_size=256,
        epochs=10,
        lr_image=3e-5,
        lr_text=3e-5,
        lr_heads=3e-5,
        weight_decay=1e-3,
        warmup=50,
        precision="fp16",
        checkpointing=True,
        start=4.499809670330265,
        targets="onehot",
        crop=0.9,
        jitter=0.2,
        erase=0.1,
        seed=123,
        **_ADAM,
    ),
    "small": Rules(
        image="timm/tf_efficientnet_lite0",
        weights="package:efficientnet_lite0",
        side=96,
        width=128,
        text="small",
        length=32,
        batch_size=56,
        epochs=8,
        lr_image=3e-4,
        lr_text=5e-4,
        lr_heads=1e-3,
        weight_decay=0.05,
        clip_norm=1.0,
        warmup=0.1,
        start=2.6592600369327783,
        crop=0.8,
        rotate=10,
        erase=0.0,
        **_ADAM,
    ),
    "scratch": Rules(
        image="vit/192/6/16",
        weights="random",
        side=96,
        width=128,
        text="small",
        length=128,
        batch_size=56,
        epochs=30,
        lr_image=5e-4,
        lr_text=5e-4,
        lr_heads=1e-3,
        weight_decay=0.05,
        clip_norm=1.0,
        warmup=0.1,
        start=2.6592600369327783,
        crop=0.8,
        rotate=10,
        erase=0.0,
        **_ADAM,
    ),
}


def rules(preset: str, changes: Mapping[str, Any]) -> Rules:
    """Return the settings of a preset with some values changed.

    Args:
        preset: Key of `PRESETS`.
        changes: New values by field.

    Raises:
        DataError: If the preset or a field is unknown, or a value is wrong.
    """
    if preset not in PRESETS:
        raise DataError(f"preset {preset!r}: no such preset. Use one of {', '.join(PRESETS)}.")
    try:
        return Rules(**(PRESETS[preset].model_dump() | dict(changes)))
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise DataError(
            f"pre-training settings: {'; '.join(lines)}. Correct these values."
        ) from None
