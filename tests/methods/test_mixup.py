"""Mixup against its definition in numpy."""

import numpy as np
import pytest
import torch
from helpers.methods import (
    ConstantBeta,
    build,
)

from clipdr.methods import mixup


@pytest.mark.parametrize("weight", [1.0, 0.3])
def test_mixup_follows_definition_and_with_weight_one_equals_erm(monkeypatch, batch, weight):
    monkeypatch.setattr(mixup, "Beta", ConstantBeta(weight))
    method = build("mixup").eval()
    torch.manual_seed(4)
    partner = torch.randperm(8)
    torch.manual_seed(4)
    loss = method.loss(batch)["ce"].item()
    image = weight * batch.image.numpy() + (1 - weight) * batch.image[partner].numpy()
    log_p = method(torch.from_numpy(image)).log_softmax(1).detach().numpy()
    picked = (
        weight * log_p[np.arange(8), batch.grade]
        + (1 - weight) * log_p[np.arange(8), batch.grade[partner]]
    )
    assert loss == pytest.approx(-picked.mean(), abs=1e-5)
    if weight == 1.0:
        erm = build("erm").eval()
        erm.load_state_dict(method.state_dict())
        assert loss == pytest.approx(erm.loss(batch)["ce"].item(), abs=1e-6)
