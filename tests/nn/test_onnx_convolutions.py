"""Networks of images in ONNX files: values and pullbacks are those of the torch modules."""

import copy

import numpy as np
import pytest
import torch
from checks import array, assert_array, host
from torch import nn

import sdeppl as sp
from sdeppl.backend import TorchFunction

HEIGHT, WIDTH = 8, 6
DIM = HEIGHT * WIDTH
LAYERS = nn.Sequential(  # of 4 channels, 8 × 6: all in one module, for to write one takes seconds
    nn.Conv2d(4, 3, 3, stride=(3, 2), padding=(1, 0)),  # strides that leave a rest, and back
    nn.ConvTranspose2d(3, 2, 3, stride=2, padding=1, output_padding=1),
    nn.Conv2d(2, 6, (3, 2), padding=2, dilation=2, groups=2, bias=False),  # dilation and groups, and back
    nn.ConvTranspose2d(6, 4, 3, dilation=2, groups=2),
    nn.AvgPool2d(3, stride=2, padding=1),
    nn.Upsample(scale_factor=(2, 3), mode="nearest"),
    nn.AvgPool2d((2, 1)),
    nn.Upsample(size=(7, 11), mode="nearest"),
)


class Images(nn.Module):
    """A convolution, the level, the layer, a norm, and a linear map back to the image."""

    def __init__(self, layer):
        super().__init__()
        self.first, self.level, self.layer = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(1, 4), layer
        channels = layer(torch.zeros(1, 4, HEIGHT, WIDTH)).shape[1]
        self.rest = nn.Sequential(nn.SiLU(), nn.GroupNorm(1, channels), nn.Flatten(), nn.LazyLinear(DIM))

    def forward(self, x, level):
        images = self.first(x.reshape(-1, 1, HEIGHT, WIDTH))
        level = torch.as_tensor(level, dtype=x.dtype).reshape(1, 1)
        return self.rest(self.layer(torch.tanh(images + self.level(level)[..., None, None])))


def images(layer):
    """With weights of seed 5."""
    torch.manual_seed(5)
    module = Images(copy.deepcopy(layer))
    module(torch.zeros(1, DIM), 0.0)  # so that the last layer knows its size
    with torch.no_grad():
        for p in module.parameters():
            p += 0.3 * torch.randn_like(p)
    return module


def test_value_and_pullback_are_those_of_the_module(tmp_path):
    """Against the module in float64, 1e-5 of the largest; other numbers of rows than it was traced with,
    several products at once. Seeds 1 and 2."""
    module, backend = images(LAYERS), sp.resolve("numpy", "float32")
    sp.export_onnx(module, tmp_path / "net.onnx", dim=DIM)
    function = sp.OnnxFunction(tmp_path / "net.onnx")
    for batch, several in ((1, 3), (7, 2)):
        x = array(np.random.default_rng(1).standard_normal((batch, DIM)), backend)
        v = array(np.random.default_rng(2).standard_normal((several, batch, DIM)), backend)
        wanted, pull = TorchFunction(copy.deepcopy(module).double()).with_pullback(host(x).astype(float), 0.3)
        value, pullback = function.with_pullback(x, 0.3)
        assert_array(value, wanted, backend, 1e-5)
        assert_array(pullback(v), pull(host(v).astype(float)), backend, 1e-5)


class Small(nn.Module):
    """A layer and a sum: what is refused is refused in as small a module."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x, level):
        found = self.layer(x.reshape(-1, 1, HEIGHT, WIDTH))
        return x * torch.sum(found, dim=(1, 2, 3))[:, None] + level


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        (nn.MaxPool2d(2), "fixes their number"),
        (nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False), "count_include_pad=False"),
        (nn.AvgPool2d(3, stride=2, ceil_mode=True), "ceil_mode=True"),
        (nn.AvgPool2d(2, divisor_override=3), "divisor_override"),
    ],
)
def test_layers_that_cannot_be_written_are_refused(layer, why, tmp_path):
    with pytest.raises(TypeError, match=rf"an? Small cannot be written as ONNX.*{why}"):
        sp.export_onnx(Small(layer), tmp_path / "net.onnx", dim=DIM)
    assert not list(tmp_path.iterdir())


def test_onnxruntime_has_convolutions_in_float32_alone(tmp_path):
    sp.export_onnx(Small(nn.Conv2d(1, 2, 3)).double(), tmp_path / "net.onnx", dim=DIM)
    with pytest.raises(TypeError, match="export the module in float32"):
        sp.OnnxFunction(tmp_path / "net.onnx")
