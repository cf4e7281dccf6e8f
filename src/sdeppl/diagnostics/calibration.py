"""What a calibration test finds: its quantities, a verdict in words, and the p-value that it rests on."""

import math
from dataclasses import dataclass

from .ranks import RankTest

SIGNIFICANT = 1e-3
SHOWN = 12  # rows of the table


@dataclass(frozen=True)
class Calibration:
    """What `sbc`, `tarp`, `coverage` and `posterior_sbc` return; `print` shows it as a table with a verdict.

    kind: which of them; tests: of each quantity; sets: data sets; draws: of each; untrusted: data sets whose
    own diagnosis says not to trust their draws; how: these were made. p: the smallest p-value times the
    number of quantities, at most 1 (Bonferroni), so that an exact posterior has p < 0.001 in a thousandth of
    all runs at most. `calibration[name]` is one test.
    """

    kind: str
    tests: tuple[RankTest, ...]
    sets: int
    draws: int
    untrusted: int
    how: str

    def __repr__(self) -> str:
        return f"{self.kind}({self.verdict})"

    def __getitem__(self, name: str) -> RankTest:
        for test in self.tests:
            if test.name == name:
                return test
        raise KeyError(f"no quantity '{name}' was tested; there are {[test.name for test in self.tests]}")

    @property
    def p(self) -> float:
        """Of all quantities together."""
        return min(1.0, len(self.tests) * min(test.p for test in self.tests))

    @property
    def worst(self) -> RankTest:
        """The quantity with the smallest p-value."""
        return min(self.tests, key=lambda test: test.p)

    @property
    def deviation(self) -> float:
        """Largest |coverage - level| of any quantity."""
        return max(test.deviation for test in self.tests)

    @property
    def trusted(self) -> bool:
        """Whether nothing speaks against the posterior."""
        return self.p > SIGNIFICANT

    @property
    def verdict(self) -> str:
        """In words."""
        size = f"{self.sets} data sets with {self.draws} draws each"
        if self.trusted:
            text = (
                f"nothing in {size} speaks against the posterior (p = {self.p:.2g}, {len(self.tests)} "
                f"quantities, largest deviation {self.deviation:.3f})"
            )
        else:
            text = (
                f"do not trust the posterior (p = {self.p:.2g} of {len(self.tests)} quantities, in {size}): "
                f"'{self.worst.name}' {self._reason}"
            )
        if self.untrusted:
            text += f"; {self.untrusted} of {self.sets} data sets are not trusted by their own diagnosis"
        return text

    @property
    def _reason(self) -> str:
        test = self.worst
        if self.kind == "TARP":
            return f"has coverage that is off from its level by up to {test.deviation:.3f}"
        if self.kind == "coverage":
            seldom = _mean_gap(test) < 0
            return "holds the truth too seldom: too narrow, or off" if seldom else "is too wide"
        noise = 1 / math.sqrt(len(test.ranks))
        words = []
        if abs(test.shift) > 4 * noise:
            words.append("draws too small" if test.shift > 0 else "draws too large")
        if abs(test.spread) > 3 * noise:
            words.append("draws too narrow" if test.spread > 0 else "draws too wide")
        return " and ".join(words) or "has ranks of a shape that is not uniform"

    def __str__(self) -> str:
        width = max([len(test.name) for test in self.tests[:SHOWN]] + [10])
        lines = [
            f"{self.kind}: {self.how}",
            f"{'quantity':<{width}}  p        band     chi²     POT-C    PRIT-C   PIET-C   deviation  "
            "shift   spread",
        ]
        shown = sorted(self.tests, key=lambda test: test.p)[:SHOWN]
        for test in (test for test in self.tests if test in shown):
            lines.append(
                f"{test.name:<{width}}  {test.p:<8.2g} {test.band_p:<8.2g} {test.chi2_p:<8.2g} "
                f"{test.pot_p:<8.2g} {test.prit_p:<8.2g} {test.piet_p:<8.2g} {test.deviation:9.3f}  "
                f"{test.shift:+.3f} {test.spread:+8.1%}"
            )
        if len(self.tests) > SHOWN:
            lines.append(f"… and {len(self.tests) - SHOWN} more, with larger p")
        return "\n".join([*lines, self.verdict])


def _mean_gap(test: RankTest) -> float:
    """Mean of coverage minus level."""
    levels, shares = test.shares
    return float((shares - levels).mean())
