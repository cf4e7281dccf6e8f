"""What a comparison of draws with a reference found: a table, and a verdict in words."""

from dataclasses import dataclass

from .errors_by_number import NumberErrors, largest_z
from .two_samples import TwoSamples

SIGNIFICANCE = 1e-3
UNRESOLVED = 0.5  # standard deviations: a comparison that misses an error of a mean that large says nothing


@dataclass(frozen=True)
class SiteComparison:
    """One site's errors, over its numbers, in units of the reference's standard deviations.

    mean_error: rms of mean differences; sd_error: rms of relative differences of standard deviations;
    mean_noise, sd_noise: what Monte Carlo error alone is expected to give (for normal draws);
    quantile_error, quantile_noise: rms over quantiles from 5% to 95%; tests: sliced Wasserstein, energy
    distance and C2ST. The last three are None where the reference has no draws. numbers: the errors one by
    one, with their labels; reasons: what speaks against the draws.
    """

    site: str
    mean_error: float
    mean_noise: float
    sd_error: float
    sd_noise: float
    quantile_error: float | None
    quantile_noise: float | None
    tests: TwoSamples | None
    labels: tuple[str, ...]
    numbers: NumberErrors
    reasons: tuple[str, ...]

    def __repr__(self) -> str:
        mean = f"mean {self.mean_error:.4f} sd off (noise {self.mean_noise:.4f})"
        sd = f"sd {self.sd_error:.2%} ({self.sd_noise:.2%})"
        return (
            f"SiteComparison('{self.site}': {mean}, {sd}; {'; '.join(self.reasons) or 'nothing against it'})"
        )

    @property
    def distance(self) -> float | None:
        """Sliced Wasserstein-1."""
        return None if self.tests is None else self.tests.distance

    @property
    def distance_floor(self) -> float | None:
        """Of two such sets of the reference."""
        return None if self.tests is None else self.tests.floor

    @property
    def resolution(self) -> float:
        """The error of a mean, in standard deviations, that would have been found in any number."""
        return largest_z(len(self.numbers.mean), SIGNIFICANCE) * float(self.numbers.mean_noise.max())


@dataclass(frozen=True)
class Comparison:
    """What `compare` returns; `print` shows it as a table with a verdict.

    sites: one by one; joint: all sites as one vector, where there are several, with draws; notes: what was
    left out, and of the reference itself; doubts: why the reference is not to be trusted itself.
    """

    sites: tuple[SiteComparison, ...]
    joint: SiteComparison | None
    tolerance: float
    notes: tuple[str, ...]
    doubts: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Comparison({[row.site for row in self.sites[:6]]}; {self.verdict})"

    def __getitem__(self, site: str) -> SiteComparison:
        for comparison in self.sites:
            if comparison.site == site:
                return comparison
        raise KeyError(f"no site '{site}' was compared; there are {[s.site for s in self.sites]}")

    @property
    def reasons(self) -> list[str]:
        """Why not to trust the draws, with the site's name; empty where nothing speaks against them.

        Sites together count where each by itself is right; else they only repeat what is wrong.
        """
        wrong = any(row.reasons for row in self.sites)
        rows = self.sites if wrong or self.joint is None else (self.joint,)
        return [f"{row.site}: {reason}" for row in rows for reason in row.reasons]

    @property
    def trusted(self) -> bool:
        """Whether nothing speaks against the draws, and enough draws could have."""
        return self.verdict.startswith("trusted")

    @property
    def verdict(self) -> str:
        """In words: 'trusted', 'do not trust' and the reasons, or 'cannot tell' and why."""
        if self.doubts:
            return "cannot tell: the reference is not to be trusted itself: " + "; ".join(self.doubts)
        if self.reasons:
            return "do not trust: " + "; ".join(self.reasons)
        worst = max(self.sites, key=lambda s: s.resolution)
        if worst.resolution > UNRESOLVED:
            return (
                f"cannot tell: too few effective draws: a mean of '{worst.site}' could be off by "
                f"{worst.resolution:.2f} sd without being found"
            )
        return (
            f"trusted: no error beyond {self.tolerance:.0%} of a standard deviation is significant; a mean "
            f"off by {max(worst.resolution, self.tolerance):.2f} sd would have been found"
        )

    def __str__(self) -> str:
        lines = ["site          mean error (noise)   sd error (noise)   quantiles (noise)   "]
        lines[0] += "sliced W1 (floor)   energy (p)      C2ST (null)"
        lines += [_line(s) for s in (*self.sites, *([self.joint] if self.joint else ()))]
        return "\n".join([*lines, *self.notes, self.verdict])


def _line(s: SiteComparison) -> str:
    quantiles = distance = energy = accuracy = "-"
    if s.quantile_error is not None:
        quantiles = f"{s.quantile_error:.4f} sd ({s.quantile_noise:.4f})"
    if s.tests is not None:
        distance = f"{s.tests.distance:.4f} ({s.tests.floor:.4f})"
        energy = f"{s.tests.energy:.3f} ({s.tests.energy_p:.3f})"
        if s.tests.accuracy is not None:
            accuracy = f"{s.tests.accuracy:.3f} (½ ± {s.tests.accuracy_noise:.3f})"
    return (
        f"{s.site:<12}  {s.mean_error:.4f} sd ({s.mean_noise:.4f})   {s.sd_error:7.2%} ({s.sd_noise:.2%})"
        f"    {quantiles:<20} {distance:<19} {energy:<15} {accuracy}"
    )
