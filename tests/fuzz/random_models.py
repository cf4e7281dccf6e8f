"""Random small Pyro models, each with an independent posterior: importance sampling in NumPy and SciPy."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro.distributions.transforms import OrderedTransform
from scipy import special, stats
from torch.distributions import transforms

PRIOR_DRAWS = 200_000
LEAST_EFFECTIVE = 4_000.0  # weighted draws, below which the truth is not known well enough


@dataclass(frozen=True)
class Prior:
    """A family of one latent number, twice: pyro (scale s, location m) ↦ distribution; numpy: the same draws.

    The two take tensors or arrays for m and s, so that they may depend on other latents.
    positive: whether it is scaled by s alone; bounded: whether its support has an end that moves with m or
    s; unit: whether it has neither m nor s; event: numbers of an event, of which others see the first.
    """

    pyro: Callable[..., Any]
    numpy: Callable[..., Any]
    positive: bool = False
    bounded: bool = False
    unit: bool = False
    event: int = 0


def _affine(base: Any, m: Any, s: Any) -> Any:
    return dist.TransformedDistribution(base, [transforms.AffineTransform(m, s)])


def _one(like: Any) -> Any:
    return torch.ones_like(torch.as_tensor(like))


def _like(s: torch.Tensor, numbers: Any) -> torch.Tensor:
    return torch.as_tensor(numbers, dtype=s.dtype)


def _ordered(z: np.ndarray) -> np.ndarray:
    return np.stack([z[..., 0], z[..., 0] + np.exp(z[..., 1])], axis=-1)


COVARIANCE = [[1.0, 0.8], [0.8, 2.0]]
SHARES = [2.0, 1.0, 4.0]

PRIORS: dict[str, Prior] = {
    "Normal": Prior(lambda m, s: dist.Normal(m, s), lambda m, s, r, n: m + s * r.standard_normal(n)),
    "StudentT": Prior(
        lambda m, s: dist.StudentT(5.0 * _one(m), m, s), lambda m, s, r, n: m + s * r.standard_t(5.0, n)
    ),
    "Cauchy": Prior(lambda m, s: dist.Cauchy(m, s), lambda m, s, r, n: m + s * r.standard_cauchy(n)),
    "Laplace": Prior(lambda m, s: dist.Laplace(m, s), lambda m, s, r, n: m + s * r.laplace(size=n)),
    "Gumbel": Prior(lambda m, s: dist.Gumbel(m, s), lambda m, s, r, n: m + s * r.gumbel(size=n)),
    "Logistic": Prior(lambda m, s: dist.Logistic(m, s), lambda m, s, r, n: m + s * r.logistic(size=n)),
    "Uniform": Prior(
        lambda m, s: dist.Uniform(m - s, m + s), lambda m, s, r, n: m + s * r.uniform(-1, 1, n), bounded=True
    ),
    "shifted Exponential": Prior(
        lambda m, s: _affine(dist.Exponential(_one(m)), m, s),
        lambda m, s, r, n: m + s * r.exponential(size=n),
        bounded=True,
    ),
    "reflected Gamma": Prior(
        lambda m, s: _affine(dist.Gamma(3.0 * _one(m), _one(m)), m, -s),
        lambda m, s, r, n: m - s * r.gamma(3.0, size=n),
        bounded=True,
    ),
    "scaled Beta": Prior(
        lambda m, s: _affine(dist.Beta(2.0 * _one(m), 3.0 * _one(m)), m, s),
        lambda m, s, r, n: m + s * r.beta(2.0, 3.0, n),
        bounded=True,
    ),
    "mixture": Prior(
        lambda m, s: dist.MixtureSameFamily(
            dist.Categorical(torch.tensor([0.3, 0.7], dtype=torch.as_tensor(s).dtype)),
            dist.Normal(torch.stack([m - 3 * s, m + s], -1), torch.stack([s, 0.5 * s], -1)),
        ),
        lambda m, s, r, n: np.where(
            r.uniform(size=n) < 0.3,
            m - 3 * s + s * r.standard_normal(n),
            m + s + 0.5 * s * r.standard_normal(n),
        ),
    ),
    "Exponential": Prior(
        lambda m, s: dist.Exponential(1 / s), lambda m, s, r, n: s * r.exponential(size=n), positive=True
    ),
    "Gamma": Prior(
        lambda m, s: dist.Gamma(2.5 * _one(s), 1 / s),
        lambda m, s, r, n: s * r.gamma(2.5, size=n),
        positive=True,
    ),
    "InverseGamma": Prior(
        lambda m, s: dist.InverseGamma(3.0 * _one(s), s),
        lambda m, s, r, n: s / r.gamma(3.0, size=n),
        positive=True,
    ),
    "HalfNormal": Prior(
        lambda m, s: dist.HalfNormal(s), lambda m, s, r, n: s * np.abs(r.standard_normal(n)), positive=True
    ),
    "HalfCauchy": Prior(
        lambda m, s: dist.HalfCauchy(s), lambda m, s, r, n: s * np.abs(r.standard_cauchy(n)), positive=True
    ),
    "LogNormal": Prior(
        lambda m, s: dist.LogNormal(torch.log(s), 0.8 * _one(s)),
        lambda m, s, r, n: s * np.exp(0.8 * r.standard_normal(n)),
        positive=True,
    ),
    "Weibull": Prior(
        lambda m, s: dist.Weibull(s, 1.7 * _one(s)), lambda m, s, r, n: s * r.weibull(1.7, n), positive=True
    ),
    "Pareto": Prior(
        lambda m, s: dist.Pareto(s, 3.0 * _one(s)),
        lambda m, s, r, n: s * (1 + r.pareto(3.0, n)),
        positive=True,
        bounded=True,
    ),
    "Chi2": Prior(
        lambda m, s: _affine(dist.Chi2(4.0 * _one(s)), torch.zeros_like(s), s),
        lambda m, s, r, n: s * r.chisquare(4.0, n),
        positive=True,
    ),
    "logit Normal": Prior(
        lambda m, s: dist.TransformedDistribution(
            dist.Normal(torch.zeros_like(m), 1.2 * _one(m)),
            [transforms.SigmoidTransform(), transforms.AffineTransform(m, s)],
        ),
        lambda m, s, r, n: m + s * special.expit(1.2 * r.standard_normal(n)),
        bounded=True,
    ),
    "MultivariateNormal": Prior(
        lambda m, s: dist.MultivariateNormal(m + s * _like(s, [0.0, 1.0]), s**2 * _like(s, COVARIANCE)),
        lambda m, s, r, n: (
            m + s * (np.array([0.0, 1.0]) + r.standard_normal(n) @ np.linalg.cholesky(COVARIANCE).T)
        ),
        event=2,
    ),
    "Dirichlet": Prior(
        lambda m, s: dist.Dirichlet(_like(s, SHARES)),
        lambda m, s, r, n: r.dirichlet(SHARES, n[0]),
        unit=True,
        event=3,
    ),
    "ordered Normals": Prior(
        lambda m, s: dist.TransformedDistribution(
            dist.Normal(_like(s, [0.5, -0.5]), 0.8 * _like(s, [1.0, 1.0])).to_event(1),
            [OrderedTransform()],
        ),
        lambda m, s, r, n: _ordered(np.array([0.5, -0.5]) + 0.8 * r.standard_normal(n)),
        unit=True,
        event=2,
    ),
    "VonMises": Prior(
        lambda m, s: dist.VonMises(0.5 * _one(s), 2.0 * _one(s)),
        lambda m, s, r, n: r.vonmises(0.5, 2.0, n),
        unit=True,
    ),
}
DISCRETE = Prior(  # which is refused
    lambda m, s: dist.Poisson(3.0 * _one(s)), lambda m, s, r, n: r.poisson(3.0, n).astype(float), unit=True
)
FAMILIES = {**PRIORS, "Poisson": DISCRETE}


@dataclass(frozen=True)
class PseudoObservation:
    """A family of an observed number given a predictor η of size about one and a scale c of the data.

    pyro (η, c) ↦ distribution; log_prob (y, η, c); draw (η, c, rng) one number for each η; whole: counts.
    """

    pyro: Callable[..., Any]
    log_prob: Callable[..., Any]
    draw: Callable[..., Any]
    gaps: bool = True


SEEN: dict[str, PseudoObservation] = {
    "Normal": PseudoObservation(
        lambda e, c: dist.Normal(c * e, 0.6 * c),
        lambda y, e, c: stats.norm.logpdf(y, c * e, 0.6 * c),
        lambda e, c, r: c * e + 0.6 * c * r.standard_normal(e.shape),
    ),
    "Normal of a curve": PseudoObservation(
        lambda e, c: dist.Normal(c * torch.sin(e), 0.3 * c),
        lambda y, e, c: stats.norm.logpdf(y, c * np.sin(e), 0.3 * c),
        lambda e, c, r: c * np.sin(e) + 0.3 * c * r.standard_normal(e.shape),
    ),
    "Normal of unknown scale": PseudoObservation(
        lambda e, c: dist.Normal(torch.full_like(e, c), c * torch.exp(0.5 * e)),
        lambda y, e, c: stats.norm.logpdf(y, c, c * np.exp(0.5 * e)),
        lambda e, c, r: c + c * np.exp(0.5 * e) * r.standard_normal(e.shape),
    ),
    "LogNormal": PseudoObservation(
        lambda e, c: dist.LogNormal(e + math.log(c), 0.5 * _one(e)),
        lambda y, e, c: stats.lognorm.logpdf(y, 0.5, scale=c * np.exp(e)),
        lambda e, c, r: c * np.exp(e + 0.5 * r.standard_normal(e.shape)),
    ),
    "StudentT": PseudoObservation(
        lambda e, c: dist.StudentT(4.0 * _one(e), c * e, 0.5 * c * _one(e)),
        lambda y, e, c: stats.t.logpdf(y, 4.0, c * e, 0.5 * c),
        lambda e, c, r: c * e + 0.5 * c * r.standard_t(4.0, e.shape),
    ),
    "Laplace": PseudoObservation(
        lambda e, c: dist.Laplace(c * e, 0.5 * c * _one(e)),
        lambda y, e, c: stats.laplace.logpdf(y, c * e, 0.5 * c),
        lambda e, c, r: c * e + 0.5 * c * r.laplace(size=e.shape),
    ),
    "Cauchy": PseudoObservation(
        lambda e, c: dist.Cauchy(c * e, 0.4 * c * _one(e)),
        lambda y, e, c: stats.cauchy.logpdf(y, c * e, 0.4 * c),
        lambda e, c, r: c * e + 0.4 * c * r.standard_cauchy(e.shape),
    ),
    "Exponential": PseudoObservation(
        lambda e, c: dist.Exponential(torch.exp(-e) / c),
        lambda y, e, c: -e - math.log(c) - y / c * np.exp(-e),
        lambda e, c, r: c * np.exp(e) * r.exponential(size=e.shape),
    ),
    "Gamma": PseudoObservation(
        lambda e, c: dist.Gamma(2.0 * _one(e), 2.0 * torch.exp(-e) / c),
        lambda y, e, c: stats.gamma.logpdf(y, 2.0, scale=0.5 * c * np.exp(e)),
        lambda e, c, r: 0.5 * c * np.exp(e) * r.gamma(2.0, size=e.shape),
    ),
    "Poisson": PseudoObservation(
        lambda e, c: dist.Poisson(torch.exp(1 + 0.7 * e)),
        lambda y, e, c: stats.poisson.logpmf(y, np.exp(1 + 0.7 * e)),
        lambda e, c, r: r.poisson(np.exp(np.minimum(1 + 0.7 * e, 20.0))).astype(float),
    ),
    "Bernoulli": PseudoObservation(
        lambda e, c: dist.Bernoulli(logits=2 * e),
        lambda y, e, c: np.where(y > 0, special.log_expit(2 * e), special.log_expit(-2 * e)),
        lambda e, c, r: (r.uniform(size=e.shape) < special.expit(2 * e)).astype(float),
    ),
    "Binomial": PseudoObservation(
        lambda e, c: dist.Binomial(7, logits=e),
        lambda y, e, c: stats.binom.logpmf(y, 7, special.expit(e)),
        lambda e, c, r: r.binomial(7, special.expit(e)).astype(float),
    ),
    "NegativeBinomial": PseudoObservation(
        lambda e, c: dist.NegativeBinomial(3.0 * _one(e), logits=0.6 * e),
        lambda y, e, c: stats.nbinom.logpmf(y, 3.0, special.expit(-0.6 * e)),
        lambda e, c, r: r.negative_binomial(3.0, special.expit(-0.6 * e)).astype(float),
    ),
    "Beta": PseudoObservation(
        lambda e, c: dist.Beta(torch.exp(0.5 * e) + 0.5, 2.0 * _one(e)),
        lambda y, e, c: stats.beta.logpdf(y, np.exp(0.5 * e) + 0.5, 2.0),
        lambda e, c, r: np.clip(r.beta(np.exp(0.5 * e) + 0.5, 2.0), 1e-6, 1 - 1e-6),
    ),
    "VonMises": PseudoObservation(
        lambda e, c: dist.VonMises(e, 3.0 * _one(e)),
        lambda y, e, c: stats.vonmises.logpdf(y, 3.0, e),
        lambda e, c, r: r.vonmises(np.mod(e + np.pi, 2 * np.pi) - np.pi, 3.0),
    ),
    "ordered categories": PseudoObservation(
        lambda e, c: dist.OrderedLogistic(e, torch.tensor([-1.0, 0.5], dtype=e.dtype)),
        lambda y, e, c: np.log(np.where(y == 0, _ordinal(e)[0], np.where(y == 1, *_ordinal(e)[1:]))),
        lambda e, c, r: (
            (r.uniform(size=e.shape)[None] > np.cumsum(_ordinal(e), 0)).sum(0).clip(0, 2).astype(float)
        ),
        gaps=False,
    ),
}


def _ordinal(e: np.ndarray) -> np.ndarray:
    """Probabilities of three ordered categories, (3, *η)."""
    low, high = special.expit(-1.0 - e), special.expit(0.5 - e)
    return np.stack([low, high - low, 1 - high])


@dataclass(frozen=True)
class Latent:
    """name; family; location m and scale s of its numbers; n: of a plate, or 0 for a number; parent: a latent
    that its location follows, in units of s, or ''; scaled_by: a positive one that multiplies its scale;
    bent: whether others see it through 3 tanh(x/3)."""

    name: str
    family: str
    m: float
    s: float
    n: int = 0
    parent: str = ""
    scaled_by: str = ""
    bent: bool = False


@dataclass(frozen=True)
class Observed:
    """name; family; scale c; weights (latents, n): of the standardised latents in η; offset; missing: which
    of its numbers are gaps; own: a latent of which each row sees one number, in turn, or ''."""

    name: str
    family: str
    c: float
    weights: dict[str, list[float]]
    offset: float
    missing: tuple[int, ...] = ()
    as_event: bool = False
    own: str = ""


@dataclass(frozen=True)
class Spec:
    """A random model: its latents, parents first; observed sites, dtype; seed: of its data; order: of all
    sites in the program."""

    latents: tuple[Latent, ...]
    observed: tuple[Observed, ...]
    dtype: str
    seed: int
    order: tuple[str, ...]
    data: dict[str, Any] = field(default_factory=dict)

    @property
    def words(self) -> str:
        """Site by site, in the program's order."""
        sites = {one.name: one for one in (*self.latents, *self.observed)}
        lines = [
            f"{sites[name]}, data {self.data[name]}" if name in self.data else f"{sites[name]}"
            for name in self.order
        ]
        return "\n".join([f"{self.dtype}, seed {self.seed}", *lines])

    def model(self, **data: Any) -> None:
        """The model in Pyro."""
        dtype = getattr(torch, self.dtype)
        values: dict[str, torch.Tensor] = {}
        observed = {site.name: site for site in self.observed}
        for name in self.order:
            if name in observed:
                self._observe(observed[name], values, dtype, data.get(name))
            else:
                values[name] = self._draw(self._latent(name), values, dtype)

    def _draw(self, latent: Latent, values: dict[str, torch.Tensor], dtype: torch.dtype) -> torch.Tensor:
        m, s = torch.tensor(latent.m, dtype=dtype), torch.tensor(latent.s, dtype=dtype)
        if latent.parent:
            m = m + s * self._standard(latent.parent, values)
        if latent.scaled_by:
            s = s * values[latent.scaled_by] / self._latent(latent.scaled_by).s
        family = FAMILIES[latent.family]
        if not latent.n or family.event:
            return pyro.sample(latent.name, family.pyro(m, s))
        with pyro.plate(f"plate_{latent.name}", latent.n):
            return pyro.sample(latent.name, family.pyro(m, s))

    def _observe(
        self, site: Observed, values: dict[str, torch.Tensor], dtype: torch.dtype, data: Any
    ) -> None:
        eta = self._predictor(site, values, torch, dtype)
        fn = SEEN[site.family].pyro(eta, site.c)
        if site.as_event:
            pyro.sample(site.name, fn.to_event(1), obs=data)
            return
        with pyro.plate(f"rows_{site.name}", len(eta)):
            pyro.sample(site.name, fn, obs=data)

    def _latent(self, name: str) -> Latent:
        return next(latent for latent in self.latents if latent.name == name)

    def _standard(self, name: str, values: dict[str, Any]) -> Any:
        """A number of a latent (its plate's mean, its event's first) in its own units, as others see it."""
        latent = self._latent(name)
        u = self._numbers(name, values)
        if latent.n:
            u = u[..., 0] if FAMILIES[latent.family].event else u.mean(-1)
        return self._bent(latent, u)

    def _numbers(self, name: str, values: dict[str, Any]) -> Any:
        """All of a latent in its own units."""
        latent = self._latent(name)
        return (values[name] - (0.0 if FAMILIES[latent.family].positive else latent.m)) / latent.s

    def _bent(self, latent: Latent, u: Any) -> Any:
        xp = torch if isinstance(u, torch.Tensor) else np
        return 3 * xp.tanh(u / 3) if latent.bent else u

    def _predictor(self, site: Observed, values: dict[str, Any], xp: Any, dtype: Any) -> Any:
        eta = site.offset
        for name, weights in site.weights.items():
            w = torch.tensor(weights, dtype=dtype) if xp is torch else np.asarray(weights)
            if name == site.own:
                latent = self._latent(name)
                turn = [k % latent.n for k in range(len(weights))]
                eta = eta + self._bent(latent, self._numbers(name, values))[..., turn] * w
            else:
                eta = eta + self._standard(name, values)[..., None] * w
        return eta

    def prior(self, rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
        """Draws of all latents: {name: (count,) or (count, n)}."""
        values: dict[str, np.ndarray] = {}
        for latent in self.latents:
            m: Any = latent.m
            s: Any = latent.s
            if latent.parent:
                m = m + s * self._standard(latent.parent, values)
            if latent.scaled_by:
                s = s * values[latent.scaled_by] / self._latent(latent.scaled_by).s
            shape = (count, latent.n) if latent.n else (count,)
            if latent.n:
                m, s = (np.asarray(v)[..., None] if np.ndim(v) else v for v in (m, s))
            values[latent.name] = FAMILIES[latent.family].numpy(m, s, rng, shape)
        return values

    def eta(self, site: Observed, values: dict[str, np.ndarray]) -> np.ndarray:
        """(count, n)."""
        return self._predictor(site, values, np, None)


@dataclass(frozen=True)
class Truth:
    """Weighted draws of the posterior: values {name: (count, numbers)}, weights (count,) of sum 1."""

    values: dict[str, np.ndarray]
    weights: np.ndarray

    @property
    def effective(self) -> float:
        """Effective sample size."""
        return float(1 / np.sum(self.weights**2))

    def quantiles(self, name: str, levels: tuple[float, ...]) -> np.ndarray:
        """(levels, numbers)."""
        found = []
        for column in self.values[name].T:
            order = np.argsort(column)
            found.append(np.interp(levels, np.cumsum(self.weights[order]), column[order]))
        return np.array(found).T


def truth(spec: Spec, count: int = PRIOR_DRAWS, seed: int = 1) -> Truth:
    """By importance sampling from the prior."""
    rng = np.random.default_rng([spec.seed, seed])
    values = spec.prior(rng, count)
    log_weight = np.zeros(count)
    with np.errstate(all="ignore"):
        for site in spec.observed:
            kept = [k for k in range(len(spec.data[site.name])) if k not in site.missing]
            y, eta = spec.data[site.name][kept], spec.eta(site, values)[:, kept]
            log_weight += np.nan_to_num(SEEN[site.family].log_prob(y, eta, site.c), nan=-np.inf).sum(-1)
    weights = np.exp(log_weight - log_weight.max())
    flat = {name: value.reshape(count, -1) for name, value in values.items()}
    return Truth(flat, weights / weights.sum())


def random_spec(random: Random) -> Spec:
    """One to four latents, one or two observed sites with data from the model itself."""
    latents: list[Latent] = []
    for k in range(random.choice([1, 1, 2, 2, 3, 4])):
        family = random.choice(sorted(PRIORS)) if random.random() > 0.01 else "Poisson"
        kind = FAMILIES[family]
        s = 1.0 if kind.unit else 10.0 ** random.choice([0, 0, 0, 0, -1, 1, 3, -3, 6, -6])
        m = 0.0 if kind.positive or kind.unit else s * random.choice([0.0, 1.0, -2.0, 5.0])
        positive = [one.name for one in latents if FAMILIES[one.family].positive and not one.n]
        moving = random.random() < 0.1  # a support that moves with another latent is refused
        free = not kind.unit and (not kind.bounded or moving)
        parent = random.choice(["", *[one.name for one in latents]])
        parent = parent if free and not kind.positive else ""
        scaled_by = random.choice(["", *positive]) if random.random() < 0.5 else ""
        n, bent = (
            kind.event or random.choice([0, 0, 0, 2]),
            random.random() < (0.2 if family == "Normal" else 0.7),
        )
        latents.append(Latent(f"x{k}", family, m, s, n, parent, scaled_by if free else "", bent))
    observed = tuple(_observed(random, k, latents) for k in range(random.choice([1, 1, 2])))
    dtype, seed = random.choice(["float64", "float64", "float32"]), random.randrange(2**31)
    spec = Spec(tuple(latents), observed, dtype, seed, _order(random, latents, observed))
    rng = np.random.default_rng([spec.seed, 0])
    values = spec.prior(rng, 1)
    for site in observed:
        y = SEEN[site.family].draw(spec.eta(site, values)[0], site.c, rng)
        y = y.astype(spec.dtype).astype(float)
        y[list(site.missing)] = np.nan
        spec.data[site.name] = y
    return spec


def _order(random: Random, latents: list[Latent], observed: tuple[Observed, ...]) -> tuple[str, ...]:
    """All sites, each after what it depends on, else at random."""
    after = {one.name: {one.parent, one.scaled_by} - {""} for one in latents}
    after |= {site.name: set(site.weights) for site in observed}
    order: list[str] = []
    while len(order) < len(after):
        order.append(random.choice([n for n in after if n not in order and after[n] <= set(order)]))
    return tuple(order)


def _observed(random: Random, k: int, latents: list[Latent]) -> Observed:
    family = random.choice(sorted(SEEN))
    n = random.choice([1, 2, 4, 6])
    names = [one.name for one in latents if random.random() < 0.8] or [latents[-1].name]
    weights = {name: [random.choice([1.0, -1.0, 0.5, 2.0]) for _ in range(n)] for name in names}
    missing = (
        tuple(sorted(random.sample(range(n), random.choice([0, 0, 1, n - 1]))))
        if n > 1 and SEEN[family].gaps
        else ()
    )
    scale = 10.0 ** random.choice([0, 0, 0, 2, -2, 6, -6])
    several = [one.name for one in latents if one.n and one.name in weights]
    own = random.choice(["", *several])
    offset, as_event = random.choice([0.0, 0.5]), random.random() < 0.5
    return Observed(f"y{k}", family, scale, weights, offset, missing, as_event, own)
