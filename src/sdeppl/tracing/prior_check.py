"""Whether a site's draws are of its density, by Stein's identity, and whether a prior is what it was."""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import torch
from pyro import poutine
from scipy.stats import ks_2samp

from ..backend import seed_number, whole_number
from ..backend.sharing import SHARED
from ..distributions.typing import Args, Kwargs, Model
from .draws import OnlyDrawn, prior_draws
from .latents import LatentSite, LatentSpace
from .probing import FAILURES, over_rows
from .randomness import batched, seeded
from .running import SiteReader, check_call, traced, unvalidated
from .sites import find_sites
from .supports import log_density
from .unwrap import is_data_set

DRAWS, ONE_BY_ONE = 8_192, 256
SIGNIFICANT = 1e-3
FEW = 100
MOST = 10**9  # draws
FREQUENCIES = (1.0, 2.0)
NEAR, MANY_NUMBERS = (
    16,
    256,
)  # how far apart numbers are looked at in pairs; a quarter of it where there are more
NO_DENSITY = "it has no density given the other latents"
CHECK = 11  # of the random streams of a seed
ROWS = 4  # at which densities are compared, and draws number by number
MANY, MANY_WIDE = 256, 64  # in which implicit priors are compared where the numbers are others
WIDE, TOLD = 1_024, 64  # numbers of a site up to which each is compared; of more, some of each kind
LARGEST = 2**24  # numbers drawn at once
DIFFERENT = 1e-6  # probability, of all numbers, of such samples from the same prior


@dataclass(frozen=True)
class SitePriorCheck:
    """One latent site. numbers: unconstrained; effect: by how much the density's slope is not the draws', in
    their standard deviations: as of a normal that is shifted by so many of them, at the number where it is
    largest; p: the probability of as much by chance, all numbers and functions counted; outside: the share
    of draws at which the density is zero or not a number; skipped: why it was not compared, or ''.
    """

    site: str
    numbers: int
    effect: float
    p: float
    outside: float
    skipped: str = ""

    @property
    def good(self) -> bool:
        """Whether nothing speaks against the density, or nothing was compared."""
        return bool(self.skipped) or (self.outside == 0 and self.p > SIGNIFICANT)

    @property
    def words(self) -> str:
        """In words."""
        name = f"latent site '{self.site}'"
        if self.skipped:
            return f"{name} was not compared: {self.skipped}"
        if self.good:
            return f"{name}: draws and density agree (p = {self.p:.2g})"
        if self.outside:
            return f"{name}: its log_prob is -inf, or no number, at {self.outside:.2%} of its own draws"
        return (
            f"{name}: its draws are not of its log_prob (p = {self.p:.2g}), which differs as much as of a "
            f"normal shifted by {self.effect:.2g} standard deviations"
        )


@dataclass(frozen=True)
class PriorCheck:
    """What `check_prior` returns; `print` shows every site.

    draws: compared; good: whether no site fails, which right ones do once in a thousand checks.
    """

    sites: tuple[SitePriorCheck, ...]
    draws: int

    @property
    def good(self) -> bool:
        """Whether no site's draws speak against its density."""
        return all(site.good for site in self.sites)

    @property
    def verdict(self) -> str:
        """In words."""
        bad = [site.words for site in self.sites if not site.good]
        if bad:
            return (
                f"do not trust: {'; '.join(bad)}; a guide learns what `sample` draws, HMC takes `log_prob`: "
                "mend the distribution"
            )
        compared = sum(not site.skipped for site in self.sites)
        left = f"; {len(self.sites) - compared} have no density that could be compared"
        return (
            f"at {compared} latent sites {self.draws} draws and their densities agree"
            f"{left if compared < len(self.sites) else ''}"
        )

    def __str__(self) -> str:
        return "\n".join([*(site.words for site in self.sites), self.verdict])


def check_prior(
    model: Model,
    args: Args = (),
    kwargs: Kwargs | None = None,
    *,
    latents: Sequence[str] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> PriorCheck:
    """Compare what each latent site draws with its log_prob, in its unconstrained coordinates z.

    E[φ(z) ∂ ln p(z)/∂z + φ'(z)] = 0 for draws of p, whatever its normalising factor, with ln p of the site
    given its parents and ln |dx/dz| of its bijection; φ: functions of one number. Posteriors
    of a guide are of the prior that is drawn, those of HMC of its density, and calibration by simulated data
    sees no difference between them. A factor that the density lacks is not seen.

    Right priors fail once in a thousand checks, p being at most what chance gives. Raises: ModelError, as
    `ScoreGuide`. Source: Stein 1972; Gorham & Mackey 2015.
    """
    draws = whole_number("draws", draws, FEW, MOST)
    seed = seed_number(seed)
    check_call(model, args, kwargs, latents)
    args, given = tuple(args), dict(kwargs or {})
    space = find_sites(model, args, given, latents).space
    values = prior_draws(model, space.names, draws, (seed, CHECK), tuple(args), given)
    own = OwnDensities(model, space, tuple(args), given)
    return own.check(space.flatten(values))[0]


@dataclass(frozen=True)
class OwnDensities:
    """ln p of every latent site given its parents, and its slope along the site's own numbers."""

    model: Model
    space: LatentSpace
    args: Args
    kwargs: Kwargs

    def check(self, z: torch.Tensor) -> tuple[PriorCheck, torch.Tensor | None]:
        """Of draws z (draws, dim) from the model's prior, and ln p of all latents at the first of them that
        were looked at; None where a site has no density."""
        found, z = self.rows(z)
        tests = sum(site.stop - site.start for site in self.space.sites if site.name in found)
        checks = [
            self._site(site, z[:, : site.stop], found.get(site.name), tests) for site in self.space.sites
        ]
        whole = None
        if len(found) == len(self.space.sites):
            whole = torch.stack([log_p for log_p, _ in found.values()]).sum(dim=0)
        return PriorCheck(tuple(checks), len(z)), whole

    def _site(
        self, site: LatentSite, z: torch.Tensor, found: tuple[torch.Tensor, torch.Tensor] | None, tests: int
    ) -> SitePriorCheck:
        width = site.stop - site.start
        if found is None:
            return SitePriorCheck(site.name, width, 0.0, 1.0, 0.0, NO_DENSITY)
        log_p, slope = found
        if bool((slope == 0).all()):
            return SitePriorCheck(site.name, width, 0.0, 1.0, 0.0, "its density has no derivative")
        finite = torch.isfinite(log_p) & torch.isfinite(slope).all(dim=-1)
        outside = 1 - float(torch.isfinite(log_p).double().mean())
        return SitePriorCheck(site.name, width, *_stein(z[finite], slope[finite], tests), outside)

    def rows(self, z: torch.Tensor) -> tuple[dict[str, tuple[torch.Tensor, torch.Tensor]], torch.Tensor]:
        """{site: ln p (rows,), its slope (rows, numbers)} at z, or at its first rows where vmap cannot run
        the model; and those rows. What is observed is drawn only where latents need it."""
        latents_alone = replace(self, model=OnlyDrawn(self.space.names)(self.model))
        for of, vectorised in ((latents_alone, True), (self, True), (self, False)):
            rows = z if vectorised else z[:ONE_BY_ONE]
            with suppress(*FAILURES):
                return of._batched(rows, vectorised), rows
        return {}, rows

    def _batched(self, z: torch.Tensor, vectorised: bool) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        names = self._with_density(z[0])

        def function(row: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            slope, terms = torch.func.grad(self._total, has_aux=True)(row, names)
            return slope, terms

        if not names:
            return {}
        slopes, terms = over_rows(function, z, vectorised)
        return {
            site.name: (terms[:, names.index(site.name)], slopes[:, site.start : site.stop])
            for site in self.space.sites
            if site.name in names
        }

    def _with_density(self, z: torch.Tensor) -> list[str]:
        """Sites that have one, given the latents alone: not given something random that is none."""
        with seeded(0):
            one = self._terms(z)
        with seeded(1):
            other = self._terms(z)
        return [n for n in one if n in other and torch.allclose(one[n], other[n], equal_nan=True)]

    def _total(self, z: torch.Tensor, names: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        terms = self._terms(z)
        each = torch.stack([terms[name] for name in names])
        return each.sum(), each.detach()

    def _terms(self, z: torch.Tensor) -> dict[str, torch.Tensor]:
        """{site: ln p at z (dim,)}: parents enter by their values, without a derivative."""
        inner, values = {}, {}
        for site in self.space.sites:
            inner[site.name] = z[site.start : site.stop].reshape(site.unconstrained_shape)
            values[site.name] = site.transform(inner[site.name])
        fixed = {s.name: values[s.name].detach().to(s.dtype) for s in self.space.sites}
        terms = {}
        conditioned = poutine.condition(self.model, data=fixed)
        with SHARED, unvalidated():
            nodes = batched(lambda: traced(conditioned, self.args, self.kwargs), z)
            for site in self.space.sites:
                if is_data_set(nodes[site.name]["fn"]):
                    continue
                try:
                    density = log_density(nodes[site.name]["fn"], values[site.name].to(site.dtype)).sum()
                except NotImplementedError:
                    continue
                jacobian = site.transform.log_abs_det_jacobian(inner[site.name], values[site.name]).sum()
                terms[site.name] = density.to(z.dtype) + jacobian
        return terms


def _stein(z: torch.Tensor, slope: torch.Tensor, tests: int) -> tuple[float, float]:
    """The largest effect at a number of the site, and the probability of the largest z-score.

    z (draws, numbers of the site and of those before it); slope (draws, numbers of the site); tests: how many
    numbers are looked at in all.
    """
    draws, width = slope.shape
    if draws < FEW:
        return 0.0, 1.0
    sd = z.std(dim=0)
    sd = torch.where(sd > 0, sd, torch.ones_like(sd))
    w, slope = (z - z.mean(dim=0)) / sd, slope * sd[-width:]
    far = 1 + w**2 / 9
    bounded, wave = w / far.sqrt(), w.cos()
    own, near = w[:, -width:], (bounded, wave)
    functions = [
        (torch.ones_like(own), torch.zeros_like(own)),
        (bounded[:, -width:], far[:, -width:] ** -1.5),
    ]
    for k in FREQUENCIES:
        functions += [((k * own).sin(), k * (k * own).cos()), ((k * own).cos(), -k * (k * own).sin())]
    values = torch.stack([f for f, _ in functions], dim=-1)
    derivatives = torch.stack([f for _, f in functions], dim=-1)
    mean, score = _scored(values * slope[..., None] + derivatives)
    effect, largest, count = _effect(values, mean), float(score.max()), len(functions)
    # functions of the others of the site and of parents have no derivative along a number
    for offset in _offsets(w.shape[1]):
        first = w.shape[1] - width + offset
        kept = range(max(0, -first), min(width, w.shape[1] - first))
        count += len(near)
        if len(kept):
            left = slope[:, kept.start : kept.stop]
            right = torch.stack([f[:, first + kept.start : first + kept.stop] for f in near], dim=-1)
            mean, score = _scored(right * left[..., None])
            # the linear function is of unit variance, but for what is far
            effect, largest = max(effect, float(mean[..., 0].abs().max())), max(largest, float(score.max()))
    return effect, min(1.0, tests * count * math.erfc(largest / math.sqrt(2)))


def _offsets(numbers: int) -> list[int]:
    reach = NEAR if numbers <= MANY_NUMBERS else NEAR // 4
    return [offset for offset in range(-reach, reach + 1) if offset]


def _scored(identity: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Means over draws, and how many standard errors they are from 0."""
    mean, noise = identity.mean(dim=0), identity.std(dim=0) / math.sqrt(len(identity))
    return mean, mean.abs() / noise.clamp_min(1e-300)


def _effect(values: torch.Tensor, mean: torch.Tensor) -> float:
    """Root mean square of the slope's error, as far as the functions (draws, numbers, functions) see it."""
    products = torch.einsum("nkf,nkg->kfg", values, values) / len(values)
    products = products + 1e-6 * torch.eye(values.shape[-1], dtype=values.dtype)
    explained = (mean[:, None, :] @ torch.linalg.solve(products, mean[..., None]))[:, 0, 0]
    return float(explained.max().clamp_min(0).sqrt())


# ---- What a prior was when it was learned, so that a change is noticed


@dataclass(frozen=True)
class PriorRecord:
    """z: draws (rows, dim) from the prior, unconstrained; seed: of them; densities: {latent site: ln p at the
    first four}, of sites that have a density; summary: of further draws of the others, (draws, numbers).

    The other sites, whose prior is a program, have their draws compared: those of the same seed are the same
    numbers, or, where the model draws something else before or from another generator, look alike: each
    number, or of a site with many some of them, their mean and spread and projections on random directions.
    """

    z: torch.Tensor
    seed: tuple[int, ...]
    densities: Mapping[str, torch.Tensor]
    summary: torch.Tensor | None = None

    @classmethod
    def of(cls, reader: SiteReader, seed: tuple[int, ...]) -> "PriorRecord":
        """Of the reader's model as it is now."""
        z = _draws(reader, ROWS, (*seed, 0))
        densities = {
            name: density
            for name, density in reader.prior_log_densities(z).items()
            if bool(torch.isfinite(density).all())
        }
        record = cls(z, seed, densities)
        implicit = record.implicit(reader.space)
        return replace(record, summary=_summary(reader, implicit, (*seed, 1))) if implicit else record

    def implicit(self, space: LatentSpace) -> list[LatentSite]:
        """The sites that have no density."""
        return [site for site in space.sites if site.name not in self.densities]

    def changed(self, reader: SiteReader, rows: int = ROWS) -> str | None:
        """The first latent site whose prior is another in the reader's model; rows: of densities alone."""
        if self.densities:
            found = reader.prior_log_densities(self.z[:rows])
            for name, density in self.densities.items():
                if name not in found or not _close(density[:rows], found[name]):
                    return name
        implicit = self.implicit(reader.space)
        if not implicit or rows < ROWS:
            return None
        numbers = _draws(reader, ROWS, (*self.seed, 0))
        others = [
            site.name
            for site in implicit
            if not _close(self.z[:ROWS, site.start : site.stop], numbers[:, site.start : site.stop])
        ]
        if not others or self.summary is None:  # a file written before there were summaries
            return others[0] if others else None
        fresh, level = _summary(reader, implicit, (*self.seed, 2)), DIFFERENT / reader.space.dim
        columns, first = zip(self.summary.T.numpy(), fresh.T.numpy(), strict=True), 0
        values = [ks_2samp(*pair).pvalue for pair in columns]
        for site in implicit:
            last = first + _numbers_told(site)
            if site.name in others and min(values[first:last]) < level:
                return site.name
            first = last
        return None


def _numbers_told(site: LatentSite) -> int:
    width = site.stop - site.start
    return width if width <= WIDE else 2 * TOLD + 2


def _summary(reader: SiteReader, sites: Sequence[LatentSite], seed: tuple[int, ...]) -> torch.Tensor:
    """(draws, numbers) of fresh draws of these sites, some draws at a time."""
    dim = reader.space.dim
    count, at_once = (MANY if dim <= WIDE else MANY_WIDE), max(1, LARGEST // dim)
    parts = []
    for k, first in enumerate(range(0, count, at_once)):
        z = _draws(reader, min(at_once, count - first), (*seed, k) if k else seed)
        parts.append(torch.cat([_told(site, z[:, site.start : site.stop]) for site in sites], dim=1))
    return torch.cat(parts)


def _told(site: LatentSite, z: torch.Tensor) -> torch.Tensor:
    """The numbers of a site (draws, width), or what stands for many of them."""
    width = site.stop - site.start
    if width <= WIDE:
        return z
    generator = torch.Generator().manual_seed(0)
    places = torch.linspace(0, width - 1, TOLD).round().long()
    signs = torch.randint(2, (width, TOLD), generator=generator).to(z.dtype) * 2 - 1
    spread = torch.stack([z.mean(dim=1), z.std(dim=1)], dim=1)
    return torch.cat([z[:, places], z @ signs / math.sqrt(width), spread], dim=1)


def _draws(reader: SiteReader, count: int, seed: tuple[int, ...]) -> torch.Tensor:
    values = prior_draws(reader.model, reader.space.names, count, seed, reader.args, reader.kwargs)
    return reader.space.flatten(values)


def _close(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, rtol=1e-4, atol=1e-4, equal_nan=True)
