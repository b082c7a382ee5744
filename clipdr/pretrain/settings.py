"""Settings of a pre-training run as a frozen, typed model, and its presets. Imports no torch."""

from typing import Literal

from pydantic import Field, ValidationError

from clipdr import DataError
from clipdr.config.job import Model


class Rules(Model):
    image: str = Field(
        description="image tower: timm/NAME, open_clip/NAME, or vit/WIDTH/DEPTH/PATCH, a small transformer"
    )
    weights: str = Field(
        description="first weights of the tower: a file, a pretrained tag, package:efficientnet_lite0 or random"
    )
    side: int = Field(ge=16, description="S, pixels of the tower's input")
    width: int = Field(ge=8, description="E of timm and vit towers; an open_clip tower has its own")
    text: str = Field(
        description="small, or hf:FOLDER with a model of the transformers library and its tokenizer"
    )
    length: int = Field(ge=8, description="L, tokens read of a report")
    batch_size: int = Field(ge=2, description="patients of a global batch, over all processes")
    chunk: int = Field(
        0,
        ge=0,
        description="patients that pass at a time (gradient accumulation, exact); 0: the whole batch",
    )
    epochs: int = Field(ge=1)
    lr_image: float = Field(gt=0)
    lr_text: float = Field(gt=0)
    lr_heads: float = Field(gt=0)
    weight_decay: float = Field(ge=0, description="of matrices; vectors and t_x have none")
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-6
    clip_norm: float = Field(
        0.0, ge=0, description="largest norm of the gradient; 0 leaves it alone"
    )
    warmup: float = Field(ge=0, description="steps, or below 1 a share of all steps")
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32", description="of both towers (autocast); fp16 on a GPU, with loss scaling"
    )
    checkpointing: bool = Field(
        False, description="recompute activations of the image tower: less memory, more time"
    )
    freeze_norm: bool = Field(
        False,
        description="BatchNorm keeps its statistics: needed with `chunk`, and with two processes on a CPU",
    )
    start: float = Field(description="first value of the three t_x")
    targets: Literal["onehot", "same_text"] = Field(
        "same_text", description="what equal reports in a batch are to one another"
    )
    text_split: Literal["none", "side"] = Field(
        "none", description="side: the eyes' heads read text_left and text_right"
    )
    monocular: Literal["duplicate", "skip"] = Field(
        "duplicate", description="patient level of a patient with one eye"
    )
    flip: Literal["none", "mirror_swap", "upstream"] = Field(
        "none", description="upstream flips each eye alone: laterality is destroyed"
    )
    crop: float = Field(0.9, gt=0, le=1, description="smallest area of a random crop")
    jitter: float = Field(
        0.2,
        ge=0,
        description="half width of the factors of brightness, contrast, saturation; a quarter for the hue",
    )
    rotate: float = Field(0.0, ge=0, le=15, description="largest rotation, degrees")
    erase: float = Field(0.1, ge=0, le=1, description="probability of an erased rectangle")
    permute: bool = Field(
        False, description="control: the training reports are dealt out anew, nothing can be learnt"
    )
    save_every: int = Field(
        50,
        ge=1,
        description="steps between two states that a cut run goes on from, beside every epoch's end",
    )
    seed: int = Field(0, ge=0)


_ADAM = {"betas": (0.9, 0.98), "eps": 1e-6}
PRESETS = {
    # what the released code does, minus its defects; weights of Chinese-CLIP are not ours to name: give image, weights and text
    "paper": Rules(
        image="open_clip/ViT-B-16-quickgelu", weights="openai", side=224, width=512, text="hf:roberta-wwm-ext", length=100, batch_size=256,
        epochs=10, lr_image=3e-5, lr_text=3e-5, lr_heads=3e-5, weight_decay=1e-3, warmup=50, precision="fp16", checkpointing=True,
        start=4.499809670330265, targets="onehot", crop=0.9, jitter=0.2, erase=0.1, seed=123, **_ADAM,
    ),
    "small": Rules(
        image="timm/tf_efficientnet_lite0", weights="package:efficientnet_lite0", side=96, width=128, text="small", length=32,
        batch_size=56, epochs=8, lr_image=3e-4, lr_text=5e-4, lr_heads=1e-3, weight_decay=0.05, clip_norm=1.0, warmup=0.1,
        start=2.6592600369327783, crop=0.8, rotate=10, erase=0.0, **_ADAM,
    ),
    "scratch": Rules(
        image="vit/192/6/16", weights="random", side=96, width=128, text="small", length=128, batch_size=56, epochs=30, lr_image=5e-4,
        lr_text=5e-4, lr_heads=1e-3, weight_decay=0.05, clip_norm=1.0, warmup=0.1, start=2.6592600369327783, crop=0.8, rotate=10,
        erase=0.0, **_ADAM,
    ),
}  # fmt: skip


def rules(preset, changes):
    """Rules of a preset with some changed. Raises DataError naming the preset or the key that is wrong."""
    if preset not in PRESETS:
        raise DataError(f"preset {preset!r} is unknown; known are {', '.join(PRESETS)}")
    try:
        return Rules(**(PRESETS[preset].model_dump() | changes))
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise DataError(f"pretrain settings: {'; '.join(lines)}") from None
