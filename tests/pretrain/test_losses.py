"""Loss of RET-CLIP: its lower bound for equal texts."""

import numpy as np
import pytest
import torch

from clipdr.pretrain.losses import floor, onehot, same_text


def test_loss_floor_equals_hand_computed_values():
    """Texts in groups of 2, 1, 1 give (2 log 2) / 4, equal texts log 4; no loss is below it."""
    content = torch.tensor([3, 5, 3, 9])
    assert floor(content) == pytest.approx(2 * np.log(2) / 4, abs=1e-12)
    assert floor(torch.zeros(4, dtype=torch.int64)) == pytest.approx(np.log(4), abs=1e-12)
    # equal vectors for equal texts are the optimum, at a large multiplier
    vectors = torch.eye(3)[[0, 1, 0, 2]]
    for loss in (onehot, same_text):
        assert float(loss(vectors, vectors, torch.tensor(100.0), content)) == pytest.approx(
            floor(content), abs=1e-6
        )
