"""Local C2ST: whether a classifier, trained on all data sets, tells draws from truths at one of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backend import Progress, seed_number, whole_number
from .calibration import SIGNIFICANT
from .simulations import Simulations, by_site


@dataclass(frozen=True)
class LocalC2ST:
    """What `local_c2st` returns; `print` shows it in words.

    statistic: mean over draws at y of (P(truth) - ½)², 0 where truths and draws cannot be told apart; null:
    the same of classifiers that were trained on shuffled labels, (nulls,). probabilities: P(truth) of each
    draw at y, (draws,): where it is above ½ the posterior has too few draws.
    """

    statistic: float
    null: np.ndarray
    probabilities: np.ndarray
    sets: int

    def __repr__(self) -> str:
        return f"LocalC2ST({self.verdict})"

    @property
    def p(self) -> float:
        """(1 + how many of the null are as large)/(1 + nulls): at least 1/(1 + nulls)."""
        return float((1 + (self.null >= self.statistic).sum()) / (1 + len(self.null)))

    @property
    def trusted(self) -> bool:
        """Whether nothing speaks against the posterior at y: p above 0.001, or not the smallest there is."""
        return self.p > max(SIGNIFICANT, 1.5 / (1 + len(self.null)))

    @property
    def verdict(self) -> str:
        """In words."""
        size = f"{self.sets} data sets, {len(self.null)} nulls"
        if self.trusted:
            return f"nothing in {size} speaks against the posterior at these data (p = {self.p:.2g})"
        far = float(np.sqrt(self.statistic))
        return (
            f"do not trust the posterior at these data (p = {self.p:.2g}, {size}): P(truth) is off from ½ by "
            f"{far:.2f}, against {float(np.sqrt(np.quantile(self.null, 0.95))):.2f} at most in 95% of nulls"
        )

    def __str__(self) -> str:
        return f"local C2ST: statistic {self.statistic:.4g}, null mean {self.null.mean():.4g}\n{self.verdict}"


def local_c2st(
    simulations: Simulations,
    data: object,
    draws: object,
    *,
    nulls: int = 100,
    classifier: object = None,
    seed: int = 0,
    progress: bool | None = None,
) -> LocalC2ST:
    """Test one posterior, p(θ given y) at given data, by what all simulated data sets teach.

    A classifier learns to tell (θ, y) of the truths from (θ', y) with θ' the first draw of each data set's
    posterior; at the data it then looks at draws of their posterior. Where the posterior is right it finds
    nothing, P = ½; its noise is that of `nulls` classifiers trained on shuffled labels.

    simulations: of `simulate_posteriors`, with their data, 1,000 or more; data: what was observed, by site
    or one array; draws: of its posterior, {site: (n, *shape)} or an array. classifier: any of
    scikit-learn's, with predict_proba; by default logistic regression on products of pairs, which sees
    shifts, scales and correlations that change with the data, and no finer shape.

    Raises: ImportError, with what to install; ValueError for simulations without data, shapes that do not
    fit, or NaN. Source: Linhart et al. 2023, algorithms 1 and 2.
    """
    try:
        from sklearn.base import clone
    except ImportError as error:
        raise ImportError(
            f"local_c2st needs scikit-learn: pip install 'sdeppl[diagnostics]' ({error})"
        ) from error
    if not isinstance(simulations, Simulations):
        raise TypeError(
            f"local_c2st takes what simulate_posteriors returns; got {type(simulations).__name__}"
        )
    nulls, seed = whole_number("nulls", nulls, 1), seed_number(seed)
    if simulations.data is None:
        raise ValueError("local_c2st needs the simulations' data: make them by simulate_posteriors")
    truths, drawn, _ = simulations.numbers()
    seen = np.concatenate([v.reshape(simulations.sets, -1) for v in simulations.data.values()], axis=1)
    at = _rows(draws, list(simulations.truths), truths.shape[1])
    y = np.concatenate([value.reshape(-1) for value in _in_order(data, list(simulations.data))])
    if y.shape != seen.shape[1:]:
        raise ValueError(f"the data are {y.shape[0]} numbers, those of the simulations {seen.shape[1]}")
    if not (np.isfinite(at).all() and np.isfinite(y).all()):
        raise ValueError("the draws or the data hold NaN or infinity")
    pairs = np.concatenate([np.hstack([truths, seen]), np.hstack([drawn[:, 0, :], seen])])
    labels = np.repeat([1, 0], simulations.sets)
    model, generator = classifier or _quadratic(), np.random.default_rng((seed, 4))
    asked = np.hstack([at, np.broadcast_to(y, (len(at), len(y)))])

    def probabilities(these: np.ndarray) -> np.ndarray:
        fitted = clone(model).fit(pairs, these)
        return np.asarray(fitted.predict_proba(asked)[:, 1])

    found = probabilities(labels)
    null = []
    for _ in Progress(nulls, progress, "nulls").over(range(nulls)):
        # within a pair: which of the two is the truth
        swapped = generator.integers(0, 2, simulations.sets)
        null.append(float(((probabilities(np.concatenate([swapped, 1 - swapped])) - 0.5) ** 2).mean()))
    return LocalC2ST(float(((found - 0.5) ** 2).mean()), np.array(null), found, simulations.sets)


def _quadratic() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures, StandardScaler

    features = PolynomialFeatures(2, include_bias=False)
    return make_pipeline(StandardScaler(), features, StandardScaler(), LogisticRegression(C=1.0))


def _in_order(values: object, names: list[str]) -> list[np.ndarray]:
    """Arrays in the order of the names; one array where there is one name."""
    if not isinstance(values, Mapping) and len(names) == 1:
        return [by_site(values)["x"]]
    found = by_site(values)
    if set(found) != set(names):
        raise ValueError(f"the sites differ: {sorted(found)} against {sorted(names)}")
    return [found[name] for name in names]


def _rows(draws: object, names: list[str], numbers: int) -> np.ndarray:
    flat = np.concatenate([value.reshape(len(value), -1) for value in _in_order(draws, names)], axis=1)
    if flat.shape[1] != numbers or not len(flat):
        raise ValueError(f"expected draws of {numbers} numbers each; got {flat.shape}")
    return flat
