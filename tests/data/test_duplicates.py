"""Near-duplicate search: planted copies of every kind, and those among real images.

Each protection is also taken away. The images are synthetic, two eyes of each patient; real ones
under the marker realdata.
"""

import numpy as np
import pandas as pd
import pytest
from helpers.copies import COPIES, SIDE, SPLITS

from clipdr.data import duplicates, leakage
from clipdr.data.preprocessing import prepare


def matched(pairs):
    """Bool per pair: a copy and its own original."""
    return pairs["image_a"].str.removeprefix("SIM_APTOS") == pairs["image_b"].str.removeprefix(
        "SIM_RLDR"
    )


@pytest.mark.parametrize("kind", COPIES)
def test_planted_copies_are_found_without_false_pairs(planted, kind):
    pairs = planted[kind]
    assert matched(pairs).all()
    assert len(pairs) >= (100 if kind == "renamed" else 97), f"recall {len(pairs)} %"
    assert set(pairs["kind"]) == ({"exact"} if kind == "renamed" else {"near"})


def test_hashes_alone_find_unchanged_copies_only(planted, originals):
    """Hashes of files and pixels miss every changed copy."""
    for kind, pairs in planted.items():
        assert (pairs["kind"] == "exact").sum() == (100 if kind == "renamed" else 0)


def test_two_eyes_of_a_patient_are_not_copies(originals):
    pairs, _ = leakage.find_pairs({"SIM_APTOS": originals[0]}, {"SIM_APTOS": originals[1]})
    assert pairs.empty


def test_fingerprints_without_alignment_give_false_pairs(originals, monkeypatch):
    """Fingerprints at half the correlation, with every proposed pair accepted."""
    monkeypatch.setattr(duplicates, "PROPOSE", 0.4)
    _, proposed = leakage.find_pairs({"SIM_APTOS": originals[0]}, {"SIM_APTOS": originals[1]})
    assert proposed > 20
    monkeypatch.setattr(duplicates, "CONFIRM", -1.0)
    pairs, _ = leakage.find_pairs({"SIM_APTOS": originals[0]}, {"SIM_APTOS": originals[1]})
    assert len(pairs) == proposed


def test_similarity_is_the_best_of_four_flips():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 30, duplicates.COARSE, duplicates.COARSE)).astype(np.float32)
    flipped = [
        b[:, ::rows, ::columns].reshape(30, -1) for rows, columns in duplicates.FLIPS.values()
    ]
    expected = np.maximum.reduce([a.reshape(30, -1) @ flip.T for flip in flipped])
    np.testing.assert_allclose(
        duplicates.similarity(
            *(np.stack([duplicates.parities(square) for square in squares]) for squares in (a, b))
        ),
        expected,
        atol=1e-3,
    )


@pytest.mark.parametrize("block", [7, 2048])
def test_block_size_changes_no_pair(originals, monkeypatch, block):
    _, _, prints = duplicates.describe_images(originals[0], {"SIM_APTOS": originals[1]})
    prints[[90, 40]] = prints[[3, 4]]
    prints[90, [1, 3]] *= -1  # flipped along columns
    prints[40, [2, 3]] *= -1  # along rows
    monkeypatch.setattr(duplicates, "BLOCK", block)
    assert duplicates.propose(prints).tolist() == [[3, 90], [4, 40]]
    assert duplicates.propose(prints, np.array([3, 4]), prints[[3, 4]]).tolist() == [
        [3, 90],
        [4, 40],
    ]


@pytest.mark.parametrize("flip", duplicates.FLIPS)
def test_aligned_correlation_names_the_flip(originals, flip):
    squares, (down, across) = originals[1], duplicates.FLIPS[flip]
    view = duplicates.View(SIDE / 2, SIDE / 2, 0.75 * SIDE / 2)
    flipped = squares[0][::down, ::across]
    value, name = duplicates.aligned_correlation(squares[0], view, flipped, view)
    assert name == flip
    assert value > 0.99


def test_dark_image_is_similar_to_none():
    black = np.zeros((SIDE, SIDE, 3), np.uint8)
    view = duplicates.inner_view(0, 0, 0, "no_disc", SIDE)
    prints = np.stack([duplicates.fingerprint(black, view)] * 2)
    assert len(duplicates.propose(prints)) == 0
    assert abs(duplicates.aligned_correlation(black, view, black, view)[0]) < 0.01


@pytest.fixture
def real(realdata):
    """Manifests of the real images of five domains at 128 pixels, without patients, and pairs."""
    manifests, stores = {}, {}
    for domain in ("APTOS", "EYEPACS", "IDRID", "MESSIDOR", "RLDR"):
        lines = []
        for split, word in SPLITS.items():
            text = (realdata / "gdrbench" / "splits" / f"{domain}_{word}.txt").read_text()
            lines += [
                (line.rsplit(" ", 1)[0], int(line[-1]), split) for line in text.split("\n") if line
            ]
        prepared = [
            prepare.prepare_image(realdata / "gdrbench" / "images" / image, domain, 128)
            for image, _, _ in lines
        ]
        stores[domain] = np.stack([result.image for result in prepared])
        facts = pd.DataFrame(
            [[*result.disc, result.flag, result.sha256, result.phash] for result in prepared]
        )
        facts.columns = ["cx", "cy", "r", "w", "h", "flag", "sha256", "phash"]
        frame = pd.DataFrame(lines, columns=["image", "grade", "split"]).assign(
            domain=domain, patient="", row=range(len(lines))
        )
        manifests[domain] = frame.join(facts)
    return manifests, leakage.find_pairs(manifests, stores)[0]


@pytest.mark.realdata
def test_copies_among_real_images_are_found(real):
    """RLDR in EYEPACS: as many as share a name. APTOS and IDRID: pairs confirmed by eye.

    Two of these are not equal but show one eye.
    """
    manifests, pairs = real
    stems = [
        set(manifests[domain]["image"].str.extract(r"/([^/]+)\.\w+$")[0])
        for domain in ("RLDR", "EYEPACS")
    ]
    both = pairs[
        (pairs["domain_a"] == "EYEPACS")
        & (pairs["domain_b"] == "RLDR")
        & pairs["kind"].isin(["exact", "near"])
    ]
    assert len(both) == len(stems[0] & stems[1]) == 21
    within = pairs[(pairs["domain_a"] == pairs["domain_b"]) & pairs["kind"].isin(["exact", "near"])]
    assert within.groupby(["kind", "domain_a"]).size().to_dict() == {
        ("exact", "APTOS"): 3,
        ("exact", "IDRID"): 1,
        ("near", "APTOS"): 1,
        ("near", "IDRID"): 1,
    }
    assert len(both) + len(within) == pairs["kind"].isin(["exact", "near"]).sum()
