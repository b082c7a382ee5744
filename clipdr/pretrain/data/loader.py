"""Batches of patients: which visits form a batch, their augmented images and their tokens.

Input: a patients table, the packed stores and a report encoder. Output: `Patients`. Batch t is a
    function of (seed, t).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from clipdr import DataError
from clipdr.data.augmentation import Augment, colour, draws, geometry
from clipdr.evaluation.retrieval import contents
from clipdr.models.report_encoder import tokenize_reports
from clipdr.pretrain.data import report_text
from clipdr.pretrain.data.eye_augmentation import MIRROR, NUMBERS, mirrored, rotate_flip_erase
from clipdr.pretrain.data.patients_table import patients, resolve

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from clipdr.models.report_encoder import HuggingFaceReportEncoder, SmallReportEncoder
    from clipdr.pretrain.settings import Rules


class Patients(NamedTuple):
    """A batch of B patients.

    T is 1 (one report for all levels) or 3 (text of the left eye, text of the right eye, whole
    report).
    """

    image: torch.Tensor  # (B, 2, 3, S, S) float32 in [0, 1]; left, right; zeros where absent
    present: torch.Tensor  # (B, 2) bool
    member: torch.Tensor  # (3, B) bool: rows that take part at each level
    token: torch.Tensor  # (B, T, L) int64
    content: torch.Tensor  # (3, B) int64; equal numbers stand for equal texts of that level

    def to(self, device: str | torch.device) -> Patients:
        """Copy all tensors to a device."""
        return Patients(*(tensor.to(device, non_blocking=True) for tensor in self))

    def part(self, rows: slice | torch.Tensor) -> Patients:
        """Return some patients of the batch."""
        return Patients(
            self.image[rows],
            self.present[rows],
            self.member[:, rows],
            self.token[rows],
            self.content[:, rows],
        )


def plan(
    patient: np.ndarray, batch_size: int, epochs: int, seed: int
) -> list[tuple[int, np.ndarray]]:
    """Plan the global batches of a run.

    No patient is twice in a batch: a further visit of the same patient waits for the next batch. A
    last batch that is not full is left out. One permutation per (seed, epoch) defines the batches,
    whatever the number of processes.

    Args:
        patient: (N,) group key of the rows.
        batch_size: Rows of a batch; at most the number of patients.
        epochs: Passes over the rows.
        seed: Of the permutations.

    Returns:
        One pair per batch: epoch, (B,) rows.
    """
    size = min(batch_size, len(set(patient)))
    batches: list[tuple[int, np.ndarray]] = []
    for epoch in range(epochs):
        waiting = list(np.random.default_rng((seed, epoch)).permutation(len(patient)))
        while len(waiting) >= size:
            rows, in_batch, later = [], set(), []
            for position, row in enumerate(waiting):
                if len(rows) == size:
                    later += waiting[position:]
                    break
                if patient[row] in in_batch:
                    later.append(row)
                else:
                    rows.append(row)
                    in_batch.add(patient[row])
            if len(rows) < size:
                break
            batches.append((epoch, np.array(rows)))
            waiting = later
    return batches


class Visits:
    """Rows of a patients table with their images and tokens.

    Args:
        table: Patients table of `patients_table.read`, N rows.
        data: Folder with manifests/ and store/.
        rules: Settings of the run.
        encoder: Report encoder whose tokenizer is used.
        permute: Seed that deals the reports out to other rows (a control); None: as they are.

    Raises:
        DataError: If an image is in no manifest, or `flip: mirror_swap` meets a report without
            texts per eye.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        data: str | Path,
        rules: Rules,
        encoder: SmallReportEncoder | HuggingFaceReportEncoder,
        permute: int | None = None,
    ) -> None:
        """Create the visits: open the stores and tokenize all texts once."""
        self.table, self.rules = table.reset_index(drop=True), rules
        self.patient = patients(self.table)
        self.row, self.arrays, self.digest = resolve(self.table, data)
        self.starts = np.array(sorted(self.arrays))
        self.present = torch.from_numpy(self.row >= 0)
        plain, mirror = self.texts(), rules.flip == "mirror_swap"
        swapped = self.texts(mirrored=True) if mirror else plain[:0]
        if permute is not None:
            order = np.random.default_rng(permute).permutation(len(self.table))
            plain, swapped = plain[order], swapped[order[: len(swapped)]]
        # numbered together, so that a mirrored text has the number of an equal plain one
        token, content, self.truncated = self.encode(np.concatenate([plain, swapped]), encoder)
        self.token, self.content = token[: len(plain)], content[:, : len(plain)]
        self.mirrored = (token[len(plain) :], content[:, len(plain) :])
        self.member = self.members(plain)

    def __len__(self) -> int:
        """Return the number of rows N."""
        return len(self.table)

    def texts(self, mirrored: bool = False) -> np.ndarray:
        """Return the texts of all rows.

        Args:
            mirrored: Return those of the mirrored patients: sides and side words exchanged.

        Returns:
            (N, T) object array of str; T is 3 under `text_split: side`, else 1.

        Raises:
            DataError: If a report to be mirrored is not made of texts per eye.
        """
        sides = self.table[["text_left", "text_right"]].to_numpy(object)
        language, whole = self.table["language"], self.table["text"].to_numpy(object)
        if mirrored:
            free = np.flatnonzero((whole != "") & ((sides == "") & self.present.numpy()).any(1))
            if len(free):
                raise DataError(
                    f"flip mirror_swap: patient {self.patient[free[0]]} has a whole report only. "
                    "Add text_left and text_right, or set flip to none."
                )
            swap = np.vectorize(report_text.swap_sides, otypes=[object])
            whole, sides = (
                swap(whole, language),
                swap(sides, language.to_numpy(object)[:, None])[:, ::-1],
            )
        return (
            np.column_stack([sides, whole]) if self.rules.text_split == "side" else whole[:, None]
        )

    def encode(
        self, texts: np.ndarray, encoder: SmallReportEncoder | HuggingFaceReportEncoder
    ) -> tuple[torch.Tensor, torch.Tensor, float]:
        """Tokenize texts and number them by content.

        Args:
            texts: (N, T) object array of str.
            encoder: Report encoder whose tokenizer is used.

        Returns:
            Tokens (N, T, L) int64; numbers of equal texts per level (3, N) int64; share of
            truncated texts.
        """
        unique, inverse = np.unique(texts.astype(str), return_inverse=True)
        token, _ = tokenize_reports(encoder, unique.tolist())
        cut = np.array([len(encoder.tokenize(text)) > encoder.length - 2 for text in unique])
        inverse = inverse.reshape(texts.shape)
        number = contents(texts.ravel()).reshape(texts.shape)
        content = torch.from_numpy(np.broadcast_to(number.T, (3, len(texts))).copy())
        return token[inverse], content, float(cut[inverse].mean()) if len(texts) else math.nan

    def members(self, texts: np.ndarray) -> torch.Tensor:
        """Return (3, N) bool: the rows that take part at each level, none without a text."""
        side_known = torch.tensor((self.table["side_known"] == "1").tolist())
        has_text = torch.from_numpy(np.broadcast_to(texts != "", (len(texts), 3)).copy())
        whole = has_text[:, 2] & (self.present.all(1) | (self.rules.monocular == "duplicate"))
        return torch.stack(
            [
                self.present[:, 0] & side_known & has_text[:, 0],
                self.present[:, 1] & side_known & has_text[:, 1],
                whole,
            ]
        )

    def batch(self, rows: np.ndarray, epoch: int = 0, seed: int | None = None) -> Patients:
        """Load a batch.

        Args:
            rows: (B,) row numbers.
            epoch: Of the batch; only augmentation depends on it.
            seed: Augment, every random number keyed by (seed, epoch, row, eye); None: do not
                augment.
        """
        rules, count, training = self.rules, len(rows), seed is not None
        augment = Augment(
            scale=rules.crop if training else 1.0,
            jitter=(rules.jitter,) * 3 + (rules.jitter / 4,) if training else (),
        )
        draw = np.ones((count, 2, NUMBERS))
        if seed is not None:
            eyes = [draws(seed, epoch, 2 * rows + eye, NUMBERS) for eye in (0, 1)]
            draw = np.concatenate(eyes).reshape(2, count, -1).swapaxes(0, 1)
        pixels = torch.zeros(count, 2, 3, rules.side, rules.side, dtype=torch.uint8)
        for position, row in enumerate(rows):
            for eye in range(2):
                if self.row[row, eye] >= 0:
                    geometry(
                        self.stored_image(self.row[row, eye]),
                        rules.side,
                        augment,
                        draw[position, eye],
                        pixels[position, eye],
                    )
        present = self.present[rows]
        image = torch.zeros(pixels.shape)
        there = pixels[present].float().div_(255)
        if training:
            there = colour(there, augment, draw[present.numpy()])
            there = rotate_flip_erase(there, draw[present.numpy()], rules)
        image[present] = there
        token, content, member = self.token[rows], self.content[:, rows], self.member[:, rows]
        if training and rules.flip == "mirror_swap":
            chosen = torch.from_numpy(draw[:, 0, MIRROR] < 0.5)
            image, present, member = mirrored(image, present, member, chosen)
            token = torch.where(chosen[:, None, None], self.mirrored[0][rows], token)
            content = torch.where(chosen, self.mirrored[1][:, rows], content)
        return Patients(image, present, member, token, content)

    def stored_image(self, row: int) -> np.ndarray:
        """Return the packed image of a global row, (S, S, 3) uint8."""
        start = self.starts[np.searchsorted(self.starts, row, "right") - 1]
        return np.asarray(self.arrays[start][row - start])
