"""Prompts and text towers: cut to the used positions without a change, interpolation weights, modes, Hugging Face encoders."""

import pytest
import torch

from clipdr import DataError
from clipdr.models.backbone import Backbone
from clipdr.models.prompts import BANKS, TEMPLATES, Prompts, interpolation
from clipdr.models.text_tower import sentences

SMALL = {"image": "timm/test_efficientnet", "weights": "random", "text": "small"}


@pytest.fixture(scope="module")
def tower():
    return Backbone(SMALL, 32).text


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A folder with a tiny random BERT and its tokenizer."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("bert")
    words = sorted(
        {
            word
            for names in BANKS.values()
            for name in names
            for word in name.lower().replace("-", " ").split()
        }
    )
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "-", *words]
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    size = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
    }
    BertModel(BertConfig(vocab_size=len(vocabulary), **size)).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("mode", ["tokens", "names", "names_frozen", "interpolated"])
def test_padding_to_the_full_context_changes_nothing(tower, mode):
    prompts = Prompts(tower, mode)
    embedded = prompts.embedded()
    assert embedded.shape[1] == int(prompts.length.max()) < 77
    padded = torch.cat([embedded, torch.randn(5, 77 - embedded.shape[1], tower.width)], 1)
    assert torch.allclose(prompts(), tower.encode(padded, prompts.length), atol=1e-5)


def test_open_clip_reads_the_same_sentence(tower):
    """The cut sentence gives what open_clip's own forward gives on 77 tokens."""
    import open_clip
    from open_clip.transformer import TextTransformer

    from clipdr.models.backbone import SMALL as SIZE

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = TextTransformer(**SIZE).eval()
    texts = ["a photo of no DR.", TEMPLATES[1].format(BANKS["C"][3])]
    whole = model(open_clip.get_tokenizer("RN50")(texts))
    assert torch.allclose(sentences(tower, texts), whole, atol=1e-5)


def test_token_layout(tower):
    prompts = Prompts(tower, "names", context=10, bank="A")
    assert tower.stop == [269]
    assert prompts.length.tolist() == [1 + 10 + m + 2 for m in (2, 1, 1, 1, 2)]
    embedded = prompts.embedded()
    assert torch.equal(embedded[0, 0], tower.embed(torch.tensor(49406)))
    assert torch.equal(embedded[1, 12], tower.embed(torch.tensor(269)))
    assert torch.equal(embedded[1, 13], tower.embed(torch.tensor(49407)))
    assert [len(tower.words(name)) for name in BANKS["B"]] == [5, 8, 8, 8, 5]
    assert [len(tower.words(name)) for name in BANKS["C"]] == [11, 8, 25, 30, 19]


@pytest.mark.parametrize(
    ("mode", "trained"), [("tokens", 2), ("names", 2), ("names_frozen", 1), ("interpolated", 2)]
)
def test_what_each_mode_trains(tower, mode, trained):
    assert (
        sum(parameter.requires_grad for parameter in Prompts(tower, mode).parameters()) == trained
    )


def test_context_from_words_and_per_class(tower):
    prompts = Prompts(tower, "names", context_init="This image is", per_class=True)
    assert prompts.context.shape == (5, 3, tower.width)
    assert torch.equal(prompts.context[4], tower.embed(torch.tensor(tower.words("This image is"))))


def test_interpolation_weights():
    rows = torch.tensor(
        [
            [2 / 3, 1 / 3, 0],
            [3 / 7, 3 / 7, 1 / 7],
            [1 / 4, 1 / 2, 1 / 4],
            [1 / 7, 3 / 7, 3 / 7],
            [0, 1 / 3, 2 / 3],
        ]
    )
    assert torch.allclose(interpolation(3, "linear"), rows, atol=1e-6)
    assert torch.allclose(interpolation(1, "linear"), torch.ones(5, 1))
    for kind in ("inv_prop", "normal"):
        weight = interpolation(3, kind)
        assert torch.allclose(weight.sum(1), torch.ones(5))
        assert weight[0, 0] == weight[4, 2] > weight[0, 1]


def test_a_sentence_that_is_too_long_is_refused(tower):
    with pytest.raises(DataError, match="shorten"):
        Prompts(tower, "tokens", context=80)()


def test_hugging_face_tower(bert):
    """Learned prompts run through a BERT; gradients reach the tokens; padding and neighbours change nothing."""
    backbone = Backbone(SMALL | {"text": f"hf/{bert}"}, 32)
    prompts = Prompts(backbone.text, "names", bank="B")
    features = prompts()
    assert features.shape == (5, backbone.dim)
    features.sum().backward()
    assert prompts.context.grad.abs().sum() > 0
    alone = prompts.tower.encode(prompts.embedded()[:1, : prompts.length[0]], prompts.length[:1])
    assert torch.allclose(features[0], alone[0], atol=1e-5)
    whole = sentences(backbone.text, ["mild retinopathy", "a retina"])
    assert torch.allclose(whole[1], sentences(backbone.text, ["a retina"])[0], atol=1e-5)


def test_hugging_face_folder_that_is_not_there():
    with pytest.raises(DataError, match="no such folder"):
        _ = Backbone(SMALL | {"text": "hf/nowhere"}, 32).text
