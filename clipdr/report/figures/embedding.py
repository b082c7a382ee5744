"""t-SNE of the image features of the frozen encoder and of the text features of the prompts.

Input: cached features, prompts and manifests; no model is loaded. Output: two panels of one map
(van der Maaten and Hinton, 2008), by grade and by domain, and its corner with the texts, enlarged:
the texts lie close together, apart from the images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from clipdr import GRADES, DataError
from clipdr.artifacts.run_folder import RunFolder
from clipdr.data.manifest import open_features, read_manifest
from clipdr.report.figures.style import COLOURS, WIDE, figure_style, set_domains_title

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from clipdr.report.figures.catalog import FigureInputs

Content = tuple[pd.DataFrame, np.ndarray, dict[str, np.ndarray]]

TITLE = "Embedding of images and texts"
CAPTION = (
    "Image features of the frozen encoder in two dimensions (t-SNE, no unit), by grade and "
    "by domain, and the texts of the grades."
)
SECTION = "maps"
PER_IMAGE = False
COUNTED = False
USES_METHODS = False

# Images of each domain, evenly spaced in the order of the manifest: t-SNE is slow, and more dots
# hide each other.
PER_DOMAIN = 400
GRADE_COLOURS = (  # viridis: its lightness gives the order without colour
    "#FDE725",
    "#5DC863",
    "#21908D",
    "#3B528B",
    "#440154",
)
PERPLEXITY = 30


def read(inputs: FigureInputs) -> Content:
    """Read the features of some images of each domain and of the prompts.

    Returns:
        domain and grade of N images; their features, (N, D) float64; text features
        {bank: (5, D) float64}. All vectors have unit length.

    Raises:
        DataError: If prompts.npz is missing.
    """
    rows, features = [], []
    for domain in dict.fromkeys(RunFolder(run).held_out for run in inputs.runs):
        manifest = read_manifest(inputs.data / "manifests" / f"{domain}.csv")
        chosen = np.unique(
            np.linspace(0, len(manifest) - 1, min(PER_DOMAIN, len(manifest))).round().astype(int)
        )
        rows.append(manifest.iloc[chosen][["domain", "grade"]])
        features.append(open_features(inputs.features / f"{domain}.npy", manifest)[chosen])
    path = inputs.features / "prompts.npz"
    if not path.is_file():
        raise DataError(f"{path}: no such file. Run `clipdr prompts` for this backbone.")
    with np.load(path) as stored:
        texts = {
            bank: _unit(_unit(stored[bank]).mean(axis=1))
            for bank in stored.files
            if bank not in ("scale", "bridge")
        }
        images = np.concatenate(features)
        if "bridge" in stored.files:  # of an encoder whose own features are in no space of texts
            images = images @ stored["bridge"].T
    return pd.concat(rows, ignore_index=True), _unit(images), texts


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors scaled to unit length, float64."""
    vectors = np.asarray(vectors, np.float64)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def embed(vectors: np.ndarray) -> np.ndarray:
    """Map (N, D) unit vectors to (N, 2) float64 by a reproducible t-SNE of cosine distances."""
    from sklearn.manifold import TSNE

    perplexity = min(PERPLEXITY, (len(vectors) - 1) / 3)
    return (
        TSNE(metric="cosine", init="pca", perplexity=perplexity, random_state=0)
        .fit_transform(vectors)
        .astype(np.float64)
    )


def _free_side(point: np.ndarray, others: np.ndarray) -> int:
    """1 where a label fits to the right of a star, -1 where another star is in its way."""
    near = (others - point) / np.ptp(others, axis=0)
    return -1 if ((near[:, 0] > 0) & (near[:, 0] < 0.25) & (np.abs(near[:, 1]) < 0.05)).any() else 1


def plot(content: Content, methods: Sequence[str], domains: Sequence[str]) -> Figure:  # noqa: ARG001 (same signature as every figure)
    """Plot the map by grade and by domain, and the texts alone with bank and grade.

    Args:
        content: As `read` returns it.
        methods: Not used; the features are those of the frozen encoder.
        domains: Domains, in the order of their colours.
    """
    from matplotlib.figure import Figure

    rows, images, texts = content
    points = embed(np.concatenate([images, *texts.values()]))
    dots, stars = points[: len(images)], points[len(images) :].reshape(len(texts), len(GRADES), 2)
    grades = {f"grade {g}": (rows["grade"] == g, GRADE_COLOURS[g]) for g in range(len(GRADES))}
    hospitals = {
        domain: (rows["domain"] == domain, COLOURS[index % len(COLOURS)])
        for index, domain in enumerate(domains)
    }
    with figure_style():
        figure = Figure(figsize=(WIDE, 3.9), layout="constrained")
        axes = figure.subplots(1, 3, width_ratios=(1, 1, 0.55))
        _dots(axes[0], dots, grades, "by grade")
        _dots(axes[1], dots, hospitals, "by domain")
        for bank, line in zip(texts, stars, strict=True):
            _stars(axes, bank, line, stars.reshape(-1, 2))
        axes[2].margins(0.25)
        axes[2].set_title("the texts, enlarged")
        for axis in axes:
            axis.set_xticks([])
            axis.set_yticks([])
            axis.set_xlabel("t-SNE 1 (no unit)")
        axes[0].set_ylabel("t-SNE 2 (no unit)")
        count = stars.shape[0] * stars.shape[1]
        title = f"features of the frozen encoder and of {count} texts (stars; bank and grade)"
        set_domains_title(figure, domains, title)
    return figure


def _dots(
    axis: Axes, dots: np.ndarray, groups: Mapping[str, tuple[pd.Series, str]], title: str
) -> None:
    """Scatter the images (N, 2) in the colours of their groups {name: (member (N,), colour)}."""
    for name, (member, colour) in groups.items():
        axis.scatter(
            *dots[member.to_numpy()].T,
            s=5,
            color=colour,
            linewidths=0,
            label=f"{name} (n={int(member.sum())})",
        )
    axis.set_title(title)
    axis.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, -0.08),
        ncols=2,
        frameon=False,
        markerscale=2,
        columnspacing=1,
    )


def _stars(axes: Sequence[Axes], bank: str, line: np.ndarray, others: np.ndarray) -> None:
    """Scatter the texts of a bank (5, 2) in every panel and name them in the last."""
    for g, point in enumerate(line):
        for axis in axes:
            axis.scatter(
                *point,
                marker="*",
                s=45,
                color="white" if axis is axes[1] else GRADE_COLOURS[g],
                edgecolors="black",
                linewidths=0.5,
                zorder=3,
            )
        side = _free_side(point, others)
        axes[2].annotate(
            f"{bank}{g}",
            point,
            (5 * side, 0),
            textcoords="offset points",
            ha="left" if side > 0 else "right",
            va="center",
        )
