"""Control baselines that see no photograph: a constant, a lookup of findings, the row alone, the missing flags alone. And the one rule
under which "multimodal helps" may be written.

Input: {part: Visits}, the eye table. Output: {method: {part: (N, 5) log-probabilities}} per scale, in the shape of a model's logits.
"""

import numpy as np

from clipdr import DataError
from clipdr.evaluation.metrics import METRICS, G
from clipdr.evaluation.operating_point import MEASURES, ranked
from clipdr.evaluation.predictions import probabilities
from clipdr.evaluation.statistics import paired
from clipdr.multimodal.data import eye_table

FLOOR = 1e-6  # least probability of a grade: log-probabilities stay finite
# claim -> methods whose scores it needs: the four controls of the specification
CONTROLS = ("image_only", "structured_gb", "missingness", "shuffled_at_test")
LOOKED_UP = (*eye_table.ANATOMY, *eye_table.FLAGS)  # 16 columns, none of them a grade


def logs(probability):
    """Probabilities with a floor, as logits. (N, 5)"""
    clipped = np.clip(probability, FLOOR, None)
    return np.log(clipped / clipped.sum(1, keepdims=True))


def majority(train, grade, wanted):
    """The shares of the training grades, for every eye."""
    share = np.bincount(grade, minlength=G) / len(grade)
    return {part: np.tile(share, (len(rows), 1)) for part, rows in wanted.items()}


def lookup(train, grade, wanted):
    """Shares of the training grades among eyes with the same findings and anatomy; those of all eyes where there are none.

    It never sees a photograph: what it scores is how much of a grade the finding columns hold.
    """
    share, known = np.bincount(grade, minlength=G) / len(grade), {}
    for key, one in zip(_keys(train), grade, strict=True):
        known.setdefault(key, np.zeros(G))[one] += 1
    return {
        part: np.stack(
            [known[key] / known[key].sum() if key in known else share for key in _keys(rows)]
        )
        for part, rows in wanted.items()
    }


def _keys(eyes):
    return [tuple(row) for row in eyes[list(LOOKED_UP)].fillna(-1).to_numpy()]


def _fitted(model, inputs, grade, wanted):
    model.fit(inputs, grade)
    made = {}
    for part, values in wanted.items():
        made[part] = np.zeros((len(values), G))
        made[part][:, model.classes_] = model.predict_proba(values)
    return made


def boosting(inputs, grade, wanted, seed):
    """Gradient-boosted trees on the encoded row."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    return _fitted(
        HistGradientBoostingClassifier(max_iter=60, learning_rate=0.1, random_state=seed),
        inputs,
        grade,
        wanted,
    )


def perceptron(inputs, grade, wanted, seed):
    """An MLP with one hidden layer of 64 on the encoded row."""
    from sklearn.neural_network import MLPClassifier

    return _fitted(
        MLPClassifier((64,), alpha=1e-2, early_stopping=True, max_iter=200, random_state=seed),
        inputs,
        grade,
        wanted,
    )


def logistic(inputs, grade, wanted, seed):
    """Logistic regression, for the missing flags."""
    from sklearn.linear_model import LogisticRegression

    return _fitted(LogisticRegression(max_iter=1000), inputs, grade, wanted)


def baselines(visits, scale, seed):
    """{method: {"val", "test": (N, 5) log-probabilities}}: majority, lookup, structured_gb, structured_mlp, missingness.

    Fitted on training eyes with a grade on the scale. The two structured ones are absent under `inputs: none`.
    """
    known = visits["train"].grade[scale].numpy() >= 0
    grade = visits["train"].grade[scale].numpy()[known]
    if len(set(grade)) < 2:
        raise DataError(
            f"controls: the training eyes hold fewer than two {scale} grades; nothing can be learnt from them"
        )
    eyes, wanted = (
        visits["train"].eyes[known],
        {part: visits[part].eyes for part in ("val", "test")},
    )
    found = {"majority": majority(eyes, grade, wanted), "lookup": lookup(eyes, grade, wanted)}
    if visits["train"].setting.inputs != "none":
        rows = {part: visits[part].row.numpy() for part in wanted}
        for name, learn in {"structured_gb": boosting, "structured_mlp": perceptron}.items():
            found[name] = learn(visits["train"].row.numpy()[known], grade, rows, seed)
    flags = {part: eye_table.missingness(one) for part, one in wanted.items()}
    found["missingness"] = logistic(eye_table.missingness(eyes), grade, flags, seed)
    return {
        name: {part: logs(probability) for part, probability in parts.items()}
        for name, parts in found.items()
    }


def any_retinopathy(logits, grade):
    """AUROC of P(grade >= 1) for grade >= 1. (N, 5), (N,) -> float, NaN where undefined"""
    return float(ranked(grade >= 1, 1 - probabilities(logits.astype(np.float32))[:, 0], None)[0][0])


def difference(draws, first, second, metric="qwk"):
    """Paired difference of two methods on shared resamples of patients. draws: {method: (metrics, R)} of clipdr.evaluation.scoring.score"""
    place = MEASURES.index(metric)
    return paired(draws[first][place], draws[second][place])


def helps(draws, method="multimodal", metric="qwk"):
    """Whether "multimodal helps" may be written, and every number it rests on.

    Yes only if the difference to image_only has its lower end above 0, and it beats structured_gb, and shuffled rows at test lose the gain
    (the difference of shuffled_at_test to image_only has its lower end at or below 0).

    draws : {method: (metrics, R) draws}, of `method` and CONTROLS;  returns {"helps": bool, control: Paired as a dict}
    Raises DataError where a control is absent: the claim may not be made without all four.
    """
    if absent := [name for name in (method, *CONTROLS) if name not in draws]:
        raise DataError(
            f"controls: no {', '.join(absent)}: a claim that several modalities help needs all of {', '.join(CONTROLS)}"
        )
    found = {name: difference(draws, method, name, metric) for name in CONTROLS}
    shuffled = difference(draws, "shuffled_at_test", "image_only", metric)
    verdict = (
        found["image_only"].low > 0 and found["structured_gb"].low > 0 and not shuffled.low > 0
    )
    return {
        "helps": bool(verdict),
        "metric": metric,
        "shuffled_at_test - image_only": shuffled._asdict(),
    } | {f"{method} - {name}": one._asdict() for name, one in found.items()}


def constant_metrics(grade):
    """{metric: value} of always answering grade 0: what accuracy hides."""
    probability = np.zeros((len(grade), G))
    probability[:, 0] = 1
    return {
        name: float(METRICS[name](grade, probability)[0])
        for name in ("accuracy", "macro_f1", "qwk")
    }
