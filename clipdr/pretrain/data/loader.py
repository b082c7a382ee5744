"""Batches of patients: which rows stand together, and what is done to their photographs and texts. Batch t is a function of (seed, t).

Input: a patients table, the packed stores, the tokens of the reports. Output: ret_clip.Patients.
"""

import math
from typing import NamedTuple

import numpy as np
import torch

from clipdr import DataError
from clipdr.data.augmentation import DRAWS, Augment, colour, draws, geometry, rotated
from clipdr.evaluation.retrieval import contents
from clipdr.models.report_encoder import tokens
from clipdr.pretrain.data import report_text
from clipdr.pretrain.data.patients_table import patients, resolve


class Patients(NamedTuple):
    """A batch. B patients; T = 1 (one report for all levels) or 3 (text of the left eye, of the right eye, whole report)."""

    image: torch.Tensor  # (B, 2, 3, S, S) float32 in [0, 1]; left, right; zeros where absent
    present: torch.Tensor  # (B, 2) bool
    member: torch.Tensor  # (3, B) bool: rows that take part at each level
    token: torch.Tensor  # (B, T, L) int64
    content: torch.Tensor  # (3, B) int64: equal numbers, equal texts at that level

    def to(self, device):
        return Patients(*(tensor.to(device, non_blocking=True) for tensor in self))

    def part(self, rows):
        return Patients(
            self.image[rows],
            self.present[rows],
            self.member[:, rows],
            self.token[rows],
            self.content[:, rows],
        )


ERASED = (0.02, 0.33)  # of the area
EXTRA = 8  # draws beyond those of clipdr.data.augmentation: rotation, flip, erase (whether, area, ratio, top, left), mirror
ROTATION, FLIP, ERASE, MIRROR = DRAWS, DRAWS + 1, slice(DRAWS + 2, DRAWS + 7), DRAWS + 7


def plan(patient, batch_size, epochs, seed):
    """The global batches of a run: [(epoch, rows (B,))]; no patient twice in a batch, a last batch that is not full is left out.

    One permutation per (seed, epoch) defines them, whatever the number of processes. A visit that finds its patient in the batch waits
    for the next one.
    """
    size, batches = min(batch_size, len(set(patient))), []
    for epoch in range(epochs):
        waiting = list(np.random.default_rng((seed, epoch)).permutation(len(patient)))
        while len(waiting) >= size:
            rows, there, later = [], set(), []
            for place, row in enumerate(waiting):
                if len(rows) == size:
                    later += waiting[place:]
                    break
                if patient[row] in there:
                    later.append(row)
                else:
                    rows.append(row)
                    there.add(patient[row])
            if len(rows) < size:
                break
            batches.append((epoch, np.array(rows)))
            waiting = later
    return batches


class Visits:
    """Rows of a patients table with their photographs and tokens.

    table   : of pairs.read;  data : folder with manifests/ and store/;  rules : settings.Rules;  encoder : text encoder (clipdr.models.report_encoder)
    permute : deal the reports out anew with this seed (the control), None: as they are
    """

    def __init__(self, table, data, rules, encoder, permute=None):
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
        token, content, self.truncated = self.encoded(
            np.concatenate([plain, swapped]), encoder
        )  # numbered together
        self.token, self.content = token[: len(plain)], content[:, : len(plain)]
        self.mirrored = (token[len(plain) :], content[:, len(plain) :])
        self.member = self.members(plain)

    def __len__(self):
        return len(self.table)

    def texts(self, mirrored=False):
        """(N, T) object. mirrored: those of the patients in a mirror; DataError where a report is not made of texts per eye."""
        sides, language = (
            self.table[["text_left", "text_right"]].to_numpy(object),
            self.table["language"],
        )
        whole = self.table["text"].to_numpy(object)
        if mirrored:
            free = np.flatnonzero((whole != "") & ((sides == "") & self.present.numpy()).any(1))
            if len(free):
                raise DataError(
                    f"flip: mirror_swap needs text_left and text_right; {self.patient[free[0]]} has a whole report only"
                )
            swap = np.vectorize(report_text.swap_sides, otypes=[object])
            whole, sides = (
                swap(whole, language),
                swap(sides, language.to_numpy(object)[:, None])[:, ::-1],
            )
        return (
            np.column_stack([sides, whole]) if self.rules.text_split == "side" else whole[:, None]
        )

    def encoded(self, texts, encoder):
        """Tokens (N, T, L), numbers of equal texts per level (3, N), share of texts cut."""
        unique, inverse = np.unique(texts.astype(str), return_inverse=True)
        token, _ = tokens(encoder, unique.tolist())
        cut = np.array([len(encoder.words(text)) > encoder.length - 2 for text in unique])
        inverse = inverse.reshape(texts.shape)
        number = contents(texts.ravel()).reshape(texts.shape)
        content = torch.from_numpy(np.broadcast_to(number.T, (3, len(texts))).copy())
        return token[inverse], content, float(cut[inverse].mean()) if len(texts) else math.nan

    def members(self, texts):
        """(3, N) bool: rows that take part at each level. A row without a text takes part in none."""
        known = torch.tensor((self.table["side_known"] == "1").tolist())
        said = torch.from_numpy(np.broadcast_to(texts != "", (len(texts), 3)).copy())
        whole = said[:, 2] & (self.present.all(1) | (self.rules.monocular == "duplicate"))
        return torch.stack(
            [
                self.present[:, 0] & known & said[:, 0],
                self.present[:, 1] & known & said[:, 1],
                whole,
            ]
        )

    def batch(self, rows, epoch=None, seed=None):
        """Patients of some rows; augmented where seed is given, every draw keyed by (seed, epoch, row, eye)."""
        rules, count = self.rules, len(rows)
        training = seed is not None
        augment = Augment(
            scale=rules.crop if training else 1.0,
            jitter=(rules.jitter,) * 3 + (rules.jitter / 4,) if training else (),
        )
        numbers = (
            np.concatenate([draws(seed, epoch, 2 * rows + eye, DRAWS + EXTRA) for eye in (0, 1)])
            if training
            else None
        )
        draw = (
            numbers.reshape(2, count, -1).swapaxes(0, 1)
            if training
            else np.ones((count, 2, DRAWS + EXTRA))
        )  # (B, 2, draws)
        pixels = torch.zeros(count, 2, 3, rules.side, rules.side, dtype=torch.uint8)
        for place, row in enumerate(rows):
            for eye in range(2):
                if self.row[row, eye] >= 0:
                    geometry(
                        self.photograph(self.row[row, eye]),
                        rules.side,
                        augment,
                        draw[place, eye],
                        pixels[place, eye],
                    )
        present = self.present[rows]
        image = torch.zeros(pixels.shape)
        seen = pixels[present].float().div_(255)
        if training:
            seen = self.changed(colour(seen, augment, draw[present.numpy()]), draw[present.numpy()])
        image[present] = seen
        token, content, member = self.token[rows], self.content[:, rows], self.member[:, rows]
        if training and rules.flip == "mirror_swap":
            chosen = torch.from_numpy(draw[:, 0, MIRROR] < 0.5)
            image, present, member = mirrored(image, present, member, chosen)
            token = torch.where(chosen[:, None, None], self.mirrored[0][rows], token)
            content = torch.where(chosen, self.mirrored[1][:, rows], content)
        return Patients(image, present, member, token, content)

    def photograph(self, row):
        start = self.starts[np.searchsorted(self.starts, row, "right") - 1]
        return np.asarray(self.arrays[start][row - start])

    def changed(self, image, draw):
        """Rotation, upstream's flip of each eye by itself, erased rectangles: (n, 3, S, S), (n, draws)."""
        rules = self.rules
        if rules.rotate:
            image = rotated(image, torch.from_numpy(rules.rotate * (2 * draw[:, ROTATION] - 1)))
        if rules.flip == "upstream":
            flipped = torch.from_numpy(draw[:, FLIP] < 0.5)[:, None, None, None]
            image = torch.where(flipped, image.flip(3), image)
        side = rules.side
        for picture, (whether, share, ratio, top, left) in zip(image, draw[:, ERASE], strict=True):
            if whether < rules.erase:
                area = side * side * (ERASED[0] + (ERASED[1] - ERASED[0]) * share)
                ratio = math.exp(math.log(3.3) * (2 * ratio - 1))
                high, wide = (
                    min(side, max(1, round(math.sqrt(part))))
                    for part in (area * ratio, area / ratio)
                )
                top, left = int(top * (side - high + 1)), int(left * (side - wide + 1))
                picture[:, top : top + high, left : left + wide] = 0
        return image


def mirrored(image, present, member, chosen):
    """Some patients in a mirror: both photographs flipped, and the left eye in the right slot. Twice is the identity."""
    pick = chosen[:, None, None, None, None]
    image = torch.where(pick, image.flip(-1).flip(1), image)
    present = torch.where(chosen[:, None], present.flip(1), present)
    member = torch.where(chosen, member[[1, 0, 2]], member)
    return image, present, member
