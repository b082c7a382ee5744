"""Do the intervals cover, is the paired test honest, and how long does the bootstrap of a whole benchmark take?

Input: none (simulated eyes). Output: coverage of the 95 % interval by patient and by image, share of false positives of the paired test
under the null, CPU seconds of the bootstrap. Run: python benchmarks/intervals.py [--sets 2000] [--resamples 1000] [--methods 20]

Each patient has two eyes. Severity and what a method sees share most of their randomness between the two, as real eyes do. The truth is the
metric on 800,000 such eyes. For the null two methods see the same eyes with errors of one distribution, half of each error's variance in
common, so that every metric has one and the same expectation for both: any p <= 0.05 is a false positive.
"""

import argparse
import time

import numpy as np
from rich.console import Console
from rich.progress import track

from clipdr.evaluation.metrics import METRICS
from clipdr.evaluation.operating_point import clinical, fit
from clipdr.evaluation.statistics import interval, paired, resample

EDGES = np.array([-0.4, 0.1, 0.8, 1.3])  # severity at which the next grade begins
CENTRES = np.array([-0.9, -0.15, 0.45, 1.05, 1.8])  # severity that each grade stands for
IN_COMMON = 0.5  # share of the variance of an error that two methods have in common
DOMAINS = {
    "APTOS": 3662,
    "DEEPDR": 2000,
    "FGADR": 1842,
    "IDRID": 516,
    "MESSIDOR": 1744,
    "RLDR": 1593,
}
COVERED, COMPARED = ("auc", "qwk"), ("auc", "qwk", "accuracy", "macro_f1")


def error(patients, rng):
    """(2 * patients,): what one method sees too much, mostly the same in both eyes of a patient; variance 0.58."""
    return 0.7 * np.repeat(rng.normal(size=patients), 2) + 0.3 * rng.normal(size=2 * patients)


def eyes(patients, rng, methods=1):
    """Two eyes a patient -> grade (N,) int, probability (methods, N, 5), patient (N,) str. The methods are exchangeable."""
    severity = np.repeat(rng.normal(size=patients), 2) * 0.9 + rng.normal(size=2 * patients) * 0.44
    common = np.sqrt(IN_COMMON) * error(patients, rng) if methods > 1 else 0
    own = np.sqrt(1 - IN_COMMON) if methods > 1 else 1
    seen = np.stack([severity + common + own * error(patients, rng) for _ in range(methods)])
    probability = np.exp(-2 * (seen[:, :, None] - CENTRES) ** 2) + 1e-12
    probability /= probability.sum(axis=2, keepdims=True)
    return np.digitize(severity, EDGES), probability, np.repeat(np.arange(patients).astype(str), 2)


def _sets(count, what):
    console = Console(stderr=True)
    return track(
        range(count), what, console=console, transient=True, disable=not console.is_terminal
    )


def _clusters(patient):
    return (("patient", patient), ("image", np.full(len(patient), "")))


def coverage(sets, resamples, patients=150):
    """Share of 95 % intervals that contain the truth, and their mean width -> {(metric, "patient" | "image"): share}, {...: width}"""
    grade, (probability,), _ = eyes(400_000, np.random.default_rng(1))
    truth = {name: METRICS[name](grade, probability)[0] for name in COVERED}
    hits, widths = {}, {}
    for number in _sets(sets, "coverage"):
        grade, (probability,), patient = eyes(patients, np.random.default_rng((2, number)))
        for cluster, who in _clusters(patient):
            weight = resample(who, resamples, f"set {number}")
            for name in COVERED:
                low, high, _ = interval(METRICS[name](grade, probability, weight))
                hits.setdefault((name, cluster), []).append(low <= truth[name] <= high)
                widths.setdefault((name, cluster), []).append(high - low)
    return {key: float(np.mean(hit)) for key, hit in hits.items()}, {
        key: float(np.mean(width)) for key, width in widths.items()
    }


def false_positives(sets, resamples, patients=150):
    """Share of paired tests with p <= 0.05 of two methods that do not differ -> {(metric, "patient" | "image"): share}"""
    rejected = {}
    for number in _sets(sets, "null"):
        grade, probability, patient = eyes(patients, np.random.default_rng((3, number)), methods=2)
        for cluster, who in _clusters(patient):
            weight = resample(who, resamples, f"set {number}")
            for name in COMPARED:
                p = paired(*(METRICS[name](grade, one, weight) for one in probability)).p
                rejected.setdefault((name, cluster), []).append(p <= 0.05)
    return {key: float(np.mean(reject)) for key, reject in rejected.items()}


def seconds(methods, resamples):
    """CPU seconds: draw the resamples of six domains, evaluate every measure of all methods on them, pair the methods with the first."""
    spent, since = {}, time.process_time()

    def lap(what):
        nonlocal since
        now = time.process_time()
        spent[what] = spent.get(what, 0) + now - since
        since = now

    for number, (domain, images) in zip(
        _sets(len(DOMAINS), "bootstrap"), DOMAINS.items(), strict=True
    ):
        grade, probability, patient = eyes(images // 2, np.random.default_rng(number), methods)
        lap("simulate")
        weight = resample(patient, resamples, domain)
        lap("draw")
        draws = []
        for one in probability:
            general = [metric(grade, one, weight) for metric in METRICS.values()]
            lap("METRICS")
            draws.append(
                np.stack([*general, *clinical(fit(grade, one), grade, one, weight).values()])
            )
            lap("clinical")
        for other in draws[1:]:
            for a, b in zip(other, draws[0], strict=True):
                paired(a, b)
        lap("pair")
    return {what: value for what, value in spent.items() if what != "simulate"}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--sets", type=int, default=2000, help="simulated data sets; 0: the seconds only"
    )
    parser.add_argument("--resamples", type=int, default=1000, help="resamples of each")
    parser.add_argument(
        "--methods", type=int, default=20, help="methods of the timed benchmark, 2,000 resamples"
    )
    arguments = parser.parse_args()
    print(
        f"150 patients with two eyes, {arguments.sets} data sets x {arguments.resamples} resamples of each"
    )
    share, width = coverage(arguments.sets, arguments.resamples)
    for (name, cluster), value in share.items():
        print(
            f"95 % interval of {name:9} by {cluster:8} covers {100 * value:5.1f} %, mean width {width[name, cluster]:.3f}"
        )
    for (name, cluster), value in false_positives(arguments.sets, arguments.resamples).items():
        print(
            f"paired test of {name:11} by {cluster:8} p <= 0.05 under the null in {100 * value:5.1f} %"
        )
    spent = seconds(arguments.methods, 2000)
    parts = ", ".join(f"{what} {value:.1f}" for what, value in spent.items())
    print(
        f"2,000 resamples of six domains x {arguments.methods} methods: {sum(spent.values()):.1f} CPU-s ({parts})"
    )


if __name__ == "__main__":
    main()
