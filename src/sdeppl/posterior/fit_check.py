"""What held-out draws say of a prior that was learned from draws."""

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

SIGNIFICANT = 1e-3
SMALL = 0.05  # of a standard deviation: what `compare` tolerates
LARGE = 0.1
ENOUGH = 200  # draws a number that leave each number off by SMALL

State = Literal["trusted", "cannot tell", "do not trust"]
Network = Literal["none", "untrained", "left out", "used"]


@dataclass(frozen=True)
class FitCheck:
    """How far the learned prior is from the model's, by draws held out of the fit, in nats.

    network: whether the prior has one: 'none' (net=None), 'untrained', 'left out' for no gain, or 'used'.
    draws: what the moments were fitted to; held_out: what they and the score were checked on; dim: numbers
    that vary. moments ± moments_noise: divergence of the fitted Gaussian from the best one. departure ±
    departure_noise: divergence of the model's prior from what was learned, beyond the moments where that is
    the Gaussian, as far as the functions tested see it; p: the probability of as much by chance. worst,
    site: the part of the departure at the number that has most of it, and its site. Nats are of all numbers
    together: a mean that is δ standard deviations off has δ²/2. density: whether every latent site has one,
    by which a posterior may be corrected. disagreement: what `check_prior` says of sites whose draws and
    densities differ, or ''.
    """

    network: Network
    draws: int
    held_out: int
    dim: int
    moments: float
    moments_noise: float
    departure: float
    departure_noise: float
    p: float
    worst: float
    site: str
    density: bool = False
    disagreement: str = ""

    def __repr__(self) -> str:
        return f"FitCheck({self.verdict})"

    @property
    def nats(self) -> float:
        """Divergence of the model's prior from the learned one, as far as it is seen."""
        return self.moments + self.departure

    @property
    def off(self) -> float:
        """By how many standard deviations the number that is learned worst may be off: √(2 nats)."""
        return max(self._each, self._departed)

    @property
    def state(self) -> State:
        """'trusted' up to .05 standard deviations, 'cannot tell' up to .1, else 'do not trust'."""
        if self.disagreement or not self.off <= LARGE:
            return "do not trust"
        return "trusted" if self.off <= SMALL else "cannot tell"

    @property
    def good(self) -> bool:
        """Whether nothing held-out draws say keeps the posterior from being trusted."""
        return self.state == "trusted"

    @property
    def _each(self) -> float:
        """By how many standard deviations the moments may leave each number off, on average.

        What held-out draws show beyond chance, 4 standard errors, and at least what is to be expected of so
        many draws.
        """
        expected = self.dim * (self.dim + 3) / (4 * self.draws) if self.moments_noise else 0.0
        shown = self.moments - 4 * self.moments_noise
        return _off(max(shown, expected) / self.dim) if not math.isnan(shown) else math.inf

    @property
    def _departed(self) -> float:
        return _off(self.worst) if self.p <= SIGNIFICANT else 0.0

    @property
    def verdict(self) -> str:
        """In words: the state, what was learned and how far it is from the prior, and what to do about it."""
        return f"{self.state}: {self.words}"

    @property
    def words(self) -> str:
        """As `verdict`, without the state: 'the fitted Gaussian, which ...'."""
        if self.disagreement:
            return self.disagreement
        what = "the learned prior" if self.network == "used" else "the fitted Gaussian"
        if self.p > SIGNIFICANT and self.good:
            return f"{what}, which {self.held_out} held-out draws do not tell from the prior"
        parts, each = [], self._each
        if self._departed:
            parts.append(
                f"{self.departure:.2g} ± {self.departure_noise:.1g} nats of what {self._missing} (at its "
                f"most in '{self.site}': {self.worst:.2g}, such as a mean {self._departed:.2g} standard "
                "deviations off)"
            )
        if not parts or each > SMALL:
            parts.append(
                f"{self.moments:.2g} ± {self.moments_noise:.1g} nats of moments from {self.draws} "
                f"draws (such as {self.dim} numbers, each {each:.2g} standard deviations off)"
            )
        found = f"{what}, which is off the prior by {' and '.join(parts)}"
        return found if self.good else f"{found}; {self.advice}"

    @property
    def _missing(self) -> str:
        return "the network has not learned" if self.network == "used" else "is not Gaussian"

    @property
    def advice(self) -> str:
        """What to do about what is too large; '' where nothing is."""
        found = []
        if self._each > SMALL:
            enough = max(ENOUGH * (self.dim + 3), int(1.5 * self.draws * (self._each / SMALL) ** 2))
            found.append(f"use more draws (draws={_round_up(enough)})")
        if self._departed > SMALL:
            found.append(_ADVICE[self.network])
        return " and ".join(found)

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Any) -> "FitCheck | None":
        """From `to_dict`, None from None. Raises: KeyError for one that is not whole."""
        return None if content is None else cls(**{field.name: content[field.name] for field in fields(cls)})


_ADVICE: dict[Network, str] = {
    "none": "give the guide a network (net=sdeppl.ResidualMLP) and train it",
    "untrained": "train the guide's network (ScoreMatching(guide).fit(steps))",
    "left out": "the network that was trained is no better and was left out: use a wider one, or more steps",
    "used": "train longer, or a wider network",
}


def _off(nats: float) -> float:
    return math.sqrt(2 * max(nats, 0.0)) if not math.isnan(nats) else math.inf


def _round_up(number: int) -> int:
    """To two digits."""
    unit = 10 ** max(len(str(number)) - 2, 0)
    return -(-number // unit) * unit
