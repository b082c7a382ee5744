"""What the image tower has learnt: findings of both eyes from frozen features, or after fine-tuning, against its own beginnings.

Input: pre-training run folders, a patients table with 0/1 columns. Output: rows of results/pretrain/probes.csv. Epoch and strength are
chosen on validation, the test split is scored once. A feature is the raw v of both eyes, [v_l ; v_r]; one eye alone fills both halves.
"""

import numpy as np
import pandas as pd

from clipdr import DataError
from clipdr.evaluation.statistics import interval, paired, resample, standard_error
from clipdr.pretrain.data import patients_table
from clipdr.pretrain.evaluation.multilabel import METRICS, best_threshold, macro, summary

STRENGTHS = tuple(10.0**power for power in range(-5, 1))
WEIGHTS = ("trained", "start", "random")  # of the same network
RESAMPLES = 2000
NOT_RUN = (
    "IDRiD",
    "APTOS-2019",
    "PAPILA",
    "Glaucoma Fundus",
    "JSIEC",
    "Retina",
    "RFMiD",
)  # of the paper's eight data sets


def findings(table, labels):
    """(N, C) int64 of the columns `labels`. DataError where one is missing or not 0/1."""
    absent = [name for name in labels if name not in table]
    if absent:
        raise DataError(f"probe: the patients table has no column {', '.join(absent)}")
    values = table[list(labels)].to_numpy(object)
    wrong = ~np.isin(values, ["0", "1"])
    if wrong.any():
        row, place = np.argwhere(wrong)[0]
        raise DataError(
            f"probe: patients table, row {row + 2}: {labels[place]} is {values[row, place]!r}, expected 0 or 1"
        )
    return values.astype(np.int64)


def both_eyes(raw, present):
    """(N, 2, E) raw v, (N, 2) bool -> (N, 2E)."""
    left = np.where(present[:, :1], raw[:, 0], raw[:, 1])
    right = np.where(present[:, 1:], raw[:, 1], raw[:, 0])
    return np.concatenate([left, right], 1).astype(np.float64)


def logistic(features, finding, split):
    """Fast probe: features standardised on train, L2 logistic regression per finding, one strength C by macro AUROC on validation.

    features : (N, F);  finding : (N, C) 0/1;  split : (N,)
    returns    (N, C) probabilities of every row, C. A finding without both values in train has its share there for every row.
    """
    from sklearn.linear_model import LogisticRegression

    train, val = split == "train", split == "val"
    mean, sd = features[train].mean(0), features[train].std(0)
    scaled = (features - mean) / np.where(sd > 0, sd, 1)

    def fitted(strength):
        out = np.tile(finding[train].mean(0), (len(finding), 1))
        for place in np.flatnonzero((finding[train].min(0) == 0) & (finding[train].max(0) == 1)):
            model = LogisticRegression(C=strength, max_iter=1000).fit(
                scaled[train], finding[train, place]
            )
            out[:, place] = model.predict_proba(scaled)[:, 1]
        return out

    candidates = {strength: fitted(strength) for strength in STRENGTHS}
    scores = {
        strength: macro(METRICS["macro_auroc"], finding[val], out[val])[0][0]
        for strength, out in candidates.items()
    }
    if np.isnan(list(scores.values())).all():
        raise DataError(
            "probe: no finding has both values on validation; give the table more validation patients"
        )
    best = max(scores, key=lambda strength: (np.nan_to_num(scores[strength], nan=-1), -strength))
    return candidates[best], best


def scored(finding, probability, split, patient, labels, key="test"):
    """Rows of one probe: metric, value, low, high over resampled test patients; and the draws {metric: (R,)}."""
    test, val = split == "test", split == "val"
    weight = resample(patient[test], RESAMPLES, key)
    rows, draws, everything = [], {}, list(range(finding.shape[1]))
    asked = {name: (metric, everything) for name, metric in METRICS.items()}
    if "D" in labels:
        asked["auroc_D"] = METRICS["macro_auroc"], [labels.index("D")]
    for name, (metric, places) in asked.items():
        value, count = macro(metric, finding[test][:, places], probability[test][:, places])
        draws[name] = macro(metric, finding[test][:, places], probability[test][:, places], weight)[
            0
        ]
        low, high, undefined = interval(draws[name])
        rows.append(
            {
                "metric": name,
                "value": float(value[0]),
                "low": low,
                "high": high,
                "findings": count,
                "undefined": undefined,
            }
        )
    thresholds = np.array(
        [best_threshold(finding[val, place], probability[val, place]) for place in everything]
    )
    rows += [
        {
            "metric": name,
            "value": value,
            "low": np.nan,
            "high": np.nan,
            "findings": rows[0]["findings"],
            "undefined": 0,
        }
        for name, value in summary(finding[test], probability[test], thresholds).items()
    ]
    return rows, draws


def probe(features, table, labels, key="test"):
    """Fast probe of several networks on one table.

    features : {name: (N, F)}, "trained" first;  key : of the resamples, another one per seed
    returns    rows of probes.csv, with the paired differences trained - other; draws {name: {metric: (R,)}}
    """
    finding, split, patient = (
        findings(table, labels),
        table["split"].to_numpy(object),
        patients_table.patients(table),
    )
    rows, draws = [], {}
    for name, values in features.items():
        probability, strength = logistic(values, finding, split)
        found, draws[name] = scored(finding, probability, split, patient, list(labels), key)
        rows += [{"network": name, "against": "", "strength": strength} | row for row in found]
    exact = {(row["network"], row["metric"]): row["value"] for row in rows}
    for other in list(features)[1:]:
        for metric in draws["trained"]:
            difference = paired(draws["trained"][metric], draws[other][metric])
            row = {
                "network": "trained",
                "against": other,
                "metric": metric,
                "value": exact["trained", metric] - exact[other, metric],
            }
            rows.append(
                row
                | {
                    "low": difference.low,
                    "high": difference.high,
                    "p": difference.p,
                    "undefined": difference.undefined,
                }
            )
    test = split == "test"
    return pd.DataFrame(rows).assign(n=int(test.sum()), clusters=len(set(patient[test]))), draws


def seeds_together(tables, draws):
    """Mean over seeds of every value and difference: standard error over seeds, interval over resampled test patients.

    tables, draws : lists, one entry per seed, as `probe` returns them. A patient in the test split of two seeds counts as two in the
    interval, which is a little too narrow for that.
    """
    everything = pd.concat(tables)
    rows = []
    for (network, against, metric), part in everything.groupby(
        ["network", "against", "metric"], sort=False
    ):
        values = part["value"].to_numpy()
        row = {
            "network": network,
            "against": against,
            "metric": metric,
            "value": values.mean(),
            "se": standard_error(values),
        }
        if metric in draws[0][network]:
            drawn = [
                one[network][metric] - (one[against][metric] if against else 0) for one in draws
            ]
            row["low"], row["high"], _ = interval(np.mean(drawn, axis=0))
        rows.append(row | {"seeds": len(values)})
    return pd.DataFrame(rows)
