"""Eye tables of synthetic patients, with the rendered lesions as findings and keywords."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from clipdr.multimodal.data.eye_table import FLAGS, make_table

if TYPE_CHECKING:
    from clipdr.data.synthetic.patients import Eye


def synthetic(domain: str, patients: int, seed: int) -> pd.DataFrame:
    """Generate the eye table of one synthetic domain.

    Args:
        domain: Synthetic domain, for example "SIM_DEEPDR".
        patients: Number of patients.
        seed: Seed of the patients.

    Returns:
        Eye table, two rows per patient. `image` is a path below images/.
    """
    from clipdr.data.synthetic import patients as generator

    rows = []
    for patient in generator.cohort(domain, patients, seed):
        record = generator.record(patient, seed)
        for side, grade in patient.grades.items():
            eye = generator.eye(domain, patient.number, side, grade, seed)
            row = {
                name: record[name]
                for name in ("patient", "sex", "diabetes", "insulin", "hypertension")
            }
            row |= {
                name: float(str(record[name])) if record[name] != "" else None
                for name in ("age", "diabetes_years")
            }
            row |= {
                "image": record[f"image_{side}"],
                "eye": side,
                "icdr": grade,
                "sdrg": record[f"sdrg_{side}"],
                "camera": domain,
            }
            rows.append(row | _findings(eye))
    eyes = pd.DataFrame(rows).astype({"age": float, "diabetes_years": float})
    return make_table(
        eyes.assign(patient=domain + "_" + eyes["patient"]), "SYNTHETIC", "", f"synthetic {domain}"
    )


def _findings(eye: Eye) -> dict[str, Any]:
    """Anatomy, flags and keywords that the image of a synthetic eye shows."""
    lesions, flags = eye.findings, dict.fromkeys(FLAGS, 0.0)
    flags |= {
        "diabetic_retinopathy": float(lesions.microaneurysms > 0 or lesions != type(lesions)()),
        "macular_edema": float("macular" in lesions.exudates),
        "scar": float(lesions.laser),
        "increased_cup_disc": float(eye.cup > 0.5),
    }
    sites = {
        "haemorrhages": sum(map(bool, lesions.haemorrhages)),
        "exudates": len(lesions.exudates),
        "venous beading": len(lesions.beading),
        "new vessels": len(lesions.vessels),
        "preretinal haemorrhage": len(lesions.preretinal),
    }
    keywords = [
        f"{name} at {count} site{'s' * (count > 1)}" for name, count in sites.items() if count
    ]
    keywords += ["new vessels of the disc"] * lesions.disc_vessels
    keywords += ["vitreous haemorrhage"] * lesions.vitreous
    keywords += ["cotton-wool spots"] * (lesions.cotton_wool > 0)
    keywords += ["tessellated fundus"] * (eye.tessellation > 0.6)
    keywords += ["dark fundus"] * (eye.pigment > 2 / 3)
    keywords += ["pale fundus"] * (eye.pigment < 1 / 3)
    anatomy = {
        "optic_disc": float(lesions.disc_vessels or eye.cup > 0.5),
        "vessels": float(bool(lesions.beading or lesions.irma or lesions.vessels)),
        "macula": flags["macular_edema"],
    }
    return flags | anatomy | {"keywords": "|".join(sorted(keywords))}
