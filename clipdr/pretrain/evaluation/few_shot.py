"""TODO"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from clipdr import DataError

ADAPTERS = ("clip_adapter", "tip_adapter", "tip_adapter_f")
RATIOS, ALPHAS, BETAS = (
    (0.2, 0.4, 0.6, 0.8),
    (0.5, 1.0, 2.0, 5.0),
    (1.0, 3.0, 5.5, 10.0),
)  # searched on validation; the first: Gao, Zhang
EPOCHS = 40


def shots(cls, patient, count, seed):
    """Rows of `count` patients per class, drawn by patient, one row each: (N,) int64 classes, -1 none -> sorted rows.

    A class with fewer patients gives all it has.
    """
    rng, chosen = np.random.default_rng(seed), []
    for value in sorted(set(cls[cls >= 0])):
        rows = rng.permutation(np.flatnonzero(cls == value))
        first = {}
        for row in rows:
            first.setdefault(patient[row], row)
        chosen += list(first.values())[:count]
    return np.sort(np.array(chosen))


def accuracy(logits, cls):
    """Balanced accuracy of (N, C) logits over the classes that are there."""
    said = logits.argmax(1).numpy()
    return float(np.mean([(said[cls == value] == value).mean() for value in np.unique(cls)]))


def few_shot(method, train, train_class, val, val_class, test, weights, scale):
    """Logits of the test vectors by an adapter fitted on a few training vectors; ratio, alpha, beta and epoch are chosen on validation.

    train, val, test : (n, E) unit vectors of one level, float32 tensors;  *_class : (n,) int64;  weights : (C, E) text weights;  scale : T
    clip_adapter  : z' = n(r A(z) + (1 - r) z), A = E -> E/4 -> E (Gao et al., 2021)
    tip_adapter   : T z W' + alpha exp(-beta (1 - z K')) Y, K the training vectors, Y their classes (Zhang et al., 2022)
    tip_adapter_f : the same with K trained
    """
    if method == "clip_adapter":
        return _clip_adapter(train, train_class, val, val_class, test, weights, scale)
    if method not in ADAPTERS:
        raise DataError(f"fewshot: method {method!r} is unknown; known are {', '.join(ADAPTERS)}")
    keys, values = train.clone(), F.one_hot(torch.as_tensor(train_class), len(weights)).float()

    def logits(vectors, keys, alpha, beta):
        return (
            scale * vectors @ weights.T + alpha * torch.exp(-beta * (1 - vectors @ keys.T)) @ values
        )

    if method == "tip_adapter_f":
        keys = _trained_keys(train, train_class, val, val_class, keys, logits)
    grid = [(alpha, beta) for alpha in ALPHAS for beta in BETAS]
    alpha, beta = max(grid, key=lambda pair: accuracy(logits(val, keys, *pair), val_class))
    return logits(test, keys, alpha, beta)


def _trained_keys(train, train_class, val, val_class, keys, logits):
    keys = nn.Parameter(keys)
    optimizer = torch.optim.AdamW([keys], lr=5e-3, eps=1e-4)
    best, kept = -1.0, keys.detach().clone()
    for _ in range(EPOCHS):
        optimizer.zero_grad()
        F.cross_entropy(logits(train, keys, 1.0, 5.0), torch.as_tensor(train_class)).backward()
        optimizer.step()
        if (score := accuracy(logits(val, keys.detach(), 1.0, 5.0), val_class)) > best:
            best, kept = score, keys.detach().clone()
    return kept


def _clip_adapter(train, train_class, val, val_class, test, weights, scale):
    best, answer = -1.0, None
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

        def logits(vectors, adapter=adapter, ratio=ratio):
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
            score = accuracy(logits(val), val_class)
            if score > best:
                best, answer = score, logits(test)
    return answer
