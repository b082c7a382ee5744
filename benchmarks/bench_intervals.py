"""Statistics of the bootstrap: coverage of its intervals, false positives of the test, and time.

Input: none (simulated eyes). Output: coverage of the 95 % interval by patient and by image, share
of false positives of the paired test under the null, and CPU seconds of the bootstrap of a whole
benchmark.

Each patient has two eyes. Severity and the errors of a method share most of their randomness
between the two, as in real eyes. The truth is the metric on 800,000 such eyes. For the null, two
methods see the same eyes with errors of one distribution, and half of the variance of each error is
common to both. Every metric therefore has the same expectation for both methods, and any p <= 0.05
is a false positive.

    python benchmarks/bench_intervals.py [--sets 2000] [--resamples 1000] [--methods 20]
"""

import time

import numpy as np
from _harness import Results, parser
from rich.console import Console
from rich.progress import track

from clipdr.evaluation.metrics import METRICS
from clipdr.evaluation.operating_point import clinical, fit
from clipdr.evaluation.statistics import interval, paired, resample

EDGES = np.array([-0.4, 0.1, 0.8, 1.3])  # severity at which the next grade begins
CENTRES = np.array([-0.9, -0.15, 0.45, 1.05, 1.8])  # severity of each grade
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
    """Error of a method in severity, (2 * patients,); variance 0.58, mostly shared by both eyes."""
    return 0.7 * np.repeat(rng.normal(size=patients), 2) + 0.3 * rng.normal(size=2 * patients)


def eyes(patients, rng, methods=1):
    """Simulate two eyes per patient: grade (N,) int, probability (methods, N, 5), patient (N,) str.

    The methods are exchangeable.
    """
    severity = np.repeat(rng.normal(size=patients), 2) * 0.9 + rng.normal(size=2 * patients) * 0.44
    common = np.sqrt(IN_COMMON) * error(patients, rng) if methods > 1 else 0
    own = np.sqrt(1 - IN_COMMON) if methods > 1 else 1
    estimate = np.stack([severity + common + own * error(patients, rng) for _ in range(methods)])
    probability = np.exp(-2 * (estimate[:, :, None] - CENTRES) ** 2) + 1e-12
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
    """Share of 95 % intervals that contain the truth, and their mean width.

    Both are keyed by (metric, "patient" | "image").
    """
    grade, (probability,), _ = eyes(400_000, np.random.default_rng(1))
    truth = {name: METRICS[name](grade, probability)[0] for name in COVERED}
    hits, widths = {}, {}
    for number in _sets(sets, "coverage"):
        grade, (probability,), patient = eyes(patients, np.random.default_rng((2, number)))
        for cluster, clusters in _clusters(patient):
            weight = resample(clusters, resamples, f"set {number}")
            for name in COVERED:
                low, high, _ = interval(METRICS[name](grade, probability, weight))
                hits.setdefault((name, cluster), []).append(low <= truth[name] <= high)
                widths.setdefault((name, cluster), []).append(high - low)
    return {key: float(np.mean(hit)) for key, hit in hits.items()}, {
        key: float(np.mean(width)) for key, width in widths.items()
    }


def false_positives(sets, resamples, patients=150):
    """Share of paired tests with p <= 0.05 of two methods that do not differ.

    Keyed by (metric, "patient" | "image").
    """
    rejected = {}
    for number in _sets(sets, "null"):
        grade, probability, patient = eyes(patients, np.random.default_rng((3, number)), methods=2)
        for cluster, clusters in _clusters(patient):
            weight = resample(clusters, resamples, f"set {number}")
            for name in COMPARED:
                p = paired(*(METRICS[name](grade, one, weight) for one in probability)).p
                rejected.setdefault((name, cluster), []).append(p <= 0.05)
    return {key: float(np.mean(reject)) for key, reject in rejected.items()}


def seconds(methods, resamples):
    """CPU seconds of the bootstrap of six domains: resamples, measures, and paired tests."""
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
    options = parser(__doc__)
    options.add_argument(
        "--sets", type=int, default=2000, help="simulated datasets; 0: the seconds only"
    )
    options.add_argument("--resamples", type=int, default=1000, help="resamples of each")
    options.add_argument(
        "--methods", type=int, default=20, help="methods of the timed benchmark, 2,000 resamples"
    )
    arguments = options.parse_args()
    results = Results(__file__, arguments)
    print(
        f"150 patients with two eyes, {arguments.sets} datasets x {arguments.resamples} resamples"
    )
    share, width = coverage(arguments.sets, arguments.resamples)
    for (name, cluster), value in share.items():
        line = f"95 % interval of {name:9} by {cluster:8} covers {100 * value:5.1f} %"
        mean = width[name, cluster]
        line += f", mean width {mean:.3f}"
        results.add(f"95 % interval of {name} by {cluster}", line, coverage=value, width=mean)
    for (name, cluster), value in false_positives(arguments.sets, arguments.resamples).items():
        line = f"paired test of {name:11} by {cluster:8} p <= 0.05 under the null in "
        line += f"{100 * value:5.1f} %"
        results.add(f"paired test of {name} by {cluster}", line, false_positives=value)
    spent = seconds(arguments.methods, 2000)
    parts = ", ".join(f"{part} {value:.1f}" for part, value in spent.items())
    work = f"2,000 resamples of six domains x {arguments.methods} methods"
    total = sum(spent.values())
    results.add(work, f"{work}: {total:.1f} CPU-s ({parts})", cpu_seconds=total, parts=spent)
    results.write()


if __name__ == "__main__":
    main()
