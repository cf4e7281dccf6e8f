"""The Markov chain of Metropolis-adjusted Langevin steps on p_t(x) l(y given x_t = x)."""

from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace

from ..backend import NoiseStream
from ..denoisers import Denoiser
from ..likelihood import DPSDenoiser, Guided, MeanLikelihood
from .local_scale import LocalScale, local_scale
from .score_integral import score_integral


def prior_of(denoiser: Denoiser) -> Denoiser:
    """What a mean likelihood guides; any other denoiser itself."""
    return denoiser.prior if isinstance(denoiser, MeanLikelihood) else denoiser


@dataclass(frozen=True)
class LangevinPoint:
    """A state, and what is known there; log_prior: ln p_t, or None where the score alone is known."""

    x: Any
    guided_score: Any
    prior_score: Any
    log_likelihood: Any
    log_prior: Any | None
    scale: LocalScale

    def take(self, chosen: Any, other: "LangevinPoint") -> "LangevinPoint":
        """This one in the rows where `chosen` (batch,), else the other."""
        xp = array_namespace(chosen)

        def pick(mine: Any, theirs: Any) -> Any:
            return xp.where(chosen if mine.ndim == 1 else chosen[:, None], mine, theirs)

        return LangevinPoint(
            pick(self.x, other.x),
            pick(self.guided_score, other.guided_score),
            pick(self.prior_score, other.prior_score),
            pick(self.log_likelihood, other.log_likelihood),
            None if self.log_prior is None else pick(self.log_prior, other.log_prior),
            self.scale.take(chosen, other.scale),
        )


@dataclass(frozen=True)
class LangevinChain:
    """The kernel at one time t."""

    denoiser: Denoiser
    prior: Denoiser
    t: float
    nodes: int

    @classmethod
    def of(cls, denoiser: Denoiser, t: float, nodes: int) -> "LangevinChain":
        if not 0 < t <= denoiser.sde.T:
            raise ValueError(f"LangevinCorrector: t must be in (0, {denoiser.sde.T!r}]; got {t!r}")
        if isinstance(denoiser, DPSDenoiser) and denoiser.zeta is not None:
            raise TypeError(
                "LangevinCorrector needs ln l(y given x_t), and DPS with a step size zeta has none; use "
                "DPSDenoiser(prior, observation), or another likelihood"
            )
        return cls(denoiser, prior_of(denoiser), t, nodes)

    def at(self, x: Any) -> LangevinPoint:
        """One evaluation of the denoiser at x (batch, dim)."""
        xp, sde, t = array_namespace(x), self.denoiser.sde, self.t
        if isinstance(self.denoiser, MeanLikelihood):
            guided = self.denoiser.guided(x, t)
        else:
            moments = self.denoiser(x, t)
            guided = Guided(moments, moments.mean, xp.zeros_like(x[:, 0]))
        alpha, variance, centred = sde.alpha(t), sde.sigma(t) ** 2, sde.centre(x, t)
        density = getattr(self.prior, "log_density", None)
        return LangevinPoint(
            x,
            (alpha * guided.mean - centred) / variance,
            (alpha * guided.prior.mean - centred) / variance,
            guided.log_likelihood,
            None if density is None else density(x, t),
            local_scale(self.denoiser, guided, t),
        )

    def step(self, old: LangevinPoint, h: Any, stream: NoiseStream, k: int) -> tuple[LangevinPoint, Any]:
        """The next state, and the probability with which it was to be `new`, (batch,)."""
        xp, root = array_namespace(old.x), h**0.5
        z = stream.normal(k, tuple(old.x.shape))
        scale, s = old.scale, old.scale.inside(old.guided_score)
        deviations = scale.deviations
        moved = 0.5 * h * scale.variances * s + root * deviations * scale.inside(z)
        new = self.at(old.x + scale.outside(moved))
        log_ratio = self._log_prior_ratio(old, new) + new.log_likelihood - old.log_likelihood
        log_ratio = log_ratio + self._log_back(new, old, h) + 0.5 * xp.sum(z * z, axis=-1) + scale.log_volume
        probability = xp.exp(xp.clip(log_ratio, max=0.0))
        probability = xp.where(xp.isnan(probability), xp.zeros_like(probability), probability)
        accepted = stream.uniform(k, old.x.shape[0]) < probability
        return new.take(accepted, old), probability

    def _log_back(self, new: LangevinPoint, old: LangevinPoint, h: Any) -> Any:
        """ln q(old given new), without the constants that it shares with ln q(new given old)."""
        xp, scale, root = array_namespace(new.x), new.scale, h**0.5
        white = scale.inside(old.x - new.x) / (root * scale.deviations)
        white = white - 0.5 * root * scale.deviations * scale.inside(new.guided_score)
        return -0.5 * xp.sum(white * white, axis=-1) - scale.log_volume

    def _log_prior_ratio(self, old: LangevinPoint, new: LangevinPoint) -> Any:
        """ln p_t(new) - ln p_t(old), (batch,)."""
        if new.log_prior is not None:
            return new.log_prior - old.log_prior
        return score_integral(
            lambda x: self.prior.score(x, self.t),
            old.x,
            new.x,
            old.prior_score,
            new.prior_score,
            self.nodes,
        )
