"""A denoiser that adds a network to the best Gaussian one."""

from ..backend import Array, OnnxFunction, TorchFunction
from .array_network import ArrayMLP
from .base import Denoiser, Moments, tweedie_covariance, weight_matrix
from .gaussian import GaussianDenoiser


class NetworkDenoiser(Denoiser):
    """E[x_0 given x_t] = Gaussian part + V (scale · ρ² · net(whitened x_t, ln(α/σ))).

    The Gaussian part is the best linear denoiser for the data's mean and covariance; in its
    eigenbasis V, with x_t scaled to unit variance and x_0's residual scaled by its conditional
    standard deviation, the network sees and returns numbers of order one at every t, and a network
    that returns 0 leaves the Gaussian part. ρ is the correlation of x_t with x_0, and ρ² the order of what
    is not linear in the mean: α² to first order, where x_t says little. So the network's output stays of
    order one there too; and its errors, of which 1/α times the Jacobian enters Cov[x_0 given x_t], vanish
    with ρ, where no loss would have made them small. In terms of the eps-net, ε̂ = (x - α mean)/σ.

    gaussian: the Gaussian part; net: (batch, rank), ln(α/σ) ↦ (batch, rank), a torch module through
    the bridge or from an ONNX file, or the library's own one as array code. Source: Karras et al. 2022
    (EDM), section 5, for the idea of preconditioning.
    """

    def __init__(self, gaussian: GaussianDenoiser, net: TorchFunction | ArrayMLP | OnnxFunction) -> None:
        self.sde = gaussian.sde
        self.dim = gaussian.dim
        self.backend = gaussian.backend
        self.gaussian = gaussian
        self.net = net

    def mean(self, x: Array, t: float) -> Array:
        gaussian = self.gaussian
        output = self.net(gaussian.whiten(x, t), self.sde.half_log_snr(t))
        reach = gaussian.posterior_scale(t) * gaussian.explained(t)
        return gaussian.mean(x, t) + (reach * output) @ gaussian.basis.T

    def __call__(self, x: Array, t: float) -> Moments:
        gaussian = self.gaussian
        linear = gaussian(x, t)
        alpha, sigma = self.sde.alpha_sigma(t)
        spread = gaussian.posterior_scale(t)
        shrink = spread / self.backend.xp.sqrt(gaussian.eigenvalues) / sigma
        reach = spread * gaussian.explained(t)
        output, pull_net = self.net.with_pullback(gaussian.whiten(x, t), self.sde.half_log_snr(t))

        def pullback(v: Array) -> Array:
            through_net = pull_net((v @ gaussian.basis) * reach) * shrink
            return (alpha / sigma**2) * linear.covariance.matvec(v) + through_net @ gaussian.basis.T

        mean = linear.mean + (reach * output) @ gaussian.basis.T
        covariance = tweedie_covariance(sigma**2 / alpha, pullback, x, True, linear.covariance)
        return Moments(mean, covariance)

    def covariance_slope(self, x: Array, t: float, V: Array, w: Array) -> Array:
        """As of any denoiser, from the network's own second derivatives; the Gaussian part has none."""
        xp, gaussian = self.backend.xp, self.gaussian
        alpha, sigma = self.sde.alpha_sigma(t)
        spread = gaussian.posterior_scale(t)
        shrink = spread / xp.sqrt(gaussian.eigenvalues) / sigma  # of whitening, too
        reach = spread * gaussian.explained(t)
        columns = gaussian.basis.T @ xp.broadcast_to(V, (x.shape[0], *V.shape[-2:]))
        slope = self.net.bilinear_slope(
            gaussian.whiten(x, t),
            reach[:, None] * columns,
            shrink[:, None] * (columns @ weight_matrix(w)),
            self.sde.half_log_snr(t),
        )
        return sigma**2 / alpha * (slope * shrink) @ gaussian.basis.T
