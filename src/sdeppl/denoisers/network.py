"""A denoiser that adds a network to the best Gaussian one."""

from collections.abc import Callable

from ..backend import Array, OnnxFunction, TorchFunction
from .array_network import ArrayMLP
from .base import Denoiser, Moments, tweedie_covariance, weight_matrix
from .coordinates import Coordinates, Eigenbasis
from .gaussian import GaussianDenoiser

MANY = 128  # numbers on a grid, from which their covariance is too dear for a twist
AT_ONCE = 2**16  # numbers on a grid that a network is given at once on a host: beyond, what it holds leaves
# the processor's caches, and a row takes up to three times as long


class NetworkDenoiser(Denoiser):
    """E[x_0 given x_t] = Gaussian part + U (scale · ρ² · net(x_t as it sees it, ln(α/σ))).

    The Gaussian part is the best linear denoiser for the data's mean and covariance. The network sees x_t
    scaled to unit variance and x_0's residual scaled by its conditional standard deviation, numbers of order
    one at every t, and a network that returns 0 leaves the Gaussian part. ρ is the correlation of x_t with
    x_0, and ρ² the order of what is not linear in the mean: α² to first order, where x_t says little. So the
    network's output stays of order one there too; and its errors, of which 1/α times the Jacobian enters
    Cov[x_0 given x_t], vanish with ρ, where no loss would have made them small. In terms of the eps-net, ε̂ =
    (x - α mean)/σ.

    gaussian: the Gaussian part; net: a torch module through the bridge or from an ONNX file, or the library's
    own one as array code. coordinates: `Eigenbasis`, in which net is (batch, rank), ln(α/σ) ↦ (batch, rank),
    or `OnGrid`, in which it is (batch, 2 dim), ln(α/σ) ↦ (batch, dim). Source: Karras et al. 2022 (EDM),
    section 5, for the idea of preconditioning.
    """

    coordinates: type[Coordinates] = Eigenbasis  # also of what was pickled before there were others

    def __init__(
        self,
        gaussian: GaussianDenoiser,
        net: TorchFunction | ArrayMLP | OnnxFunction,
        coordinates: type[Coordinates] = Eigenbasis,
    ) -> None:
        self.sde = gaussian.sde
        self.dim = gaussian.dim
        self.backend = gaussian.backend
        self.gaussian = gaussian
        self.net = net
        self.coordinates = coordinates

    def mean(self, x: Array, t: float) -> Array:
        here = self.coordinates(self.gaussian, t)
        return self.gaussian.mean(x, t) + here.outputs(self.output(here.inputs(x), t))

    def output(self, inputs: Array, t: float) -> Array:
        """Of the network, on a grid in as many rows at a time as are quick."""
        level, parts = self.sde.half_log_snr(t), self._parts(inputs)
        found = [self.net(inputs[part, :], level) for part in parts]
        return found[0] if len(found) == 1 else self.backend.xp.concat(found, axis=0)

    def _output_with_pullback(self, inputs: Array, t: float) -> tuple[Array, Callable[[Array], Array]]:
        level, parts, xp = self.sde.half_log_snr(t), self._parts(inputs), self.backend.xp
        found = [self.net.with_pullback(inputs[part, :], level) for part in parts]
        if len(found) == 1:
            return found[0]

        def pullback(v: Array) -> Array:
            pairs = zip(found, parts, strict=True)
            return xp.concat([pull(v[..., part, :]) for (_, pull), part in pairs], axis=-2)

        return xp.concat([value for value, _ in found], axis=0), pullback

    def _parts(self, inputs: Array) -> list[slice]:
        """Of the rows."""
        batch, backend = inputs.shape[0], self.backend
        on_host = backend.adapter.free_memory(backend.device) is None
        if self.coordinates is Eigenbasis or not on_host or backend.adapter.traced():
            return [slice(None)]
        rows = max(AT_ONCE // self.dim, 1)
        return [slice(first, min(first + rows, batch)) for first in range(0, batch, rows)] or [slice(None)]

    def __call__(self, x: Array, t: float) -> Moments:
        linear, here = self.gaussian(x, t), self.coordinates(self.gaussian, t)
        alpha, sigma = self.sde.alpha_sigma(t)
        output, pull_net = self._output_with_pullback(here.inputs(x), t)

        def pullback(v: Array) -> Array:
            through_net = here.inputs_adjoint(pull_net(here.outputs_adjoint(v)))
            return (alpha / sigma**2) * linear.covariance.matvec(v) + through_net

        covariance = tweedie_covariance(sigma**2 / alpha, pullback, x, True, linear.covariance)
        return Moments(linear.mean + here.outputs(output), covariance)

    @property
    def coarse(self) -> Denoiser:
        """On a grid of many numbers with the Gaussian part's covariance, else itself."""
        many = self.coordinates is not Eigenbasis and self.dim > MANY
        return LinearSpread(self) if many else self

    def covariance_slope(self, x: Array, t: float, V: Array, w: Array) -> Array:
        """As of any denoiser, from the network's own second derivatives; the Gaussian part has none."""
        xp, here = self.backend.xp, self.coordinates(self.gaussian, t)
        alpha, sigma = self.sde.alpha_sigma(t)
        left, right = here.directions(xp.broadcast_to(V, (x.shape[0], *V.shape[-2:])), weight_matrix(w))
        slope = self.net.bilinear_slope(here.inputs(x), left, right, self.sde.half_log_snr(t))
        return here.inputs_adjoint(slope, sigma**2 / alpha)


class LinearSpread(Denoiser):
    """A network's mean, with the covariance of its Gaussian part: one evaluation of the network, no products
    with its Jacobian, and one covariance for all rows."""

    covariance_is_slope = False

    def __init__(self, network: NetworkDenoiser) -> None:
        self.sde, self.dim, self.backend = network.sde, network.dim, network.backend
        self.network = network

    def mean(self, x: Array, t: float) -> Array:
        return self.network.mean(x, t)

    def __call__(self, x: Array, t: float) -> Moments:
        network, linear = self.network, self.network.gaussian(x, t)
        here = network.coordinates(network.gaussian, t)
        output = network.output(here.inputs(x), t)
        return Moments(linear.mean + here.outputs(output), linear.covariance)
