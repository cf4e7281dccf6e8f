"""The exact posterior of a linear Gaussian model, by conditioning its joint Gaussian."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from ..distributions.typing import Args, Kwargs, Model
from ..tracing import LatentSpace, ModelError, Potential, over_rows, prior_draws
from ..tracing.errors import first_line
from ..tracing.probing import FAILURES
from ..tracing.randomness import derive_seed, seeded
from .given import condition_model, model_given, whole_counts
from .result import Exact, Reference

PROBES = 64
HOW = "conditioning of the joint Gaussian of latents and data, which every site's density shows it to be"


@torch.no_grad()
def exact(
    model: Model,
    data: Mapping[str, object],
    *,
    args: Args = (),
    kwargs: Kwargs | None = None,
    draws: int = 1_000,
    seed: int = 0,
    latents: Sequence[str] | None = None,
) -> Reference:
    """p(latents given data) of a linear Gaussian model: exact moments, independent draws, and ln p(y).

    ln p(z, y) = ln p(z₀, y) + gᵀ(z - z₀) - (z - z₀)ᵀ Λ (z - z₀)/2 for every z; so z given y is
    N(z₀ + Λ⁻¹ g, Λ⁻¹), and ln p(y) = max ln p(z, y) + dim/2 ln 2π - ln |Λ| / 2. For an `SDEPath` or a
    state-space model that is the answer of the Kalman smoother, by the same equations in another order: Λ is
    dense here, so the cost is dim³, and dim² numbers of memory.

    data, args, kwargs, latents: as for `nuts`. Of the result `moments` holds mean and standard deviation by
    site, which `compare` uses; `log_evidence` ln p(y).

    Raises: ModelError, naming the site, where its log-density is not a quadratic function of the latents, to
    1e-9 of its size in float64 and 1e-4 in float32, at 64 draws of the prior or of the posterior (a bend that
    none reaches is not seen); for a latent that is not real; and as `hmc` does.
    """
    seed, draws = whole_counts(seed, draws=(draws, 2))
    space, conditioned = condition_model(model, data, args, kwargs, latents)
    for site in space.sites:
        if not site.is_real:
            raise ModelError(
                f"latent site '{site.name}' lives on {site.support}, so it is not Gaussian; use reference.hmc"
            )
    began = time.perf_counter()
    potential = Potential(conditioned, space, args, dict(kwargs or {}))
    probes = space.flatten(prior_draws(conditioned, space.names, PROBES, (seed, 0), args, kwargs))
    with seeded(seed, 2):
        quadratics = _read(potential, probes[0])
        _require_quadratic(potential, quadratics, probes, space.precise)
        whole = _total(list(quadratics.values()))
        posterior = _condition(whole)
        generator = torch.Generator().manual_seed(derive_seed(seed, 1))
        z = posterior.draw(max(draws, PROBES), generator)
        _require_quadratic(potential, quadratics, z[:PROBES], space.precise)
        z = z[:draws]
    found = _reference(space, posterior, z, time.perf_counter() - began)
    return replace(found, given=model_given(model, data, args, kwargs))


def _reference(space: LatentSpace, posterior: "_Gaussian", z: torch.Tensor, seconds: float) -> Reference:
    values, mean = space.unflatten(z), space.unflatten(posterior.mean)
    sd = space.unflatten(posterior.covariance.diagonal().sqrt())
    ones = {name: torch.ones(value.shape[1:], dtype=torch.float64) for name, value in values.items()}
    independent = {name: len(z) * one for name, one in ones.items()}
    return Reference(
        draws=values,
        r_hat=ones,
        ess=independent,
        tail_ess=independent,
        divergences=0,
        chains=1,
        seconds=seconds,
        warmup_seconds=0.0,
        supports={site.name: site.support for site in space.sites},
        how=HOW,
        moments={name: Exact(mean[name], sd[name]) for name in values},
        log_evidence=posterior.log_evidence,
    )


@dataclass(frozen=True)
class _Quadratic:
    """value + slopeᵀ (z - centre) + (z - centre)ᵀ curvature (z - centre) / 2."""

    centre: torch.Tensor
    value: torch.Tensor
    slope: torch.Tensor
    curvature: torch.Tensor

    def __call__(self, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """At z (batch, dim): the value (batch,), and the size of its largest part."""
        step = z - self.centre
        linear, square = step @ self.slope, 0.5 * ((step @ self.curvature) * step).sum(dim=-1)
        parts = torch.stack([self.value.expand(len(z)), linear, square])
        return parts.sum(dim=0), parts.abs().amax(dim=0)


@dataclass(frozen=True)
class _Gaussian:
    """mean, covariance; root: lower triangular with root rootᵀ the inverse covariance."""

    mean: torch.Tensor
    covariance: torch.Tensor
    root: torch.Tensor
    log_evidence: float

    def draw(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """(count, dim); of another count the first are the same."""
        noise = torch.randn((count, len(self.mean)), generator=generator, dtype=self.mean.dtype)
        return self.mean + torch.linalg.solve_triangular(self.root.T, noise.T, upper=True).T


def _read(potential: Potential, centre: torch.Tensor) -> dict[str, _Quadratic]:
    """Each site's density to second order about a point. Raises: ModelError where it has no derivatives."""
    found = {}
    for name, value in potential.terms(centre).items():

        def term(z: torch.Tensor, name: str = name) -> torch.Tensor:
            return potential.terms(z)[name]

        try:
            slope = torch.func.grad(term)(centre)
            curvature = torch.func.jacrev(torch.func.grad(term))(centre)
        except FAILURES as error:
            raise ModelError(
                f"site '{name}': its log-density cannot be differentiated ({first_line(error)}); "
                "write the model in torch alone"
            ) from error
        if not (torch.isfinite(value) and torch.isfinite(slope).all() and torch.isfinite(curvature).all()):
            raise _not_gaussian(name)
        found[name] = _Quadratic(centre, value, slope, 0.5 * (curvature + curvature.T))
    return found


def _require_quadratic(
    potential: Potential, quadratics: Mapping[str, _Quadratic], rows: torch.Tensor, precise: bool
) -> None:
    """Raises: ModelError, naming the site, where the density is another one than to second order."""
    names = list(quadratics)

    def terms(z: torch.Tensor) -> torch.Tensor:
        found = potential.terms(z)
        return torch.stack([found[name] for name in names])

    try:
        values = over_rows(terms, rows, True)
    except FAILURES:
        values = over_rows(terms, rows, False)
    for k, name in enumerate(names):
        expected, size = quadratics[name](rows)
        tolerance = (1e-9 if precise else 1e-4) * (size + values[:, k].abs() + 1)
        if not bool(((values[:, k] - expected).abs() <= tolerance).all()):
            raise _not_gaussian(name)


def _not_gaussian(name: str) -> ModelError:
    return ModelError(
        f"site '{name}' is not Gaussian with a mean that is affine in the latents and a covariance that does "
        "not depend on them: its log-density is no quadratic function of the latents; use reference.hmc"
    )


def _total(parts: list[_Quadratic]) -> _Quadratic:
    value, slope, curvature = (
        torch.stack([getattr(part, name) for part in parts]).sum(dim=0)
        for name in ("value", "slope", "curvature")
    )
    return _Quadratic(parts[0].centre, value, slope, curvature)


def _condition(whole: _Quadratic) -> _Gaussian:
    """The Gaussian whose log-density is `whole` but for a constant. Raises: ModelError for none."""
    root, failed = torch.linalg.cholesky_ex(-whole.curvature)
    if int(failed):
        raise ModelError(
            "the log-density of latents and data has no maximum along some direction: the prior is improper "
            "there, and the data say nothing; give it a proper prior"
        )
    step = torch.cholesky_solve(whole.slope[:, None], root)[:, 0]
    mean, dim = whole.centre + step, len(step)
    largest = whole.value + 0.5 * whole.slope @ step
    log_evidence = largest + 0.5 * dim * math.log(2 * math.pi) - root.diagonal().log().sum()
    return _Gaussian(mean, torch.cholesky_inverse(root), root, float(log_evidence))
