"""What an eye of a given grade shows, and how a clinician words it. Input: grade and random generator; output: Findings, English text.

Lesions follow the International Clinical Diabetic Retinopathy scale (Wilkinson et al., 2003). Deviation: lesions are drawn larger than life
(see painter.py), so there are fewer of them: MANY stands for the scale's "more than 20" haemorrhages per quadrant.
"""

from dataclasses import dataclass, replace

import numpy as np

QUADRANTS = ("superotemporal", "superonasal", "inferotemporal", "inferonasal")
SITES = ("macular", *QUADRANTS)  # where hard exudates lie
MANY = 5  # haemorrhages per quadrant that count as "many" in the 4-2-1 rule; in life more than 20
BLOTS = 4  # blot haemorrhages per hemifield of the Scottish scale


@dataclass(frozen=True)
class Findings:
    """Lesions of one eye.

    microaneurysms   : count
    haemorrhages     : intraretinal haemorrhages per quadrant, in the order of QUADRANTS
    exudates         : sites of hard-exudate clusters, out of SITES
    cotton_wool      : count of cotton-wool spots
    beading, irma    : quadrants with venous beading, with intraretinal microvascular abnormalities
    disc_vessels     : neovascularisation of the disc
    vessels          : quadrants with neovascularisation elsewhere
    preretinal       : quadrants with a preretinal haemorrhage
    vitreous, laser  : vitreous haemorrhage; panretinal laser scars
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
    """Range (low, high), both included, of each count in one grade below 4; neighbouring grades overlap. Chances are in [0, 1]."""

    microaneurysms: tuple[int, int] = (0, 0)
    haemorrhages: tuple[int, int] = (0, 0)  # per quadrant
    exudates: tuple[int, int] = (0, 0)  # clusters
    cotton_wool: tuple[int, int] = (0, 0)
    many: float = 0.0  # chance of "many" haemorrhages in all four quadrants
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
BENEATH_PROLIFERATIVE = {
    1: 0.15,
    2: 0.45,
    3: 0.40,
}  # non-proliferative grade whose lesions accompany grade 4, and its share


def draw(grade: int, rng: np.random.Generator) -> Findings:
    """Findings of an eye of this grade (0..4); icdr(draw(grade, rng)) == grade always."""
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


def _pick(names, count, rng):
    """`count` different names, in the order of `names`."""
    chosen = rng.choice(len(names), size=count, replace=False)
    return tuple(names[i] for i in sorted(chosen))


def _background(grade, rng):
    recipe = RECIPES[grade]
    severity = rng.random()  # shared by all counts of the eye

    def count(span, size=None):
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
        haemorrhages=tuple(int(n) for n in haemorrhages),
        exudates=_pick(SITES, exudates, rng),
        cotton_wool=cotton_wool,
        beading=_pick(QUADRANTS, int(rng.integers(2, 5)) if beaded else 0, rng),
        irma=_pick(QUADRANTS, int(rng.integers(1, 4)) if irma else 0, rng),
    )


def icdr(findings: Findings) -> int:
    """Grade 0..4 of these findings by the International Clinical Diabetic Retinopathy scale, with MANY for "more than 20"."""
    f = findings
    if f.disc_vessels or f.vessels or f.preretinal or f.vitreous:
        return 4
    if min(f.haemorrhages) >= MANY or len(f.beading) >= 2 or f.irma:
        return 3
    if any(f.haemorrhages) or f.exudates or f.cotton_wool or f.beading:
        return 2
    return int(f.microaneurysms > 0)


def scottish(findings: Findings) -> int:
    """Grade 0..4 (R0..R4) by the Scottish Diabetic Retinopathy Grading Scheme (2007): another scale, unlike ICDR in some eyes."""
    f = findings
    hemifields = sum(f.haemorrhages[:2]) >= BLOTS, sum(f.haemorrhages[2:]) >= BLOTS
    if f.disc_vessels or f.vessels or f.preretinal or f.vitreous:
        return 4
    if all(hemifields) or f.beading or f.irma:
        return 3
    if any(hemifields):
        return 2
    return int(f.microaneurysms > 0 or any(f.haemorrhages) or bool(f.exudates))


# Words ---------------------------------------------------------------------------------------------------------------------------------

GRADE_WORDS = (
    "no diabetic retinopathy",
    "mild non-proliferative diabetic retinopathy",
    "moderate non-proliferative diabetic retinopathy",
    "severe non-proliferative diabetic retinopathy",
    "proliferative diabetic retinopathy",
)
STATED = 0.8  # share of eye texts that name the grade; the others only describe


def _list(words):
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def _quadrants(names):
    return (
        "all four quadrants"
        if len(names) == 4
        else f"the {_list(list(names))} quadrant" + "s" * (len(names) > 1)
    )


def _amount(count):
    return (
        "a single"
        if count == 1
        else "a few"
        if count <= 4
        else "several"
        if count <= 9
        else "numerous"
    )


def describe(findings: Findings, cup: float, tessellation: float, rng: np.random.Generator) -> str:
    """Clinical description of one eye in English: disc, vessels, macula, lesions, and mostly the grade by name.

    cup          : cup-to-disc ratio, 0..1
    tessellation : 0..1; above 0.6 the fundus is called tessellated
    """
    sentences = [
        *_anatomy(findings, cup, tessellation, rng),
        *_lesions(findings, rng),
        *_proliferation(findings, rng),
    ]
    if rng.random() < STATED:
        words = GRADE_WORDS[icdr(findings)]
        sentences.append(
            rng.choice([f"Impression: {words}", f"Consistent with {words}", words.capitalize()])
        )
    return ". ".join(sentences) + "."


def _anatomy(f, cup, tessellation, rng):
    yield rng.choice(
        [
            f"Optic disc with clear margin, cup-to-disc ratio {cup:.1f}",
            f"Disc margin sharp, C/D {cup:.1f}",
        ]
    )
    if tessellation > 0.6:
        yield rng.choice(["Tessellated fundus", "Choroidal vessels visible, tessellated fundus"])
    if f.beading:
        yield f"Venous beading in {_quadrants(f.beading)}"
    elif not f.irma and not f.disc_vessels and not f.vessels:
        yield rng.choice(["Retinal vessels of normal calibre", "Vessels unremarkable"])
    if "macular" not in f.exudates:
        yield rng.choice(
            ["Macula without exudates", "No hard exudates at the macula", "Macula flat"]
        )


def _lesions(f, rng):
    if f.microaneurysms:
        yield f"{_amount(f.microaneurysms).capitalize()} {rng.choice(['microaneurysms', 'retinal microaneurysms'])}"
    where = [name for name, count in zip(QUADRANTS, f.haemorrhages, strict=True) if count]
    if where:
        total = sum(f.haemorrhages)
        kind = "haemorrhage" if total == 1 else "haemorrhages"
        yield f"{_amount(total).capitalize()} {rng.choice(['intraretinal', 'dot and blot'])} {kind} in {_quadrants(where)}"
    elif (
        f.microaneurysms
        and not f.exudates
        and not f.cotton_wool
        and not f.preretinal
        and not f.vitreous
    ):
        yield rng.choice(
            ["No haemorrhages, no exudates", "No other lesions"][
                : 1 if f.vessels or f.disc_vessels else 2
            ]
        )
    if f.exudates:
        near = [site for site in f.exudates if site != "macular"]
        places = ["at the macula"] * ("macular" in f.exudates) + (
            [f"in {_quadrants(near)}"] if near else []
        )
        yield f"Hard exudates {' and '.join(places)}"
    if f.cotton_wool:
        yield f"{_amount(f.cotton_wool).capitalize()} cotton-wool spot" + "s" * (f.cotton_wool > 1)
    if f.irma:
        yield f"{rng.choice(['IRMA', 'Intraretinal microvascular abnormalities'])} in {_quadrants(f.irma)}"


def _proliferation(f, rng):
    if f.disc_vessels:
        yield rng.choice(["Neovascularisation of the disc", "New vessels on the optic disc"])
    if f.vessels:
        yield f"{rng.choice(['Neovascularisation elsewhere', 'New vessels'])} in {_quadrants(f.vessels)}"
    if f.preretinal:
        yield f"Preretinal haemorrhage in {_quadrants(f.preretinal)}"
    if f.vitreous:
        yield rng.choice(
            ["Vitreous haemorrhage", "Vitreous haemorrhage obscures part of the retina"]
        )
    if f.laser:
        yield rng.choice(
            ["Panretinal laser scars", "Laser photocoagulation scars in the mid-periphery"]
        )
