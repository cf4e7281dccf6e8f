"""Transitions of linear SDEs by the matrix exponential, on the host in float64."""

import math
from typing import NamedTuple

from array_api_compat import array_namespace
from scipy import linalg

from ..backend import Array, Number


class HostTransition(NamedTuple):
    """Φ (k, k), shift (k,) and Q (k, k): x_t given x_s ~ N(Φ x_s + shift, Q); NumPy, float64."""

    map: Array
    shift: Array
    covariance: Array


def linear_transition(F: Number, G: Array, u: Array, span: float) -> HostTransition:
    """Of dx = (F x + u) dt + B dW with G = B Bᵀ over `span` ≥ 0.

    Φ = e^{F h}, shift = ∫_0^h e^{F r} u dr, Q = ∫_0^h e^{F r} G e^{Fᵀ r} dr. One exponential of
    [[F h, G, u], [0, -Fᵀ h, 0], [0, 0, 0]] gives all three over a span with |F| h ≤ 1/2; longer ones
    are doubled from it, Q ← Q + Φ Q Φᵀ, since e^{-Fᵀ h} would grow and cost Q its digits. Nothing is
    subtracted, so that Q is precise for short steps too, entry by entry. F, G (k, k), u (k,):
    NumPy, float64. Source: Van Loan 1978, Computing integrals involving the matrix exponential.
    """
    xp, k = array_namespace(F), F.shape[0]
    size = float(xp.max(xp.sum(xp.abs(F), axis=1))) * span
    doublings = max(0, math.ceil(math.log2(2 * size))) if size > 0 else 0
    h = span / 2.0**doublings
    scale_g = float(xp.max(xp.abs(G))) or 1.0
    scale_u = float(xp.max(xp.abs(u))) or 1.0
    block = xp.zeros((2 * k + 1, 2 * k + 1), dtype=xp.float64)  # array-lint: NumPy's, on the host
    block[:k, :k] = F * h
    block[:k, k : 2 * k] = G / scale_g
    block[:k, 2 * k] = u / scale_u
    block[k : 2 * k, k : 2 * k] = -F.T * h
    exponential = linalg.expm(block)
    phi = exponential[:k, :k]
    shift = (scale_u * h) * exponential[:k, 2 * k]
    q = (scale_g * h) * (exponential[:k, k : 2 * k] @ phi.T)
    for _ in range(doublings):
        shift = shift + phi @ shift
        q = q + phi @ q @ phi.T
        phi = phi @ phi
    return HostTransition(phi, shift, 0.5 * (q + q.T))


def covariance_root(q: Array) -> Array:
    """L (k, k) with L Lᵀ = Q, for any covariance; scaled first, so that small variances keep their digits."""
    xp = array_namespace(q)
    scale = xp.sqrt(xp.linalg.diagonal(q))
    positive = xp.where(scale > 0, scale, xp.ones_like(scale))
    eigenvalues, basis = linalg.eigh(q / (positive[:, None] * positive))
    return scale[:, None] * basis * xp.sqrt(xp.clip(eigenvalues, 0.0, None))


def signal_to_noise(transition: HostTransition, t: float) -> Array:
    """Φᵀ Q⁻¹ Φ. Raises: ValueError where Q is singular."""
    half = linalg.solve_triangular(_factor(transition.covariance, t), transition.map, lower=True)
    return half.T @ half


def log_signal_to_noise(transition: HostTransition, t: float) -> Array:
    """Logarithms of the eigenvalues of Φᵀ Q⁻¹ Φ, ascending.

    The upper ones come from that matrix, the lower ones from its inverse Φ⁻¹ Q Φ⁻ᵀ, where they are
    the large ones: an eigenvalue below 2⁻⁵² of the largest would drown in its rounding.
    Raises: ValueError where Q is singular.
    """
    xp = array_namespace(transition.map)
    upper = linalg.eigvalsh(signal_to_noise(transition, t))
    half = linalg.solve(transition.map, _factor(transition.covariance, t))
    lower = 1 / xp.flip(linalg.eigvalsh(half @ half.T))
    return xp.log(xp.where(upper * upper > upper[-1] * lower[0], upper, lower))


def _factor(q: Array, t: float) -> Array:
    """Cholesky's factor of Q. Raises: ValueError where Q is singular."""
    try:
        return linalg.cholesky(q, lower=True)
    except linalg.LinAlgError as error:
        raise ValueError(
            f"no signal-to-noise ratio at t={t}: the covariance of x_t given x_0 is singular, for the noise "
            "does not reach all directions of x; give B a column for them, or A a coupling"
        ) from error
