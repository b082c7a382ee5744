"""Eyes as tensors: images, token ids of narratives, structured rows and grades.

Batch t is a function of (seed, t): order, crops, rotation, colours, wordings, masks and dropped
modalities use generators keyed by (seed, epoch, row). Any number of processes gets the same
batches, and a resumed run needs no loader state.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from clipdr import DataError
from clipdr.data.augmentation import Augment, colour, draws, geometry, rotated
from clipdr.evaluation.retrieval import contents
from clipdr.multimodal.data import narrative, splits, structured_data
from clipdr.multimodal.data.tokenizer import Tokenizer, tokenize
from clipdr.multimodal.settings import Settings

# No flip, because the text states the side of the eye.
AUGMENT = Augment(scale=0.8, flip=0.0, jitter=(0.2, 0.2, 0.2, 0.02))
ROTATION = 15.0  # degrees, largest angle
TURN = 27  # index of the draw that sets the angle
CHUNK = 64  # eyes of an evaluation batch
EYE_COLUMNS = slice(5, 8)  # of a structured row
MASKED_PATCHES, MASKED_WORDS = 0.75, 0.15  # share of patches and of tokens that are masked
# Share of the masked tokens that stay, and that become another word. The rest become [MASK].
KEPT, RANDOM = 0.1, 0.1


class EyeBatch(NamedTuple):
    """Batch of B eyes.

    `history` is None under `text: none`. The fields behind it are None outside training.

    Attributes:
        image: (B, 3, S, S) float32 in [0, 1].
        token: (B, L) int64 token ids of the narrative.
        row: (B, F) float32 structured rows.
        icdr: (B,) int64 grades, -1 where missing.
        sdrg: (B,) int64 grades, -1 where missing.
        content: (B,) int64, equal where the statements of the narratives are equal.
        row_content: (B,) int64, equal where the structured rows are equal.
        history: (B, L') int64 token ids of the text that a classifier reads.
        row_present: (B,) bool, False where the structured row is dropped.
        text_present: (B,) bool, False where the text is dropped.
        masked_patches: (B, P) bool, True where a patch is masked.
        masked_words: (B, L) bool, True where a token is to be predicted.
        masked_token: (B, L) int64 token ids after masking.
    """

    image: torch.Tensor
    token: torch.Tensor
    row: torch.Tensor
    icdr: torch.Tensor
    sdrg: torch.Tensor
    content: torch.Tensor
    row_content: torch.Tensor
    history: torch.Tensor | None = None
    row_present: torch.Tensor | None = None
    text_present: torch.Tensor | None = None
    masked_patches: torch.Tensor | None = None
    masked_words: torch.Tensor | None = None
    masked_token: torch.Tensor | None = None

    def to(self, device: torch.device | str) -> EyeBatch:
        """Move all tensors to a device."""
        return EyeBatch._make(
            None if field is None else field.to(device, non_blocking=True) for field in self
        )


class EyeDataset:
    """Eyes of a table in a fixed order.

    Args:
        eyes: Eye table of N rows, `row` being the index into the store.
        store: (M, S, S, 3) uint8 images, memory-mapped.
        setting: Settings of the run.
        constants: Standardisation constants of the training rows.
        tokenizer: Tokenizer, None until its vocabulary is learned.
        grid: Rows and columns of patches of the image encoder.

    Raises:
        DataError: If a narrative identifies a patient, or the text of a classifier reveals a grade
            or a finding.
    """

    def __init__(
        self,
        eyes: pd.DataFrame,
        store: np.ndarray,
        setting: Settings,
        constants: structured_data.Constants,
        tokenizer: Tokenizer | None = None,
        grid: tuple[int, int] = (0, 0),
    ) -> None:
        """Create a dataset: encode structured rows, and check the narratives."""
        self.eyes = eyes.reset_index(drop=True)
        self.store, self.setting, self.grid = store, setting, grid
        self.tokenizer: Any = tokenizer
        known = structured_data.replace_placeholders(self.eyes, constants)
        self.statements: list[narrative.Statements] = narrative.table_statements(
            known, setting.kind, setting.with_grades
        )
        self.history: list[narrative.Statements] | None = (
            narrative.table_statements(known, "history") if setting.text == "history" else None
        )
        self.content = torch.from_numpy(contents(self.statements))
        if setting.inputs == "none":
            self.row = torch.zeros(len(eyes), 1)
        else:
            columns = structured_data.select(known, setting.inputs)
            self.row = torch.from_numpy(structured_data.encode(columns, constants))
        compared = self.row.clone()
        if setting.fellow_eye_positive:
            compared[:, EYE_COLUMNS] = 0
        self.row_content = torch.from_numpy(contents([row.tobytes() for row in compared.numpy()]))
        self.grade = {
            name: torch.from_numpy(self.eyes[name].to_numpy(np.int64).copy())
            for name in ("icdr", "sdrg")
        }
        texts = narrative.narrate(self.statements)
        narrative.refuse_identifiers(texts, self.eyes, f"narratives of kind {setting.kind}")
        if self.history is not None:
            narrative.refuse_labels(
                narrative.narrate(self.history), "history read by the classifier"
            )

    def __len__(self) -> int:
        """Return the number of eyes."""
        return len(self.eyes)

    def texts(
        self,
        rows: Sequence[int] | np.ndarray,
        seed: int | None = None,
        epoch: int = 0,
        history: bool = False,
    ) -> list[str]:
        """Verbalise some rows.

        Args:
            rows: B indices.
            seed: None for the wording of evaluation, else the seed of sampled wordings.
            epoch: Epoch of training.
            history: Whether the text of a classifier is wanted, instead of the narrative.

        Returns:
            B texts.
        """
        statements = self.history if history and self.history is not None else self.statements
        return narrative.narrate([statements[row] for row in rows], seed, epoch, rows)

    def with_shuffled_rows(self, seed: int) -> EyeDataset:
        """Control: give each eye the structured data of a random other patient."""
        other = splits.other_patients(splits.patients_of(self.eyes).to_numpy(), seed)
        return self.replaced(
            row=self.row[other],
            row_content=self.row_content[other],
            history=self.history and [self.history[index] for index in other],
        )

    def with_shuffled_narratives(self, seed: int) -> EyeDataset:
        """Sanity check: give each eye the narrative of a random eye."""
        other = np.random.default_rng((seed, 5)).permutation(len(self))
        return self.replaced(
            statements=[self.statements[index] for index in other], content=self.content[other]
        )

    def replaced(self, **attributes: Any) -> EyeDataset:
        """Copy the dataset with other values of some attributes."""
        copy = object.__new__(EyeDataset)
        copy.__dict__ = self.__dict__ | attributes
        return copy

    def images(self, rows: np.ndarray, seed: int | None = None, epoch: int = 0) -> torch.Tensor:
        """Load images, augmented under a seed.

        Args:
            rows: (B,) indices.
            seed: None without augmentation; else images are cropped, rotated and recoloured, never
                flipped.
            epoch: Epoch of training.

        Returns:
            (B, 3, side, side) float32 in [0, 1].
        """
        side, count = self.setting.side, len(rows)
        augment = AUGMENT if seed is not None else Augment()
        uniform = (
            np.ones((count, augment.draws))
            if seed is None
            else draws(seed, epoch, rows, augment.draws)
        )
        pixels = torch.empty(
            count, 3, side, side, dtype=torch.uint8, memory_format=torch.channels_last
        )
        for index, row in enumerate(self.eyes["row"].to_numpy()[rows]):
            geometry(np.asarray(self.store[row]), side, augment, uniform[index], pixels[index])
        images = pixels.float().div_(255)
        if seed is None:
            return images
        angles = torch.from_numpy(ROTATION * (2 * uniform[:, TURN] - 1))
        return rotated(colour(images, augment, uniform), angles)

    def gather(
        self, rows: Sequence[int] | np.ndarray, seed: int | None = None, epoch: int = 0
    ) -> EyeBatch:
        """Load a batch.

        Args:
            rows: B indices.
            seed: None for evaluation: nothing is augmented, dropped or masked.
            epoch: Epoch of training.

        Returns:
            The batch.
        """
        rows = np.asarray(rows)
        limit = self.setting.tokens
        token = tokenize(self.tokenizer, self.texts(rows, seed, epoch), limit)[0]
        history = None
        if self.history is not None:
            history = tokenize(self.tokenizer, self.texts(rows, seed, epoch, True), limit)[0]
        batch = EyeBatch(
            self.images(rows, seed, epoch),
            token,
            self.row[rows],
            self.grade["icdr"][rows],
            self.grade["sdrg"][rows],
            self.content[rows],
            self.row_content[rows],
            history,
        )
        return batch if seed is None else batch._replace(**self._masks(rows, token, seed, epoch))

    def _masks(
        self, rows: np.ndarray, token: torch.Tensor, seed: int, epoch: int
    ) -> dict[str, torch.Tensor]:
        """Dropped modalities and masks of a training batch, each eye by its own generator."""
        names = (
            "row_present",
            "text_present",
            "masked_patches",
            "masked_words",
            "masked_token",
        )
        columns: dict[str, list[Any]] = {name: [] for name in names}
        for row, ids in zip(rows, token.numpy(), strict=True):
            rng = np.random.default_rng((seed, epoch, int(row), 78))
            for name, value in zip(names, self._masks_of_eye(ids, rng), strict=True):
                columns[name].append(value)
        return {name: torch.from_numpy(np.stack(values)) for name, values in columns.items()}

    def _masks_of_eye(self, ids: np.ndarray, rng: np.random.Generator) -> tuple[Any, ...]:
        """Values of one eye: row and text present, masks (P,) and (L,), masked tokens (L,)."""
        tokenizer, limit, patches = self.tokenizer, self.setting.tokens, self.grid[0] * self.grid[1]
        present = rng.random(2) >= self.setting.absent
        masked_patches = np.zeros(patches, bool)
        masked_patches[rng.permutation(patches)[: round(MASKED_PATCHES * patches)]] = True
        length = int((ids != tokenizer.pad).sum())
        chance, kind = rng.random((2, limit))
        other = rng.integers(tokenizer.first, max(tokenizer.size, tokenizer.first + 1), limit)
        index = np.arange(len(ids))
        masked_words = (index > 0) & (index < length) & (chance[: len(ids)] < MASKED_WORDS)
        kind, other = kind[: len(ids)], other[: len(ids)]
        replacement = np.where(
            kind < KEPT, ids, np.where(kind < KEPT + RANDOM, other, tokenizer.mask)
        )
        masked_token = np.where(masked_words, replacement, ids)
        return present[0], present[1], masked_patches, masked_words, masked_token

    def batch(self, step: int, seed: int, rank: int = 0, processes: int = 1) -> EyeBatch:
        """Load a training batch of one process.

        Args:
            step: Number of the batch, 0 = first.
            seed: Seed of the run.
            rank: Number of this process.
            processes: Number of processes that share the batch.

        Returns:
            This process's share of the batch. An incomplete last batch of an epoch is left out.

        Raises:
            DataError: If there are fewer than two eyes for each process.
        """
        size = min(self.setting.batch_size, len(self))
        size -= size % processes
        if size < 2:
            raise DataError(
                f"multimodal: {len(self)} training eyes are too few for a batch. "
                "Use at least 2 per process."
            )
        epoch, index = divmod(step, len(self) // size)
        order = np.random.default_rng((seed, epoch)).permutation(len(self))
        rows = order[index * size : (index + 1) * size]
        share = size // processes
        return self.gather(rows[rank * share : (rank + 1) * share], seed, epoch)

    def steps_per_epoch(self) -> int:
        """Count the training batches of one epoch."""
        return max(1, len(self) // min(self.setting.batch_size, len(self)))

    def chunks(self, size: int = CHUNK) -> Iterator[EyeBatch]:
        """Load all eyes in order, without augmentation.

        Args:
            size: Eyes per batch.

        Yields:
            Batches, the last of them possibly smaller.
        """
        for start in range(0, len(self), size):
            yield self.gather(np.arange(start, min(start + size, len(self))))
