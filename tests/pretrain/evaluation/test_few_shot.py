"""Few-shot adapters and the sampling of shots."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from clipdr.pretrain.evaluation import (
    few_shot,
)


def test_sample_shots_takes_one_row_per_patient():
    cls, patient = np.array([0, 0, 0, 1, 1, -1]), np.array(list("aabcdd"))
    rows = few_shot.sample_shots(cls, patient, 5, 42)
    assert cls[rows].tolist().count(0) == 2
    assert cls[rows].tolist().count(1) == 2
    assert -1 not in cls[rows]


@pytest.mark.parametrize("method", few_shot.ADAPTERS)
def test_adapter_improves_on_weak_prompts(method):
    generator = torch.Generator().manual_seed(0)
    cls = np.arange(24) % 3
    vectors = F.normalize(
        torch.eye(8)[torch.from_numpy(cls) + 4] + 0.3 * torch.randn(24, 8, generator=generator),
        dim=-1,
    )
    weights = F.normalize(
        torch.eye(8)[:3] + 0.2 * torch.eye(8)[4:7], dim=-1
    )  # prompts that are right but weak
    prompted = few_shot.balanced_accuracy(10.0 * vectors @ weights.T, cls)
    learnt = few_shot.balanced_accuracy(
        few_shot.few_shot(method, vectors, cls, vectors, cls, vectors, weights, 10.0).detach(), cls
    )
    assert prompted < 1
    assert learnt >= prompted + (0 if method == "clip_adapter" else 0.1)
