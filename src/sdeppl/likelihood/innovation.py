"""The Gaussian form that most mean likelihoods share: y = η + noise, with η Gaussian given x_t."""

import math
from typing import Any

from array_api_compat import array_namespace, device

from ..backend import cholesky, log_diagonal, solve_lower, solve_lower_transposed
from .observation import Linearisation, SiteApproximation


class Innovation:
    """l(y given x_t) with η ~ N(predicted, P): N(y; predicted, S), S = P + R, times the surrogate's scale.

    noise: the surrogate of p(y given η); projected: P, (n, n) or (batch, n, n), in units of η². `root`: L,
    L Lᵀ = S; `white`: L⁻¹ (y - predicted), (batch, n); `log_likelihood`: (batch,).
    """

    def __init__(self, noise: SiteApproximation, linear: Linearisation, projected: Any) -> None:
        xp = array_namespace(linear.predicted)
        self.root = cholesky(noise.add_noise(projected))
        residual = noise.y - linear.predicted
        self.white = (
            solve_lower(self.root, residual.T).T
            if self.root.ndim == 2
            else (solve_lower(self.root, residual[..., None])[..., 0])
        )
        constant = 0.5 * residual.shape[-1] * math.log(2 * math.pi)
        squared = xp.sum(self.white * self.white, axis=-1)
        self.log_likelihood = noise.log_scale - 0.5 * squared - log_diagonal(self.root) - constant

    @property
    def inverse_root(self) -> Any:
        """L⁻¹, (n, n) or (batch, n, n)."""
        xp, n = array_namespace(self.root), self.root.shape[-1]
        identity = xp.eye(n, dtype=self.root.dtype, device=device(self.root))
        return solve_lower(self.root, xp.broadcast_to(identity, self.root.shape))

    @property
    def weights(self) -> Any:
        """S⁻¹ (y - predicted), (batch, n)."""
        if self.root.ndim == 2:
            return solve_lower_transposed(self.root, self.white.T).T
        return solve_lower_transposed(self.root, self.white[..., None])[..., 0]
