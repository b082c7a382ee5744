"""SWAD (Cha et al., 2021): the mean of the weights over the valley of the validation loss, a flatter and more general minimum.

Input: the weights after every step and the pooled source-validation loss at every evaluation. Output: the averaged weights.
"""

from typing import NamedTuple

import torch

CONVERGE, OVERFIT = 3, 6  # Ns, Ne of the paper


class Segment(NamedTuple):
    weights: dict  # mean over the steps of one interval between evaluations, {name: float tensor}
    steps: int
    loss: float  # at its end


class Swad:
    """Segment j = mean of the weights after every step between evaluations j-1 and j; e_j = validation loss at evaluation j.

    start : first j with e_j = min(e_j .. e_{j+Ns-1}); limit = rise * mean(e_j .. e_{j+Ns-1}), r = 1.3 in the paper
    end   : first later j with min(e_j .. e_{j+Ne-1}) > limit; without one, the valley lasts to the end of training
    result: step-weighted mean of the segments from the start to the end (left out); never started: the last segment

    At most Ne segments are held besides the sum. Everything with a fraction is averaged, so also BatchNorm's running statistics where
    they are not frozen (the paper freezes them); counters and flags are those of the last step.
    """

    def __init__(self, rise=1.3):
        self.rise = rise
        self.running, self.steps = {}, 0  # the segment that is being filled
        self.waiting = []  # segments of which it is not known yet whether they lie in the valley
        self.limit, self.ended = None, False
        self.total, self.weight = {}, 0  # mean of the segments in the valley, and their steps
        self.place, self.inside = (
            0,
            [],
        )  # number of evaluations seen, and those in the valley (index from 0)

    @torch.no_grad()
    def update(self, state):
        """Take the weights after a step: {name: tensor}, read and not kept."""
        if not self.ended:
            self.steps += 1
            self.running = blend(self.running, state, 1 / self.steps)

    @torch.no_grad()
    def evaluate(self, loss):
        """Close the segment with its validation loss, and settle what the losses so far allow to settle."""
        if self.ended:
            return
        self.waiting.append(Segment(self.running, self.steps, loss))
        self.running, self.steps = {}, 0
        self.place += 1
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

    def absorb(self):
        """Add the oldest waiting segment to the average."""
        self.inside.append(self.place - len(self.waiting))
        segment = self.waiting.pop(0)
        self.weight += segment.steps
        self.total = blend(self.total, segment.weights, segment.steps / self.weight)

    @torch.no_grad()
    def finish(self):
        """The averaged weights, on the CPU, and the indices of the evaluations whose segments are in them."""
        if self.limit is None:
            return _cpu(self.waiting[-1].weights), [self.place - 1]
        while self.waiting and not self.ended:
            self.absorb()
        return _cpu(self.total), self.inside

    def state_dict(self):
        """Everything, as tensors, numbers and lists, to go on from."""
        return vars(self) | {"waiting": [tuple(segment) for segment in self.waiting]}

    def load_state_dict(self, state):
        vars(self).update(state | {"waiting": [Segment(*segment) for segment in state["waiting"]]})


def blend(mean, state, share):
    """mean + share * (state - mean), entry by entry and in place where a mean is there; what has no fraction is copied."""
    for name, value in state.items():
        if name in mean and value.is_floating_point():
            mean[name].lerp_(value.detach().to(mean[name]), share)
        else:
            mean[name] = value.detach().clone()
    return mean


def _cpu(state):
    return {name: value.cpu() for name, value in state.items()}
