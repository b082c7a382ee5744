"""Weighted bootstrap against scikit-learn on copied rows: the same resamples, the same values, seconds of each and their ratio.

Input: none (a simulated test set). Output: one line per metric. Run: python benchmarks/bootstrap.py [--images 2000] [--resamples 1000]
"""

import argparse
import time

import numpy as np
from rich.console import Console
from rich.progress import track

from clipdr.evaluation.metrics import METRICS, reference
from clipdr.evaluation.statistics import resample

NAMES = ("auc", "accuracy", "macro_f1", "qwk")


def simulate(images):
    """Two eyes a patient -> grade (N,), probability (N, 5), patient (N,)."""
    rng = np.random.default_rng(0)
    grade = rng.choice(5, images, p=[0.45, 0.1, 0.25, 0.1, 0.1])
    return (
        grade,
        rng.dirichlet(np.ones(5), images) * 0.6 + 0.4 * np.eye(5)[grade],
        np.array([f"p{i // 2}" for i in range(images)]),
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--resamples", type=int, default=1000)
    arguments = parser.parse_args()
    grade, probability, patient = simulate(arguments.images)
    for name in NAMES:  # imports and first calls are not timed
        METRICS[name](grade, probability), reference(name, grade, probability)

    start = time.perf_counter()
    weight = resample(patient, arguments.resamples, "benchmark")
    drawing = time.perf_counter() - start
    print(
        f"{arguments.images} images x {arguments.resamples} resamples of patients, drawn in {drawing:.3f} s"
    )
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
        print(
            f"{name:9} {ours_seconds:7.3f} s  scikit-learn {their_seconds:7.2f} s  {ratio:6.0f} x  differ by {worst:.1e}"
        )
    print(
        f"{'all':9} {total['ours']:7.3f} s  scikit-learn {total['scikit-learn']:7.2f} s  {total['scikit-learn'] / total['ours']:6.0f} x"
    )


if __name__ == "__main__":
    main()
