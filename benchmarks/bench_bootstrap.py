"""Speed of the weighted bootstrap against scikit-learn on copied rows: same resamples, same values.

Input: none (a simulated test set). Output: a line per metric.

    python benchmarks/bench_bootstrap.py [--images 2000] [--resamples 1000]
"""

import time

import numpy as np
from _harness import Results, parser
from rich.console import Console
from rich.progress import track

from clipdr.evaluation.metrics import METRICS, reference
from clipdr.evaluation.statistics import resample

NAMES = ("auc", "accuracy", "macro_f1", "qwk")


def simulate(images):
    """Simulate two eyes per patient: grade (N,), probability (N, 5), patient (N,)."""
    rng = np.random.default_rng(0)
    grade = rng.choice(5, images, p=[0.45, 0.1, 0.25, 0.1, 0.1])
    return (
        grade,
        rng.dirichlet(np.ones(5), images) * 0.6 + 0.4 * np.eye(5)[grade],
        np.array([f"p{i // 2}" for i in range(images)]),
    )


def main():
    options = parser(__doc__)
    options.add_argument("--images", type=int, default=2000)
    options.add_argument("--resamples", type=int, default=1000)
    arguments = options.parse_args()
    grade, probability, patient = simulate(arguments.images)
    for name in NAMES:  # imports and first calls are not timed
        METRICS[name](grade, probability), reference(name, grade, probability)

    start = time.perf_counter()
    weight = resample(patient, arguments.resamples, "benchmark")
    seconds, results = time.perf_counter() - start, Results(__file__, arguments)
    work = f"{arguments.resamples} resamples of {arguments.images} images by patient"
    results.add(work, f"{work}: {seconds:.3f} s", seconds=seconds)
    total = {"ours": 0.0, "scikit-learn": 0.0}
    for name in NAMES:
        start = time.perf_counter()
        ours = METRICS[name](grade, probability, weight)
        total["ours"] += (ours_seconds := time.perf_counter() - start)
        start = time.perf_counter()
        theirs, console = [], Console(stderr=True)
        for row in track(
            weight,
            f"scikit-learn, {name}",
            console=console,
            transient=True,
            disable=not console.is_terminal,
        ):
            copies = np.repeat(np.arange(len(grade)), row)
            theirs.append(reference(name, grade[copies], probability[copies]))
        total["scikit-learn"] += (their_seconds := time.perf_counter() - start)
        worst = np.abs(ours - theirs).max()
        ratio = their_seconds / ours_seconds
        results.add(
            name,
            f"{name:9} {ours_seconds:7.3f} s  scikit-learn {their_seconds:7.2f} s  {ratio:6.0f} x"
            f"  largest difference {worst:.1e}",
            ours_seconds=ours_seconds,
            reference_seconds=their_seconds,
            ratio=ratio,
            largest_difference=worst,
        )
    ours_seconds, their_seconds = total["ours"], total["scikit-learn"]
    ratio = their_seconds / ours_seconds
    results.add(
        "all",
        f"{'all':9} {ours_seconds:7.3f} s  scikit-learn {their_seconds:7.2f} s  {ratio:6.0f} x",
        ours_seconds=ours_seconds,
        reference_seconds=their_seconds,
        ratio=ratio,
    )
    results.write()


if __name__ == "__main__":
    main()
