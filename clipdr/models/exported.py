"""Exported folder of a pre-trained backbone, and the encoders that grading methods build from it.

`clipdr pretrain export` writes the folder:

- visual.safetensors: image encoder, images -> v.
- visual.json: architecture, size, pixel mean and std, provenance, laterality, sha256 of all images
  and keys of all patients of pre-training.
- heads.safetensors: image heads, text encoder, text heads and the learned scales (t_x) of the three
  levels.

A classification head (ERM, linear probe) reads the raw v. A method with prompts reads z = W_g [v ;
v], the space of the patient's text head, and its prompts pass through the text encoder of RET-CLIP
(Du et al., 2024). With another text encoder, z is a learned linear bridge from v, which starts as
the identity where it is square.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file
from torch import nn

from clipdr import DataError
from clipdr.config.job import EXPORTED_FILES, folder_of
from clipdr.models.factory import build_image_tower, build_report_encoder
from clipdr.models.image_tower import ImageTower
from clipdr.models.text_tower import TextTower
from clipdr.models.weights import errors_as_data_error

if TYPE_CHECKING:
    from collections.abc import Mapping

LEVEL = "patient"  # its heads serve a single eye of unknown side


class ExportedFolder:
    """Files of an exported backbone; tensors are read on demand.

    Args:
        path: The folder.

    Attributes:
        path: The folder.
        facts: Content of visual.json.

    Raises:
        DataError: If a file is missing.
    """

    def __init__(self, path: str | Path):
        """Check that the files exist and read visual.json."""
        self.path = Path(path)
        absent = [name for name in EXPORTED_FILES if not (self.path / name).is_file()]
        if absent:
            raise DataError(
                f"backbone: {path} has no {', '.join(absent)}. "
                "Create the folder with `clipdr pretrain export`."
            )
        self.facts: dict[str, Any] = json.loads(
            (self.path / "visual.json").read_text(encoding="utf-8")
        )

    def tensors(self, name: str) -> dict[str, torch.Tensor]:
        """Read one of the two safetensors files as {key: tensor}."""
        with errors_as_data_error(self.path / name):
            return load_file(self.path / name)

    def head_tensors(self, prefix: str) -> dict[str, torch.Tensor]:
        """Read the tensors of heads.safetensors whose key begins with a prefix.

        Returns:
            {key without the prefix: float32 tensor}.
        """
        return {
            key.removeprefix(prefix): value.float()
            for key, value in self.tensors("heads.safetensors").items()
            if key.startswith(prefix)
        }

    @property
    def scale(self) -> float:
        """Multiplier of the cosine, exp(t_patient)."""
        return float(self.tensors("heads.safetensors")["log_scale"][2].float().exp())

    def bridge_weight(self) -> torch.Tensor:
        """Return W_g[:, :E] + W_g[:, E:], (E, E) float32.

        It maps v to the patient vector of an eye that stands for both.
        """
        left, right = self.head_tensors(f"image_heads.{LEVEL}.")["weight"].chunk(2, dim=1)
        return left + right


class EyeTower(ImageTower):
    """Image encoder of a single eye: `pooled` returns v, `forward` returns z.

    Args:
        tower: Pre-trained image encoder, images -> v.
        bridge: Linear layer v -> z.
    """

    def __init__(self, tower: ImageTower, bridge: nn.Linear):
        """Take over a pre-trained encoder; its projection becomes part of the pooled features."""
        mean, std = tower.mean.flatten().tolist(), tower.std.flatten().tolist()
        super().__init__(tower.trunk, bridge, mean, std, tower.precision)
        self.embedding = tower.projection

    def pooled(self, image: torch.Tensor) -> torch.Tensor:
        """Compute v: (B, 3, S, S) in [0, 1] -> (B, E), float32."""
        return self.embedding(super().pooled(image))


def load_eye_tower(spec: Mapping[str, str], precision: str, text_width: int | None) -> EyeTower:
    """Load the image encoder of a grading method from an exported folder.

    Args:
        spec: `clipdr.config.job.Backbone` as a mapping, with image "folder/PATH" or "package/NAME".
        precision: "fp32", "bf16" or "fp16".
        text_width: Width of another text encoder than the folder's own; None for its own.

    Raises:
        DataError: If a file of the folder is missing or cannot be read.
    """
    folder = ExportedFolder(folder_of(spec["image"]) or spec["image"])
    facts = folder.facts
    width = facts["width"]
    tower = build_image_tower(facts["image"], "random", facts["side"], width, precision)
    tower.load_state_dict(
        {key: value.float() for key, value in folder.tensors("visual.safetensors").items()}
    )
    bridge = nn.Linear(width, width if text_width is None else text_width, bias=False)
    if text_width is None:
        bridge.weight.data.copy_(folder.bridge_weight())
    else:
        # the same start in every process, whatever the seed of the run
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            (nn.init.eye_ if text_width == width else nn.init.orthogonal_)(bridge.weight)
    return EyeTower(tower, bridge)


class ReportTextTower(TextTower):
    """Text encoder and patient head of an exported folder, as the text encoder of grading methods.

    Args:
        folder: The exported folder.
    """

    def __init__(self, folder: ExportedFolder):
        """Build the encoder and load its weights."""
        super().__init__()
        self.encoder = build_report_encoder(folder.facts["text"], folder.path)
        self.encoder.load_state_dict(folder.head_tensors("text."))
        head = folder.head_tensors(f"text_heads.{LEVEL}.")
        (hidden, width), (dim, _) = head["0.weight"].shape, head["2.weight"].shape
        self.head = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, dim))
        self.head.load_state_dict(head)
        self.start, self.end = self.encoder.start, self.encoder.end
        self.stop = self.encoder.tokenize(".")
        self.width, self.dim = self.encoder.width, folder.facts["width"]

    def tokenize(self, text: str) -> list[int]:
        """Return the token ids of a text, without [CLS] and [SEP]."""
        return self.encoder.tokenize(text)

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """Look up token embeddings: (..., L) int64 -> (..., L, W) float32."""
        return self.encoder.embed(ids)

    def encode(self, embedded: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
        """Encode sentences, see `TextTower.encode`: (K, L, W), (K,) -> (K, D)."""
        used = torch.arange(embedded.shape[1], device=embedded.device) < length[:, None]
        return self.head(self.encoder.hidden(embedded, used))
