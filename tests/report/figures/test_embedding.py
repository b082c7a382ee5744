"""t-SNE of image and text features."""

import shutil

import numpy as np

from clipdr.report.figures import (
    embedding,
)
from clipdr.report.figures.catalog import FigureInputs


def test_embedding_plots_every_image_and_text(cached, tmp_path):
    runs = [tmp_path / "dg" / "erm" / domain / "0" for domain in ("SIM_APTOS", "SIM_IDRID")]
    content = embedding.read(FigureInputs(runs, tmp_path, cached, cached / "features" / "tiny"))
    rows, images, texts = content
    assert len(rows) == len(images) == 80
    assert list(texts) == ["A", "B", "C"]
    np.testing.assert_allclose(np.linalg.norm(images, axis=1), 1)
    figure = embedding.plot(content, ["erm"], ["SIM_APTOS", "SIM_IDRID"])
    by_grade, by_domain, enlarged = figure.axes
    dots = [collection.get_offsets() for collection in by_grade.collections]
    assert [len(group) for group in dots] == [16] * 5 + [1] * 15
    assert [text.get_text() for text in by_domain.get_legend().get_texts()] == [
        "SIM_APTOS (n=40)",
        "SIM_IDRID (n=40)",
    ]
    assert len({text.get_text() for text in enlarged.texts}) == 15
    np.testing.assert_array_equal(embedding.embed(images), embedding.embed(images))


def test_embedding_projects_features_by_the_bridge_to_the_texts(cached, tmp_path):
    """Features of a pre-trained folder are plotted where its bridge projects them."""
    folder = shutil.copytree(cached / "features" / "tiny", tmp_path / "bridged")
    stored, features = dict(np.load(folder / "prompts.npz")), np.load(folder / "SIM_APTOS.npy")
    bridge = (
        np.random.default_rng(0)
        .normal(size=(stored["A"].shape[-1], features.shape[1]))
        .astype(np.float32)
    )
    np.savez(folder / "prompts.npz", **stored, bridge=bridge)
    _, images, texts = embedding.read(
        FigureInputs([tmp_path / "dg" / "erm" / "SIM_APTOS" / "0"], tmp_path, cached, folder)
    )
    expected = features @ bridge.T
    np.testing.assert_allclose(
        images, expected / np.linalg.norm(expected, axis=1, keepdims=True), rtol=1e-5, atol=1e-6
    )
    assert list(texts) == ["A", "B", "C"]
