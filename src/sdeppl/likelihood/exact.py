"""The exact posterior where it has a closed form: Gaussians and mixtures seen linearly."""

import math
from dataclasses import dataclass

from ..backend import Array, array_namespace
from ..denoisers import Denoiser, GaussianDenoiser, GaussianMixtureDenoiser, decomposed
from ..linalg import Diagonalisable, Triangular, cholesky
from ..sde.marginals import GaussianMixture, log_sum
from .base import require_fit
from .observation import Linearisation, Observation


@dataclass(frozen=True)
class ExactPosterior:
    """p(x_0 given y) in closed form: its denoiser, and ln p(y), () or of many data sets (data sets,)."""

    denoiser: Denoiser
    log_evidence: Array


def has_exact_posterior(prior: Denoiser, observation: Observation) -> bool:
    """Whether `exact_posterior` knows the answer."""
    if not observation.is_linear or prior.mixture is None:
        return False
    return not observation.hard or isinstance(prior, GaussianDenoiser)


def exact_posterior(prior: Denoiser, observation: Observation) -> ExactPosterior:
    """Condition a Gaussian or Gaussian-mixture prior on a linear Gaussian observation.

    Component by component m + K (y - H m), C - K H C with K = C Hᵀ (H C Hᵀ + R)⁻¹, written as a sum of
    squares so that it stays positive; the weights are multiplied by N(y; H m_k, H C_k Hᵀ + R). Under any
    forward SDE of the prior the denoiser of the result is the exact guided one; of many data sets it is a
    mixture for each. Raises: TypeError for any other prior or observation; ValueError where H C Hᵀ + R is
    singular.
    """
    require_fit(prior, observation)
    mixture = prior.mixture
    if mixture is None or not has_exact_posterior(prior, observation):
        raise TypeError(
            "likelihood='exact' has a closed form for Gaussian and Gaussian-mixture priors with linear "
            f"Gaussian observations; got {type(prior).__name__} and {type(observation).__name__}; "
            "use likelihood='auto'"
        )
    if mixture.covariances.shared:
        means, C, logs = condition_gaussians(mixture.means, mixture.covariances.dense(), observation)
        if observation.sets is None and isinstance(prior, GaussianDenoiser):
            return ExactPosterior(GaussianDenoiser(prior.sde, means[0, :], C), logs[0])
        covariances = C[None, ...]
    else:
        xp = prior.backend.xp
        each = [
            condition_gaussians(mixture.means[k : k + 1, :], mixture.covariances.take(k).dense(), observation)
            for k in range(mixture.components)
        ]
        means = xp.concat([mean for mean, _, _ in each], axis=-2)
        covariances = xp.stack([C for _, C, _ in each])
        logs = xp.concat([log for _, _, log in each], axis=-1)
    return _weighed(prior, mixture.log_weights + logs, means, decomposed(covariances))


def _weighed(prior: Denoiser, log_joint: Array, means: Array, covariances: Diagonalisable) -> ExactPosterior:
    """From ln w_k N(y; H m_k, ·) of the components, in the last axis."""
    xp = array_namespace(log_joint)
    # a component that y rules out keeps a weight that rounding cannot tell from none
    least = math.log(float(xp.finfo(log_joint.dtype).smallest_normal))
    log_joint = xp.maximum(log_joint, xp.max(log_joint, axis=-1, keepdims=True) + least)
    evidence = log_sum(log_joint)
    # what rounding leaves of a direction without variance
    floor = 4 * prior.dim * float(xp.finfo(log_joint.dtype).eps) * xp.max(covariances.eigenvalues)
    covariances = covariances.map(lambda values: xp.where(values > floor, values, xp.zeros_like(values)))
    mixture = GaussianMixture(log_joint - evidence[..., None], means, covariances)
    return ExactPosterior(GaussianMixtureDenoiser.of(prior.sde, mixture), evidence)


def condition_gaussians(means: Array, C: Array, observation: Observation) -> tuple[Array, Array, Array]:
    """Means (k, dim) given y, their common covariance, and ln N(y; H m, H C Hᵀ + R), (k,).

    Of many data sets, means (data sets, k, dim) and logarithms (data sets, k).
    """
    xp, n = array_namespace(means), observation.count
    if n == 0:
        return means, C, xp.sum(0 * means, axis=-1)
    linear = observation.linearise(means)
    H, residual = linear.jacobian, observation.y[..., None, :] - linear.predicted
    first = observation.of_sets(xp.zeros((1,), dtype=xp.int64, device=observation.backend.device))
    of_one = Linearisation(linear.predicted[..., :1, :], H)
    noise = first.site_approximation(of_one, 0 * of_one.predicted).noise
    cross = H.matmat(C)
    S = noise.added_to(H.matmat(cross.T))
    S = 0.5 * (S + S.T)
    try:
        root = Triangular(cholesky(S))
    except (RuntimeError, ValueError) as error:  # torch's and NumPy's LinAlgError
        raise ValueError(
            "H C Hᵀ + R is singular: some observed combination has no noise and no prior variance, or two "
            "rows say the same; leave one out, or give it noise"
        ) from error
    gain = xp.linalg.solve(S, cross).T
    white = root.solve(residual)
    constant = root.logdet() + 0.5 * n * math.log(2 * math.pi)
    kept = xp.eye(C.shape[-1], dtype=C.dtype, device=observation.backend.device) - H.rmatvec(gain)
    reduced = kept @ C @ kept.T + gain @ noise.matmat(gain.T)
    logs = -0.5 * xp.sum(white * white, axis=-1) - constant
    return means + residual @ gain.T, 0.5 * (reduced + reduced.T), logs
