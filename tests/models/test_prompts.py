"""Prompts: token layout, trained tokens, interpolation weights, and independence of padding."""

import pytest
import torch

from clipdr import DataError
from clipdr.models.backbone import Backbone
from clipdr.models.prompts import BANKS, Prompts, interpolation_weights

SPEC = {"image": "timm/test_efficientnet", "weights": "random", "text": "small"}


@pytest.fixture(scope="module")
def tower():
    return Backbone(SPEC, 32).text


@pytest.mark.parametrize("mode", ["tokens", "names", "names_frozen", "interpolated"])
def test_padding_to_the_full_context_changes_nothing(tower, mode):
    prompts = Prompts(tower, mode)
    embedded = prompts.embedded()
    assert embedded.shape[1] == int(prompts.length.max()) < 77
    padded = torch.cat([embedded, torch.randn(5, 77 - embedded.shape[1], tower.width)], 1)
    assert torch.allclose(prompts(), tower.encode(padded, prompts.length), atol=1e-5)


def test_tokens_are_start_context_name_stop_end(tower):
    prompts = Prompts(tower, "names", context=10, bank="A")
    assert tower.stop == [269]
    assert prompts.length.tolist() == [1 + 10 + m + 2 for m in (2, 1, 1, 1, 2)]
    embedded = prompts.embedded()
    assert torch.equal(embedded[0, 0], tower.embed(torch.tensor(49406)))
    assert torch.equal(embedded[1, 12], tower.embed(torch.tensor(269)))
    assert torch.equal(embedded[1, 13], tower.embed(torch.tensor(49407)))
    assert [len(tower.tokenize(name)) for name in BANKS["B"]] == [5, 8, 8, 8, 5]
    assert [len(tower.tokenize(name)) for name in BANKS["C"]] == [11, 8, 25, 30, 19]


@pytest.mark.parametrize(
    ("mode", "trained"), [("tokens", 2), ("names", 2), ("names_frozen", 1), ("interpolated", 2)]
)
def test_mode_decides_what_is_trained(tower, mode, trained):
    assert (
        sum(parameter.requires_grad for parameter in Prompts(tower, mode).parameters()) == trained
    )


def test_context_from_a_text_is_its_tokens_per_class(tower):
    prompts = Prompts(tower, "names", context_init="This image is", per_class=True)
    assert prompts.context.shape == (5, 3, tower.width)
    assert torch.equal(
        prompts.context[4], tower.embed(torch.tensor(tower.tokenize("This image is")))
    )


def test_interpolation_weights_equal_values_by_hand():
    rows = torch.tensor(
        [
            [2 / 3, 1 / 3, 0],
            [3 / 7, 3 / 7, 1 / 7],
            [1 / 4, 1 / 2, 1 / 4],
            [1 / 7, 3 / 7, 3 / 7],
            [0, 1 / 3, 2 / 3],
        ]
    )
    assert torch.allclose(interpolation_weights(3, "linear"), rows, atol=1e-6)
    assert torch.allclose(interpolation_weights(1, "linear"), torch.ones(5, 1))
    for kind in ("inv_prop", "normal"):
        weight = interpolation_weights(3, kind)
        assert torch.allclose(weight.sum(1), torch.ones(5))
        assert weight[0, 0] == weight[4, 2] > weight[0, 1]


def test_too_long_sentence_is_refused(tower):
    with pytest.raises(DataError, match="Shorten"):
        Prompts(tower, "tokens", context=80)()
