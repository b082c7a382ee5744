"""Facts of the images of a study as sentences with numbers.

Input: manifests. Output: {name: checklist.Fact}. A fact that no artefact holds is absent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pandas as pd

from clipdr import GRADES, REFERABLE
from clipdr.data.domains import DOMAINS, is_synthetic
from clipdr.report.checklist import Fact


def names(domains: Iterable[str]) -> str:
    """Domains in one line, each with its title where it is known."""
    domains = list(domains)
    if all(map(is_synthetic, domains)):
        return f"{', '.join(domains)}, generated in the style of the data sets they are named after"
    by_domain = [(name, DOMAINS.get(name)) for name in domains]
    return "; ".join(
        f"{name} ({facts.title}, {facts.country})" if facts else f"{name} (a custom dataset)"
        for name, facts in by_domain
    )


def grades(manifest: pd.DataFrame) -> str:
    """Images per grade, for example "0: 84, 1: 16, 2: 32, 3: 12, 4: 13"."""
    counts = manifest["grade"].value_counts()
    return ", ".join(f"{grade}: {counts.get(grade, 0):,}" for grade in range(len(GRADES)))


def patients(manifests: Mapping[str, pd.DataFrame]) -> str:
    """Known patients over all domains, and the domains without any, in words."""
    by_domain = {
        name: frame.loc[frame["patient"] != "", "patient"].nunique()
        for name, frame in manifests.items()
    }
    without = [name for name, count in by_domain.items() if not count]
    unknown = f" (unknown: {', '.join(without)})" if without else ""
    return f"{sum(by_domain.values()):,} known patients{unknown}"


def data(manifests: Mapping[str, pd.DataFrame], rejected: Mapping[str, int]) -> dict[str, Fact]:
    """Facts of the images.

    Args:
        manifests: {domain: manifest}.
        rejected: {domain: number of rejected images}.
    """
    total, refused = sum(map(len, manifests.values())), sum(rejected.values())
    flagged = sum(int((frame["flag"] != "").sum()) for frame in manifests.values())
    by_grade = "; ".join(f"{name} {grades(frame)}" for name, frame in manifests.items())
    shares = ", ".join(
        f"{name} {100 * (frame['grade'] >= REFERABLE).mean():.1f}"
        for name, frame in manifests.items()
    )
    facts = {
        "sources": f"{len(manifests)} domains: {names(manifests)}.",
        "counts": f"{total:,} images of {patients(manifests)}.",
        "excluded": f"{refused:,} images were rejected, each listed with its reason; "
        "none was dropped silently.",
        "quality": f"Sharpness and exposure were measured; {flagged:,} images carry a flag and "
        "stay in.",
        "missing": "An image without a patient identifier is its own cluster; its intervals are "
        "marked as too narrow.",
        "balance": f"Images per grade: {by_grade}.",
        "subsets": "All images of the split files that can be decoded; no other subset was chosen.",
        "bare pixels": "The packed images are bare pixels; metadata of the files is not kept.",
        "heterogeneous data": f"Referable DR (%) by domain: {shares}.",
        "predictor": "The only predictor is the colour fundus image; no clinical variable is read.",
    } | _sources(manifests)
    return {name: Fact(text, "data") for name, text in facts.items()}


def _sources(manifests: Mapping[str, pd.DataFrame]) -> dict[str, str]:
    """Facts of the original data sets, and of synthetic ones."""
    facts = {}
    for fact, column in {"licences": "licence", "cameras": "camera"}.items():
        by_domain = {
            name: getattr(DOMAINS[name], column)
            for name in manifests
            if name in DOMAINS and not is_synthetic(name)
        }
        if by_domain:
            facts[fact] = "; ".join(f"{name}: {text}" for name, text in by_domain.items()) + "."
    if all(name in DOMAINS for name in manifests):
        facts["retrospective"] = (
            "Retrospective: images and grades were published before this study."
        )
    if all(map(is_synthetic, manifests)):
        facts["retrospective"] = "Neither: all images are synthetic."
        facts["bare pixels"] = "Synthetic images: no person is shown."
    return facts
