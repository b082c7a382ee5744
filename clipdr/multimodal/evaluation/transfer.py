"""Zero-shot transfer of a trained model to another data set: no structured data, nothing tuned."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clipdr.artifacts.files import as_csv, write_text
from clipdr.multimodal.data import eye_table, structured_data
from clipdr.multimodal.data.loader import EyeDataset
from clipdr.multimodal.evaluation import leaky_protocol, retrieval
from clipdr.multimodal.prediction import embed
from clipdr.multimodal.run import load

if TYPE_CHECKING:
    import pandas as pd

    from clipdr.multimodal.settings import Settings

DARK = 20  # of 255: largest channel of a background pixel
GREY = 12  # of 255: mean channel difference below which an image is near-grey


def transfer(
    folder: str | Path, data: str | Path, other: str, resamples: int = 2000, device: str = "auto"
) -> list[dict[str, Any]]:
    """Score `dual` and `rerank` on another data set, and write transfer_{other}.csv.

    The gallery is the whole test split, or the whole table where it has no split. Narratives are
    findings (keywords), and the description where there is one. Where some images are near-grey
    (angiographies of DeepEyeNet), colour images are also scored on their own, and grey_{other}.csv
    lists the others.

    Args:
        folder: Model folder.
        data: Folder of packed eye tables.
        other: Packed eye table of the other data set.
        resamples: Resamples of patients behind each interval.
        device: "auto", "cpu" or "cuda".

    Returns:
        Rows of `judge` with model, seed, dataset, gallery, kind, unknown_words, mode and direction.

    Raises:
        DataError: If the model is leaky, or a file is missing.
    """
    model, datasets, stored, torch_device = load(folder, data, "retrieval", device)
    leaky_protocol.refuse_leaky(model, "transfer")
    eyes, store = eye_table.open_pack(data, other)
    eyes = eyes[eyes["split"] == "test"] if (eyes["split"] == "test").any() else eyes
    grey = np.array([near_grey(store[row]) for row in eyes["row"]])
    write_text(Path(folder) / f"grey_{other}.csv", as_csv({"image": eyes["image"][grey]}))
    kinds = ("findings", "description") if (eyes["description"] != "").any() else ("findings",)
    galleries = {"all": eyes} | ({"colour": eyes[~grey]} if grey.any() and not grey.all() else {})
    rows = []
    for kind, (gallery, members) in product(kinds, galleries.items()):
        setting = model.setting.model_copy(update={"kind": kind, "inputs": "none"})
        dataset = dataset_like(members, store, setting, datasets["train"])
        about = {
            "model": Path(folder).parent.name,
            "seed": stored["seed"],
            "dataset": other,
            "gallery": gallery,
            "kind": kind,
            "unknown_words": share_unknown(dataset),
        }
        embeddings = embed(model, dataset, torch_device)
        scores = retrieval.score_transfer(model, dataset, embeddings, torch_device, resamples)
        rows += [about | row for row in scores]
    write_text(Path(folder) / f"transfer_{other}.csv", as_csv(rows))
    return rows


def near_grey(image: np.ndarray) -> bool:
    """Detect an angiography by channels that hardly differ.

    Args:
        image: (S, S, 3) uint8.

    Returns:
        Whether the mean channel difference of the lit pixels is below `GREY`.
    """
    lit = image[image.max(-1) > DARK].astype(np.int16)
    return bool(len(lit) == 0 or (lit.max(-1) - lit.min(-1)).mean() < GREY)


def dataset_like(
    eyes: pd.DataFrame, store: np.ndarray, setting: Settings, train: EyeDataset
) -> EyeDataset:
    """Create a dataset of other eyes under a trained model's tokenizer.

    Args:
        eyes: Eye table of the other data set.
        store: Its images, (M, S, S, 3) uint8.
        setting: Settings of the dataset.
        train: Training eyes of the model.

    Returns:
        The dataset.
    """
    constants = structured_data.fit_constants(train.eyes)
    return EyeDataset(eyes, store, setting, constants, train.tokenizer, train.grid)


def share_unknown(eyes: EyeDataset) -> float:
    """Compute the share of words in some narratives that the small tokenizer does not know.

    Args:
        eyes: Dataset.

    Returns:
        Share in [0, 1], NaN for another tokenizer.
    """
    words_of = getattr(eyes.tokenizer, "words", lambda _text: [])
    words = [word for text in eyes.texts(range(len(eyes))) for word in words_of(text)]
    vocabulary = getattr(eyes.tokenizer, "ids", {})
    return float(np.mean([word not in vocabulary for word in words])) if words else float("nan")
