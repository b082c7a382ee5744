"""Text encoders: equality with open_clip, and encoders of the transformers library."""

import pytest
import torch

from clipdr import DataError
from clipdr.models.backbone import Backbone
from clipdr.models.prompts import BANKS, TEMPLATES, Prompts
from clipdr.models.text_tower import encode_sentences

SPEC = {"image": "timm/test_efficientnet", "weights": "random", "text": "small"}


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


@pytest.fixture(scope="module")
def tower():
    return Backbone(SPEC, 32).text


def test_cut_sentence_equals_open_clip(tower):
    """Features of the cut sentence equal those of open_clip on 77 tokens."""
    import open_clip
    from open_clip.transformer import TextTransformer

    from clipdr.models.factory import SMALL as SIZE

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = TextTransformer(**SIZE).eval()
    texts = ["a photo of no DR.", TEMPLATES[1].format(BANKS["C"][3])]
    whole = model(open_clip.get_tokenizer("RN50")(texts))
    assert torch.allclose(encode_sentences(tower, texts), whole, atol=1e-5)


def test_hugging_face_encoder_with_learned_prompts(bert):
    """Gradients reach the tokens; padding and other sentences change nothing."""
    backbone = Backbone(SPEC | {"text": f"hf/{bert}"}, 32)
    prompts = Prompts(backbone.text, "names", bank="B")
    features = prompts()
    assert features.shape == (5, backbone.dim)
    features.sum().backward()
    assert prompts.context.grad.abs().sum() > 0
    alone = prompts.tower.encode(prompts.embedded()[:1, : prompts.length[0]], prompts.length[:1])
    assert torch.allclose(features[0], alone[0], atol=1e-5)
    whole = encode_sentences(backbone.text, ["mild retinopathy", "a retina"])
    assert torch.allclose(whole[1], encode_sentences(backbone.text, ["a retina"])[0], atol=1e-5)


def test_missing_hugging_face_folder_is_refused():
    with pytest.raises(DataError, match="no such folder"):
        _ = Backbone(SPEC | {"text": "hf/nowhere"}, 32).text
