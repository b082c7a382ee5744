"""Facts of a study, as sentences with numbers: what the checklists and the summary of the page say.

Input: runs (account.Run), manifests, averages, operating points and reports of the gate. Output: {name: checklist.Fact}; what no artefact
knows is absent.
"""

from pathlib import Path

import numpy as np

from clipdr import GRADES
from clipdr.data.domains import DOMAINS, is_synthetic
from clipdr.evaluation.schema import AVERAGE
from clipdr.report import labels
from clipdr.report.checklist import Fact

TOWERS = {
    "demo": "not CLIP: an ImageNet network and a small random text tower",
    "tiny": "random weights, for tests of the wiring",
}
PROTOCOLS = {
    "dg": "train and validate on all domains but one, test on the whole of that one (GDRBench's DG protocol)"
}


def names(domains):
    """Domains in one line, each with its title where it is known."""
    if all(map(is_synthetic, domains)):
        return f"{', '.join(domains)}, drawn by a program in the style of the data sets they are named after"
    known = [(name, DOMAINS.get(name)) for name in domains]
    return "; ".join(
        f"{name} ({facts.title}, {facts.country})" if facts else f"{name} (a data set of one's own)"
        for name, facts in known
    )


def grades(manifest):
    """Photographs per grade, e.g. "0: 84, 1: 16, 2: 32, 3: 12, 4: 13"."""
    counts = manifest["grade"].value_counts()
    return ", ".join(f"{grade}: {counts.get(grade, 0):,}" for grade in range(len(GRADES)))


def patients(manifests):
    """Known patients over all domains, and the domains without any, in words."""
    known = {
        name: frame.loc[frame["patient"] != "", "patient"].nunique()
        for name, frame in manifests.items()
    }
    without = [name for name, count in known.items() if not count]
    return f"{sum(known.values()):,} known patients" + (
        f" (unknown: {', '.join(without)})" if without else ""
    )


def data(manifests, rejected):
    """Facts of the photographs. manifests: {domain: manifest}; rejected: {domain: number of rejected photographs}."""
    total, refused = sum(map(len, manifests.values())), sum(rejected.values())
    flags = {name: int((frame["flag"] != "").sum()) for name, frame in manifests.items()}
    shares = "; ".join(f"{name} {grades(frame)}" for name, frame in manifests.items())
    referable = {name: 100 * (frame["grade"] >= 2).mean() for name, frame in manifests.items()}
    facts = {
        "sources": f"{len(manifests)} domains: {names(manifests)}.",
        "counts": f"{total:,} photographs of {patients(manifests)}.",
        "excluded": f"{refused:,} photographs were rejected, each listed with its reason; none was dropped silently.",
        "quality": f"Sharpness and exposure were measured; {sum(flags.values()):,} photographs carry a flag and stay in.",
        "missing": "A photograph without a patient identifier is its own cluster; its intervals are marked as too narrow.",
        "balance": f"Photographs per grade: {shares}.",
        "subsets": "All photographs of the split files that can be decoded; no other subset was chosen.",
        "bare pixels": "The packed photographs are bare pixels; metadata of the files is not kept.",
        "heterogeneous data": "Referable DR (%) by domain: "
        + ", ".join(f"{name} {share:.1f}" for name, share in referable.items())
        + ".",
        "predictor": "The only predictor is the colour photograph of the fundus; no clinical variable is read.",
    }
    for fact, column in {"licences": "licence", "cameras": "camera"}.items():
        known = {
            name: getattr(DOMAINS[name], column)
            for name in manifests
            if name in DOMAINS and not is_synthetic(name)
        }
        if known:
            facts[fact] = "; ".join(f"{name}: {said}" for name, said in known.items()) + "."
    if all(name in DOMAINS for name in manifests):
        facts["retrospective"] = (
            "Retrospective: photographs and grades were published before this study."
        )
    if all(map(is_synthetic, manifests)):
        facts |= {
            "retrospective": "Neither: all photographs are drawn by a program.",
            "bare pixels": "Drawn photographs: nobody is shown.",
        }
    return {name: Fact(text, "data") for name, text in facts.items()}


def design(runs, reports):
    """Facts of the protocol, the models and their training. reports: {held-out domain: report of the gate, {} if there is none}."""
    methods, held = (
        list(dict.fromkeys(run.method for run in runs)),
        list(dict.fromkeys(run.held_out for run in runs)),
    )
    seeds, first = sorted({run.seed for run in runs}), runs[0].settings
    protocol = PROTOCOLS.get(runs[0].protocol, f"protocol {runs[0].protocol}")
    towers = {tower(run.settings["backbone"]) for run in runs}
    weights = sorted(
        {Path(run.settings["backbone"]["weights"]).name for run in runs}
    )  # a file's folder is this machine's
    commits = sorted({run.provenance["commit"] or "unknown" for run in runs})
    versions = ", ".join(
        f"{name} {version}" for name, version in runs[0].provenance["versions"].items()
    )
    facts = {
        "technology": (
            "summary",
            f"Grading of fundus photographs by neural networks: {', '.join(methods)}.",
        ),
        "goal": (
            "summary",
            f"Evaluation of {len(methods)} methods on {len(held)} domains that were held out of training and selection.",
        ),
        "outcome": (
            "data",
            f"Grade of one photograph on the ICDR scale, 0 to 4 ({', '.join(GRADES)}); referable DR is grade >= 2.",
        ),
        "output": (
            "summary",
            "Probabilities p0 to p4; the grade is the most probable one, the expected grade their mean; one network, no averaging.",
        ),
        "partition": (
            "leaks",
            f"{protocol[0].upper()}{protocol[1:]}; parts come from fixed split files.",
        ),
        "external": ("benchmark", f"Every test is on a domain held out whole: {', '.join(held)}."),
        "preprocessing": (
            "data",
            f"Disc found and cropped, square of {first['image']['size']} pixels, input of {first['image']['input']} pixels.",
        ),
        "model": ("training", f"Backbone {'; '.join(sorted(towers))}."),
        "weights": (
            "training",
            f"Initial weights: {', '.join(weights)}; trained weights: model.safetensors of every run, with sha256.",
        ),
        "training": (
            "training",
            f"{len(runs)} runs, seeds {', '.join(map(str, seeds))}; settings of every method are listed.",
        ),
        "selection": (
            "selection",
            "Checkpoint with the highest AUC on pooled source validation; the held-out domain is never looked at.",
        ),
        "ensemble": ("training", "No ensemble: one network per run."),
        "software": ("environment", f"{versions}; Python {runs[0].provenance['python']}."),
        "code": (
            "environment",
            f"Commit {', '.join(commits)}; every number is computed from predictions.parquet by this package.",
        ),
    }
    known = {name: report for name, report in reports.items() if report}
    if len(known) == len(held):
        sizes = {
            name: ", ".join(f"{part} {n:,}" for part, n in report["images"].items())
            for name, report in known.items()
        }
        facts["sizes"] = (
            "leaks",
            "Photographs per fold: "
            + "; ".join(f"{name}: {size}" for name, size in sizes.items())
            + ".",
        )
        leaky = [
            f"{name}: {report['verdict']}" for name, report in known.items() if report["verdict"]
        ]
        verdict = (
            f"shared all the same: {'; '.join(leaky)}"
            if leaky
            else "nothing is shared between training or validation and test"
        )
        facts["disjoint"] = (
            "leaks",
            f"Disjoint by domain; photographs and patients were compared: {verdict}.",
        )
    return {name: Fact(text, section) for name, (section, text) in facts.items()}


def tower(backbone):
    """A backbone in words."""
    note = f"; {TOWERS[backbone['name']]}" if backbone["name"] in TOWERS else ""
    weights = Path(backbone["weights"]).name
    return f"{backbone['name']} (image tower {backbone['image']}, text tower {backbone['text']}, weights {weights}{note})"


def performance(averages, method, points, resamples):
    """Facts of the scores of one method.

    averages : rows of `evaluate.average` of this method, with draws;  points : {run: operating point of the selected checkpoint}
    """
    known = averages.set_index(["held_out", "metric"])

    def said(metric, held_out=AVERAGE, factor=100, decimals=1):
        row = known.loc[(held_out, metric)] if (held_out, metric) in known.index else None
        if row is None or np.isnan(row["mean"]):
            return "n/a"
        interval = (
            " (no interval)"
            if np.isnan(row["low"])
            else f" ({factor * row['low']:.{decimals}f} to {factor * row['high']:.{decimals}f})"
        )
        return f"{factor * row['mean']:.{decimals}f}{interval}"

    held = [name for name in dict.fromkeys(averages["held_out"]) if name != AVERAGE]
    over = labels.PROTOCOLS[averages["protocol"].iloc[0]][1]
    by_domain = "; ".join(f"{name} {said('auc', name)}" for name in held)
    thresholds = [
        point["threshold"] for point in points.values() if point and point["threshold"] is not None
    ]
    facts = {
        "measures": (
            "benchmark",
            "Macro one-versus-one AUC, QWK, macro-F1, accuracy, MAE, recall per grade; for referable DR AUC, sensitivity and specificity; "
            "Brier, ECE and RPS.",
        ),
        "performance": (
            "benchmark",
            f"{method}, mean of {len(held)} {over} (95 % interval): AUC {said('auc')} %, QWK {said('qwk')} %.",
        ),
        "heterogeneity": ("benchmark", f"{method}, AUC (%) by domain: {by_domain}."),
        "statistics": (
            "comparisons",
            f"95 % intervals from {resamples:,} bootstrap resamples of patients; paired differences on the same resamples, p corrected "
            "by Holm's method.",
        ),
        "referable": (
            "referable",
            f"{method}, mean of {len(held)} {over} (95 % interval), grade >= 2: AUC {said('referable_auc')} %, sensitivity "
            f"{said('sensitivity')} %, specificity {said('specificity')} % at the threshold frozen on source validation.",
        ),
        "calibration": (
            "calibration",
            f"{method}, ECE of P(grade >= 2), mean of domains: {said('ece_2')} %, after the temperature {said('ece_2_t')} %.",
        ),
        "recalibration": (
            "calibration",
            f"One temperature fitted on source validation; RPS {said('rps', factor=1, decimals=4)} before, "
            f"{said('rps_t', factor=1, decimals=4)} after.",
        ),
        "limits": (
            "deviations",
            "No demographic subgroups; one reference standard per source; intervals are about other patients, not other trainings.",
        ),
    }
    if thresholds:
        spread = f"{min(thresholds):.3f} to {max(thresholds):.3f}"
        facts["threshold"] = (
            "referable",
            f"Grade: the most probable. Referable DR: P(grade >= 2) of at least {spread}, by fold, frozen on source validation.",
        )
    return {name: Fact(text, section) for name, (section, text) in facts.items()}
