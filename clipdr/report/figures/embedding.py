"""t-SNE of the frozen tower's image features, by grade and by domain, with the fixed prompts' text features drawn in.

Input: cached features, prompts and manifests; no model is loaded. Output: two panels of one map (van der Maaten and Hinton, 2008), and
its corner with the texts, enlarged: they lie close together, apart from the images.
"""

import numpy as np
import pandas as pd

from clipdr import GRADES, DataError
from clipdr.artifacts.run_folder import RunFolder
from clipdr.data.manifest import open_features, read_manifest
from clipdr.report.figures.style import COLOURS, WIDE, style, suptitle

TITLE = "Embedding of images and texts"
CAPTION = (
    "Image features of the frozen encoder in two dimensions (t-SNE, no unit), by grade "
    "and by domain, and the texts of the grades."
)
SECTION = "maps"
PER_IMAGE = False
COUNTED = False
USES_METHODS = False

PER_DOMAIN = 400  # photographs drawn of each domain, evenly spaced in the manifest's order: t-SNE is slow, and more dots hide each other
GRADE_COLOURS = (
    "#FDE725",
    "#5DC863",
    "#21908D",
    "#3B528B",
    "#440154",
)  # viridis: its lightness tells the order without colour
PERPLEXITY = 30


def read(inputs):
    """domain and grade of the photographs drawn, their features (N, D), and {bank: (5, D)} text features, all of unit length."""
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
        raise DataError(f"no {path}: run `clipdr prompts` for this backbone")
    with np.load(path) as stored:
        texts = {
            bank: _unit(_unit(stored[bank]).mean(axis=1))
            for bank in stored.files
            if bank not in ("scale", "bridge")
        }
        images = np.concatenate(features)
        if "bridge" in stored.files:  # of a tower whose own features are in no space of texts
            images = images @ stored["bridge"].T
    return pd.concat(rows, ignore_index=True), _unit(images), texts


def _unit(vectors):
    vectors = np.asarray(vectors, np.float64)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def embed(vectors):
    """(N, D) unit vectors -> (N, 2) float64: t-SNE of their cosine distances, always the same for the same vectors."""
    from sklearn.manifold import TSNE

    perplexity = min(PERPLEXITY, (len(vectors) - 1) / 3)
    return (
        TSNE(metric="cosine", init="pca", perplexity=perplexity, random_state=0)
        .fit_transform(vectors)
        .astype(np.float64)
    )


def _free_side(place, others):
    """1 where a label fits to the right of a star, -1 where another star is in its way."""
    near = (others - place) / np.ptp(others, axis=0)
    return -1 if ((near[:, 0] > 0) & (near[:, 0] < 0.25) & (np.abs(near[:, 1]) < 0.05)).any() else 1


def plot(content, methods, domains):
    """Colour = grade, then colour = domain; stars: texts. Last: the texts alone, named by bank of prompts and grade."""
    from matplotlib.figure import Figure

    rows, images, texts = content
    places = embed(np.concatenate([images, *texts.values()]))
    dots, stars = places[: len(images)], places[len(images) :].reshape(len(texts), len(GRADES), 2)
    grades = {f"grade {g}": (rows["grade"] == g, GRADE_COLOURS[g]) for g in range(len(GRADES))}
    hospitals = {
        domain: (rows["domain"] == domain, COLOURS[place % len(COLOURS)])
        for place, domain in enumerate(domains)
    }
    with style():
        figure = Figure(figsize=(WIDE, 3.9), layout="constrained")
        axes = figure.subplots(1, 3, width_ratios=(1, 1, 0.55))
        for axis, groups, title in zip(
            axes, (grades, hospitals), ("by grade", "by domain"), strict=False
        ):
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
        for bank, line in zip(texts, stars, strict=True):
            for g, place in enumerate(line):
                for axis in axes:
                    colour = "white" if axis is axes[1] else GRADE_COLOURS[g]
                    axis.scatter(
                        *place,
                        marker="*",
                        s=45,
                        color=colour,
                        edgecolors="black",
                        linewidths=0.5,
                        zorder=3,
                    )
                side = _free_side(place, stars.reshape(-1, 2))
                axes[2].annotate(
                    f"{bank}{g}",
                    place,
                    (5 * side, 0),
                    textcoords="offset points",
                    ha="left" if side > 0 else "right",
                    va="center",
                )
        axes[2].margins(0.25)
        axes[2].set_title("the texts, enlarged")
        for axis in axes:
            axis.set_xticks([])
            axis.set_yticks([])
            axis.set_xlabel("t-SNE 1 (no unit)")
        axes[0].set_ylabel("t-SNE 2 (no unit)")
        suptitle(
            figure,
            domains,
            f"features of the frozen tower and of {stars.shape[0] * stars.shape[1]} texts (stars; bank and grade)",
        )
    return figure
