"""Class activation maps of trained methods, with two checks of the maps.

Input: run folders with weights, and images of the held-out domain. Output: maps for the figure cam
(Grad-CAM of one image per grade) and the rows of cam.csv. No other step of the report loads a
model.

Grad-CAM (Selvaraju et al., 2017), by captum: A (C, h, w) is the last feature map of the image
encoder, alpha_c the mean over space of dS[y]/dA_c with S[y] the logit of the true grade y, and the
map ReLU(sum_c alpha_c A_c), resized bilinearly to the network's input. In a transformer, A is the
input of the last block's attention, its tokens arranged in their grid. Checks: the map of the same
image with random weights must differ (Adebayo et al., 2018), and on synthetic images the share of
the map on lesions is measured.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file
from scipy.stats import spearmanr
from torch import nn

from clipdr import DataError
from clipdr.artifacts.run_folder import RunFolder
from clipdr.data.manifest import read_manifests
from clipdr.data.preprocessing import fundus
from clipdr.data.splits import fold
from clipdr.training import run
from clipdr.training.loop import restore

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CHECKED = 10  # test images per grade behind the numbers, the first by name; the figure shows one
DISC = ["cx", "cy", "r", "w", "h"]


class Maps(NamedTuple):
    """Grad-CAM of one method on N images.

    Attributes:
        trained: (N, S, S) float32 >= 0, with the weights of the run.
        random: (N, S, S) float32 >= 0, with random weights.
    """

    trained: np.ndarray
    random: np.ndarray


class ToGrid(nn.Module):
    """Arrange tokens of a transformer in their grid, (B, L, W) -> (B, W, h, w).

    Args:
        prefix: Number of tokens before the grid. They are kept for `ToTokens`.
    """

    def __init__(self, prefix: int) -> None:
        """Create the module."""
        super().__init__()
        self.prefix = prefix
        self.kept = torch.empty(0)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Keep the tokens before the grid, and return the grid."""
        self.kept = tokens[:, : self.prefix]
        side = round((tokens.shape[1] - self.prefix) ** 0.5)
        return tokens[:, self.prefix :].transpose(1, 2).unflatten(2, (side, side))


class ToTokens(nn.Module):
    """Inverse of `ToGrid`, (B, W, h, w) -> (B, L, W).

    Args:
        grid: The module that kept the tokens before the grid.
    """

    def __init__(self, grid: ToGrid) -> None:
        """Create the module."""
        super().__init__()
        self.grid = [grid]  # in a list, so that it is not registered as a child twice

    def forward(self, grid: torch.Tensor) -> torch.Tensor:
        """Return all tokens."""
        return torch.cat([self.grid[0].kept, grid.flatten(2).transpose(1, 2)], dim=1)


def target_layer(trunk: Any) -> nn.Module:
    """Find the module whose output is A, (B, C, h, w).

    It is the last feature map of a convolutional encoder, or a grid put into the last block of a
    transformer.

    Args:
        trunk: open_clip ModifiedResNet or VisionTransformer, or timm ResNet, EfficientNet or
            VisionTransformer. A transformer is changed.

    Raises:
        DataError: If the encoder is of another kind.
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
            f"cam: an image encoder of type {type(trunk).__name__} has no known feature map. "
            f"Use a ResNet, an EfficientNet or a ViT."
        )
    grid = ToGrid(prefix)
    setattr(last, name, nn.Sequential(getattr(last, name), grid, ToTokens(grid)))
    return grid


def activation_maps(model: Any, images: torch.Tensor, grades: torch.Tensor) -> np.ndarray:
    """Compute Grad-CAM, one image at a time.

    Args:
        model: Method with `model.image.trunk`.
        images: (N, 3, S, S) float32 in [0, 1].
        grades: (N,) int, the true grades.

    Returns:
        (N, S, S) float32 >= 0.
    """
    from captum.attr import LayerAttribution, LayerGradCam

    method, maps = LayerGradCam(model.eval(), target_layer(model.image.trunk)), []
    for image, grade in zip(images, grades, strict=True):
        coarse = method.attribute(image[None], target=int(grade), relu_attributions=True)
        fine = LayerAttribution.interpolate(coarse.float(), tuple(image.shape[1:]), "bilinear")
        maps.append(fine[0, 0].detach().cpu().numpy())
    return np.stack(maps)


def select_images(test: pd.DataFrame) -> pd.DataFrame:
    """Select up to CHECKED images of each grade of the first test domain, in order of their names.

    Args:
        test: Manifest rows of the test set.

    Returns:
        Their manifest rows, sorted by grade and name.
    """
    rows = test[test["domain"] == test["domain"].iloc[0]].sort_values("image", kind="stable")
    first = rows.groupby("grade", sort=True).head(CHECKED)
    return first.sort_values(["grade", "image"], kind="stable")


def maps_of_runs(
    folders: Sequence[Path], data: Path | str, domains: Sequence[str]
) -> tuple[pd.DataFrame, np.ndarray, dict[str, Maps]]:
    """Compute the maps of runs that held out the same domain.

    Args:
        folders: Run folders, one per method.
        data: Folder with manifests/ and store/.
        domains: Domains of the study.

    Returns:
        Manifest rows (N) with the disc in pixels of the network's input, pixels (N, 3, S, S)
        float32 in [0, 1], and {method: Maps}.

    Raises:
        DataError: If a run reads cached features, so that it has no image encoder of its own, or
            its encoder is of no known kind.
    """
    data = Path(data)
    manifest = read_manifests([data / "manifests" / f"{name}.csv" for name in domains])
    protocol, _, held_out, _ = RunFolder(folders[0]).key
    splits = fold(manifest, protocol, held_out)
    rows = select_images(splits["test"])
    maps: dict[str, Maps] = {}
    pixels, scale = np.empty(0), np.float32(1)
    for folder in folders:
        method, seed = RunFolder(folder).method, RunFolder(folder).seed
        settings = json.loads((folder / "settings.json").read_text())
        if settings["frozen"]:
            raise DataError(
                f"cam: {method} reads features of a frozen image encoder. "
                f"Choose methods that train on images."
            )
        settings["training"]["precision"] = "fp32"
        models, rows_of = {}, {}
        for name, weights in (("trained", settings["backbone"]["weights"]), ("random", "random")):
            torch.manual_seed(seed)
            fresh = settings | {"backbone": settings["backbone"] | {"weights": weights}}
            models[name], rows_of = run.build(
                fresh, method, data, manifest, {**splits, "test": rows}, torch.device("cpu")
            )
        restore(models["trained"], load_file(folder / "model.safetensors"))
        batch = next(iter(rows_of["test"].chunks(len(rows))))
        maps[method] = Maps(
            *(activation_maps(models[name], batch.image, batch.grade) for name in Maps._fields)
        )
        pixels = batch.image.numpy()
        scale = np.float32(settings["image"]["input"] / settings["image"]["size"])
    return rows.assign(**{name: scale * rows[name] for name in DISC}), pixels, maps


def lesion_masks(
    rows: pd.DataFrame, raw: Path | str, side: int, size: int, seed: int
) -> np.ndarray:
    """Render the lesions of synthetic images as the network sees them.

    Args:
        rows: Manifest rows of N images.
        raw: Folder with images/.
        side: Side S of the network's input in pixels.
        size: Size with which the images were generated.
        seed: Seed with which they were generated.

    Returns:
        (N, S, S) bool, True on lesions.

    Raises:
        DataError: If an image is missing or was generated with another size.
    """
    from clipdr.data.preprocessing.image_io import decode
    from clipdr.data.synthetic import dataset

    masks = []
    for name, domain in rows[["image", "domain"]].itertuples(index=False):
        path = Path(raw) / "images" / name
        if not path.is_file():
            raise DataError(
                f"cam: {path} is missing. Give with --raw the folder from which the images were "
                f"prepared."
            )
        image = fundus.clean(decode(path), domain)
        mask = dataset.lesion_mask(name, size, seed)
        if mask.shape != image.shape[:2]:
            raise DataError(
                f"cam: {path} is {image.shape[1]} x {image.shape[0]} pixels, not as generated with "
                f"size {size}. Give its size with --size."
            )
        grey = np.repeat(255 * mask[:, :, None].astype(np.uint8), 3, axis=2)
        square, _ = fundus.crop(grey, fundus.find_circle(image), side)
        masks.append(square[:, :, 0] > 127)
    return np.stack(masks)


def measure(
    rows: pd.DataFrame, maps: Mapping[str, Maps], lesions: np.ndarray | None = None
) -> pd.DataFrame:
    """Measure the maps.

    Args:
        rows: Manifest rows of N images, with the disc in pixels of the maps.
        maps: {method: maps of these images}.
        lesions: (N, S, S) bool, True on lesions; None without.

    Returns:
        One row per method and image: method, image, grade, rank_correlation (Spearman, of trained
        and random map inside the retina; NaN where one is constant), energy (share of the map
        inside the retina that falls on lesions) and area (share of the retina with lesions), both
        0 to 1, NaN without lesions or map.
    """
    side = next(iter(maps.values())).trained.shape[-1]
    discs = rows[DISC].to_numpy(np.float32, copy=True)
    retina = fundus.mask(discs, side).numpy()[:, 0]
    records = []
    for method, method_maps in maps.items():
        for index, (image, grade) in enumerate(rows[["image", "grade"]].itertuples(index=False)):
            inside = retina[index]
            trained, random = (part[index][inside] for part in method_maps)
            constant = np.ptp(trained) == 0 or np.ptp(random) == 0
            correlation: Any = None if constant else spearmanr(trained, random)
            record = {"method": method, "image": image, "grade": grade}
            record["rank_correlation"] = np.nan if constant else float(correlation.statistic)
            record |= {"energy": np.nan, "area": np.nan}
            lesion = None if lesions is None else lesions[index][inside]
            if lesion is not None and lesion.any() and trained.sum() > 0:
                record["energy"] = float(trained[lesion].sum() / trained.sum())
                record["area"] = float(lesion.mean())
            records.append(record)
    return pd.DataFrame(records)
