"""SWAD (Cha et al., 2021): mean of the weights over the valley of the validation loss.

Input: weights after every step, and the pooled source-validation loss of every evaluation. Output:
the averaged weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

Weights = dict[str, torch.Tensor]
CONVERGE, OVERFIT = 3, 6  # Ns, Ne of the paper


class Segment(NamedTuple):
    """Interval between two evaluations.

    Attributes:
        weights: Mean of the weights over its steps.
        steps: Number of steps.
        loss: Validation loss at its end.
    """

    weights: Weights
    steps: int
    loss: float


class Swad:
    """Online weight average.

    Segment j is the mean of the weights after every step between evaluations j-1 and j, and e_j the
    validation loss at evaluation j.

    - Start: first j with e_j = min(e_j .. e_{j+Ns-1}); limit = rise * mean(e_j .. e_{j+Ns-1}).
    - End: first later j with min(e_j .. e_{j+Ne-1}) > limit; without one, the end of training.
    - Result: step-weighted mean of the segments from the start to the end (exclusive). Without a
      start, the last segment.

    At most Ne segments are held besides the sum. All floating-point tensors are averaged, also
    running statistics of BatchNorm that are not frozen (the paper freezes them). Counters and flags
    are those of the last step.

    Args:
        rise: Ratio r of limit and mean loss at the start, 1.3 in the paper.
    """

    def __init__(self, rise: float = 1.3) -> None:
        """Create an empty average."""
        self.rise = rise
        self.running: Weights = {}  # segment that is being filled
        self.steps = 0
        self.waiting: list[Segment] = []  # segments not yet decided to lie in the valley
        self.limit: float | None = None
        self.ended = False
        self.total: Weights = {}  # mean of the segments in the valley
        self.weight = 0  # number of their steps
        self.evaluations = 0
        self.inside: list[int] = []  # evaluations in the valley, from 0

    @torch.no_grad()
    def update(self, state: Mapping[str, torch.Tensor]) -> None:
        """Add the weights after a step, {name: tensor}. They are read and not kept."""
        if not self.ended:
            self.steps += 1
            self.running = blend(self.running, state, 1 / self.steps)

    @torch.no_grad()
    def evaluate(self, loss: float) -> None:
        """Close the segment with its validation loss; decide on segments where losses allow it."""
        if self.ended:
            return
        self.waiting.append(Segment(self.running, self.steps, loss))
        self.running, self.steps = {}, 0
        self.evaluations += 1
        if self.limit is None:
            self.waiting = self.waiting[-CONVERGE:]
            losses = [segment.loss for segment in self.waiting]
            if len(losses) == CONVERGE and losses[0] == min(losses):
                self.limit = self.rise * sum(losses) / CONVERGE
                self.absorb()
        while self.limit is not None and not self.ended and len(self.waiting) >= OVERFIT:
            self.ended = min(segment.loss for segment in self.waiting[:OVERFIT]) > self.limit
            if not self.ended:
                self.absorb()

    def absorb(self) -> None:
        """Add the oldest waiting segment to the average."""
        self.inside.append(self.evaluations - len(self.waiting))
        segment = self.waiting.pop(0)
        self.weight += segment.steps
        self.total = blend(self.total, segment.weights, segment.steps / self.weight)

    @torch.no_grad()
    def finish(self) -> tuple[Weights, list[int]]:
        """Return the averaged weights on the CPU, and the evaluations whose segments they hold."""
        if self.limit is None:
            return _cpu(self.waiting[-1].weights), [self.evaluations - 1]
        while self.waiting and not self.ended:
            self.absorb()
        return _cpu(self.total), self.inside

    def state_dict(self) -> dict[str, Any]:
        """Return everything as tensors, numbers and lists, for a checkpoint."""
        return vars(self) | {"waiting": [tuple(segment) for segment in self.waiting]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        vars(self).update(state | {"waiting": [Segment(*segment) for segment in state["waiting"]]})


def blend(mean: Weights, state: Mapping[str, torch.Tensor], share: float) -> Weights:
    """Move a mean towards a state: mean + share * (state - mean), in place where it exists.

    Tensors of integers and flags are copied from the state.
    """
    for name, value in state.items():
        if name in mean and value.is_floating_point():
            mean[name].lerp_(value.detach().to(mean[name]), share)
        else:
            mean[name] = value.detach().clone()
    return mean


def _cpu(state: Weights) -> Weights:
    """Move weights to the CPU."""
    return {name: value.cpu() for name, value in state.items()}
