"""Fine-tuning: selection on validation, frozen and trained parts."""

from dataclasses import replace

import pytest
import torch

from clipdr.pretrain import run
from clipdr.pretrain.evaluation import (
    both_eyes,
    finetune,
)


@pytest.mark.parametrize(("protocol", "moves"), [("linear", False), ("full", True)])
def test_finetune_selects_on_validation_and_trains_the_named_part(trained, protocol, moves):
    data, folder, table = trained
    model, settings = run.load(folder)
    before = {
        name: parameter.detach().clone() for name, parameter in model.image.named_parameters()
    }
    chosen = replace(both_eyes.PROTOCOLS[protocol], epochs=2)
    probability, history = finetune.finetune(model, table, data, settings, ["N", "D"], chosen)
    assert probability.shape == (60, 2)
    assert ((probability > 0) & (probability < 1)).all()
    assert sum(row["selected"] for row in history) == 1
    assert max(history, key=lambda row: row["val_auroc"])["val_auroc"] == next(
        row["val_auroc"] for row in history if row["selected"]
    )
    assert (
        any(
            not torch.equal(before[name], parameter)
            for name, parameter in model.image.named_parameters()
        )
        == moves
    )
