"""The closed form of a known density that is Gaussian."""

import math

from ..backend import keyed_normal
from ..denoisers import Denoiser, GaussianDenoiser
from ..likelihood import ExactPosterior
from .hamiltonian import JointDensity

LARGEST = 2_048  # numbers in x_0: the gradient is asked at one row more
FAR = 2.0  # how far from the prior's middle it is looked whether the gradient is affine
AFFINE = 1e-3  # of the largest gradient there
SAME = 1e-3  # nats by which ln p may leave the Gaussian's at its draws
LOOKED_AT = 64  # draws, and as many twice as far out
STREAM = (0x6761757373, 0)


def gaussian_posterior(density: JointDensity, prior: Denoiser) -> ExactPosterior | None:
    """p(x_0 given y) where ln p(x_0) + ln p(y given x_0) is quadratic in x_0; None where it is not.

    Its middle and precision by the gradient, one run of the density for all numbers; it is taken if the
    density is that of the Gaussian at its draws, and at draws twice as far out, to .001 nats.
    """
    if prior.dim > LARGEST or density.why_not or not _affine(density, prior):
        return None
    xp, like = prior.backend.xp, prior.backend
    eye = xp.eye(prior.dim, dtype=like.dtype, device=like.device)
    zero = xp.zeros_like(eye[:1, :])
    slopes = density.gradient(xp.concat([zero, eye]))
    precision = slopes[:1, :] - slopes[1:, :]
    precision = 0.5 * (precision + precision.T)
    if not bool(xp.all(xp.isfinite(precision))):
        return None
    values, basis = xp.linalg.eigh(precision)
    values, basis = xp.flip(values, axis=0), xp.flip(basis, axis=1)
    if not float(values[-1]) > 1e-12 * float(values[0]):
        return None
    mean = (slopes[:1, :] @ basis / values) @ basis.T
    z = keyed_normal(prior.backend, (LOOKED_AT, prior.dim), 0, STREAM)
    z = xp.concat([0 * z[:1, :], z, 2 * z])
    gaussian = -0.5 * xp.sum(z * z, axis=-1)
    found = density.log_prob(mean + (z / xp.sqrt(values)) @ basis.T) - gaussian
    if not float(xp.max(xp.abs(found - found[0]))) <= SAME:
        return None
    evidence = found[0] + 0.5 * (prior.dim * math.log(2 * math.pi) - xp.sum(xp.log(values)))
    return ExactPosterior(
        GaussianDenoiser.from_eigenbasis(prior.sde, mean[0, :], basis, 1 / values), evidence
    )


def _affine(density: JointDensity, prior: Denoiser) -> bool:
    """Whether the gradient changes evenly along a line through the prior's middle: a look at few rows, for
    most densities are not Gaussian."""
    xp = prior.backend.xp
    d = FAR * keyed_normal(prior.backend, (1, prior.dim), 0, STREAM, 1)
    slopes = density.gradient(xp.concat([k * d for k in (-1.0, 0.0, 1.0, 2.0)]))
    bends = slopes[2:, :] - 2 * slopes[1:-1, :] + slopes[:-2, :]
    return float(xp.max(xp.abs(bends))) <= AFFINE * float(xp.max(xp.abs(slopes)))
