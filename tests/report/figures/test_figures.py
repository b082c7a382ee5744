"""Figures: the numbers in the axes are the hand-computed ones, what is missing stays missing, equal numbers give equal bytes."""

import shutil

import numpy as np
import pandas as pd
import pytest
from helpers.report_cases import DOMAINS, averages, compared

from clipdr import DataError
from clipdr.artifacts.run_folder import first_seed
from clipdr.evaluation.schema import PROBABILITIES
from clipdr.evaluation.similarity import (
    falling_rows,
    matrices,
    mean,
    similarity_matrix,
    wrong_order,
)
from clipdr.report.figures import (
    confusion,
    differences,
    embedding,
    reliability,
    roc,
    similarity_by_domain,
    training,
)
from clipdr.report.figures import similarity as mean_panels
from clipdr.report.figures.catalog import FigureInputs
from clipdr.report.figures.scores_by_domain import plot as scores_by_domain
from clipdr.report.figures.similarity import plot as similarity
from clipdr.report.figures.style import add_caution, write
from clipdr.report.tables.notes import Remarks


def run(method, held_out, matrix, scale=50.0, seed=0):
    """Predictions of one run in which grade g has two test images, with cosines matrix[g] +- 0.01; a decoy in val and under `last`."""
    rows = []
    for g, cosines in enumerate(matrix):
        for split, selection, shift in (
            ("test", "source_val", 0.01),
            ("test", "source_val", -0.01),
            ("val", "source_val", 9),
            ("test", "last", 9),
        ):
            row = {
                "method": method,
                "held_out": held_out,
                "seed": seed,
                "selection": selection,
                "split": split,
                "grade": g,
                "scale": scale,
            }
            cosine = np.asarray(cosines) + shift
            rows.append(
                row
                | {
                    f"logit_{k}": np.float32((scale if scale == scale else 1) * cosine[k])
                    for k in range(5)
                }
            )
    return pd.DataFrame(rows)


def ordered(peak, step):
    """Cosines that fall by step for each grade away from the truth."""
    return peak - step * np.abs(np.arange(5)[:, None] - np.arange(5)[None, :])


A, B = ordered(0.3, 0.02), ordered(0.2, 0.01)


def test_matrix_is_the_mean_cosine_of_the_selected_test_images():
    np.testing.assert_allclose(similarity_matrix(run("clip_dr", "SIM_APTOS", A)), A, atol=1e-6)


def test_a_grade_without_images_stays_undefined():
    predictions = run("clip_dr", "SIM_APTOS", A)
    matrix = similarity_matrix(predictions[predictions["grade"] != 3])
    assert np.isnan(matrix[3]).all() and not np.isnan(np.delete(matrix, 3, axis=0)).any()
    both = mean(
        matrices(
            [predictions[predictions["grade"] != 3], run("clip_dr", "SIM_IDRID", B)],
            ["clip_dr"],
            DOMAINS,
        )["clip_dr"]
    )
    assert np.isnan(both[3]).all() and not np.isnan(np.delete(both, 3, axis=0)).any()
    assert falling_rows(matrix) == (4, 4)
    assert wrong_order(matrix) == (0, 16)


def test_wrong_order_counts_pairs_out_of_twenty():
    assert wrong_order(A) == (0, 20)
    assert wrong_order(-A) == (20, 20)
    assert wrong_order(np.zeros((5, 5))) == (20, 20)  # equal is not falling
    swapped = A.copy()
    swapped[0, [3, 4]] = swapped[0, [4, 3]]
    assert wrong_order(swapped) == (1, 20)
    constant = np.tile(
        [0.1, 0.2, 0.3, 0.2, 0.1], (5, 1)
    )  # right for grade 2; one or two pairs wrong on the way in the other rows
    assert wrong_order(constant) == (2 + 1 + 0 + 1 + 2, 20)
    assert (
        falling_rows(constant) == (1, 5)
        and falling_rows(A) == (5, 5)
        and falling_rows(swapped) == (4, 5)
    )


def test_mean_over_domains_is_unweighted_and_of_the_lowest_seed():
    many = pd.concat([run("clip_dr", "SIM_IDRID", B)] * 7)
    runs = [
        run("clip_dr", "SIM_APTOS", 9 * A, seed=2),
        run("clip_dr", "SIM_APTOS", A, seed=1),
        many,
        run("erm", "SIM_APTOS", A, scale=np.nan),
    ]
    found = matrices(runs, ["erm", "clip_dr"], DOMAINS)
    assert list(found) == ["clip_dr"] and list(found["clip_dr"]) == DOMAINS
    np.testing.assert_allclose(mean(found["clip_dr"]), (A + B) / 2, atol=1e-6)


def test_similarity_figure_prints_the_matrix():
    swapped = B.copy()
    swapped[4, [0, 1]] = B[4, 0] + 0.1, B[4, 1]
    runs = [
        run(m, d, x)
        for m, d, x in (
            ("clip_dr", "SIM_APTOS", A),
            ("clip_dr", "SIM_IDRID", B),
            ("ordinal_clip", "SIM_APTOS", swapped),
        )
    ]
    figure = similarity(
        [*runs, run("ordinal_clip", "SIM_IDRID", swapped)], ["ordinal_clip", "clip_dr"], DOMAINS
    )
    panels = [axis for axis in figure.axes if axis.get_title()]
    assert [axis.get_title() for axis in panels] == ["ordinal_clip", "clip_dr"]
    for axis, matrix in zip(panels, (swapped, (A + B) / 2), strict=True):
        assert [text.get_text() for text in axis.texts] == [
            f"{value:.3f}" for value in matrix.ravel()
        ]
        assert axis.get_ylabel() == "true grade" and axis.yaxis_inverted()
    assert [axis.get_xlabel().splitlines()[1:] for axis in panels] == [
        [f"ordinal rows: {5 - n} of 5", f"misordered pairs: {n} of 20"] for n in (1, 0)
    ]
    assert len({axis.collections[0].get_clim() for axis in panels}) == 1
    assert figure.get_suptitle().startswith("SYNTHETIC images")


def test_similarity_prints_na_for_an_undefined_cell():
    predictions = run("clip_dr", "IDRID", A)
    figure = similarity([predictions[predictions["grade"] != 3]], ["clip_dr"], ["IDRID"])
    assert sorted(text.get_text() for text in figure.axes[0].texts).count("n/a") == 5
    assert "SYNTHETIC" not in figure.get_suptitle()


def test_similarity_without_runs_or_texts_is_refused():
    with pytest.raises(DataError, match="compares images with texts"):
        similarity([run("erm", "SIM_APTOS", A, scale=np.nan)], ["erm"], DOMAINS)
    with pytest.raises(DataError, match="clip_dr was not run on SIM_IDRID"):
        similarity([run("clip_dr", "SIM_APTOS", A)], ["clip_dr"], DOMAINS)


def test_scores_by_domain_draws_means_and_intervals():
    frame = averages({"erm": (0.7, None), "clip_dr": (0.9, np.nan)})
    figure = scores_by_domain(frame, ["erm", "clip_dr"], DOMAINS)
    auc, qwk = figure.axes
    assert (auc.get_ylabel(), qwk.get_ylabel()) == ("AUC (%)", "QWK (%)")
    assert [text.get_text().replace("\n", "") for text in qwk.get_xticklabels()] == [
        *DOMAINS,
        "average",
    ]
    erm, clip_dr = auc.containers
    np.testing.assert_allclose(erm.lines[0].get_ydata(), [70])
    np.testing.assert_allclose(clip_dr.lines[0].get_ydata(), [90, np.nan, np.nan])
    np.testing.assert_allclose(erm.lines[2][0].get_segments()[0][:, 1], [65, 74])
    assert (
        erm.lines[0].get_color() != clip_dr.lines[0].get_color()
        and erm.lines[0].get_marker() != clip_dr.lines[0].get_marker()
    )
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["erm", "clip_dr"]
    assert figure.get_suptitle().startswith("SYNTHETIC images") and qwk.get_xlabel() == ""


def test_intervals_by_image_are_marked():
    figure = scores_by_domain(
        averages({"erm": (0.7, 0.6)}, ["A", "B"], unit="image"), ["erm"], ["A", "B"]
    )
    assert [text.get_text() for text in figure.axes[-1].get_xticklabels()] == [
        "A*",
        "B*",
        "average*",
    ]
    assert "too narrow" in figure.axes[-1].get_xlabel()
    assert "SYNTHETIC" not in figure.get_suptitle()


def test_scores_of_two_protocols_are_refused():
    with pytest.raises(DataError, match="several protocols"):
        scores_by_domain(pd.concat([averages(), averages(protocol="esdg")]), ["erm"], DOMAINS)


def predicted(method, held_out, probability, grade):
    """Test rows of one run as the figures read them."""
    frame = pd.DataFrame(np.asarray(probability, float), columns=PROBABILITIES)
    return frame.assign(
        method=method, held_out=held_out, selection="source_val", split="test", grade=grade
    )


def test_matrices_by_domain_and_their_mean():
    runs = [run("clip_dr", "SIM_APTOS", A), run("clip_dr", "SIM_IDRID", B)]
    figure = similarity_by_domain.plot(runs, ["clip_dr"], DOMAINS)
    panels = [axis for axis in figure.subfigs[0].axes if axis.get_title()]
    assert [axis.get_title() for axis in panels] == ["SIM_APTOS (n=10)", "SIM_IDRID (n=10)", "mean"]
    assert [text.get_text() for text in panels[2].texts] == [
        f"{100 * value:.1f}" for value in ((A + B) / 2).ravel()
    ]
    assert "ordinal rows: 5 of 5" in panels[0].get_xlabel()


def test_the_lowest_seed_of_each_run_is_drawn():
    folders = [
        f"r/dg/{method}/{domain}/{seed}" for method in "ab" for domain in "XY" for seed in (10, 2)
    ]
    assert [str(path) for path in first_seed(folders)] == [
        f"r/dg/{method}/{domain}/2" for method in "ab" for domain in "XY"
    ]


def test_confusion_counts_the_most_probable_grade():
    probability = np.eye(5)[[0, 0, 1, 2, 2, 4]]
    matrix = confusion.confusion(predicted("erm", "X", probability, [0, 1, 1, 2, 3, 4]))
    expected = np.zeros((5, 5), int)
    expected[[0, 1, 1, 2, 3, 4], [0, 0, 1, 2, 2, 4]] = 1
    np.testing.assert_array_equal(matrix, expected)
    figure = confusion.plot(
        predicted("erm", "X", probability, [0, 1, 1, 2, 2, 4]), ["erm"], ["IDRID"]
    )
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert (
        texts[5:7] == ["50", "50"]
        and [label.get_text() for label in figure.axes[0].get_yticklabels()][3] == "3\nn=0"
    )
    assert len(texts) == 20  # no image of grade 3: its row prints nothing, not 0 %


def test_differences_draw_intervals_and_mark_what_holm_calls_significant():
    figure = differences.plot(compared(), ["clip_dr", "coop", "erm"], DOMAINS)
    auc = figure.axes[0]
    assert "difference in AUC to clip_dr" in auc.get_xlabel()
    segments = [
        line.get_xdata()
        for line in auc.lines
        if len(line.get_xdata()) == 2 and line.get_linestyle() == "-"
    ]
    assert [list(map(float, one)) for one in segments[:6]] == [[-3.0, 1.0]] * 6
    filled = [
        line.get_markerfacecolor() != "white"
        for line in auc.lines
        if line.get_marker() in ("o", "D")
    ]
    assert filled == [False] * 3 + [True] * 3  # coop, then erm
    title = "SYNTHETIC images: method minus clip_dr, 95 % intervals, resampled by patients, n\u00a0=\u00a0100 images"
    assert figure.get_suptitle() == title
    with pytest.raises(DataError, match="no comparison"):
        differences.plot(compared(), ["clip_dr"], DOMAINS)


def test_a_method_that_is_not_itself_is_said_in_the_title():
    figure = differences.plot(compared(), ["clip_dr", "coop", "erm"], DOMAINS)
    title = figure.get_suptitle()
    said = Remarks({("erm", "SIM_IDRID"): "its first epoch, 50% of the budget, sees no grade"}, {})
    add_caution(figure, said.caution(["clip_dr", "coop"], DOMAINS))
    assert figure.get_suptitle() == title
    add_caution(figure, said.caution(["clip_dr", "coop", "erm"], DOMAINS))
    assert (
        figure.get_suptitle()
        == f"{title}\nNot itself here: erm (its first epoch, 50% of the budget, sees no grade)."
    )
    said = Remarks(
        {
            ("erm", "SIM_IDRID"): "one source",
            ("coop", "SIM_APTOS"): "one source",
            ("clip_dr", "SIM_IDRID"): "no grade",
        },
        {},
    )
    assert said.caution(["clip_dr", "coop", "erm"], DOMAINS) == [
        "Not themselves here: clip_dr (no grade); coop, erm (one source)."
    ]


def test_reliability_prints_the_table_s_ece():
    probability = np.tile([0.4, 0.1, 0.1, 0.2, 0.2], (6, 1))
    rows = predicted("erm", "A", probability, [0, 0, 1, 2, 3, 4])
    rows = rows.assign(**{f"t{name}": rows[name] for name in PROBABILITIES})
    records = [
        {
            "held_out": "average",
            "method": "erm",
            "metric": f"ece_{k}{t}",
            "mean": 0.1 * k + (0.01 if t else 0),
        }
        for k in (1, 2, 3, 4)
        for t in ("", "_t")
    ]
    figure = reliability.plot((rows, pd.DataFrame(records)), ["erm"], ["A"])
    assert [axis.texts[0].get_text() for axis in figure.axes] == [
        f"ECE {10 * k}.0 → {10 * k + 1}.0" for k in (1, 2, 3, 4)
    ]
    x, y = figure.axes[0].collections[0].get_offsets()[0]
    np.testing.assert_allclose((x, y), (0.6, 4 / 6))


def test_the_frozen_point_lies_on_the_curve():
    from sklearn.metrics import roc_curve

    rng = np.random.default_rng(0)
    event, score = rng.random(60) < 0.4, rng.random(60).round(1)
    x, y, _ = roc_curve(event, score, drop_intermediate=False)
    np.testing.assert_allclose(roc.curve(event, score), np.stack([x, y], axis=1))
    rows = pd.DataFrame({"method": "erm", "held_out": "A", "grade": 2 * event, "q": score})
    reached = {
        "sensitivity": (score >= 0.5)[event].mean(),
        "specificity": (score < 0.5)[~event].mean(),
    }
    averages_ = pd.DataFrame(
        [
            {"method": "erm", "held_out": "A", "metric": name, "mean": value}
            for name, value in reached.items()
        ]
    )
    axis = roc.plot((rows, averages_), ["erm"], ["A"]).axes[0]
    curve, mark = axis.lines[0].get_xydata(), axis.lines[1].get_xydata()[0]
    assert np.abs(curve - mark).sum(axis=1).min() < 1e-9
    assert axis.get_title() == f"A\n60 images, {event.sum()} referable"


def test_training_curves_ring_the_selected_checkpoint():
    history = pd.DataFrame(
        {
            "epoch": [1.0, 2.0],
            "loss": [2.0, 1.0],
            "val_loss": [1.5, 1.2],
            "val_auc": [0.7, 0.8],
            "selected": [False, True],
        }
    )
    histories = history.assign(method="erm", held_out="A")
    figure = training.plot(histories, ["linear_probe", "erm"], ["A"])
    assert [axis.get_title() for axis in figure.axes] == ["erm", "", ""]
    np.testing.assert_allclose(figure.axes[2].lines[0].get_ydata(), [70, 80])
    np.testing.assert_allclose(figure.axes[2].collections[0].get_offsets(), [[2, 80]])
    with pytest.raises(DataError, match="trains step by step"):
        training.plot(histories, ["linear_probe"], ["A"])


def test_embedding_draws_every_photograph_and_text(cached, tmp_path):
    runs = [tmp_path / "dg" / "erm" / domain / "0" for domain in ("SIM_APTOS", "SIM_IDRID")]
    content = embedding.read(FigureInputs(runs, tmp_path, cached, cached / "features" / "tiny"))
    rows, images, texts = content
    assert len(rows) == len(images) == 80 and list(texts) == ["A", "B", "C"]
    np.testing.assert_allclose(np.linalg.norm(images, axis=1), 1)
    figure = embedding.plot(content, ["erm"], ["SIM_APTOS", "SIM_IDRID"])
    by_grade, by_domain, enlarged = figure.axes
    dots = [collection.get_offsets() for collection in by_grade.collections]
    assert [len(one) for one in dots] == [16] * 5 + [1] * 15
    assert [text.get_text() for text in by_domain.get_legend().get_texts()] == [
        "SIM_APTOS (n=40)",
        "SIM_IDRID (n=40)",
    ]
    assert len({text.get_text() for text in enlarged.texts}) == 15
    np.testing.assert_array_equal(embedding.embed(images), embedding.embed(images))


def test_embedding_takes_features_through_the_bridge_to_the_texts(cached, tmp_path):
    """A pre-trained folder's features are in no space of texts: they are drawn where its bridge takes them."""
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


def test_equal_numbers_give_equal_files(tmp_path):
    for folder in ("a", "b"):
        runs = [run("clip_dr", d, A) for d in DOMAINS]
        write(mean_panels.plot(runs, ["clip_dr"], DOMAINS), "similarity", tmp_path / folder)
        write(
            scores_by_domain(averages(), ["clip_dr"], DOMAINS),
            "scores_by_domain",
            tmp_path / folder,
        )
        write(
            differences.plot(compared(), ["clip_dr", "erm"], DOMAINS),
            "differences",
            tmp_path / folder,
        )
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == [
        f"{name}.{suffix}"
        for name in ("differences", "scores_by_domain", "similarity")
        for suffix in ("pdf", "png", "svg")
    ]
    for name in files:
        first = (tmp_path / "a" / name).read_bytes()
        assert first == (tmp_path / "b" / name).read_bytes()
        assert b"CreationDate" not in first and b"<dc:date>" not in first
