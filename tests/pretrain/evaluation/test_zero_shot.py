"""Zero-shot prompts and the levels of their vectors."""

import pytest
import torch

from clipdr import DataError
from clipdr.pretrain import run
from clipdr.pretrain.data import patient_sources
from clipdr.pretrain.evaluation import (
    zero_shot,
)
from clipdr.pretrain.model import Aligned


@pytest.mark.parametrize("language", ["en", "zh"])
def test_prompts_cover_grades_and_findings(language):
    prompts = zero_shot.read_prompts(language)
    assert len(prompts["grades"]) == 5
    assert set(prompts["findings"]) == set(patient_sources.ODIR_LABELS)
    assert all("{}" in template for group in prompts["templates"].values() for template in group)


def test_zero_shot_with_a_vector_of_another_level_is_refused(trained):
    model, _ = run.load(trained[1])
    with pytest.raises(DataError, match="comparable"):
        zero_shot.zero_shot_findings(
            model,
            Aligned("left", torch.ones(1, 16)),
            zero_shot.read_prompts("en"),
            ["N"],
            "patient",
        )
