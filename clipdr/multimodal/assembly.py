"""Assembly of a multimodal training: split, tokenizer, datasets and model, from an eye table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from clipdr import DataError
from clipdr.multimodal.data import splits, structured_data
from clipdr.multimodal.data.loader import EyeDataset
from clipdr.multimodal.data.narrative import Statements
from clipdr.multimodal.data.sentences import WORDINGS, sentence
from clipdr.multimodal.data.tokenizer import PretrainedTokenizer, Tokenizer, WordTokenizer
from clipdr.multimodal.fusion import Multimodal
from clipdr.multimodal.towers import text_folder

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from clipdr.multimodal.settings import Settings


def assemble(
    eyes: pd.DataFrame, store: np.ndarray, setting: Settings, seed: int
) -> tuple[Multimodal, dict[str, EyeDataset], structured_data.Constants]:
    """Split an eye table and build model and datasets.

    Standardisation constants and vocabulary come from the training rows alone.

    Args:
        eyes: Eye table. Its own split is used if it has one.
        store: (M, S, S, 3) uint8 images, memory-mapped.
        setting: Settings of the model.
        seed: Seed of split and weights.

    Returns:
        Model, {split: dataset}, and the standardisation constants.

    Raises:
        DataError: If training or validation has no eye, or a patient is in two splits.
    """
    if setting.split == "image_leaky":
        eyes = splits.split_images(eyes, seed, setting.fractions)
    elif (eyes["split"] == "").all():
        eyes = splits.split(eyes, seed, setting.fractions)
    else:
        splits.check_split(eyes)
    train = eyes[eyes["split"] == "train"]
    if train.empty or not (eyes["split"] == "val").any():
        raise DataError(
            "multimodal: training or validation has no eyes. Check the column split of the "
            "eye table."
        )
    constants = structured_data.fit_constants(train)
    datasets = {
        name: EyeDataset(eyes[eyes["split"] == name], store, setting, constants)
        for name in ("train", "val", "test")
    }
    tokenizer = build_tokenizer(setting, datasets["train"])
    torch.manual_seed(seed)
    model = Multimodal(setting, datasets["train"].row.shape[1], tokenizer)
    for dataset in datasets.values():
        dataset.tokenizer, dataset.grid = tokenizer, model.image.grid
    return model, datasets, constants


def build_tokenizer(setting: Settings, train: EyeDataset) -> Tokenizer:
    """Build the tokenizer of the settings.

    The small one learns its words from every wording of the training narratives.
    """
    if setting.text_tower != "small":
        return PretrainedTokenizer(text_folder(setting.text_tower))
    distinct: list[Statements] = list(dict.fromkeys([*train.statements, *(train.history or [])]))
    return WordTokenizer.learn(
        sentence(name, values, wording)
        for statements in distinct
        for name, values in statements
        for wording in range(len(WORDINGS["eye"]))
    )
