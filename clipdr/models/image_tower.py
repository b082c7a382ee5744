"""Image encoders: pixel normalisation, pooled features and maps; placeholder for caches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from clipdr import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}  # of autocast; "fp32" needs none


class ImageTower(nn.Module):
    """Image encoder: pixels in [0, 1] -> embedding in the space shared with the text.

    Args:
        trunk: Network from normalised pixels to pooled features (B, F).
        projection: Layer from pooled features (B, F) to embeddings (B, D).
        mean: Pixel mean of each of the three channels, for pixels in [0, 1].
        std: Pixel standard deviation of each of the three channels.
        precision: "fp32", "bf16" or "fp16"; the latter two run the trunk under autocast.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        trunk: nn.Module,
        projection: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        precision: str = "fp32",
    ):
        """Create the encoder around a trunk."""
        super().__init__()
        self.trunk, self.projection, self.precision = trunk, projection, precision
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def apply_normalised(
        self, function: Callable[[torch.Tensor], torch.Tensor], image: torch.Tensor
    ) -> torch.Tensor:
        """Apply a function to the normalised pixels at the encoder's precision.

        Args:
            function: Function of pixels (B, 3, S, S).
            image: (B, 3, S, S) float32 in [0, 1].

        Returns:
            The function's result as float32.
        """
        image = ((image - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        with torch.autocast(
            image.device.type, PRECISIONS.get(self.precision), enabled=self.precision in PRECISIONS
        ):
            return function(image).float()

    def pooled(self, image: torch.Tensor) -> torch.Tensor:
        """Compute the features before the projection: (B, 3, S, S) in [0, 1] -> (B, F), float32."""
        return self.apply_normalised(self.trunk, image)

    def feature_map(self, image: torch.Tensor) -> torch.Tensor:
        """Compute the last map before pooling; for a transformer, the patch tokens in their grid.

        Args:
            image: (B, 3, S, S) float32 in [0, 1].

        Returns:
            (B, C, h, w) float32.
        """
        return self.apply_normalised(lambda pixels: last_map(self.trunk, pixels), image)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Compute embeddings: (B, 3, S, S) in [0, 1] -> (B, D), float32, not normalised."""
        return self.projection(self.pooled(image))


class CachedTower(nn.Module):
    """Placeholder for a frozen image encoder: returns cached features, optionally projected.

    Args:
        bridge: Frozen projection to the space of the texts, (D, E) float32; None leaves the
            features as they are.
    """

    bridge: torch.Tensor | None

    def __init__(self, bridge: np.ndarray | None = None):
        """Create the placeholder."""
        super().__init__()
        self.register_buffer(
            "bridge", None if bridge is None else torch.from_numpy(bridge), persistent=False
        )

    def pooled(self, features: torch.Tensor) -> torch.Tensor:
        """Return the cached features, (B, E) float32."""
        return features

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return embeddings in the space of the texts: (B, E) -> (B, D)."""
        return features if self.bridge is None else features @ self.bridge.T


def keep_statistics(module: nn.Module) -> None:
    """Put the batch normalisation layers of a module into evaluation mode.

    Their running statistics then stay fixed.
    """
    for layer in module.modules():
        # the common base class of all batch normalisations has no public name
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):  # pyright: ignore[reportPrivateUsage]
            layer.eval()


def last_map(trunk: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Compute the last feature map of a timm or open_clip image encoder.

    Args:
        trunk: The encoder.
        pixels: Normalised pixels, (B, 3, S, S) float32.

    Returns:
        (B, C, h, w); for a transformer, the patch tokens in their grid, without prefix tokens.

    Raises:
        DataError: If the map is not of that shape.
    """
    if not hasattr(trunk, "forward_features"):  # open_clip
        outputs = trunk.forward_intermediates(
            pixels, indices=1, normalize_intermediates=True, intermediates_only=True
        )
        return outputs["image_intermediates"][-1]
    features = trunk.forward_features(pixels)
    if features.ndim == 3:  # tokens of a transformer (B, prefix + h * w, C)
        features = (
            features[:, trunk.num_prefix_tokens :]
            .transpose(1, 2)
            .unflatten(2, trunk.patch_embed.grid_size)
        )
    if features.shape[1] != trunk.num_features:
        raise DataError(
            f"backbone: the feature map of timm's {type(trunk).__name__} is not (B, C, h, w). "
            "Use another image encoder."
        )
    return features
