"""The exact posterior where it has a closed form: Gaussians and mixtures seen linearly."""

import math
from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace

from ..backend import cholesky, log_diagonal
from ..denoisers import Denoiser, GaussianDenoiser, GaussianMixtureDenoiser
from .base import require_fit
from .observation import Linearisation, Observation


@dataclass(frozen=True)
class ExactPosterior:
    """p(x_0 given y) in closed form: its denoiser, and ln p(y) as a 0-d array."""

    denoiser: Denoiser
    log_evidence: Any


def has_exact_posterior(prior: Denoiser, observation: Observation) -> bool:
    """Whether `exact_posterior` knows the answer."""
    if not observation.is_linear:
        return False
    return isinstance(prior, GaussianDenoiser) or (
        isinstance(prior, GaussianMixtureDenoiser) and not observation.hard
    )


def exact_posterior(prior: Denoiser, observation: Observation) -> ExactPosterior:
    """Condition a Gaussian or Gaussian-mixture prior on a linear Gaussian observation.

    Component by component m + K (y - H m), C - K H C with K = C Hᵀ (H C Hᵀ + R)⁻¹, written as a sum of
    squares so that it stays positive; the weights are multiplied by N(y; H m_k, H C_k Hᵀ + R). Under any
    forward SDE of the prior the denoiser of the result is the exact guided one. Raises: TypeError for any
    other prior or observation; ValueError where H C Hᵀ + R is singular.
    """
    require_fit(prior, observation)
    if not has_exact_posterior(prior, observation):
        raise TypeError(
            "likelihood='exact' has a closed form for Gaussian and Gaussian-mixture priors with linear "
            f"Gaussian observations; got {type(prior).__name__} and {type(observation).__name__}; "
            "use likelihood='auto'"
        )
    if isinstance(prior, GaussianDenoiser):
        covariance = (prior.basis * prior.eigenvalues) @ prior.basis.T
        means, C, logs = condition_gaussians(prior.location[None, :], covariance, observation)
        return ExactPosterior(GaussianDenoiser(prior.sde, means[0, :], C), logs[0])
    assert isinstance(prior, GaussianMixtureDenoiser)
    return _mixture(prior, observation)


def _mixture(prior: GaussianMixtureDenoiser, observation: Observation) -> ExactPosterior:
    xp, means, covariances = prior.backend.xp, prior.means, prior.covariances
    if prior.eigenvalues.shape[0] == 1:  # one covariance for all
        means, C, logs = condition_gaussians(means, covariances[0, ...], observation)
        covariances = xp.broadcast_to(C, covariances.shape)
    else:
        each = [
            condition_gaussians(means[k : k + 1, :], covariances[k, ...], observation)
            for k in range(means.shape[0])
        ]
        means = xp.concat([mean for mean, _, _ in each], axis=0)
        covariances = xp.stack([C for _, C, _ in each])
        logs = xp.concat([log for _, _, log in each])
    log_joint = prior.log_weights + logs
    largest = xp.max(log_joint)
    # a component that y rules out keeps a weight that rounding cannot tell from none
    weights = xp.clip(xp.exp(log_joint - largest), min=float(xp.finfo(log_joint.dtype).smallest_normal))
    evidence = largest + xp.log(xp.sum(weights))
    return ExactPosterior(GaussianMixtureDenoiser(prior.sde, weights, means, covariances), evidence)


def condition_gaussians(means: Any, C: Any, observation: Observation) -> tuple[Any, Any, Any]:
    """Means (k, dim) given y, their common covariance, and ln N(y; H m, H C Hᵀ + R), (k,).

    Of many data sets, means (data sets, k, dim) and logarithms (data sets, k).
    """
    xp, n = array_namespace(means), observation.count
    if n == 0:
        return means, C, xp.sum(0 * means, axis=-1)
    linear = observation.linearise(means)
    H, residual = linear.H, observation.y[..., None, :] - linear.predicted
    first = observation.of_sets(xp.zeros((1,), dtype=xp.int64, device=observation.backend.device))
    noise = first.site_approximation(Linearisation(linear.predicted[:1, :], H), 0 * linear.predicted[:1, :])
    S = noise.add_noise(H @ C @ H.T)
    S = 0.5 * (S + S.T)
    try:
        root = cholesky(S)
    except (RuntimeError, ValueError) as error:  # torch's and NumPy's LinAlgError
        raise ValueError(
            "H C Hᵀ + R is singular: some observed combination has no noise and no prior variance, or two "
            "rows say the same; leave one out, or give it noise"
        ) from error
    gain = xp.linalg.solve(S, H @ C).T
    white = xp.linalg.solve(root, xp.reshape(residual, (-1, n)).T)
    constant = log_diagonal(root) + 0.5 * n * math.log(2 * math.pi)
    squares = xp.reshape(xp.sum(white * white, axis=0), tuple(residual.shape[:-1]))
    kept = xp.eye(C.shape[-1], dtype=C.dtype, device=observation.backend.device) - gain @ H
    reduced = kept @ C @ kept.T + gain @ noise.add_noise(0 * S) @ gain.T
    return means + residual @ gain.T, 0.5 * (reduced + reduced.T), -0.5 * squares - constant
