"""A pre-trained backbone as a folder, and how a grading method reads it. Written by `clipdr pretrain export`.

visual.safetensors : image tower, photographs -> v
visual.json        : architecture, size, pixel mean and std, provenance, laterality; sha256 of all photographs, keys of all patients seen
heads.safetensors  : image heads, text encoder, text heads, t_x of the three levels

A head (ERM, linear probe) reads the raw v. A method with prompts reads z = W_g [v ; v], the space of the patient's text head, and its
prompts pass through the RET-CLIP text encoder; with another text tower (Backbone.text) z is a learned linear bridge from v, which starts
as the identity where it is square.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from clipdr import DataError
from clipdr.config.job import folder_of
from clipdr.models.factory import image_tower, text_encoder
from clipdr.models.text_tower import Frozen
from clipdr.models.weights import readable

FILES = ("visual.json", "visual.safetensors", "heads.safetensors")
LEVEL = "patient"  # whose heads serve a single eye of unknown side


class Folder:
    """An exported folder: facts (visual.json), and its two files of tensors, read when asked for. DataError where one is missing."""

    def __init__(self, path):
        self.path = Path(path)
        absent = [name for name in FILES if not (self.path / name).is_file()]
        if absent:
            raise DataError(
                f"backbone: {path} has no {', '.join(absent)}; make the folder with `clipdr pretrain export`"
            )
        self.facts = json.loads((self.path / "visual.json").read_text())

    def tensors(self, name):
        """{key: tensor} of one of the two safetensors files."""
        with readable(self.path / name):
            return load_file(self.path / name)

    def part(self, prefix):
        """Tensors of heads.safetensors whose name begins with prefix, without it; float32."""
        return {
            key.removeprefix(prefix): value.float()
            for key, value in self.tensors("heads.safetensors").items()
            if key.startswith(prefix)
        }

    @property
    def scale(self):
        """exp(t_patient): multiplier of the cosine."""
        return float(self.tensors("heads.safetensors")["log_scale"][2].float().exp())

    def bridge(self):
        """W_g[:, :E] + W_g[:, E:], (E, E): v -> patient vector of an eye that stands for both."""
        left, right = self.part(f"image_heads.{LEVEL}.")["weight"].chunk(2, dim=1)
        return left + right


def bridged_tower(spec, precision, text_width):
    """Image tower of a grading method: pooled -> v, forward -> z.

    spec       : clipdr.config.job.Backbone as a mapping, image "folder/PATH" or "package/NAME"
    text_width : of another text tower than the folder's own, else None
    """
    folder = Folder(folder_of(spec["image"]))
    facts = folder.facts
    tower = image_tower(facts["image"], "random", facts["side"], facts["width"], precision)
    tower.load_state_dict(
        {key: value.float() for key, value in folder.tensors("visual.safetensors").items()}
    )
    width = facts["width"]
    bridge = nn.Linear(width, width if text_width is None else text_width, bias=False)
    if text_width is None:
        bridge.weight.data.copy_(folder.bridge())
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            (nn.init.eye_ if text_width == width else nn.init.orthogonal_)(bridge.weight)
    return _joined(tower, bridge)


def _joined(tower, bridge):
    from clipdr.models.image_tower import ImageTower

    class EyeTower(ImageTower):
        """pooled: v, behind the tower's own projection; forward: z."""

        def pooled(self, image):
            return self.embedding(super().pooled(image))

    joined = EyeTower(
        tower.trunk,
        bridge,
        tower.mean.flatten().tolist(),
        tower.std.flatten().tolist(),
        tower.precision,
    )
    joined.embedding = tower.projection
    return joined


class ReportText(Frozen):
    """The folder's text encoder and patient head as a text tower of the grading methods (the interface of clipdr.models.text_tower)."""

    def __init__(self, folder):
        super().__init__()
        facts = folder.facts["text"]
        self.encoder = text_encoder(facts, folder.path)
        self.encoder.load_state_dict(folder.part("text."))
        head = folder.part(f"text_heads.{LEVEL}.")
        self.head = nn.Sequential(
            nn.Linear(*head["0.weight"].T.shape), nn.ReLU(), nn.Linear(*head["2.weight"].T.shape)
        )
        self.head.load_state_dict(head)
        self.words, self.embed = self.encoder.words, self.encoder.embed
        self.start, self.stop, self.end = (
            self.encoder.start,
            self.encoder.words("."),
            self.encoder.end,
        )
        self.width, self.dim = self.encoder.width, folder.facts["width"]

    def encode(self, embedded, length):
        used = torch.arange(embedded.shape[1], device=embedded.device) < length[:, None]
        return self.head(self.encoder.hidden(embedded, used))
