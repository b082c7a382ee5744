"""Fine-tuned CLIP: untrained it is zero-shot CLIP, and it trains the whole encoder."""

import pytest
import torch
from helpers.methods import (
    EFFICIENTNET,
    build,
)

from clipdr import DataError
from clipdr.models.backbone import Backbone
from clipdr.models.prompts import ensemble, similarity


def test_clip_finetune_starts_as_zero_shot_and_trains_the_encoder(batch):
    method = build("clip_finetune", bank="C")
    backbone = Backbone(EFFICIENTNET, 64)
    direct = similarity(
        backbone.image.eval()(batch.image), ensemble(backbone.banks["C"]), backbone.scale
    )
    assert torch.allclose(method.eval()(batch.image), direct, atol=1e-5)
    assert all(parameter.requires_grad for parameter in method.parameters())
    assert "image.projection.weight" in dict(method.named_parameters())
    assert "text" in method.state_dict()  # fixed, saved
    with pytest.raises(DataError, match="bank 'Z'"):
        build("clip_finetune", bank="Z")
