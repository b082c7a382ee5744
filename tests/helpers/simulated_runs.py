"""Simulated manifests and predictions of runs, for tests of the evaluation."""

import numpy as np
import pandas as pd

from clipdr.evaluation.schema import COLUMNS

SIZES = {"SIM_APTOS": 120, "SIM_IDRID": 80, "SIM_RLDR": 100}


def manifest_of(sizes, by_patient=("SIM_APTOS", "SIM_RLDR")):
    """Two images per patient; patients are unknown in the other domains."""
    rows = []
    for domain, n in sizes.items():
        grade = np.random.default_rng(n).choice(5, n, p=[0.4, 0.15, 0.2, 0.15, 0.1])
        grade[:5] = range(5)
        for i in range(n):
            patient = str(i // 2) if domain in by_patient else ""
            rows.append(
                {
                    "image": f"{domain}/{i:03d}.png",
                    "domain": domain,
                    "grade": int(grade[i]),
                    "patient": patient,
                    "eye": "",
                }
            )
    return pd.DataFrame(rows)


def predict(manifest, tests, method="clip_dr", seed=0, protocol="dg", held_out=None, skill=3.0):
    """A run's predictions: two selections, validation on all other domains, row order shuffled."""
    rng = np.random.default_rng((seed, len(method), int(10 * skill)))
    frames = []
    for selection in ("source_val", "last"):
        for split in ("val", "test"):
            rows = manifest[manifest["domain"].isin(tests) == (split == "test")]
            logits = rng.normal(size=(len(rows), 5)) + skill * np.eye(5)[rows["grade"]]
            p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
            run = {
                "protocol": protocol,
                "method": method,
                "held_out": held_out or tests[0],
                "seed": np.int32(seed),
            }
            frame = rows[["image", "domain", "grade"]].assign(
                **run, selection=selection, split=split, expected_grade=p @ np.arange(5)
            )
            frame = frame.assign(scale=np.float32(np.nan), **{f"p{k}": p[:, k] for k in range(5)})
            frames.append(
                frame.assign(**{f"logit_{k}": logits[:, k].astype(np.float32) for k in range(5)})[
                    COLUMNS
                ]
            )
    return (
        pd.concat(frames)
        .sample(frac=1, random_state=seed)
        .reset_index(drop=True)
        .astype({"grade": "int8"})
    )
