"""Similarity matrix smoothing: the worked example of the method, computed by hand."""

import pytest
import torch

from clipdr import DataError
from clipdr.methods.smoothing import Smoother, smoothing_kernel


def worked_smoother(padding="reflect"):
    smoother = Smoother(padding)
    grid = torch.arange(5)
    smoother.mean.copy_(20 - 2 * (grid[:, None] - grid).abs())
    smoother.var.copy_(torch.tensor([1, 2, 4, 1, 0.25])[:, None].expand(5, 5))
    smoother.has_mean.fill_(True)
    smoother.has_var.fill_(True)
    smoother.start_epoch()
    return smoother


def test_smoothing_kernel_by_hand():
    expected = [
        [0.251379, 0.443683, 0.304938, 0, 0],
        [0.221841, 0.403848, 0.221841, 0.152469, 0],
        [0.152469, 0.221841, 0.251379, 0.221841, 0.152469],
        [0, 0.152469, 0.221841, 0.403848, 0.221841],
        [0, 0, 0.304938, 0.443683, 0.251379],
    ]
    assert torch.allclose(smoothing_kernel("reflect"), torch.tensor(expected), atol=1e-6)
    assert torch.allclose(
        smoothing_kernel("renormalise")[0],
        torch.tensor([0.401763, 0.354555, 0.243682, 0, 0]),
        atol=1e-6,
    )
    with pytest.raises(DataError):
        smoothing_kernel("zeros")


def test_smoothing_of_the_worked_example():
    smoother = worked_smoother()
    assert torch.allclose(
        smoother.mean_s[0],
        torch.tensor([17.892882, 18.887365, 18.107118, 16.107118, 14.107118]),
        atol=1e-5,
    )
    assert torch.allclose(
        smoother.var_s[:, 0],
        torch.tensor([2.358497, 2.069372, 1.861627, 1.651612, 1.726281]),
        atol=1e-5,
    )
    rows = torch.tensor([[13.0, 14, 17, 18, 19], [17.0, 19, 21, 18, 15]])
    smoothed = smoother(rows, torch.tensor([4, 2]))
    assert torch.allclose(
        smoothed[0],
        torch.tensor([15.521332, 16.107118, 19.521332, 18.887365, 16.478668]),
        atol=1e-5,
    )
    assert torch.allclose(
        smoothed[1],
        torch.tensor([16.707107, 18.097230, 18.599988, 17.390123, 15.292893]),
        atol=1e-5,
    )
    assert torch.allclose(
        worked_smoother("renormalise").mean_s[0, :3],
        torch.tensor([18.316, 18.709, 17.684]),
        atol=1e-3,
    )


def test_smoothing_is_identity_in_first_epoch_and_for_absent_grades():
    smoother = Smoother()
    rows, grade = torch.randn(8, 5), torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
    assert torch.equal(smoother(rows, grade), rows)
    smoother.start_epoch()
    assert not smoother.usable[4]
    absent = torch.randn(2, 5)
    assert torch.equal(smoother(absent, torch.tensor([4, 4])), absent)
    weight = smoother.kernel[0, :4] / smoother.kernel[0, :4].sum()
    assert torch.allclose(smoother.mean_s[0], weight @ smoother.mean0[:4], atol=1e-6)


def test_running_statistics_follow_the_definition():
    smoother, mean, var = Smoother(), None, None
    for step in range(3):
        rows = torch.randn(6, 5, generator=torch.Generator().manual_seed(step))
        smoother.update(rows, torch.tensor([1, 1, 1, 1, 2, 3]))
        batch_mean, batch_var = rows[:4].mean(0), rows[:4].var(0, unbiased=True)
        mean = batch_mean if mean is None else 0.9 * mean + 0.1 * batch_mean
        var = batch_var if var is None else 0.9 * var + 0.1 * batch_var
    assert torch.allclose(smoother.mean[1], mean, atol=1e-6)
    assert torch.allclose(smoother.var[1], var, atol=1e-6)
    assert smoother.has_mean.tolist() == [False, True, True, True, False]
    assert smoother.has_var.tolist() == [False, True, False, False, False]
