"""Zero-shot and few-shot scores of a trained run."""

import numpy as np
import pytest

from clipdr import DataError
from clipdr.pretrain import run
from clipdr.pretrain.evaluation import (
    few_shot,
    prompted,
    zero_shot,
)


def test_score_prompts_gives_zero_shot_and_few_shot_rows(trained):
    data, folder, table = trained
    model, settings = run.load(folder)
    graded = table.assign(grade=np.resize(["0", "1", "2", "3", "4"], len(table)))
    zero, few = prompted.score_prompts(
        model, settings, graded, data, ["N", "D"], "en", "both", [1, 5], 42
    )
    assert len(zero) == 7
    assert zero["label"].iloc[-1] == "grade, macro AUC"
    assert zero["auroc"].between(0, 1).all()
    assert (zero["low"] <= zero["high"])[:6].all()
    assert list(few["method"]) == ["zero_shot", *few_shot.ADAPTERS, *few_shot.ADAPTERS]
    assert few["auroc_D"].between(0, 1).all()
    with pytest.raises(DataError, match="single"):
        zero_shot.zero_shot_single_eyes(model, zero_shot.read_prompts("en"), ["N"], {}, "each")
    with pytest.raises(DataError, match="no prompts in 'de'"):
        zero_shot.read_prompts("de")
