"""C2ST: how often a trained classifier tells two sets of draws apart."""

import importlib.util
import math
import warnings
from typing import Any

import numpy as np
import torch

from ..backend.sharing import SHARED

FEW_UNITS, MANY_UNITS = 30, 100
FARTHEST = (
    1e6  # standard deviations: what has diverged is told apart from there, and float32 does not overflow
)


def c2st(
    reference: np.ndarray, draws: np.ndarray, seed: int = 1, jobs: int | None = None, quick: bool = False
) -> float:
    """Accuracy of a network with two hidden layers of 10 dim units, by 5-fold cross-validation.

    reference, draws: (n, dim), in any units: both are standardised with the reference's mean and
    standard deviation. ½ is perfect, 1 the worst. jobs: processes for the folds. The very numbers of
    `sbibm.metrics.c2st`, unless `quick`: then 30 to 100 units and 30 passes over the draws at five times
    the learning rate, which takes about a second for 1,000 draws and finds as much.

    Raises: ValueError for sets of other sizes or dimensions, or not finite; ImportError without
    scikit-learn. Source: Lopez-Paz & Oquab 2017; Lueckmann et al. 2021.
    """
    if reference.shape != draws.shape or reference.ndim != 2:
        raise ValueError(f"c2st needs two sets of one shape (n, dim); got {reference.shape}, {draws.shape}")
    if not (np.isfinite(reference).all() and np.isfinite(draws).all()):
        raise ValueError("c2st: the draws hold NaN or infinity")
    if not has_scikit_learn():
        raise ImportError("c2st needs scikit-learn: pip install 'sdeppl[diagnostics]'")
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import KFold, cross_val_score
    from sklearn.neural_network import MLPClassifier

    # in float32 by torch, as there: through training, rounding alone moves the score by up to .006
    first, second = (torch.as_tensor(np.asarray(a), dtype=torch.float32) for a in (reference, draws))
    mean, sd = torch.mean(first, dim=0), torch.std(first, dim=0)
    data = torch.cat([(first - mean) / sd, (second - mean) / sd]).clamp(-FARTHEST, FARTHEST).numpy()
    labels = np.repeat([0.0, 1.0], len(reference))
    units = 10 * reference.shape[1]
    options: dict[str, Any] = {"max_iter": 10_000}
    if quick:
        units = min(max(units, FEW_UNITS), MANY_UNITS)
        options = {"max_iter": 30, "learning_rate_init": 0.005}
    network = MLPClassifier((units, units), solver="adam", random_state=seed, **options)
    folds = KFold(n_splits=5, shuffle=True, random_state=seed)
    with SHARED, warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        scores = cross_val_score(network, data, labels, cv=folds, scoring="accuracy", n_jobs=jobs)
    return float(np.mean(scores))


def null_band(reference: np.ndarray, size: int, pairs: int, seed: int = 0) -> tuple[float, float]:
    """Mean and standard deviation of C2ST between disjoint parts of the reference, of `size` draws each.

    What perfect draws would get. Raises: ValueError where the reference is too small.
    """
    if 2 * size * pairs > len(reference):
        raise ValueError(f"{pairs} pairs of {size} need {2 * size * pairs} draws; there are {len(reference)}")
    order = np.random.default_rng(seed).permutation(len(reference))[: 2 * size * pairs]
    parts = reference[order].reshape(pairs, 2, size, -1)
    found = [c2st(first, second) for first, second in parts]
    return float(np.mean(found)), float(np.std(found, ddof=1)) if pairs > 1 else float("nan")


def null_deviation(size: int) -> float:
    """Standard deviation of C2ST of two sets of `size` independent draws from one distribution.

    √(¼ / 2 size): every draw is classified once, right with probability ½. Source: Lopez-Paz & Oquab
    2017, section 3.
    """
    return 0.5 / math.sqrt(2 * size)


def has_scikit_learn() -> bool:
    """Whether scikit-learn can be imported."""
    try:
        return importlib.util.find_spec("sklearn") is not None
    except ValueError:  # a module that was set to None
        return False
