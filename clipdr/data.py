"""Batches of photographs or of cached features. Batch t is a function of (seed, t): any resumed run sees the same ones."""

from typing import NamedTuple

import numpy as np
import torch

from clipdr.augment import AUGMENTS, DRAWS, colour, draws, geometry


class Batch(NamedTuple):
    image: torch.Tensor  # (B, 3, side, side) float32 in [0, 1], or (B, D) float32 features of a frozen tower
    grade: torch.Tensor  # (B,) int64, 0..4
    domain: torch.Tensor  # (B,) int64, index into the fold's source domains
    disc: torch.Tensor  # (B, 5) float32: cx, cy, r, w, h in pixels of the stored square

    def to(self, device):
        return Batch(*(tensor.to(device, non_blocking=True) for tensor in self))


class Rows:
    """Rows of a fold in a fixed order, each pointing into its domain's array; what Images and Features share.

    frame   : manifest rows (columns domain, row, grade, cx, cy, r, w, h)
    arrays  : {domain: array of one entry per stored image}, memory-mapped
    domains : the fold's source domains, index = domain number (a domain outside of them gets -1)
    """

    def __init__(self, frame, arrays, domains):
        self.frame = frame.reset_index(drop=True)
        self.arrays = arrays
        self.domains = domains
        number = {domain: index for index, domain in enumerate(domains)}
        self.names = self.frame.domain.to_numpy()
        self.row = self.frame.row.to_numpy()
        self.grade = torch.from_numpy(self.frame.grade.to_numpy(np.int64).copy())
        self.domain = torch.tensor([number.get(name, -1) for name in self.names], dtype=torch.int64)
        self.disc = torch.from_numpy(self.frame[["cx", "cy", "r", "w", "h"]].to_numpy(np.float32).copy())

    def __len__(self):
        return len(self.frame)

    def batch(self, step, batch_size, seed):
        """Training batch number `step`: rows of the epoch's permutation, augmented; a last part smaller than a batch is left out."""
        size = min(batch_size, len(self))
        epoch, place = divmod(step, len(self) // size)
        order = np.random.default_rng((seed, epoch)).permutation(len(self))
        return self.gather(order[place * size : (place + 1) * size], seed, epoch)

    def chunks(self, batch_size):
        """All rows in order, never augmented."""
        for start in range(0, len(self), batch_size):
            yield self.gather(np.arange(start, min(start + batch_size, len(self))))


class Images(Rows):
    """Photographs of the packed store.

    side : pixels of the network's input;  augment : a key of AUGMENTS, applied to training batches;  device : where colours are changed
    """

    def __init__(self, frame, arrays, domains, side, augment="none", device="cpu"):
        super().__init__(frame, arrays, domains)
        self.side, self.augment, self.device = side, AUGMENTS[augment], device
        self.buffer = torch.empty(0, 3, side, side, dtype=torch.uint8)

    def gather(self, rows, seed=None, epoch=None):
        training = seed is not None
        augment = self.augment if training else AUGMENTS["none"]
        draw = draws(seed, epoch, rows) if training else np.ones((len(rows), DRAWS))
        if len(self.buffer) < len(rows):  # allocated once: a fresh one costs more in page faults than the copy
            self.buffer = torch.empty(len(rows), 3, self.side, self.side, dtype=torch.uint8, memory_format=torch.channels_last)
        pixels = self.buffer[: len(rows)]
        for place, row in enumerate(rows):
            geometry(np.asarray(self.arrays[self.names[row]][self.row[row]]), self.side, augment, draw[place], pixels[place])
        picture = pixels.to(self.device).float().div_(255)
        return Batch(colour(picture, augment, draw), self.grade[rows], self.domain[rows], self.disc[rows])


class Features(Rows):
    """Features of a frozen tower, (D,) float32 per image, computed once without augmentation."""

    def gather(self, rows, seed=None, epoch=None):
        features = np.stack([self.arrays[self.names[row]][self.row[row]] for row in rows])
        return Batch(torch.from_numpy(features), self.grade[rows], self.domain[rows], self.disc[rows])
