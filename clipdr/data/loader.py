"""Batches of photographs or of cached features. Batch t is a function of (seed, t): any resumed run sees the same ones."""

from typing import NamedTuple

import numpy as np
import torch

from clipdr import GRADES
from clipdr.data.augmentation import AUGMENTS, colour, draws, geometry, two_views

SAMPLERS = {  # which rows have an equal share in every batch: f(Rows) -> (N,) int64 number of each row's group; none: as they come
    "none": None,
    "domain": lambda rows: rows.domain,
    "class": lambda rows: rows.grade,
    "domain_class": lambda rows: rows.domain * len(GRADES) + rows.grade,
}


class Batch(NamedTuple):
    image: (
        torch.Tensor
    )  # (B, 3, side, side) float32 in [0, 1], or (B, D) float32 features of a frozen tower
    grade: torch.Tensor  # (B,) int64, 0..4
    domain: torch.Tensor  # (B,) int64, index into the fold's source domains
    disc: torch.Tensor  # (B, 5) float32: cx, cy, r, w, h in pixels of the stored square
    twin: torch.Tensor | None = (
        None  # (B, 3, side, side), second view: only under a policy with two, in training
    )

    def to(self, device):
        return Batch(
            *(tensor if tensor is None else tensor.to(device, non_blocking=True) for tensor in self)
        )


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
        self.grouped = {}  # sampler -> groups, found when first asked for
        self.disc = torch.from_numpy(
            self.frame[["cx", "cy", "r", "w", "h"]].to_numpy(np.float32).copy()
        )

    def __len__(self):
        return len(self.frame)

    def size(self, batch_size, sampler="none"):
        """Images of a training batch: batch_size, less what does not divide evenly among the sampler's groups where all of them fit."""
        size = min(batch_size, len(self))
        groups = len(self.groups(sampler))
        return size - size % groups if groups <= size else size

    def groups(self, sampler):
        """Row numbers of each group of a sampler that has any, in the order of the groups' numbers."""
        if SAMPLERS[sampler] is None:
            return [np.arange(len(self))]
        if sampler not in self.grouped:
            number = SAMPLERS[sampler](self).numpy()
            self.grouped[sampler] = [np.flatnonzero(number == group) for group in np.unique(number)]
        return self.grouped[sampler]

    def batch(self, step, batch_size, seed, sampler="none"):
        """Training batch number `step`, augmented; a function of (seed, step).

        none  : rows of the epoch's permutation; a last part smaller than a batch is left out
        other : an equal share of each of the sampler's groups (Rows.size images; where they are fewer than the groups, which groups are
                shown is drawn such that none is shown again before the others). A group's rows come in a permutation of their own, drawn
                anew when it is used up: small groups are repeated
        """
        size = self.size(batch_size, sampler)
        if SAMPLERS[sampler] is None:
            epoch, place = divmod(step, len(self) // size)
            order = np.random.default_rng((seed, epoch)).permutation(len(self))
            return self.gather(order[place * size : (place + 1) * size], epoch, seed)
        return self.gather(
            *self.balanced(step * size + np.arange(size), self.groups(sampler), seed), seed=seed
        )

    @staticmethod
    def balanced(slots, groups, seed):
        """Rows of some slots of the endless list in which each len(groups) slots hold every group once; and how often each row came before.

        returns (rows, epochs), each (len(slots),) int64; (row, epoch) never occurs twice
        """
        turns, places = np.divmod(slots, len(groups))
        order = {
            turn: np.random.default_rng((seed, 0, turn)).permutation(len(groups))
            for turn in np.unique(turns)
        }
        chosen = np.array([order[turn][place] for turn, place in zip(turns, places, strict=True)])
        epochs = turns // np.array([len(group) for group in groups])[chosen]
        order = {
            (group, epoch): np.random.default_rng((seed, 1, group, epoch)).permutation(
                groups[group]
            )
            for group, epoch in set(zip(chosen.tolist(), epochs.tolist(), strict=True))
        }
        rows = [
            order[group, epoch][turn % len(groups[group])]
            for group, epoch, turn in zip(chosen, epochs, turns, strict=True)
        ]
        return np.array(rows), epochs

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
        self.buffers = {}  # side of the pictures -> (B, 3, side, side) uint8

    def buffer(self, count, side):
        """(count, 3, side, side) uint8, allocated once: a fresh one costs more in page faults than the copy."""
        if side not in self.buffers or len(self.buffers[side]) < count:
            self.buffers[side] = torch.empty(
                count, 3, side, side, dtype=torch.uint8, memory_format=torch.channels_last
            )
        return self.buffers[side][:count]

    def gather(self, rows, epoch=None, seed=None):
        augment = self.augment if seed is not None else AUGMENTS["none"]
        draw = (
            np.ones((len(rows), augment.draws))
            if seed is None
            else draws(seed, epoch, rows, augment.draws)
        )
        pixels = self.buffer(len(rows), round(augment.margin * self.side))
        for place, row in enumerate(rows):
            geometry(
                np.asarray(self.arrays[self.names[row]][self.row[row]]),
                pixels.shape[-1],
                augment,
                draw[place],
                pixels[place],
            )
        picture, twin = colour(pixels.to(self.device).float().div_(255), augment, draw), None
        if augment.change:
            stored = np.array([self.arrays[self.names[row]].shape[1] for row in rows], np.float32)
            disc = self.disc[rows] * (pixels.shape[-1] / torch.from_numpy(stored))[:, None]
            picture, twin = two_views(picture, disc, augment, draw, self.side)
        return Batch(picture, self.grade[rows], self.domain[rows], self.disc[rows], twin)


class Features(Rows):
    """Features of a frozen tower, (D,) float32 per image, computed once without augmentation."""

    def gather(self, rows, epoch=None, seed=None):
        features = np.stack([self.arrays[self.names[row]][self.row[row]] for row in rows])
        return Batch(
            torch.from_numpy(features), self.grade[rows], self.domain[rows], self.disc[rows]
        )
