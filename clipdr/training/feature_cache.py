"""Feature cache: image embeddings per domain and text embeddings per prompt bank.

Output: data/features/BACKBONE/D.npy and prompts.npz, of the frozen encoders of a backbone.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from clipdr.artifacts.files import replacing
from clipdr.data.loader import Images
from clipdr.data.manifest import open_store, read_manifest
from clipdr.models.backbone import Backbone

if TYPE_CHECKING:
    from collections.abc import Mapping

BATCH = 64  # images


@torch.no_grad()
def cache_features(spec: Mapping[str, str], side: int, domain: str, data: Path | str) -> None:
    """Write the embeddings of all images of a domain: (N, D) float32, not normalised.

    Their order is that of the packed array. Of an exported folder the raw v is cached; the bridge
    to the texts is stored with the prompts.

    Args:
        spec: Backbone as a mapping with the keys name, image, weights, text.
        side: Side of the network's input in pixels.
        domain: Name of the domain.
        data: Folder with manifests/ and store/; features/ is written.
    """
    data = Path(data)
    manifest = read_manifest(data / "manifests" / f"{domain}.csv")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    store = open_store(data / "store" / f"{domain}.npy", manifest)
    rows = Images(manifest, {domain: store}, [domain], side, device=device)
    backbone = Backbone(spec, side)
    encoder = backbone.image.to(device).eval()
    embed = encoder.pooled if backbone.folder else encoder
    features = torch.cat([embed(batch.image).float().cpu() for batch in rows.chunks(BATCH)])
    with replacing(data / "features" / spec["name"] / f"{domain}.npy") as path:
        np.save(path, features.numpy())


def cache_prompts(spec: Mapping[str, str], side: int, data: Path | str) -> None:
    """Write the embeddings of all fixed prompts: prompts.npz.

    It holds {bank: (5, templates, D) float32}, `scale` (the multiplier of the cosine) and, of an
    exported folder, the weight of its `bridge`.

    Args:
        spec: Backbone as a mapping with the keys name, image, weights, text.
        side: Side of the network's input in pixels.
        data: Folder in which features/ is written.
    """
    backbone = Backbone(spec, side)
    arrays: dict[str, Any] = {bank: features.numpy() for bank, features in backbone.banks.items()}
    if backbone.folder:
        image: Any = backbone.image
        arrays = {"bridge": image.projection.weight.detach().numpy()} | arrays
    with replacing(Path(data) / "features" / spec["name"] / "prompts.npz") as path:
        np.savez(path, scale=np.float64(backbone.scale), **arrays)
