"""A pre-trained backbone as a folder, and how a grading method reads it. Written by `python -m clipdr.pretrain export`.

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
from clipdr.loaders import open_clip_model, timm_tower
from clipdr.settings import folder_of
from clipdr.text import Frozen
from clipdr.weights import read_weights, readable
from clipdr.words import HuggingFaceReports, SmallText

FILES = ("visual.json", "visual.safetensors", "heads.safetensors")
LEVEL = "patient"  # whose heads serve a single eye of unknown side


class Folder:
    """An exported folder: facts (visual.json), and its two files of tensors, read when asked for. DataError where one is missing."""

    def __init__(self, path):
        self.path = Path(path)
        absent = [name for name in FILES if not (self.path / name).is_file()]
        if absent:
            raise DataError(f"backbone: {path} has no {', '.join(absent)}; make the folder with `python -m clipdr.pretrain export`")
        self.facts = json.loads((self.path / "visual.json").read_text())

    def tensors(self, name):
        """{key: tensor} of one of the two safetensors files."""
        with readable(self.path / name):
            return load_file(self.path / name)

    def part(self, prefix):
        """Tensors of heads.safetensors whose name begins with prefix, without it; float32."""
        return {
            key.removeprefix(prefix): value.float() for key, value in self.tensors("heads.safetensors").items() if key.startswith(prefix)
        }

    @property
    def scale(self):
        """exp(t_patient): multiplier of the cosine."""
        return float(self.tensors("heads.safetensors")["log_scale"][2].float().exp())

    def bridge(self):
        """W_g[:, :E] + W_g[:, E:], (E, E): v -> patient vector of an eye that stands for both."""
        left, right = self.part(f"image_heads.{LEVEL}.")["weight"].chunk(2, dim=1)
        return left + right


def trunk_of(image, weights, side):
    """An image tower by name: (module, width of its output or None, pixel mean, pixel std).

    image   : timm/NAME | open_clip/NAME | vit/WIDTH/DEPTH/PATCH
    weights : as clipdr.settings.Backbone, "random" for vit; "ret_clip:FILE" for the image tower of the authors' released checkpoint
              (open_clip/ViT-B-16-quickgelu; the file is the user's, we have not seen one)
    """
    family, _, name = image.partition("/")
    if family == "timm":
        return timm_tower(name, weights, side)
    if family == "open_clip":
        released = weights.removeprefix("ret_clip:") if weights.startswith("ret_clip:") else ""
        visual = open_clip_model(name, "random" if released else weights, side).visual
        if released:
            state = {key.removeprefix("module."): value for key, value in read_weights(released).items()}
            state = {key.removeprefix("visual."): value.float() for key, value in state.items() if key.startswith("visual.")}
            with readable(released):
                visual.load_state_dict(state)
        return visual, visual.image_mean, visual.image_std
    if family == "vit" and weights == "random":
        from timm.models.vision_transformer import VisionTransformer

        width, depth, patch = map(int, name.split("/"))
        shape = {"embed_dim": width, "depth": depth, "num_heads": max(1, width // 64), "num_classes": 0}
        model = VisionTransformer(side, patch, global_pool="avg", class_token=False, **shape)  # a class token learns nothing from so few
        return model, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    raise DataError(f"backbone: image tower {image!r} with weights {weights!r}; use timm/NAME, open_clip/NAME or vit/WIDTH/DEPTH/PATCH")


def image_tower(image, weights, side, width, precision="fp32"):
    """ImageTower of a name, (N, 3, S, S) in [0, 1] -> v (N, E). width: E of towers without a projection of their own."""
    from clipdr.backbones import ImageTower

    trunk, mean, std = trunk_of(image, weights, side)
    own = image.startswith("open_clip/")
    return ImageTower(trunk, nn.Identity() if own else nn.Linear(trunk.num_features, width, bias=False), mean, std, precision)


def text_encoder(facts, folder):
    """The text encoder that visual.json describes, without weights."""
    if facts["encoder"] == "small":
        return SmallText(facts["vocabulary"], facts["length"])
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    config = AutoConfig.from_pretrained(folder / "text", local_files_only=True)
    return HuggingFaceReports(AutoModel.from_config(config), AutoTokenizer.from_pretrained(folder / "text"), facts["length"])


def bridged_tower(spec, precision, text_width):
    """Image tower of a grading method: pooled -> v, forward -> z.

    spec       : clipdr.settings.Backbone as a mapping, image "folder/PATH" or "package/NAME"
    text_width : of another text tower than the folder's own, else None
    """
    folder = Folder(folder_of(spec["image"]))
    facts = folder.facts
    tower = image_tower(facts["image"], "random", facts["side"], facts["width"], precision)
    tower.load_state_dict({key: value.float() for key, value in folder.tensors("visual.safetensors").items()})
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
    from clipdr.backbones import ImageTower

    class EyeTower(ImageTower):
        """pooled: v, behind the tower's own projection; forward: z."""

        def pooled(self, image):
            return self.embedding(super().pooled(image))

    joined = EyeTower(tower.trunk, bridge, tower.mean.flatten().tolist(), tower.std.flatten().tolist(), tower.precision)
    joined.embedding = tower.projection
    return joined


class ReportText(Frozen):
    """The folder's text encoder and patient head as a text tower of the grading methods (the interface of clipdr.text)."""

    def __init__(self, folder):
        super().__init__()
        facts = folder.facts["text"]
        self.encoder = text_encoder(facts, folder.path)
        self.encoder.load_state_dict(folder.part("text."))
        head = folder.part(f"text_heads.{LEVEL}.")
        self.head = nn.Sequential(nn.Linear(*head["0.weight"].T.shape), nn.ReLU(), nn.Linear(*head["2.weight"].T.shape))
        self.head.load_state_dict(head)
        self.words, self.embed = self.encoder.words, self.encoder.embed
        self.start, self.stop, self.end = self.encoder.start, self.encoder.words("."), self.encoder.end
        self.width, self.dim = self.encoder.width, folder.facts["width"]

    def encode(self, embedded, length):
        used = torch.arange(embedded.shape[1], device=embedded.device) < length[:, None]
        return self.head(self.encoder.hidden(embedded, used))


def refuse_known(spec, test, where):
    """Raise DataError where photographs or patients of a test set were seen in pre-training.

    spec : backbone as a mapping; one without a folder has nothing to refuse;  test : manifest rows;  where : the fold, for the message
    """
    path = folder_of(spec["image"])
    if path is None:
        return
    facts = Folder(path).facts
    seen, people = set(facts["seen"]["images"]), set(facts["seen"]["patients"])
    known = test["sha256"].isin(seen - {""}) | (test["domain"] + "/" + test["patient"]).where(test["patient"] != "", "").isin(people)
    if known.any():
        first = test.loc[known, "image"].iloc[0]
        raise DataError(
            f"{where} leaks: {int(known.sum())} test photographs, the first {first}, or their patients were in the pre-training of "
            f"{path}; pre-train without them, or take another backbone"
        )
