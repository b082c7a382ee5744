"""CoOpLVT: its prompts against single sentences built by hand."""

import pytest
import torch
import torch.nn.functional as F
from helpers.methods import (
    build,
)

from clipdr.models.prompts import BANKS


def test_coop_lvt_prompts_equal_single_sentences(batch):
    """Each sentence is built by hand: start, 4 learned, 4 visual tokens, name, full stop, end."""
    method = build("coop_lvt").eval()
    with torch.no_grad():
        method.visual[2].weight.mul_(20)
        tower, features = method.prompts.tower, F.normalize(method.image(batch.image[:2]), dim=1)
        logits = method(batch.image[:2])
        for image in range(2):
            visual = (
                F.relu(features[image] @ method.visual[0].weight.T + method.visual[0].bias)
                @ method.visual[2].weight.T
            ).view(4, -1)
            visual = visual + method.visual[2].bias.view(4, -1)
            for grade, name in enumerate(BANKS["B"]):
                words = [
                    tower.embed(torch.tensor(ids))
                    for ids in (tower.start, tower.tokenize(name) + tower.stop + tower.end)
                ]
                sentence = torch.cat([words[0], method.prompts.context[0], visual, words[1]])
                text = tower.encode(sentence[None], torch.tensor([len(sentence)]))[0]
                cosine = features[image] @ F.normalize(text, dim=0)
                assert logits[image, grade].item() == pytest.approx(
                    method.scale * cosine.item(), abs=1e-3
                )
    assert not any(parameter.requires_grad for parameter in tower.parameters())
