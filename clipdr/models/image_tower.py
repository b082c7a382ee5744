"""TODO"""

import torch
from torch import nn

from clipdr import DataError

PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}  # of autocast; fp32 is none


class ImageTower(nn.Module):
    """Pixels in [0, 1] -> embedding. trunk: normalised pixels -> (B, F); projection: (B, F) -> (B, D)."""

    def __init__(self, trunk, projection, mean, std, precision="fp32"):
        super().__init__()
        self.trunk, self.projection, self.precision = trunk, projection, precision
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def read(self, reader, image):
        """What `reader` makes of the normalised pixels, in float32."""
        image = ((image - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        with torch.autocast(
            image.device.type, PRECISIONS.get(self.precision), enabled=self.precision in PRECISIONS
        ):
            return reader(image).float()

    def pooled(self, image):
        """(B, 3, S, S) float32 in [0, 1] -> (B, F) float32, before the projection into the space shared with the text."""
        return self.read(self.trunk, image)

    def feature_map(self, image):
        """(B, 3, S, S) float32 in [0, 1] -> (B, C, h, w) float32, the last map before pooling; a transformer's patches in place."""
        return self.read(lambda pixels: last_map(self.trunk, pixels), image)

    def forward(self, image):
        return self.projection(self.pooled(image))


class CachedTower(nn.Module):
    """Stands for a frozen image tower whose features were computed once: passes them on, or through a frozen bridge (E, D) to the texts."""

    def __init__(self, bridge=None):
        super().__init__()
        self.register_buffer(
            "bridge", None if bridge is None else torch.from_numpy(bridge), persistent=False
        )

    def pooled(self, features):
        return features

    def forward(self, features):
        return features if self.bridge is None else features @ self.bridge.T


def keep_statistics(module):
    """Put the batch normalisation layers of a module into evaluation mode: their statistics stay as they are."""
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.eval()


def last_map(trunk, pixels):
    """The last feature map of a timm or open_clip image tower: (B, 3, S, S) normalised pixels -> (B, C, h, w)."""
    if not hasattr(trunk, "forward_features"):  # open_clip
        taken = trunk.forward_intermediates(
            pixels, indices=1, normalize_intermediates=True, intermediates_only=True
        )
        return taken["image_intermediates"][-1]
    found = trunk.forward_features(pixels)
    if found.ndim == 3:  # tokens of a transformer (B, prefix + h * w, C)
        found = (
            found[:, trunk.num_prefix_tokens :]
            .transpose(1, 2)
            .unflatten(2, trunk.patch_embed.grid_size)
        )
    if found.shape[1] != trunk.num_features:
        raise DataError(
            f"backbone: the feature map of timm's {type(trunk).__name__} is not (B, C, h, w); use another image tower"
        )
    return found
