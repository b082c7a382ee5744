"""Training state: history, running means, best weights and checkpoint of the three training loops.

Input: losses of the steps and scores of the evaluations. Output: rows of history.csv, the selected
weights, and resume.pt, from which an interrupted training resumes with bitwise identical results.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from rich.progress import Progress

from clipdr import DataError
from clipdr.training import checkpoint
from clipdr.training.distributed import world

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from torch import nn

Weights = dict[str, torch.Tensor]


def cpu_copy(tensors: Mapping[str, torch.Tensor]) -> Weights:
    """Copy named tensors to the CPU, detached."""
    return {name: value.detach().cpu().clone() for name, value in tensors.items()}


@contextmanager
def progress(total: int, start: int, title: str = "training") -> Generator[Callable[[], None]]:
    """Show a progress bar on stderr, in a terminal and in the first process only.

    Args:
        total: Number of steps.
        start: Number of steps that are done.
        title: Text before the bar.

    Yields:
        A function to call after each step.
    """
    console = Console(stderr=True)
    hidden = world()[0] > 0 or not console.is_terminal
    columns = Progress.get_default_columns()
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task(title, total=total, completed=start)
        yield lambda: bar.advance(task)


class TrainingState:
    """What changes during training besides model and optimizers.

    Each loop has a subclass with its rule of selection in `evaluate`.

    Args:
        model: Model that is trained.
        optimizers: Its optimizers by name.
        path: Checkpoint to resume from and to write; None for a training without one.
        digest: Digest of settings, data and code. A checkpoint with another digest is ignored, see
            `clipdr.training.checkpoint.read`.

    Attributes:
        history: One dict per evaluation.
        best: {rule of selection: best score so far}.
        selected: {rule of selection: weights with that score}, on the CPU.
    """

    advice = "Lower the learning rate"

    def __init__(
        self,
        model: nn.Module,
        optimizers: Mapping[str, torch.optim.Optimizer],
        path: Path | str | None,
        digest: str,
    ) -> None:
        """Create the state before the first step."""
        self.model, self.optimizers = model, optimizers
        self.path, self.digest = Path(path) if path else None, digest
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, float] = {}
        self.selected: dict[str, Weights] = {}
        self._sums: dict[str, Any] = {}  # name -> float64 tensor on the device, or float
        self._counts: dict[str, int] = {}
        self._steps = 0  # since the last evaluation

    def weights(self) -> Weights:
        """Copy of the weights to save, on the CPU."""
        return cpu_copy(self.model.state_dict())

    def load_weights(self, weights: Weights) -> None:
        """Load what `weights` returned into the model."""
        self.model.load_state_dict(weights)

    def add(self, values: Mapping[str, torch.Tensor | float]) -> None:
        """Add the losses of a step to the sums since the last evaluation.

        Values stay on the device until `means` reads them, so that no step waits for it.

        Args:
            values: {name: scalar tensor or number}. A name may be absent from some steps.
        """
        for name, value in values.items():
            number = value.detach().double() if isinstance(value, torch.Tensor) else value
            self._sums[name] = self._sums.get(name, 0.0) + number
            self._counts[name] = self._counts.get(name, 0) + 1
        self._steps += 1

    def means(self, step: int, per_step: bool = False) -> dict[str, float]:
        """Return the means since the last evaluation and start new sums.

        Args:
            step: Number of steps done, for the error.
            per_step: Whether a step without a value counts as 0, so that means of the parts of a
                loss add up to its mean. By default such a step does not count.

        Raises:
            DataError: If a mean is not finite.
        """
        self._check(step)
        counts = dict.fromkeys(self._sums, self._steps) if per_step else self._counts
        means = {name: float(total) / counts[name] for name, total in self._sums.items()}
        self._sums, self._counts, self._steps = {}, {}, 0
        return means

    def _check(self, step: int) -> None:
        """Raise DataError if a sum is not finite."""
        sums = {name: float(total) for name, total in self._sums.items()}
        if not all(map(math.isfinite, sums.values())):
            raise DataError(
                f"training: the loss became NaN or infinite between steps "
                f"{step - self._steps} and {step} (summed losses {sums}). {self.advice}."
            )

    def improves(self, rule: str, score: float) -> bool:
        """Record a score if it exceeds the best so far.

        Args:
            rule: Rule of selection.
            score: Higher is better. The earliest wins a tie, and an undefined score (NaN) loses.

        Returns:
            Whether it is the best so far; the caller then keeps the weights.
        """
        better = score > self.best.get(rule, -math.inf)
        if better:
            self.best[rule] = score
        return better

    def extra(self) -> dict[str, Any]:
        """Further content of the checkpoint, tensors and plain values; `load_extra` reads it."""
        return {}

    def load_extra(self, content: dict[str, Any]) -> None:
        """Restore what `extra` returned."""

    def save(self, step: int) -> None:
        """Write the checkpoint. Every process calls it, and rank 0 writes.

        Args:
            step: Number of steps done.

        Raises:
            DataError: If a loss since the last evaluation is not finite.
        """
        if self.path is None:
            return
        self._check(step)
        checkpoint.write(
            self.path,
            self.digest,
            step=step,
            history=self.history,
            best=self.best,
            selected=self.selected,
            sums={name: float(total) for name, total in self._sums.items()},
            counts=self._counts,
            steps=self._steps,
            weights=self.weights(),
            optimizers={name: each.state_dict() for name, each in self.optimizers.items()},
            extra=self.extra(),
        )

    def load(self) -> int:
        """Resume from the checkpoint if it has this digest, else start from scratch.

        Returns:
            Number of steps done.
        """
        content = checkpoint.read(self.path, self.digest)
        if content is None:
            return 0
        self.load_weights(content["weights"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(content["optimizers"][name])
        self.history, self.best = content["history"], content["best"]
        self.selected, self._sums = content["selected"], content["sums"]
        self._counts, self._steps = content["counts"], content["steps"]
        self.load_extra(content["extra"])
        checkpoint.restore_random_state(content)
        return content["step"]
