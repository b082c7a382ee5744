"""Class activation maps: formula by hand, kinds of encoders, selected images, both checks."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.toy import SIDE
from torch import nn

from clipdr import DataError
from clipdr.data.synthetic.dataset import write
from clipdr.inference import grad_cam
from clipdr.models.backbone import Backbone
from clipdr.report.figures.cam import plot
from clipdr.training import run

DISC = ["cx", "cy", "r", "w", "h"]


class Toy(nn.Module):
    """Encoder of one convolution, then a head: Grad-CAM has a closed form."""

    def __init__(self):
        super().__init__()
        self.image = nn.Module()
        self.image.trunk = nn.Module()
        self.image.trunk.layer4 = nn.Conv2d(3, 4, 1, bias=False)
        self.head = nn.Linear(4, 5)

    def forward(self, image):
        return self.head(self.image.trunk.layer4(image).mean((2, 3)))


def test_grad_cam_equals_its_formula():
    """dS_y/dA_c = w_yc / (h w), so the map is ReLU(sum_c w_yc A_c) / (h w)."""
    torch.manual_seed(0)
    model, image = Toy(), torch.rand(2, 3, 6, 6)
    activation = grad_cam.activation_maps(model, image, torch.tensor([1, 3]))
    maps = model.image.trunk.layer4(image).detach()
    for index, grade in enumerate((1, 3)):
        expected = torch.relu(
            (model.head.weight[grade][:, None, None] * maps[index]).sum(0) / 36
        ).detach()
        np.testing.assert_allclose(activation[index], expected.numpy(), atol=1e-6)


TOWERS = {
    "timm/test_efficientnet": 32,
    "timm/resnet18": 64,
    "timm/vit_tiny_patch16_224": 64,
    "open_clip/RN50-quickgelu": 64,
    "open_clip/ViT-B-32-quickgelu": 64,
}


@pytest.mark.parametrize("image", TOWERS)
def test_every_kind_of_encoder_has_a_map(image):
    """The map has the size of the input and is not negative; outputs stay unchanged."""
    torch.manual_seed(0)
    side = TOWERS[image]
    spec = {
        "name": "one",
        "image": image,
        "weights": "random",
        "text": "own" if image.startswith("open_clip") else "small",
    }
    model = nn.Module()
    model.image = Backbone(spec, side).image.eval()
    head = nn.Linear(model.image(torch.rand(1, 3, side, side)).shape[1], 5)
    model.forward = lambda image: head(model.image(image))
    images = torch.rand(1, 3, side, side)
    before = model.eval()(images).detach()
    maps = grad_cam.activation_maps(model, images, torch.tensor([2]))
    assert maps.shape == (1, side, side)
    assert maps.min() >= 0
    assert np.isfinite(maps).all()
    torch.testing.assert_close(model(images), before)


def test_another_encoder_is_refused():
    with pytest.raises(DataError, match="has no known feature map"):
        grad_cam.target_layer(nn.Linear(2, 2))


def test_images_are_selected_by_name():
    names = [f"D/x/{letter}.png" for letter in "cabd"]
    manifest = pd.DataFrame(
        {"image": [*names, "E/x/a.png"], "grade": [0, 0, 1, 1, 0], "domain": ["D"] * 4 + ["E"]}
    )
    assert list(grad_cam.select_images(manifest)["image"]) == [
        "D/x/a.png",
        "D/x/c.png",
        "D/x/b.png",
        "D/x/d.png",
    ]


def test_energy_and_correlation_equal_values_by_hand():
    """Energy of a map on the lesion is 1, correlation of equal maps 1, of constant ones NaN."""
    rows = pd.DataFrame(
        {
            "image": ["a", "b"],
            "grade": [2, 0],
            **dict(zip(DISC, (8.0, 8.0, 100.0, 16.0, 16.0), strict=True)),
        }
    )
    lesions = np.zeros((2, 16, 16), bool)
    lesions[0, :4, :4] = True
    trained = np.stack([lesions[0].astype(np.float32), np.zeros((16, 16), np.float32)])
    numbers = grad_cam.measure(rows, {"clip_dr": grad_cam.Maps(trained, trained)}, lesions)
    first, second = numbers.to_dict("records")
    assert first["rank_correlation"] == pytest.approx(1)
    assert first["energy"] == 1
    assert first["area"] == pytest.approx(1 / 16)
    assert all(np.isnan(second[name]) for name in ("rank_correlation", "energy", "area"))
    even = np.ones_like(trained) + np.linspace(0, 1e-6, 512, dtype=np.float32).reshape(2, 16, 16)
    assert grad_cam.measure(rows, {"erm": grad_cam.Maps(even, even)}, lesions)["energy"][
        0
    ] == pytest.approx(1 / 16, abs=1e-4)
    assert grad_cam.measure(rows, {"erm": grad_cam.Maps(even, even)})["energy"].isna().all()


def test_lesion_masks_lie_on_the_rendered_lesions(tmp_path):
    """They are darker or brighter than the retina; there is none at grade 0."""
    from clipdr.data.preprocessing.prepare import prepare

    write(tmp_path, ["SIM_IDRID"], 10, 128, 3, 1)
    paths = [tmp_path / "data" / name for name in ("m.csv", "s.npy", "r.csv")]
    prepare("SIM_IDRID", tmp_path, *paths, 96, 1)
    manifest, store = pd.read_csv(paths[0]), np.load(paths[1])
    rows = manifest.iloc[
        [manifest.index[manifest["grade"] == 0][0], *manifest.index[manifest["grade"] >= 3][:3]]
    ]
    lesions = grad_cam.lesion_masks(rows, tmp_path, 96, 128, 3)
    assert lesions.shape == (len(rows), 96, 96)
    assert not lesions[0].any()
    assert all(one.any() for one in lesions[1:])
    contrast = []
    for one, row in zip(lesions[1:], rows["row"].iloc[1:], strict=True):
        green = store[row][:, :, 1].astype(float)
        inside = green > 0
        contrast.append(
            np.abs(green[one & inside] - np.median(green[inside])).mean()
            / np.abs(green[inside] - np.median(green[inside])).mean()
        )
    assert np.mean(contrast) > 1.3
    with pytest.raises(DataError, match="not as generated"):
        grad_cam.lesion_masks(rows, tmp_path, 96, 160, 3)
    with pytest.raises(DataError, match="--raw"):
        grad_cam.lesion_masks(rows, tmp_path / "nowhere", 96, 128, 3)


def test_maps_of_a_trained_run(toy, manifests, settings, tmp_path):
    """From a run folder to the figure: random weights give another map."""
    folder = tmp_path / "dg" / "erm" / "SIM_APTOS" / "0"
    run.train(
        settings(epochs=1),
        "dg",
        "erm",
        "SIM_APTOS",
        0,
        manifests=manifests,
        data=toy,
        folder=folder,
        device="cpu",
    )
    rows, images, maps = grad_cam.maps_of_runs(
        [folder], toy, ["SIM_APTOS", "SIM_IDRID", "SIM_RLDR"]
    )
    assert len(rows) == 40
    assert images.shape == (40, 3, SIDE, SIDE)
    assert set(rows["domain"]) == {"SIM_APTOS"}
    assert not np.allclose(maps["erm"].trained, maps["erm"].random)
    numbers = grad_cam.measure(rows, maps)
    assert len(numbers) == 40
    assert numbers["rank_correlation"].dropna().between(-1, 1).all()
    figure = plot(rows, images, maps, numbers)
    assert figure.get_suptitle().startswith("SYNTHETIC images")
    assert "test images of SIM_APTOS; numbers: means of 40" in figure.get_suptitle()
    label = figure.axes[5].get_ylabel()
    assert label.startswith("erm")
    assert f"{numbers['rank_correlation'].mean():.2f}" in label
    assert "lesions" not in label
    stored = json.loads((folder / "settings.json").read_text())
    (folder / "settings.json").write_text(json.dumps(stored | {"frozen": True}))
    with pytest.raises(DataError, match="features of a frozen image encoder"):
        grad_cam.maps_of_runs([folder], toy, ["SIM_APTOS", "SIM_IDRID", "SIM_RLDR"])
