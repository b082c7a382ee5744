"""Eyes as tensors: photographs of the packed store, narratives as token ids, encoded rows, grades. Batch t is a function of (seed, t).

Order, crops, rotation, colours, wordings, masks and what is left out draw from generators keyed by (seed, epoch, row): any number of
processes sees the same batches, and a resumed run needs no state of a loader.
"""

from typing import NamedTuple

import numpy as np
import torch

from clipdr import DataError
from clipdr.data.augmentation import Augment, colour, draws, geometry, rotated
from clipdr.evaluation.retrieval import contents
from clipdr.multimodal.data import eye_table, narrative, splits
from clipdr.multimodal.data.tokenizer import tokens
from clipdr.multimodal.losses import KEPT, MASKED_PATCHES, MASKED_WORDS, RANDOM

AUGMENT = Augment(
    scale=0.8, flip=0.0, jitter=(0.2, 0.2, 0.2, 0.02)
)  # no flip: the eye's side is in the text
ROTATION, TURN = 15.0, 27  # degrees; the number of its draw
CHUNK = 64  # eyes of an evaluation batch


class Visit(NamedTuple):
    image: torch.Tensor  # (B, 3, S, S) float32 in [0, 1]
    token: torch.Tensor  # (B, L) int64, the narrative
    row: torch.Tensor  # (B, F) float32
    icdr: torch.Tensor  # (B,) int64, -1 missing
    sdrg: torch.Tensor  # (B,) int64, -1 missing
    content: torch.Tensor  # (B,) int64, equal where the narratives say the same
    alike: torch.Tensor  # (B,) int64, equal where the rows are
    history: torch.Tensor | None = None  # (B, L) int64, the text of a classifier
    with_row: torch.Tensor | None = None  # (B,) bool, False where left out
    with_text: torch.Tensor | None = None
    masked_patches: torch.Tensor | None = None  # (B, P) bool
    masked_words: torch.Tensor | None = None  # (B, L) bool
    masked_token: torch.Tensor | None = None  # (B, L) int64

    def to(self, device):
        return Visit(
            *(part if part is None else part.to(device, non_blocking=True) for part in self)
        )


class Visits:
    """Eyes of a table in a fixed order.

    eyes      : eye table with `row` into the store;  store : (N, S, S, 3) uint8, memory-mapped
    setting   : Settings;  tokenizer : Words or Pretrained, None while its vocabulary is learnt
    constants : cohort.Constants of the training rows;  grid : patches of the image tower, rows and columns
    """

    def __init__(self, eyes, store, setting, constants, tokenizer=None, grid=(0, 0)):
        self.eyes, self.store, self.setting, self.tokenizer, self.grid = (
            eyes.reset_index(drop=True),
            store,
            setting,
            tokenizer,
            grid,
        )
        whole = eye_table.without_placeholders(self.eyes, constants)
        self.said = narrative.content(whole, setting.kind, setting.with_grades)
        self.told = narrative.content(whole, "history") if setting.text == "history" else None
        self.content = torch.from_numpy(contents(self.said))
        if setting.inputs == "none":
            self.row = torch.zeros(len(eyes), 1)
        else:
            self.row = torch.from_numpy(
                eye_table.encode(eye_table.view(whole, setting.inputs), constants)
            )
        compared = self.row.clone()
        if setting.fellow_eye_positive:
            compared[:, 5:8] = 0  # the eye's columns
        self.alike = torch.from_numpy(contents([one.tobytes() for one in compared.numpy()]))
        self.grade = {
            name: torch.from_numpy(self.eyes[name].to_numpy(np.int64).copy())
            for name in ("icdr", "sdrg")
        }
        texts = narrative.narrate(self.said)
        narrative.refuse_identifiers(texts, self.eyes, f"narratives of kind {setting.kind}")
        if self.told is not None:
            narrative.refuse_labels(narrative.narrate(self.told), "history read by the classifier")

    def __len__(self):
        return len(self.eyes)

    def texts(self, rows, seed=None, epoch=0, history=False):
        """Narratives of some rows: of evaluation, or drawn under a seed."""
        said = self.told if history else self.said
        return narrative.narrate([said[row] for row in rows], seed, epoch, rows)

    def shuffled(self, seed):
        """Control: the same eyes, each with the row (and history text) of a random other patient."""
        other = other_patients(splits.patients_of(self.eyes).to_numpy(), seed)
        return self._with(
            row=self.row[other],
            alike=self.alike[other],
            told=self.told and [self.told[place] for place in other],
        )

    def repaired(self, seed):
        """Canary: the same eyes, each with the narrative of another at random."""
        other = np.random.default_rng((seed, 5)).permutation(len(self))
        return self._with(said=[self.said[place] for place in other], content=self.content[other])

    def _with(self, **parts):
        made = object.__new__(Visits)
        made.__dict__ = self.__dict__ | parts
        return made

    def photographs(self, rows, seed=None, epoch=0):
        """(B, 3, side, side) float32 in [0, 1]; with a seed cropped, turned and recoloured, but never mirrored."""
        side, count = self.setting.side, len(rows)
        augment = AUGMENT if seed is not None else Augment()
        draw = (
            np.ones((count, augment.draws))
            if seed is None
            else draws(seed, epoch, rows, augment.draws)
        )
        pixels = torch.empty(
            count, 3, side, side, dtype=torch.uint8, memory_format=torch.channels_last
        )
        for place, row in enumerate(self.eyes["row"].to_numpy()[rows]):
            geometry(np.asarray(self.store[row]), side, augment, draw[place], pixels[place])
        picture = pixels.float().div_(255)
        return (
            picture
            if seed is None
            else rotated(
                colour(picture, augment, draw), torch.from_numpy(ROTATION * (2 * draw[:, TURN] - 1))
            )
        )

    def gather(self, rows, seed=None, epoch=0):
        """Visit of some rows; seed None: nothing drawn, nothing left out, nothing masked."""
        rows = np.asarray(rows)
        limit = self.setting.tokens
        token = tokens(self.tokenizer, self.texts(rows, seed, epoch), limit)[0]
        history = (
            tokens(self.tokenizer, self.texts(rows, seed, epoch, True), limit)[0]
            if self.told is not None
            else None
        )
        grades = (grade[rows] for grade in self.grade.values())
        visit = Visit(
            self.photographs(rows, seed, epoch),
            token,
            self.row[rows],
            *grades,
            self.content[rows],
            self.alike[rows],
            history,
        )
        return visit if seed is None else visit._replace(**self.drawn(rows, token, seed, epoch))

    def drawn(self, rows, token, seed, epoch):
        """What is left out and masked, per eye by its own generator."""
        patches, found = self.grid[0] * self.grid[1], {}
        kinds = ("with_row", "with_text", "masked_patches", "masked_words", "masked_token")
        each = {name: [] for name in kinds}
        for row, ids in zip(rows, token.numpy(), strict=True):
            rng = np.random.default_rng((seed, epoch, int(row), 78))
            there = rng.random(2) >= self.setting.absent
            hidden = np.zeros(patches, bool)
            hidden[rng.permutation(patches)[: round(MASKED_PATCHES * patches)]] = True
            length = int((ids != self.tokenizer.pad).sum())
            chance, kind = rng.random((2, self.setting.tokens))
            other = rng.integers(
                self.tokenizer.first,
                max(self.tokenizer.size, self.tokenizer.first + 1),
                self.setting.tokens,
            )
            word = (
                (np.arange(len(ids)) > 0)
                & (np.arange(len(ids)) < length)
                & (chance[: len(ids)] < MASKED_WORDS)
            )
            kind, other = kind[: len(ids)], other[: len(ids)]
            shown = np.where(
                kind < KEPT, ids, np.where(kind < KEPT + RANDOM, other, self.tokenizer.mask)
            )
            for name, value in zip(
                kinds, (there[0], there[1], hidden, word, np.where(word, shown, ids)), strict=True
            ):
                each[name].append(value)
        found = {name: torch.from_numpy(np.stack(values)) for name, values in each.items()}
        return found

    def batch(self, step, seed, rank=0, processes=1):
        """Training batch number `step`: this process's part of the epoch's permutation; an incomplete last batch is left out."""
        size = min(self.setting.batch_size, len(self))
        size -= size % processes
        if size < 2:
            raise DataError(
                f"multimodal: {len(self)} training eyes are too few for a batch; give at least 2 per process"
            )
        epoch, place = divmod(step, len(self) // size)
        rows = np.random.default_rng((seed, epoch)).permutation(len(self))[
            place * size : (place + 1) * size
        ]
        share = size // processes
        return self.gather(rows[rank * share : (rank + 1) * share], seed, epoch)

    def per_epoch(self):
        """Steps of one pass over the eyes."""
        return max(1, len(self) // min(self.setting.batch_size, len(self)))

    def chunks(self, size=CHUNK):
        """All rows in order, never augmented."""
        for start in range(0, len(self), size):
            yield self.gather(np.arange(start, min(start + size, len(self))))


def other_patients(patient, seed):
    """(N,) index of an eye of a random other patient for each eye; the two eyes of a patient get the eyes of one other patient."""
    names = list(dict.fromkeys(patient))
    if len(names) < 2:
        raise DataError("shuffled rows need two patients at least")
    order = np.random.default_rng((seed, 4)).permutation(len(names))
    partner = {
        names[order[place]]: names[order[(place + 1) % len(names)]] for place in range(len(names))
    }
    eyes = {name: np.flatnonzero(patient == name) for name in names}
    nth, place = {}, np.empty(len(patient), np.int64)
    for row, name in enumerate(patient):
        theirs = eyes[partner[name]]
        place[row] = theirs[nth.get(name, 0) % len(theirs)]
        nth[name] = nth.get(name, 0) + 1
    return place
