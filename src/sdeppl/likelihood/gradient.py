"""∂ ln p(y given x_0)/∂x_0, however the observation can give it."""

from typing import Any

from array_api_compat import array_namespace

from ..backend import numerical_gradient
from .joint import JointObservation
from .observation import LARGEST, Observation


def log_prob_gradient(observation: Observation, x0: Any) -> Any:
    """(batch, dim) at x0: by H where it is known, by the observation's own `gradient`, else by differences.

    Where there is no Jacobian and no gradient it takes 4 dim evaluations of `log_prob`, to about 1e-10 in
    float64.
    """
    if isinstance(observation, JointObservation):
        gradients = [log_prob_gradient(part, x0) for part in observation.parts if part.count]
        return sum(gradients[1:], start=gradients[0])
    if observation.has_jacobian:
        return _by_jacobian(observation, x0)
    gradient = getattr(observation, "gradient", None)
    if gradient is not None:
        return gradient(x0)
    at_once = LARGEST // (observation.count + observation.dim)
    return numerical_gradient(lambda rows, index: observation.of_sets(index).log_prob(rows), x0, at_once)


def _by_jacobian(observation: Observation, x0: Any) -> Any:
    """Hᵀ R⁻¹ r + ½ ∂R/∂x_0 · (R⁻¹ r rᵀ R⁻¹ - R⁻¹), r = y - η, the second where R depends on x_0."""
    xp, linear = array_namespace(x0), observation.linearise(x0)
    noise = observation.site_approximation(linear, 0 * linear.predicted)
    residual = noise.y - linear.predicted
    if noise.diagonal:
        pull = residual / noise.R
        through = None if linear.R is None else 0.5 * (pull * pull - 1 / noise.R)
    else:
        pull = xp.linalg.solve(noise.R, residual[..., None])[..., 0]
        through = None
        if linear.R is not None:
            through = 0.5 * (pull[:, :, None] * pull[:, None, :] - xp.linalg.inv(noise.R))
    by_mean = linear.adjoint(pull)
    return by_mean if through is None else by_mean + observation.bend(x0, None, through)


def require_density(name: str, observation: Observation) -> None:
    """Raises: TypeError, naming the method, for a hard constraint, which has no p(y given x_0)."""
    if observation.hard:
        raise TypeError(
            f"likelihood='{name}' needs the density of y given x_0, which a hard constraint has not; use "
            "likelihood='tweedie', or LinearGaussian with a small variance"
        )
