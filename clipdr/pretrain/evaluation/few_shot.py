"""Few-shot adapters on aligned vectors.

CLIP-Adapter is that of Gao et al. (2021), Tip-Adapter and Tip-Adapter-F those of Zhang et al.
(2022). Input: unit vectors of one level, their classes, and the text weights of the classes.
Output: logits
    of the test vectors.
Ratio, alpha, beta and epoch are chosen on validation.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from clipdr import DataError

ADAPTERS = ("clip_adapter", "tip_adapter", "tip_adapter_f")
# Values searched on validation; the ratios are those of Gao et al., the others those of Zhang et
# al.
RATIOS = (0.2, 0.4, 0.6, 0.8)
ALPHAS = (0.5, 1.0, 2.0, 5.0)
BETAS = (1.0, 3.0, 5.5, 10.0)
EPOCHS = 40


def sample_shots(cls: np.ndarray, patient: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Sample rows of some patients per class, one row of each patient.

    Args:
        cls: (N,) int64 class, -1 for a row that may not be sampled.
        patient: (N,) group key.
        count: Patients per class. A class with fewer patients gives all it has.
        seed: Of the random choice.

    Returns:
        Sorted row numbers.
    """
    rng = np.random.default_rng(seed)
    chosen: list[int] = []
    for value in sorted(set(cls[cls >= 0])):
        rows = rng.permutation(np.flatnonzero(cls == value))
        first: dict[str, int] = {}
        for row in rows.tolist():
            first.setdefault(str(patient[row]), row)
        chosen += list(first.values())[:count]
    return np.sort(np.array(chosen))


def balanced_accuracy(logits: torch.Tensor, cls: np.ndarray) -> float:
    """Return the balanced accuracy of (N, C) logits over the classes in `cls`, (N,) int64."""
    predicted = logits.argmax(1).numpy()
    return float(np.mean([(predicted[cls == value] == value).mean() for value in np.unique(cls)]))


def few_shot(
    method: str,
    train: torch.Tensor,
    train_class: np.ndarray,
    val: torch.Tensor,
    val_class: np.ndarray,
    test: torch.Tensor,
    weights: torch.Tensor,
    scale: float,
) -> torch.Tensor:
    """Fit an adapter on a few training vectors and apply it to the test vectors.

    With training vectors K, their one-hot classes Y, text weights W, multiplier T and n(x) = x /
    |x|:

    - clip_adapter: z' = n(r A(z) + (1 - r) z), where A is a bottleneck E -> E/4 -> E (Gao et al.,
      2021);
    - tip_adapter: T z W' + alpha exp(-beta (1 - z K')) Y (Zhang et al., 2022);
    - tip_adapter_f: the same with K trained.

    Args:
        method: One of `ADAPTERS`.
        train: (n, E) float32 unit vectors.
        train_class: (n,) int64.
        val: (m, E) float32 unit vectors, of the same level.
        val_class: (m,) int64.
        test: (N, E) float32 unit vectors, of the same level.
        weights: (C, E) unit vectors of the classes' texts.
        scale: T, multiplier of the cosine.

    Returns:
        (N, C) logits.

    Raises:
        DataError: If no method has this name.
    """
    if method == "clip_adapter":
        return _clip_adapter(train, train_class, val, val_class, test, weights, scale)
    if method not in ADAPTERS:
        raise DataError(
            f"few-shot: no method is named {method!r}. Use one of {', '.join(ADAPTERS)}."
        )
    keys, values = train.clone(), F.one_hot(torch.as_tensor(train_class), len(weights)).float()

    def logits(
        vectors: torch.Tensor, keys: torch.Tensor, alpha: float, beta: float
    ) -> torch.Tensor:
        return (
            scale * vectors @ weights.T + alpha * torch.exp(-beta * (1 - vectors @ keys.T)) @ values
        )

    if method == "tip_adapter_f":
        keys = _train_keys(train, train_class, val, val_class, keys, logits)
    grid = [(alpha, beta) for alpha in ALPHAS for beta in BETAS]
    alpha, beta = max(grid, key=lambda pair: balanced_accuracy(logits(val, keys, *pair), val_class))
    return logits(test, keys, alpha, beta)


def _train_keys(
    train: torch.Tensor,
    train_class: np.ndarray,
    val: torch.Tensor,
    val_class: np.ndarray,
    keys: torch.Tensor,
    logits: Callable[[torch.Tensor, torch.Tensor, float, float], torch.Tensor],
) -> torch.Tensor:
    """Keys of Tip-Adapter-F after the epoch with the best validation accuracy."""
    keys = nn.Parameter(keys)
    optimizer = torch.optim.AdamW([keys], lr=5e-3, eps=1e-4)
    best, best_keys = -1.0, keys.detach().clone()
    for _ in range(EPOCHS):
        optimizer.zero_grad()
        F.cross_entropy(logits(train, keys, 1.0, 5.0), torch.as_tensor(train_class)).backward()
        optimizer.step()
        accuracy = balanced_accuracy(logits(val, keys.detach(), 1.0, 5.0), val_class)
        if accuracy > best:
            best, best_keys = accuracy, keys.detach().clone()
    return best_keys


def _clip_adapter(
    train: torch.Tensor,
    train_class: np.ndarray,
    val: torch.Tensor,
    val_class: np.ndarray,
    test: torch.Tensor,
    weights: torch.Tensor,
    scale: float,
) -> torch.Tensor:
    """Test logits of CLIP-Adapter with the ratio and epoch of the best validation accuracy."""
    best, best_logits = -1.0, torch.empty(0)
    for ratio in RATIOS:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            width = train.shape[1]
            adapter = nn.Sequential(
                nn.Linear(width, width // 4, bias=False),
                nn.ReLU(),
                nn.Linear(width // 4, width, bias=False),
                nn.ReLU(),
            )

        def logits(
            vectors: torch.Tensor, adapter: nn.Module = adapter, ratio: float = ratio
        ) -> torch.Tensor:
            return (
                scale
                * F.normalize(ratio * adapter(vectors) + (1 - ratio) * vectors, dim=-1)
                @ weights.T
            )

        optimizer = torch.optim.AdamW(adapter.parameters(), lr=1e-3)
        for _ in range(EPOCHS):
            optimizer.zero_grad()
            F.cross_entropy(logits(train), torch.as_tensor(train_class)).backward()
            optimizer.step()
        with torch.no_grad():
            accuracy = balanced_accuracy(logits(val), val_class)
            if accuracy > best:
                best, best_logits = accuracy, logits(test)
    return best_logits
