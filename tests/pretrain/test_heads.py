"""RET-CLIP: heads of the eyes, losses of the levels, the small text encoder."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import patients as cohort
from helpers.pretrain_toy import model_and_visits

from clipdr import DataError
from clipdr.models.report_encoder import SmallReportEncoder, tokenize_reports
from clipdr.pretrain.data import patients_table
from clipdr.pretrain.losses import TARGETS, floor, tripartite
from clipdr.pretrain.model import Aligned, compare


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    cohort.make(folder, monocular=4)
    return folder


@pytest.fixture(scope="module")
def table(data):
    return patients_table.read(data / "patients" / "toy.csv")


def test_swapped_eyes_pass_through_the_other_heads(table, data):
    """Left and right head exchange their inputs; the patient's head sees another order."""
    model, train, _ = model_and_visits(table, data)
    rows = np.flatnonzero(train.present.all(1).numpy())[:6]
    batch = train.batch(rows)
    with torch.no_grad():
        model.eval()
        raw = model.raw(batch.image, batch.present)
        z = model.project(raw, batch.present)
        swapped = model.project(model.raw(batch.image.flip(1), batch.present), batch.present)
        for number, (level, other) in enumerate((("left", 1), ("right", 0))):
            expected = F.normalize(raw[:, other] @ model.image_heads[level].weight.T, dim=-1)
            assert torch.allclose(swapped[number], expected, atol=1e-6)
        assert (swapped[2] - z[2]).abs().max() > 1e-3
        changed = batch.image.clone()
        changed[:, 1] = changed[:, 1].flip(0)
        again = model.project(model.raw(changed, batch.present), batch.present)
        assert torch.allclose(again[0], z[0], atol=1e-6)
        assert (again[1] - z[1]).abs().max() > 1e-3


def test_eyes_of_each_side_pass_through_their_heads(table, data):
    """An eye given twice is n((W_g[:, :E] + W_g[:, E:]) v); raw v cannot be compared with text."""
    model, train, _ = model_and_visits(table, data)
    model.eval()
    with torch.no_grad():
        image = train.batch(np.arange(5, 9)).image[:, 0]
        v = model.image(image)
        left, right = model.image_heads["patient"].weight.chunk(2, 1)
        expected = {
            "left": model.image_heads["left"](v),
            "right": model.image_heads["right"](v),
            "unknown": v @ (left + right).T,
        }
        for side, vector in expected.items():
            aligned = model.eyes(image, side)
            assert aligned.level == ("patient" if side == "unknown" else side)
            assert torch.allclose(aligned.vector, F.normalize(vector, dim=-1), atol=1e-6)
    with pytest.raises(DataError, match="side"):
        model.eyes(image, "both")
    text = Aligned("patient", F.normalize(torch.randn(2, 16), dim=-1))
    assert compare(model.eyes(image), text).shape == (4, 2)
    for wrong in (v, model.eyes(image, "left")):
        with pytest.raises(DataError, match="comparable"):
            compare(wrong, text)


@pytest.mark.parametrize("targets", TARGETS)
def test_loss_of_one_process_is_that_of_its_levels(targets):
    z, u = (F.normalize(torch.randn(3, 6, 8), dim=-1) for _ in range(2))
    member = torch.ones(3, 6, dtype=torch.bool)
    member[0, 2:] = False
    content = torch.tensor([[0, 0, 1, 2, 3, 4]] * 3)
    losses, levels = tripartite(z, u, torch.full((3,), 5.0), member, content, targets)
    assert losses[0] == pytest.approx(
        float(TARGETS[targets](z[0, :2], u[0, :2], 5.0, content[0, :2]))
    )
    assert levels["left"]["n"] == 2
    assert levels["left"]["floor"] == pytest.approx(np.log(2))
    assert levels["patient"]["floor"] == floor(content[0])


def test_small_text_encoder_ignores_padding():
    torch.manual_seed(0)
    encoder = SmallReportEncoder(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "左"], 12).eval()
    token, cut = tokenize_reports(encoder, ["a b 左 c", "a"])
    assert token[0, :6].tolist() == [2, 4, 5, 6, 1, 3]
    assert token[1].tolist() == [2, 4, 3] + [0] * 9
    assert cut == 0
    assert torch.allclose(encoder(token)[1], encoder(token[1:])[0], atol=1e-6)
    assert tokenize_reports(encoder, ["a " * 40])[1] == 1.0
