"""What a frozen tower says about a photograph or a prompt, computed once and kept: data/features/{backbone}/{D}.npy and prompts.npz."""

from pathlib import Path

import numpy as np
import torch

from clipdr.artifacts.files import replacing
from clipdr.data.loader import Images
from clipdr.data.manifest import open_store, read_manifest
from clipdr.models.backbone import Backbone

BATCH = 64  # images


@torch.no_grad()
def cache_features(spec, side, domain, data):
    """Features of the frozen image tower for each stored photograph: (N, D) float32 in the store's order, not normalised.

    spec : mapping with the keys name, image, weights, text;  side : pixels of the network's input;  data : folder with manifests/, store/
    """
    manifest = read_manifest(Path(data) / "manifests" / f"{domain}.csv")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    store = open_store(Path(data) / "store" / f"{domain}.npy", manifest)
    rows = Images(manifest, {domain: store}, [domain], side, device=device)
    backbone = Backbone(spec, side)
    tower = backbone.image.to(device).eval()
    read = (
        tower.pooled if backbone.folder else tower
    )  # a folder's v is cached, and what leads from it to the texts stands with the prompts
    features = torch.cat([read(batch.image).float().cpu() for batch in rows.chunks(BATCH)])
    with replacing(Path(data) / "features" / spec["name"] / f"{domain}.npy") as path:
        np.save(path, features.numpy())


def cache_prompts(spec, side, data):
    """Features of all fixed prompts, {bank: (5, templates, D) float32}, `scale`, the multiplier of the cosine, and a folder's `bridge`."""
    backbone = Backbone(spec, side)
    bridge = (
        {"bridge": backbone.image.projection.weight.detach().numpy()} if backbone.folder else {}
    )
    with replacing(Path(data) / "features" / spec["name"] / "prompts.npz") as path:
        np.savez(
            path,
            scale=np.float64(backbone.scale),
            **bridge,
            **{bank: features.numpy() for bank, features in backbone.banks.items()},
        )
