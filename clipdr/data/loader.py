"""Batches of images or of cached features.

Training batch t is a function of (seed, t), so that a resumed run reads the same batches. Input are
the manifest rows of one split and the memory-mapped arrays of its domains.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from clipdr import GRADES
from clipdr.data.augmentation import AUGMENTS, colour, draws, geometry, two_views

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import pandas as pd

# Sampler -> function of Rows that returns the (N,) int64 group of each row. Every group has an
# equal share of a batch. None: rows come in a random order.
SAMPLERS: dict[str, Callable[[Rows], torch.Tensor] | None] = {
    "none": None,
    "domain": lambda rows: rows.domain,
    "class": lambda rows: rows.grade,
    "domain_class": lambda rows: rows.domain * len(GRADES) + rows.grade,
}


class Batch(NamedTuple):
    """Images or features with their grades and domains.

    Attributes:
        image: (B, 3, side, side) float32 in [0, 1], or (B, D) float32 features of a frozen encoder.
        grade: (B,) int64, 0..4.
        domain: (B,) int64, index into the fold's source domains.
        disc: (B, 5) float32: cx, cy, r, w, h in pixels of the stored square.
        second_view: (B, 3, side, side) float32, the plain view of a policy with two; None under
            other policies and in evaluation.
    """

    image: torch.Tensor
    grade: torch.Tensor
    domain: torch.Tensor
    disc: torch.Tensor
    second_view: torch.Tensor | None = None

    def to(self, device: str | torch.device) -> Batch:
        """Return the batch on a device."""
        second = self.second_view
        return Batch(
            self.image.to(device, non_blocking=True),
            self.grade.to(device, non_blocking=True),
            self.domain.to(device, non_blocking=True),
            self.disc.to(device, non_blocking=True),
            None if second is None else second.to(device, non_blocking=True),
        )


class Rows:
    """Rows of a fold in a fixed order: base class of Images and Features.

    Args:
        frame: Manifest rows with the columns domain, row, grade, cx, cy, r, w, h.
        arrays: {domain: array with one entry per stored image}, memory-mapped.
        domains: The fold's source domains; the index is the domain number. Other domains get -1.
    """

    def __init__(
        self, frame: pd.DataFrame, arrays: Mapping[str, np.ndarray], domains: Sequence[str]
    ) -> None:
        """Create rows that point into the arrays of their domains."""
        self.frame = frame.reset_index(drop=True)
        self.arrays = arrays
        self.domains = domains
        number = {domain: index for index, domain in enumerate(domains)}
        self.names = self.frame.domain.to_numpy()
        self.row = self.frame.row.to_numpy()
        self.grade = torch.from_numpy(self.frame.grade.to_numpy(np.int64).copy())
        self.domain = torch.tensor([number.get(name, -1) for name in self.names], dtype=torch.int64)
        self._groups: dict[str, list[np.ndarray]] = {}  # by sampler, filled at the first use
        self.disc = torch.from_numpy(
            self.frame[["cx", "cy", "r", "w", "h"]].to_numpy(np.float32).copy()
        )

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.frame)

    def size(self, batch_size: int, sampler: str = "none") -> int:
        """Return the number of images of a training batch.

        It is `batch_size`, at most the number of rows. Where all groups of the sampler fit into a
        batch, the remainder that cannot be shared evenly among them is left out.
        """
        size = min(batch_size, len(self))
        groups = len(self.groups(sampler))
        return size - size % groups if groups <= size else size

    def groups(self, sampler: str) -> list[np.ndarray]:
        """Return the row numbers of each non-empty group of a sampler, in order of the groups."""
        group_of = SAMPLERS[sampler]
        if group_of is None:
            return [np.arange(len(self))]
        if sampler not in self._groups:
            number = group_of(self).numpy()
            self._groups[sampler] = [np.flatnonzero(number == group) for group in np.unique(number)]
        return self._groups[sampler]

    def batch(self, step: int, batch_size: int, seed: int, sampler: str = "none") -> Batch:
        """Return a training batch, augmented, as a function of (seed, step).

        Without a sampler, rows are those of the epoch's permutation; an incomplete last batch is
        left out. With a sampler, each of its groups has an equal share of the batch. Where the
        groups are more than the images, they take turns: no group comes again before all others
        have come. Rows of a group follow a permutation of their own, which is renewed when it is
        used up, so that rows of small groups are repeated.

        Args:
            step: Number of the batch, from 0.
            batch_size: Largest number of images; `size` gives the actual one.
            seed: Seed of the run.
            sampler: A key of SAMPLERS.
        """
        size = self.size(batch_size, sampler)
        if SAMPLERS[sampler] is None:
            epoch, index = divmod(step, len(self) // size)
            order = np.random.default_rng((seed, epoch)).permutation(len(self))
            return self.gather(order[index * size : (index + 1) * size], epoch, seed)
        return self.gather(
            *self.balanced(step * size + np.arange(size), self.groups(sampler), seed), seed=seed
        )

    @staticmethod
    def balanced(
        slots: np.ndarray, groups: Sequence[np.ndarray], seed: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows at given slots of a sampling order in which groups are balanced.

        Of each len(groups) consecutive slots, every group has one.

        Args:
            slots: (B,) int64 positions in the list.
            groups: Row numbers of each group.
            seed: Seed of the run.

        Returns:
            (rows, epochs), each (B,) int64. The epoch is how often the row came before, so that
            (row, epoch) never occurs twice.
        """
        turns, positions = np.divmod(slots, len(groups))
        order = {
            turn: np.random.default_rng((seed, 0, turn)).permutation(len(groups))
            for turn in np.unique(turns)
        }
        chosen = np.array(
            [order[turn][position] for turn, position in zip(turns, positions, strict=True)]
        )
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

    def chunks(self, batch_size: int) -> Iterator[Batch]:
        """Yield all rows in order, never augmented, at most `batch_size` at a time."""
        for start in range(0, len(self), batch_size):
            yield self.gather(np.arange(start, min(start + batch_size, len(self))))

    def gather(
        self, rows: np.ndarray, epoch: int | np.ndarray | None = None, seed: int | None = None
    ) -> Batch:
        """Return the batch of some rows; it is augmented where a seed is given.

        Args:
            rows: (B,) row numbers.
            epoch: One epoch for all rows, or one per row; None in evaluation.
            seed: Seed of the run; None in evaluation.
        """
        raise NotImplementedError


class Images(Rows):
    """Images of the packed store.

    Args:
        frame: As in Rows.
        arrays: {domain: (N, S, S, 3) uint8}, memory-mapped.
        domains: As in Rows.
        side: Side of the network's input in pixels.
        augment: A key of AUGMENTS, applied to training batches.
        device: Device on which colours are changed.
    """

    def __init__(
        self,
        frame: pd.DataFrame,
        arrays: Mapping[str, np.ndarray],
        domains: Sequence[str],
        side: int,
        augment: str = "none",
        device: str | torch.device = "cpu",
    ) -> None:
        """Create a loader of images."""
        super().__init__(frame, arrays, domains)
        self.side, self.augment, self.device = side, AUGMENTS[augment], device
        self.buffers: dict[int, torch.Tensor] = {}  # by side, each (B, 3, side, side) uint8

    def buffer(self, count: int, side: int) -> torch.Tensor:
        """Return (count, 3, side, side) uint8 memory that is allocated once.

        Page faults in newly allocated memory would take longer than the copy.
        """
        if side not in self.buffers or len(self.buffers[side]) < count:
            self.buffers[side] = torch.empty(
                count, 3, side, side, dtype=torch.uint8, memory_format=torch.channels_last
            )
        return self.buffers[side][:count]

    def gather(
        self, rows: np.ndarray, epoch: int | np.ndarray | None = None, seed: int | None = None
    ) -> Batch:
        """Return the images of some rows, augmented where epoch and seed are given."""
        augment = self.augment if seed is not None else AUGMENTS["none"]
        draw = (
            np.ones((len(rows), augment.draws))
            if seed is None or epoch is None
            else draws(seed, epoch, rows, augment.draws)
        )
        pixels = self.buffer(len(rows), round(augment.margin * self.side))
        for index, row in enumerate(rows):
            geometry(
                np.asarray(self.arrays[self.names[row]][self.row[row]]),
                pixels.shape[-1],
                augment,
                draw[index],
                pixels[index],
            )
        image = colour(pixels.to(self.device).float().div_(255), augment, draw)
        second_view = None
        if augment.change:
            stored = np.array([self.arrays[self.names[row]].shape[1] for row in rows], np.float32)
            disc = self.disc[rows] * (pixels.shape[-1] / torch.from_numpy(stored))[:, None]
            image, second_view = two_views(image, disc, augment, draw, self.side)
        return Batch(image, self.grade[rows], self.domain[rows], self.disc[rows], second_view)


class Features(Rows):
    """Cached features of a frozen image encoder, (D,) float32 per image, never augmented."""

    def gather(
        self,
        rows: np.ndarray,
        epoch: int | np.ndarray | None = None,  # noqa: ARG002 (interface of Rows)
        seed: int | None = None,  # noqa: ARG002
    ) -> Batch:
        """Return the features of some rows; epoch and seed have no effect."""
        features = np.stack([self.arrays[self.names[row]][self.row[row]] for row in rows])
        return Batch(
            torch.from_numpy(features), self.grade[rows], self.domain[rows], self.disc[rows]
        )
