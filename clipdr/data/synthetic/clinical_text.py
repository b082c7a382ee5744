"""Clinical text: English description of one eye from its findings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from clipdr.data.synthetic.findings import QUADRANTS, Findings, icdr

GRADE_WORDS = (
    "no diabetic retinopathy",
    "mild non-proliferative diabetic retinopathy",
    "moderate non-proliferative diabetic retinopathy",
    "severe non-proliferative diabetic retinopathy",
    "proliferative diabetic retinopathy",
)
STATED = 0.8  # share of texts that name the grade; the others describe the findings only


def _list(words: Sequence[str]) -> str:
    """Join words with commas and "and"."""
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def _quadrants(names: Sequence[str]) -> str:
    """Phrase for some quadrants."""
    return (
        "all four quadrants"
        if len(names) == 4
        else f"the {_list(list(names))} quadrant" + "s" * (len(names) > 1)
    )


def _amount(count: int) -> str:
    """Phrase for a count of lesions."""
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
    """Describe one eye in English: disc, vessels, macula, lesions and, mostly, the grade by name.

    Args:
        findings: Lesions of the eye.
        cup: Cup-to-disc ratio, 0..1.
        tessellation: 0..1; above 0.6 the fundus is called tessellated.
        rng: Random generator, for the choice of the wording.
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


def _anatomy(
    f: Findings, cup: float, tessellation: float, rng: np.random.Generator
) -> Iterator[str]:
    """Sentences about disc, fundus, vessels and macula."""
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


def _lesions(f: Findings, rng: np.random.Generator) -> Iterator[str]:
    """Sentences about non-proliferative lesions."""
    if f.microaneurysms:
        noun = rng.choice(["microaneurysms", "retinal microaneurysms"])
        yield f"{_amount(f.microaneurysms).capitalize()} {noun}"
    where = [name for name, count in zip(QUADRANTS, f.haemorrhages, strict=True) if count]
    if where:
        total = sum(f.haemorrhages)
        kind = "haemorrhage" if total == 1 else "haemorrhages"
        adjective = rng.choice(["intraretinal", "dot and blot"])
        yield f"{_amount(total).capitalize()} {adjective} {kind} in {_quadrants(where)}"
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
        sites = ["at the macula"] * ("macular" in f.exudates) + (
            [f"in {_quadrants(near)}"] if near else []
        )
        yield f"Hard exudates {' and '.join(sites)}"
    if f.cotton_wool:
        yield f"{_amount(f.cotton_wool).capitalize()} cotton-wool spot" + "s" * (f.cotton_wool > 1)
    if f.irma:
        noun = rng.choice(["IRMA", "Intraretinal microvascular abnormalities"])
        yield f"{noun} in {_quadrants(f.irma)}"


def _proliferation(f: Findings, rng: np.random.Generator) -> Iterator[str]:
    """Sentences about proliferative lesions and laser scars."""
    if f.disc_vessels:
        yield rng.choice(["Neovascularisation of the disc", "New vessels on the optic disc"])
    if f.vessels:
        noun = rng.choice(["Neovascularisation elsewhere", "New vessels"])
        yield f"{noun} in {_quadrants(f.vessels)}"
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
