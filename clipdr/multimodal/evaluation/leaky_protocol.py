"""The leaky protocol, shown so that nobody has to guess: `fused_paper`, and the demonstration that it retrieves noise.

fused_paper compares the joint transformer's summaries of image and text, each taken from the TRUE pair: the answer is an input. At query
time the image is not known, so no such system can be used. Every number of this module carries leaky: true and stands in no main table.
"""

import torch
from torch.nn.functional import normalize

from clipdr import DataError
from clipdr.evaluation.retrieval import DIRECTIONS, judge, recall, similarity
from clipdr.multimodal.data.splits import patients_of
from clipdr.multimodal.fusion import Fusion
from clipdr.multimodal.losses import contrast

LEAKY = "LEAKY"
WHY = (
    "LEAKY: image and text vectors are outputs of the joint transformer run on the true pair, so each contains the other. "
    "The same protocol retrieves pairs of noise."
)
LENGTHS = {"image": 17, "text": 16}  # tokens of the demonstration
WIDTH, HEADS, LAYERS = 64, 4, 2


@torch.no_grad()
def fused_vectors(model, visits, device="cpu"):
    """LEAKY image and text vectors of the true pairs, each (N, e). DataError unless the model was trained under `contrast: fused`."""
    if model.setting.contrast != "fused":
        raise DataError(
            "fused_paper: this model was trained with unimodal contrast; train one with `contrast: fused`"
        )
    model.eval()
    parts = [
        model.fused_pair(visit.image.to(device), visit.token.to(device))
        for visit in visits.chunks()
    ]
    return tuple(torch.cat(one).cpu().numpy() for one in zip(*parts, strict=True))


def fused_paper(model, visits, device="cpu", resamples=2000):
    """Rows as of evaluation.retrieval, mode `fused_paper`, leaky: True.

    The ceiling does not bind here (queries that say the same have different vectors, since each has seen its own photograph), so the score
    is judged with every query as content of its own; the ceiling of the narratives is printed beside it as `honest_ceiling_1`.
    """
    image, text = fused_vectors(model, visits, device)
    score, own = similarity(text, image), torch.arange(len(visits)).numpy()
    honest = float(len(set(visits.content.tolist())) / len(visits))
    about = {
        "mode": "fused_paper",
        "kind": visits.setting.kind,
        "leaky": True,
        "status": LEAKY,
        "honest_ceiling_1": honest,
    }
    patient = patients_of(visits.eyes).to_numpy()
    return [
        about | {"direction": direction} | judge(matrix, own, patient, "test", resamples)
        for direction, matrix in zip(DIRECTIONS, (score, score.T), strict=True)
    ]


def refuse_leaky(model, mode):
    """DataError where a leaky model is asked for an honest mode."""
    if model.setting.leaky:
        raise DataError(
            f"{mode}: this model was trained under a leaky protocol and is refused by every mode but fused_paper"
        )


class Noise(torch.nn.Module):
    """The joint transformer of this package on Gaussian tokens, fused or as two towers with the same blocks."""

    def __init__(self, fused):
        super().__init__()
        self.fused, self.joint = fused, Fusion(WIDTH, LAYERS, HEADS, dropout=0.0)
        self.log_scale = torch.nn.Parameter(torch.tensor(2.659))

    def forward(self, image, text):
        if self.fused:
            _, after = self.run({"image": image, "text": text})
        else:
            after = {
                name: self.run({name: part})[1][name]
                for name, part in (("image", image), ("text", text))
            }
        return tuple(normalize(after[name][:, 0], dim=-1) for name in ("image", "text"))

    def run(self, parts):
        return self.joint(
            parts,
            {name: torch.ones(part.shape[:2], dtype=torch.bool) for name, part in parts.items()},
        )


def noise_demonstration(
    steps=600, batch=128, pairs=1627, seed=0, fused=True, lr=1e-3, lengths=None
):
    """Train on pairs of INDEPENDENT noise, score on unseen ones: {"recall_1", "recall_10", "shuffled_recall_1", "chance", "loss"}.

    fused   : the joint transformer sees both (the leaky protocol); False: each tower sees its own modality
    lengths : tokens of each modality, default LENGTHS
    returns   shuffled_recall_1: the same unseen tokens with their partners shuffled before the model sees them; it falls to chance only
              if what is measured is a relation of the tokens
    """
    torch.manual_seed(seed)
    model, generator = Noise(fused), torch.Generator().manual_seed(seed + 1)
    optimizer, wanted = torch.optim.AdamW(model.parameters(), lr=lr), torch.eye(batch)

    def tokens(count):
        return (
            torch.randn(count, length, WIDTH, generator=generator)
            for length in (lengths or LENGTHS).values()
        )

    for _ in range(steps):
        loss = contrast(*model(*tokens(batch)), wanted, model.log_scale.exp().clamp(max=100))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    image, text = tokens(pairs)
    return {
        "recall_1": _recall(model, image, text, 1), "recall_10": _recall(model, image, text, 10),
        "shuffled_recall_1": _recall(model, image, text[torch.randperm(pairs, generator=generator)], 1),
        "chance": 1 / pairs, "loss": float(loss.detach()), "steps": steps, "pairs": pairs, "leaky": fused,
    }  # fmt: skip


@torch.no_grad()
def _recall(model, image, text, k):
    found = [
        torch.cat(one)
        for one in zip(
            *(model(i, t) for i, t in zip(image.split(256), text.split(256), strict=True)),
            strict=True,
        )
    ]
    return float(recall(similarity(found[1].numpy(), found[0].numpy()), k).mean())
