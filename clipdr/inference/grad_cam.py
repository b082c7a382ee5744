"""Class activation maps: where a method looks for the true grade; whether its weights matter for that; whether it looks at the lesions.

Input: run folders with weights, and the held-out domain's photographs. Output: the figure cam (Grad-CAM of one photograph per grade) and
cam.csv. This is the only step of the report that loads a model.

Grad-CAM (Selvaraju et al., 2017), by captum: A (C, h, w) the last map of the image tower, alpha_c the mean over space of dS[y]/dA_c with
S[y] the logit of the true grade y, map = ReLU(sum_c alpha_c A_c), bilinear to the network's input. In a transformer A is what enters the
last block's attention, its tokens put back in their grid. Check (Adebayo et al., 2018): the map of the same photograph with the weights
drawn anew must be another map.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file
from scipy.stats import spearmanr
from torch import nn

from clipdr import DataError
from clipdr.artifacts.run_folder import RunFolder
from clipdr.data.manifest import read_manifests
from clipdr.data.preprocessing.fundus import mask as retina
from clipdr.data.splits import fold
from clipdr.training import run
from clipdr.training.loop import restore

CHECKED = 10  # test photographs of each grade behind the numbers, the first in the order of their names; the first of all is shown


class Maps(NamedTuple):
    """Grad-CAM of one method on the photographs checked, in their order.

    trained, random : (N, S, S) float32 >= 0, with the weights of the run and with weights drawn anew
    """

    trained: np.ndarray
    random: np.ndarray


class ToGrid(nn.Module):
    """Tokens (B, L, W) of a transformer -> (B, W, h, w); the tokens before the grid are kept for `ToTokens`."""

    def __init__(self, prefix):
        super().__init__()
        self.prefix, self.kept = prefix, None

    def forward(self, tokens):
        self.kept = tokens[:, : self.prefix]
        side = round((tokens.shape[1] - self.prefix) ** 0.5)
        return tokens[:, self.prefix :].transpose(1, 2).unflatten(2, (side, side))


class ToTokens(nn.Module):
    """The way back."""

    def __init__(self, grid):
        super().__init__()
        self.grid = [grid]  # in a list: not a child twice

    def forward(self, grid):
        return torch.cat([self.grid[0].kept, grid.flatten(2).transpose(1, 2)], dim=1)


def layer_of(trunk):
    """The module whose output is A, (B, C, h, w): the last map of a convolutional tower; of a transformer, a grid put into its last block.

    trunk : open_clip ModifiedResNet or VisionTransformer, or a timm ResNet, EfficientNet or VisionTransformer; changed if a transformer.
    DataError for another.
    """
    if hasattr(trunk, "layer4"):
        return trunk.layer4
    if hasattr(trunk, "conv_head"):
        return trunk.bn2
    if hasattr(trunk, "transformer"):  # open_clip
        last, name, prefix = trunk.transformer.resblocks[-1], "ln_1", 1
    elif hasattr(trunk, "num_prefix_tokens") and hasattr(trunk, "blocks"):  # timm
        last, name, prefix = trunk.blocks[-1], "norm1", trunk.num_prefix_tokens
    else:
        raise DataError(
            f"cam: no map is known of an image tower {type(trunk).__name__}; use a ResNet, an EfficientNet or a ViT"
        )
    grid = ToGrid(prefix)
    setattr(last, name, nn.Sequential(getattr(last, name), grid, ToTokens(grid)))
    return grid


def grad_cam(model, images, grades):
    """(N, 3, S, S) float32, (N,) int -> (N, S, S) float32 >= 0, one photograph at a time."""
    from captum.attr import LayerAttribution, LayerGradCam

    method, found = LayerGradCam(model.eval(), layer_of(model.image.trunk)), []
    for image, grade in zip(images, grades, strict=True):
        coarse = method.attribute(image[None], target=int(grade), relu_attributions=True)
        found.append(
            LayerAttribution.interpolate(coarse.float(), tuple(image.shape[1:]), "bilinear")[0, 0]
            .detach()
            .cpu()
            .numpy()
        )
    return np.stack(found)


def chosen(test):
    """Up to CHECKED photographs of each grade of the first domain tested, in the order of their names; columns of the manifest."""
    rows = test[test["domain"] == test["domain"].iloc[0]].sort_values("image", kind="stable")
    return (
        rows.groupby("grade", sort=True)
        .head(CHECKED)
        .sort_values(["grade", "image"], kind="stable")
    )


def compute(folders, data, listed):
    """Photographs and maps of runs that held out the same domain.

    folders : run folders, one per method;  data : folder with manifests/ and store/;  listed : the study's domains
    returns   manifest rows (N) with the disc in pixels of the network's input, pixels (N, 3, S, S) float32 in [0, 1], {method: Maps}

    Raises DataError where a run reads cached features (it has no image tower of its own) or its tower is of no known kind.
    """
    manifest = read_manifests([Path(data) / "manifests" / f"{name}.csv" for name in listed])
    protocol, _, held_out, _ = RunFolder(folders[0]).key
    rows = chosen(fold(manifest, protocol, held_out)["test"])
    found = {}
    for folder in folders:
        method, seed = RunFolder(folder).method, RunFolder(folder).seed
        settings = json.loads((folder / "settings.json").read_text())
        if settings["frozen"]:
            raise DataError(
                f"cam: {method} reads features of a frozen tower; choose methods that train on photographs"
            )
        settings["training"]["precision"] = "fp32"
        parts = fold(manifest, protocol, held_out) | {"test": rows}
        models = {}
        for name, weights in (("trained", settings["backbone"]["weights"]), ("random", "random")):
            torch.manual_seed(int(seed))
            fresh = settings | {"backbone": settings["backbone"] | {"weights": weights}}
            models[name], loaded = run.build(
                fresh, method, data, manifest, parts, torch.device("cpu")
            )
        restore(models["trained"], load_file(folder / "model.safetensors"))
        batch = next(loaded["test"].chunks(len(rows)))
        found[method] = Maps(
            *(grad_cam(models[name], batch.image, batch.grade) for name in Maps._fields)
        )
    disc = ["cx", "cy", "r", "w", "h"]
    scale = np.float32(settings["image"]["input"] / settings["image"]["size"])
    return rows.assign(**{name: scale * rows[name] for name in disc}), batch.image.numpy(), found


def lesions(rows, raw, side, size, seed):
    """Where the lesions of drawn photographs are, as the network sees them: (N, side, side) bool.

    rows : of a manifest;  raw : folder with images/;  size, seed : those the photographs were drawn with (synthetic.write)
    DataError where a photograph is missing.
    """
    from clipdr.data.preprocessing import fundus
    from clipdr.data.preprocessing.image_io import decode
    from clipdr.data.synthetic import dataset

    found = []
    for image, domain in rows[["image", "domain"]].itertuples(index=False):
        path = Path(raw) / "images" / image
        if not path.is_file():
            raise DataError(
                f"cam: no {path}; --raw must be the folder the photographs were prepared from"
            )
        picture = fundus.clean(decode(path), domain)
        drawn = dataset.lesion_mask(image, size, seed)
        if drawn.shape != picture.shape[:2]:
            raise DataError(
                f"cam: {path} is {picture.shape[1]} x {picture.shape[0]}, not as drawn with size {size}; name its size"
            )
        square, _ = fundus.crop(
            np.repeat(255 * drawn[:, :, None].astype(np.uint8), 3, axis=2),
            fundus.find_circle(picture),
            side,
        )
        found.append(square[:, :, 0] > 127)
    return np.stack(found)


def measure(rows, maps, drawn=None):
    """Numbers of the maps: one row per method and photograph.

    drawn   : (N, S, S) bool, where lesions are, or None
    returns   method, image, grade, rank_correlation (Spearman's, of the trained and the random map inside the retina; NaN where one is
              flat), energy (share of the map inside the retina that falls on lesions), area (share of the retina that is lesion); NaN
              without lesions or without a map
    """
    side = next(iter(maps.values())).trained.shape[-1]
    inside = retina(
        rows[["cx", "cy", "r", "w", "h"]].to_numpy(np.float32, copy=True), side
    ).numpy()[:, 0]
    records = []
    for method, found in maps.items():
        for place, (image, grade) in enumerate(rows[["image", "grade"]].itertuples(index=False)):
            one, other = (part[place][inside[place]] for part in found)
            flat = np.ptp(one) == 0 or np.ptp(other) == 0
            record = {"method": method, "image": image, "grade": grade}
            record["rank_correlation"] = np.nan if flat else float(spearmanr(one, other).statistic)
            record |= {"energy": np.nan, "area": np.nan}
            if drawn is not None and drawn[place][inside[place]].any() and one.sum() > 0:
                lesion = drawn[place][inside[place]]
                record |= {
                    "energy": float(one[lesion].sum() / one.sum()),
                    "area": float(lesion.mean()),
                }
            records.append(record)
    return pd.DataFrame(records)
