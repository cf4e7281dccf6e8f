"""Whether a denoiser's score and covariance are the prior's: what should be orthogonal is tested on draws."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np
from scipy.stats import t as student

from ..backend import host_numbers, place, real_number, seed_number, to_host, whole_number
from ..denoisers import Denoiser, GaussianDenoiser, NetworkDenoiser
from ..guide import ScoreGuide
from ..posterior import SIGNIFICANT
from ..query.fit_check import LARGEST_PAIRED, Noised, explained, noised_levels, whitened
from .field_summary import WIDE
from .wave_checks import BandCheck, Bands, bands_of, relative, z_scores

FRESH = 20_000  # draws of a guide's model; with a layout numbers in all, and draws at least:
FRESH_NUMBERS, LEAST_FRESH = 2**22, 200
CHECK = 4  # of a guide's random streams: draws that neither its moments nor its training have seen

Level = TypeVar("Level", "LevelCheck", "CovarianceLevel")

DIRECTIONS = 16
MOST = 10**9  # fresh draws
SURE = 4.0  # |z| of a band that is said to be off
VAGUE = 0.2  # standard error of a length, relative, that is not shown


class Check:
    """What was found of WHAT by noise level: TABLE, head and row of it; OFF, said of the worst level."""

    WHAT: ClassVar[str]
    TABLE: ClassVar[tuple[str, str]]
    OFF: ClassVar[str]
    levels: tuple[Any, ...]
    draws: int
    p: float

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.verdict})"

    def __str__(self) -> str:
        head, row = self.TABLE
        return "\n".join([head, *(row.format(s=level) for level in self.levels), self.verdict])

    @property
    def good(self) -> bool:
        """Whether nothing speaks against it."""
        return self.p > SIGNIFICANT

    @property
    def verdict(self) -> str:
        """In words."""
        if self.good:
            return f"nothing in {self.draws} draws speaks against the {self.WHAT} (p = {self.p:.2g})"
        worst = max(self.levels, key=lambda level: level.largest)
        return (
            f"do not trust: the {self.WHAT} is wrong (p = {self.p:.2g}), most at σ/α = "
            f"{worst.noise_to_signal:.3g}, where its {self.OFF.format(s=worst, check=self)}"
        )


def advice(prior: object, denoiser: Denoiser, bent: bool = True) -> str:
    """What to do about a score that is wrong; bent: whether in what is not linear in x_t."""
    if isinstance(denoiser, NetworkDenoiser):
        return "train longer, or a wider network"
    if not isinstance(denoiser, GaussianDenoiser):
        return "check the denoiser"
    if not isinstance(prior, ScoreGuide):
        return "x_0 is not Gaussian" if bent else "check its mean and covariance"
    if not bent:
        return f"its moments are of {prior.fitted().draws} draws: use more"
    if prior.net_factory is None:
        net = "UNet()" if prior.fields else "ResidualMLP"
        return f"the prior is not Gaussian: give the guide a network (net=sdeppl.{net}) and train it"
    return "the prior is not Gaussian, and the guide has no trained network in use: train it, or a wider one"


def prior_and_draws(check: str, prior: object, draws: object, seed: int) -> tuple[Denoiser, Any]:
    """The denoiser and x_0 in its coordinates: an array, or how many fresh draws of a guide's own model.

    Raises: TypeError, ValueError, naming the check.
    """
    seed = seed_number(seed)
    if isinstance(prior, ScoreGuide):
        if draws is None:
            draws = max(LEAST_FRESH, FRESH_NUMBERS // prior.space.dim) if prior.fields else FRESH
        draws = whole_number("draws, for a guide how many,", draws, 100, MOST)
        denoiser = prior.denoiser()
        x0 = prior.fitted().standardise(prior.held_out(draws, CHECK, seed)).numpy()
        return denoiser, checked_rows("draws", x0, denoiser.dim)
    if not isinstance(prior, Denoiser):
        raise TypeError(f"{check} takes a ScoreGuide or a Denoiser; got {type(prior).__name__}")
    if draws is None or real_number(draws) is not None:
        raise TypeError(f"{check} of a denoiser takes draws=x_0, an array (draws, dim) from its prior")
    rows: Any = draws if hasattr(draws, "ndim") else host_numbers(draws, f"{check}: draws")
    return prior, checked_rows("draws", rows, prior.dim)


def checked_rows(name: str, x0: Any, dim: int) -> Any:
    """x_0 as it is. Raises: ValueError for fewer than 100 rows, or another dimension."""
    if x0.ndim != 2 or x0.shape[1] != dim or x0.shape[0] < 100:
        raise ValueError(f"{name}: expected x_0 (100 or more, {dim}); got shape {tuple(x0.shape)}")
    return x0


def tested_levels(
    pairs: Iterator[Noised], test: Callable[[Noised], tuple[Level, int]]
) -> tuple[tuple[Level, ...], float]:
    """What `test` finds at each level, of how many tests it says, and the probability of the largest |z|."""
    draws, found = math.inf, []
    for level in pairs:
        draws = len(level.eps)
        found.append(test(level))
    levels = tuple(level for level, _ in found)
    largest, count = max(level.largest for level in levels), sum(count for _, count in found)
    return levels, probability(largest, count, draws)


def probability(largest: float, tests: int, draws: float = math.inf) -> float:
    """Of one |z| of `tests` as large as this, at most; draws: that its standard error is estimated from."""
    return min(1.0, 2 * tests * float(student.sf(largest, draws - 1)))


# ---- Whether a learned score is the prior's: what denoising score matching makes orthogonal must be so


@dataclass(frozen=True)
class LevelCheck:
    """One noise level. scale_error ± scale_noise: by how much ε̂ is too long along itself, relative, and its
    standard error; bias, slope, bend: the largest |z|, entry by entry, of E[ε - ε̂], of E[(ε - ε̂) x_t], and of
    the same with the sine and cosine of twice x_t in its standard deviations;
    loss: E|ε - ε̂|²/dim, the ε-loss at this level, of which no training is below the exact score's;
    excess ± excess_noise: how much of E|ε - ε̂|² the functions tested explain, which the exact score does not
    have, without bias, and its standard error. bands: of sites with a layout, by wavenumber; of more than
    2,048 numbers slope and bend are those of bands.
    """

    t: float
    noise_to_signal: float
    scale_error: float
    scale_noise: float
    bias: float
    slope: float
    bend: float
    loss: float
    excess: float
    excess_noise: float
    bands: tuple[BandCheck, ...] = ()

    @property
    def largest(self) -> float:
        """|z| of all tests."""
        length = abs(self.scale_error) / self.scale_noise if self.scale_noise else 0.0
        return max(length, self.bias, self.slope, self.bend, *(band.largest for band in self.bands))


@dataclass(frozen=True, repr=False)
class ScoreCheck(Check):
    """What `check_score` returns; `print` shows it as a table with a verdict.

    p: probability of a |z| as large as the largest for the exact score, all tests counted; good: p above
    0.001, so that an exact score fails once in a thousand checks; verdict: in words; advice: what to do where
    it is not good.
    """

    WHAT = "score"
    TABLE = (
        "     t      σ/α   length of ε̂        |z| of bias, slope, bend   |ε - ε̂|²/dim",
        "{s.t:6.3f} {s.noise_to_signal:8.3g}   {s.scale_error:+.2%} ± {s.scale_noise:.2%}   {s.bias:10.1f} "
        "{s.slope:6.1f} {s.bend:6.1f}   {s.loss:12.4f}",
    )
    OFF = "length is off by {s.scale_error:+.1%} ± {s.scale_noise:.1%}{check._size}; {check.advice}"
    levels: tuple[LevelCheck, ...]
    draws: int
    dim: int
    p: float
    advice: str = "check the denoiser"

    def __str__(self) -> str:
        table = super().__str__().splitlines()
        return "\n".join([*table[:-1], *_by_wavenumber(self.levels), table[-1]])

    @property
    def nats(self) -> float:
        """KL divergence of the learned prior from the model's, as far as these functions see it; nan for one
        level.

        ∫ E|ε - ε̂|² dλ over λ = ln(α/σ), with the excess for E|ε - ε̂|². The whole of that integral bounds the
        divergence, which is, in the mean over data sets, that of the posteriors plus what ln p(y) is off.
        Source: Song, Durkan, Murray & Ermon 2021, theorem 1; the chain rule.
        """
        return self._spacing * sum(level.excess for level in self.levels)

    @property
    def nats_noise(self) -> float:
        """Standard error of `nats`."""
        return self._spacing * math.sqrt(sum(level.excess_noise**2 for level in self.levels))

    @property
    def _spacing(self) -> float:
        if len(self.levels) < 2:
            return math.nan
        first, last = self.levels[0], self.levels[-1]
        return math.log(first.noise_to_signal / last.noise_to_signal) / (len(self.levels) - 1)

    @property
    def _size(self) -> str:
        bands = [band for level in self.levels for band in level.bands]
        where = max(bands, key=lambda band: band.largest, default=None)
        words = "" if where is None or where.largest < SURE else f"; {where.words}"
        if not self.nats > 0:
            return words
        off = math.sqrt(2 * self.nats)
        each = f", or each of {self.dim} by {off / math.sqrt(self.dim):.2g}" if self.dim > 1 else ""
        return words + (
            f"; what is seen of it is {self.nats:.2g} ± {self.nats_noise:.1g} nats, such as one posterior "
            f"mean that is {off:.2g} standard deviations off{each}"
        )


def _by_wavenumber(levels: Sequence[LevelCheck]) -> list[str]:
    """A table: how much too long ε̂ is by band, a column for each noise level; starred where something there
    is surely off, '-' where the length is not known to 20%."""
    if not levels[0].bands:
        return []
    heads = "".join(f"{level.noise_to_signal:>9.3g}" for level in levels)
    lines = [f"{'length of ε̂ by wavenumber, σ/α =':<36}{heads}"]
    for row in zip(*(level.bands for level in levels), strict=True):
        cells = (
            ("-" if b.scale_noise > VAGUE else f"{b.scale_error:+.1%}") + ("*" if b.largest > SURE else " ")
            for b in row
        )
        lines.append(f"{f'{row[0].site}, {row[0].band}':<36}" + "".join(f"{cell:>9}" for cell in cells))
    return lines


def check_score(
    prior: ScoreGuide | Denoiser, draws: object = None, *, levels: int = 8, seed: int = 0
) -> ScoreCheck:
    """Test E[(ε - ε̂(x_t, t)) φ(x_t)] = 0, which holds for every φ where ε̂ is the exact score's.

    φ is 1, each number of x_t, its sine and cosine (in which the best linear score of a prior that is not
    Gaussian is wrong), and ε̂ itself, which finds a score that is too long or too short. Each mean over
    fresh pairs (x_0, ε) is divided by its standard error, at `levels` noise levels evenly in ln(α/σ), from
    T to σ/α = 0.05. With 20,000 draws of 3 numbers, a score that is 2% too long is 5 standard errors off
    at σ/α = 1, and more above.

    Of sites with a layout the waves of each octave of |k| are tested too, all together, by noise level:
    whether ε̂ is too long or too short there, E[(ε - ε̂) x_t], and functions of x_t's own part in that octave.
    Time grows with draws × levels × numbers × octaves, memory with draws × numbers.

    prior: a trained guide, or any denoiser. draws: how many for a guide, from its own model, which its
    training has not seen, by default 20,000, with a layout 4 million numbers in all and 200 draws at least;
    of data sets the rows held out. For a denoiser x_0, (draws, dim), from the same prior in its coordinates.

    Returns: ScoreCheck. Raises: ValueError for fewer than 100 draws, another dimension, or levels < 1;
    TypeError for a prior of another kind, or a denoiser without draws. Source: orthogonality of the
    conditional expectation; Vincent 2011 for the loss whose minimum it is.
    """
    denoiser, x0 = prior_and_draws("check_score", prior, draws, seed)
    pairs = noised_levels(denoiser, x0, levels, seed)
    bands = bands_of(prior) if isinstance(prior, ScoreGuide) else ()
    found, p = tested_levels(pairs, lambda pair: _score_level(pair, pair.guess(denoiser), bands))
    bend, straight = (max(level.bend for level in found), max(max(s.bias, s.slope) for s in found))
    said = advice(prior, denoiser, bent=bend >= straight)
    return ScoreCheck(found, int(x0.shape[0]), denoiser.dim, p, said)


def _score_level(pairs: Noised, guess: np.ndarray, bands: Sequence[Bands]) -> tuple[LevelCheck, int]:
    """The check at one level, and how many tests it is made of."""
    residual, x = pairs.eps - guess, np.asarray(to_host(pairs.x), float)
    along, square = np.sum(residual * guess, axis=1), float(np.mean(np.sum(guess**2, axis=1)))
    bias = np.abs(z_scores(residual))
    by_band = [band for one in bands for band in one.checks(residual, guess, x)]
    white = whitened(x)
    functions = (white, np.sin(2 * white), np.cos(2 * white))
    wide = bool(by_band) and x.shape[1] > WIDE
    slope, sine, cosine = (np.zeros(1) if wide else _paired(residual, f) for f in functions)
    excess, excess_noise, _ = explained(residual, functions, products=False)
    level = LevelCheck(
        pairs.t,
        pairs.noise_to_signal,
        *relative(-along, square),
        bias=float(bias.max()),
        slope=max([float(slope.max()), *(band.slope for band in by_band if wide)]),
        bend=max([float(sine.max()), float(cosine.max()), *(band.bend for band in by_band if wide)]),
        loss=float(np.mean(residual**2)),
        excess=float(excess.sum()),
        excess_noise=math.sqrt(float(np.sum(excess_noise**2))),
        bands=tuple(by_band),
    )
    return level, 1 + bias.size + 3 * slope.size + 4 * len(by_band)


def _paired(residual: np.ndarray, function: np.ndarray) -> np.ndarray:
    """|z| of residuals times functions of x_t: each with each for few numbers, else each with its own."""
    if residual.shape[1] > LARGEST_PAIRED:
        return np.abs(z_scores(residual * function))
    return np.abs(np.concatenate([z_scores(residual * column[:, None]) for column in function.T]))


# ---- Whether a denoiser's covariance is that of what its mean leaves: E[(x_0 - m)(x_0 - m)ᵀ - C] = 0


@dataclass(frozen=True)
class CovarianceLevel:
    """One noise level. size_error ± size_noise: by how much the covariance's trace is too large, relative,
    and its standard error; entry, bend: the largest |z| of E[v_iᵀ (r rᵀ - C) v_j], r = x_0 - m, over pairs of
    directions, and of E[Σ_i v_iᵀ (r rᵀ - C) v_i φ(x_t)]."""

    t: float
    noise_to_signal: float
    size_error: float
    size_noise: float
    entry: float
    bend: float

    @property
    def largest(self) -> float:
        """|z| of all tests."""
        size = abs(self.size_error) / self.size_noise if self.size_noise else 0.0
        return max(size, self.entry, self.bend)


@dataclass(frozen=True, repr=False)
class CovarianceCheck(Check):
    """What `check_covariance` returns; `print` shows it as a table with a verdict.

    p: probability of a |z| as large as the largest for an exact covariance, all tests counted; good: p above
    0.001; verdict: in words.
    """

    WHAT = "covariance"
    TABLE = (
        "     t      σ/α   trace of Cov         |z| of entries, bend",
        "{s.t:6.3f} {s.noise_to_signal:8.3g}   {s.size_error:+.2%} ± {s.size_noise:.2%}   {s.entry:10.1f} "
        "{s.bend:6.1f}",
    )
    OFF = (
        "trace is off by {s.size_error:+.1%} ± {s.size_noise:.1%}; guidance by the mean likelihood is off "
        "with it, which weights correct: leave correction at 'auto', or {check.advice}"
    )
    levels: tuple[CovarianceLevel, ...]
    draws: int
    p: float
    advice: str = "check the denoiser"


def check_covariance(
    prior: ScoreGuide | Denoiser, draws: object = 5_000, *, levels: int = 8, seed: int = 0
) -> CovarianceCheck:
    """Test E[((x_0 - m)(x_0 - m)ᵀ - C) φ(x_t)] = 0 for m, C = E, Cov[x_0 given x_t] as the denoiser has them.

    Along the axes, or 16 random directions where there are more; φ is 1 for every pair of directions, and for
    the sum over directions each number of x_t and the cosine of twice it, which find a covariance that is
    right on average and wrong where it matters. With 5,000 draws of 3 numbers a covariance that is 10% too
    large is 7 standard errors off at one level.

    prior, draws, levels, seed: as for `check_score`. A wrong mean shows here too: check the score first.

    Returns: CovarianceCheck. Raises: as `check_score`. Source: Tweedie's formula of second order, as in
    Meng et al. 2021, "Estimating high order gradients of the data distribution by denoising".
    """
    denoiser, x0 = prior_and_draws("check_covariance", prior, draws, seed)
    generator = np.random.default_rng(seed_number(seed))
    pairs = noised_levels(denoiser, x0, levels, seed)

    def test(pair: Noised) -> tuple[CovarianceLevel, int]:
        return _covariance_level(denoiser, pair, _directions(denoiser.dim, generator))

    found, p = tested_levels(pairs, test)
    return CovarianceCheck(found, int(x0.shape[0]), p, advice(prior, denoiser))


def _directions(dim: int, generator: np.random.Generator) -> np.ndarray:
    """(dim, k) of unit length."""
    if dim <= DIRECTIONS:
        return np.eye(dim)
    return np.linalg.qr(generator.standard_normal((dim, DIRECTIONS)))[0]


def _covariance_level(denoiser: Denoiser, pairs: Noised, V: np.ndarray) -> tuple[CovarianceLevel, int]:
    """The check at one level, and how many tests it is made of."""
    moments = denoiser(pairs.x, pairs.t)
    mean, product = (
        np.asarray(to_host(part), float)
        for part in (moments.mean, moments.covariance.matmat(place(V, denoiser.backend)))
    )
    if not (np.isfinite(mean).all() and np.isfinite(product).all()):
        raise FloatingPointError(f"the denoiser gives NaN or infinity at t = {pairs.t:.4g}")
    along = (pairs.clean - mean) @ V
    claimed = np.broadcast_to(V.T @ product, (len(along), V.shape[1], V.shape[1]))
    claimed = 0.5 * (claimed + np.swapaxes(claimed, 1, 2))
    excess = along[:, :, None] * along[:, None, :] - claimed
    upper = np.triu_indices(V.shape[1])
    entries = np.abs(z_scores(excess[:, upper[0], upper[1]]))
    total, size = np.trace(excess, axis1=1, axis2=2), float(np.mean(np.sum(along**2, axis=1)))
    white = whitened(np.asarray(to_host(pairs.x), float) @ V)
    bends = np.abs(z_scores(total[:, None] * np.concatenate([white, np.cos(2 * white)], axis=1)))
    largest = float(entries.max()), float(bends.max())
    level = CovarianceLevel(pairs.t, pairs.noise_to_signal, *relative(-total, size), *largest)
    return level, 1 + entries.size + bends.size
