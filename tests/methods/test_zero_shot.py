"""Zero-shot CLIP: similarities and the choice of the prompt bank."""

import torch
from helpers.toy import SIDE

from clipdr.models.backbone import Backbone
from clipdr.models.prompts import BANKS, ensemble, similarity


def test_zero_shot_is_similarity_to_the_bank(prepared):
    """The prediction equals the similarity of CLIP-DR with the sentences of a bank."""
    method, rows = prepared("zero_shot", options={"bank": "B"})
    batch = next(rows["test"].chunks(40))
    backbone = Backbone(
        {"image": "timm/test_efficientnet", "weights": "random", "text": "small"}, SIDE
    )
    direct = similarity(batch.image, ensemble(backbone.banks["B"]), backbone.scale)
    assert torch.allclose(method(batch.image), direct, atol=1e-5)


def test_zero_shot_chooses_bank_on_source_validation(prepared):
    from sklearn.metrics import roc_auc_score

    method, rows = prepared("zero_shot")
    val = next(rows["val"].chunks(1000))
    score = {}
    for bank in BANKS:
        p = similarity(val.image, method.banks[bank], method.scale).double().softmax(1)
        score[bank] = roc_auc_score(val.grade, p, multi_class="ovo", average="macro")
    assert method.chosen["bank"] == max(score, key=score.get)
