"""Findings of one eye, sampled for a given grade, and two grading scales.

Lesions follow the International Clinical Diabetic Retinopathy scale (Wilkinson et al., 2003).
Deviation: lesions are rendered larger than life (renderer.py), so there are fewer of them. MANY
stands for the scale's "more than 20" haemorrhages per quadrant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

QUADRANTS = ("superotemporal", "superonasal", "inferotemporal", "inferonasal")
SITES = ("macular", *QUADRANTS)  # where hard exudates lie
MANY = 5  # haemorrhages per quadrant that count as "many" in the 4-2-1 rule (more than 20 in life)
BLOTS = 4  # blot haemorrhages per hemifield of the Scottish scale


@dataclass(frozen=True)
class Findings:
    """Lesions of one eye.

    Args:
        microaneurysms: Count.
        haemorrhages: Intraretinal haemorrhages per quadrant, in the order of QUADRANTS.
        exudates: Sites of hard-exudate clusters, out of SITES.
        cotton_wool: Count of cotton-wool spots.
        beading: Quadrants with venous beading.
        irma: Quadrants with intraretinal microvascular abnormalities.
        disc_vessels: Whether there is neovascularisation of the disc.
        vessels: Quadrants with neovascularisation elsewhere.
        preretinal: Quadrants with a preretinal haemorrhage.
        vitreous: Whether there is a vitreous haemorrhage.
        laser: Whether there are panretinal laser scars.
    """

    microaneurysms: int = 0
    haemorrhages: tuple[int, int, int, int] = (0, 0, 0, 0)
    exudates: tuple[str, ...] = ()
    cotton_wool: int = 0
    beading: tuple[str, ...] = ()
    irma: tuple[str, ...] = ()
    disc_vessels: bool = False
    vessels: tuple[str, ...] = ()
    preretinal: tuple[str, ...] = ()
    vitreous: bool = False
    laser: bool = False


@dataclass(frozen=True)
class Recipe:
    """Distribution of the findings of one grade below 4; neighbouring grades overlap.

    Counts are ranges (low, high), both included.

    Args:
        microaneurysms: Range of the count.
        haemorrhages: Range of the count per quadrant.
        exudates: Range of the number of clusters.
        cotton_wool: Range of the count.
        many: Probability of "many" haemorrhages in all four quadrants.
        beading: Probability of venous beading.
        irma: Probability of intraretinal microvascular abnormalities.
    """

    microaneurysms: tuple[int, int] = (0, 0)
    haemorrhages: tuple[int, int] = (0, 0)
    exudates: tuple[int, int] = (0, 0)
    cotton_wool: tuple[int, int] = (0, 0)
    many: float = 0.0
    beading: float = 0.0
    irma: float = 0.0


RECIPES = {
    0: Recipe(),
    1: Recipe(microaneurysms=(4, 13)),
    2: Recipe(microaneurysms=(6, 16), haemorrhages=(0, 5), exudates=(0, 4), cotton_wool=(0, 3)),
    3: Recipe(
        microaneurysms=(10, 24),
        haemorrhages=(3, 11),
        exudates=(0, 4),
        cotton_wool=(1, 6),
        many=0.9,
        beading=0.5,
        irma=0.5,
    ),
}
# Non-proliferative grade whose lesions accompany grade 4, and its share.
BENEATH_PROLIFERATIVE = {1: 0.15, 2: 0.45, 3: 0.40}


def sample_findings(grade: int, rng: np.random.Generator) -> Findings:
    """Sample the findings of an eye.

    Args:
        grade: Grade 0..4.
        rng: Random generator.

    Returns:
        Findings whose grade by `icdr` is `grade`.
    """
    if grade < 4:
        return _background(grade, rng)
    beneath = _background(
        int(rng.choice(list(BENEATH_PROLIFERATIVE), p=list(BENEATH_PROLIFERATIVE.values()))), rng
    )
    disc_vessels, elsewhere, preretinal, vitreous = rng.random(4) < (0.55, 0.5, 0.45, 0.2)
    elsewhere |= not (disc_vessels or preretinal or vitreous)
    return replace(
        beneath,
        disc_vessels=bool(disc_vessels),
        vessels=_pick(QUADRANTS, int(rng.integers(1, 4)) if elsewhere else 0, rng),
        preretinal=_pick(
            QUADRANTS[2:] if rng.random() < 0.75 else QUADRANTS,
            int(rng.integers(1, 3)) if preretinal else 0,
            rng,
        ),
        vitreous=bool(vitreous),
        laser=bool(rng.random() < 0.4),
    )


def _pick(names: Sequence[str], count: int, rng: np.random.Generator) -> tuple[str, ...]:
    """Sample `count` different names, in the order of `names`."""
    chosen = rng.choice(len(names), size=count, replace=False)
    return tuple(names[int(i)] for i in sorted(chosen))


def _background(grade: int, rng: np.random.Generator) -> Findings:
    """Sample the non-proliferative findings of a grade below 4."""
    recipe = RECIPES[grade]
    severity = rng.random()  # shared by all counts of the eye

    def count(span: tuple[int, int], size: int | None = None) -> np.ndarray:
        share = np.clip(severity + rng.normal(0, 0.25, size), 0, 1)
        return np.rint(span[0] + share * (span[1] - span[0])).astype(int)

    haemorrhages = count(recipe.haemorrhages, 4)
    many, beaded, irma = rng.random(3) < (recipe.many, recipe.beading, recipe.irma)
    if grade == 3:
        many |= not (beaded or irma)
        haemorrhages = np.maximum(haemorrhages, MANY) if many else haemorrhages
    if not many:  # at least one quadrant stays below the 4-2-1 rule
        spared = rng.integers(4)
        haemorrhages[spared] = min(haemorrhages[spared], MANY - 1)
    exudates, cotton_wool = int(count(recipe.exudates)), int(count(recipe.cotton_wool))
    if grade == 2 and not (haemorrhages.any() or exudates or cotton_wool):
        haemorrhages[rng.integers(4)] = 1  # more than just microaneurysms
    return Findings(
        microaneurysms=int(count(recipe.microaneurysms)),
        haemorrhages=(
            int(haemorrhages[0]),
            int(haemorrhages[1]),
            int(haemorrhages[2]),
            int(haemorrhages[3]),
        ),
        exudates=_pick(SITES, exudates, rng),
        cotton_wool=cotton_wool,
        beading=_pick(QUADRANTS, int(rng.integers(2, 5)) if beaded else 0, rng),
        irma=_pick(QUADRANTS, int(rng.integers(1, 4)) if irma else 0, rng),
    )


def icdr(findings: Findings) -> int:
    """Return the grade 0..4 by the International Clinical Diabetic Retinopathy scale.

    MANY stands for the scale's "more than 20" haemorrhages.
    """
    f = findings
    if f.disc_vessels or f.vessels or f.preretinal or f.vitreous:
        return 4
    if min(f.haemorrhages) >= MANY or len(f.beading) >= 2 or f.irma:
        return 3
    if any(f.haemorrhages) or f.exudates or f.cotton_wool or f.beading:
        return 2
    return int(f.microaneurysms > 0)


def scottish(findings: Findings) -> int:
    """Return the grade 0..4 (R0..R4) by the Scottish Diabetic Retinopathy Grading Scheme (2007).

    It differs from the ICDR scale in some eyes.
    """
    f = findings
    hemifields = sum(f.haemorrhages[:2]) >= BLOTS, sum(f.haemorrhages[2:]) >= BLOTS
    if f.disc_vessels or f.vessels or f.preretinal or f.vitreous:
        return 4
    if all(hemifields) or f.beading or f.irma:
        return 3
    if any(hemifields):
        return 2
    return int(f.microaneurysms > 0 or any(f.haemorrhages) or bool(f.exudates))
