"""Affine SDEs without any error."""

import math
from typing import Any

from ..backend import Array
from ..sde import AffineSDE
from .base import Memory, Normals, Solver


class ExactAffine(Solver):
    """x_t = Φ x_s + shift + L z with L Lᵀ = Q, the transition of any `AffineSDE`.

    Exact in law for steps of any length; the normals belong to no Brownian path, so there is no
    strong order. No evaluation of the drift. Source: Särkkä & Solin 2019, section 6.2.
    """

    strong_order = {"additive": math.nan}
    weak_order = math.inf
    evaluations = 0
    draws = ("extra",)

    def prepare(self, sde: Any, x: Array, t: float, deterministic: bool) -> Any:
        """Raises: TypeError for an SDE without exact transitions."""
        if not isinstance(sde, AffineSDE):
            raise TypeError(
                f"ExactAffine takes the transition of an affine SDE, as MatrixLinearSDE has; got "
                f"{type(sde).__name__}; use EulerMaruyama"
            )
        return sde

    def step(
        self, sde: Any, x: Array, s: float, t: float, z: Normals, memory: Memory = None
    ) -> tuple[Array, Memory]:
        return sde.advance(x, s, t, z), None
