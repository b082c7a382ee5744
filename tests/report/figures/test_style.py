"""Common look of the figures: distinct marks, reproducible files."""

from helpers.figure_cases import MANY, A, similarity_run
from helpers.report_cases import DOMAINS, averages, compared

from clipdr.report.figures import (
    differences,
    scores_by_domain,
    similarity,
    style,
)


def test_first_hundred_methods_have_different_marks():
    """Ten colours and ten markers give a hundred different pairs."""
    assert len({style.colour_and_marker(number) for number in range(100)}) == 100
    means = dict.fromkeys(MANY, (0.7, 0.6))
    axis = scores_by_domain.plot(averages(means), MANY, ["SIM_APTOS", "SIM_IDRID"]).axes[0]
    assert len(
        {(bar.lines[0].get_color(), bar.lines[0].get_marker()) for bar in axis.containers}
    ) == len(MANY)


def test_equal_numbers_give_equal_files(tmp_path):
    for folder in ("a", "b"):
        runs = [similarity_run("clip_dr", d, A) for d in DOMAINS]
        style.write(similarity.plot(runs, ["clip_dr"], DOMAINS), "similarity", tmp_path / folder)
        style.write(
            scores_by_domain.plot(averages(), ["clip_dr"], DOMAINS),
            "scores_by_domain",
            tmp_path / folder,
        )
        style.write(
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
        assert b"CreationDate" not in first
        assert b"<dc:date>" not in first
