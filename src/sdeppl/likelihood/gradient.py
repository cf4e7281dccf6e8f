"""∂ ln p(y given x_0)/∂x_0, however the observation can give it."""

from typing import Any

from array_api_compat import array_namespace

from ..backend import numerical_gradient
from .joint import JointObservation
from .observation import Observation


def log_prob_gradient(observation: Observation, x0: Any) -> Any:
    """(batch, dim) at x0: by H where it is known, by the observation's own `gradient`, else by differences.

    Where the noise depends on x_0, or there is no Jacobian and no gradient, it takes 4 dim evaluations of
    `log_prob`, to about 1e-10 in float64.
    """
    xp = array_namespace(x0)
    if observation.has_jacobian:
        linear = observation.linearise(x0)
        if linear.R is None:
            noise = observation.surrogate(linear, 0 * linear.predicted)
            residual = noise.y - linear.predicted
            if noise.diagonal:
                return linear.adjoint(residual / noise.R)
            return linear.adjoint(xp.linalg.solve(noise.R, residual[..., None])[..., 0])
    if isinstance(observation, JointObservation):
        gradients = [log_prob_gradient(part, x0) for part in observation.parts if part.count]
        return sum(gradients[1:], start=gradients[0])
    gradient = getattr(observation, "gradient", None)
    if gradient is not None:
        return gradient(x0)
    return numerical_gradient(lambda rows, index: observation.of_sets(index).log_prob(rows), x0)


def require_density(name: str, observation: Observation) -> None:
    """Raises: TypeError, naming the method, for a hard constraint, which has no p(y given x_0)."""
    if observation.hard:
        raise TypeError(
            f"likelihood='{name}' needs the density of y given x_0, which a hard constraint has not; use "
            "likelihood='tweedie', or LinearGaussian with a small variance"
        )
