"""Many independent numbers that depend on few: as few numbers that say the same."""

import math

from array_api_compat import array_namespace, device

from ..backend import cholesky, solve_lower
from .observation import Linearisation, SiteApproximation

ROUNDING = 1e-14  # of the mean information, for directions of which nothing was seen


def compressed(linear: Linearisation, noise: SiteApproximation) -> tuple[Linearisation, SiteApproximation]:
    """The same function of δ = x_0 - m from dim numbers, where n > dim were observed.

    N(y; η + H δ, R) = N(y'; Lᵀ δ, I) times a number that log_scale takes, with L Lᵀ = Hᵀ R⁻¹ H and
    L y' = Hᵀ R⁻¹ (y - η). R must be diagonal and positive. Matrices of dim × dim take the place of n × n.
    Source: the information form of the Kalman filter.
    """
    xp, H = array_namespace(linear.predicted), linear.H
    n, dim = H.shape[-2:]
    weight, residual = 1 / noise.R, noise.y - linear.predicted
    if H.ndim == 2 and weight.ndim == 2:
        products = xp.reshape(H[:, :, None] * H[:, None, :], (n, dim * dim))
        information = xp.reshape(weight @ products, (weight.shape[0], dim, dim))
    else:
        information = xp.matrix_transpose(H) @ (weight[..., :, None] * H)
    identity = xp.eye(dim, dtype=H.dtype, device=device(H))
    scale = xp.mean(xp.linalg.diagonal(information), axis=-1)[..., None, None]
    least = float(xp.finfo(H.dtype).smallest_normal)  # where nothing at all was seen, as of a scale alone
    root = cholesky(information + xp.clip(ROUNDING * scale, min=least) * identity)
    pull = linear.adjoint(residual * weight)
    y = solve_lower(root, pull.T).T if root.ndim == 2 else solve_lower(root, pull[..., None])[..., 0]
    left_over = xp.sum(weight * residual * residual, axis=-1) - xp.sum(y * y, axis=-1)
    constant = 0.5 * (n - dim) * math.log(2 * math.pi)
    log_scale = noise.log_scale - 0.5 * (left_over + xp.sum(xp.log(noise.R), axis=-1)) - constant
    few = Linearisation(xp.zeros_like(y), xp.matrix_transpose(root))
    return few, SiteApproximation(y, xp.ones_like(y), log_scale, True)
