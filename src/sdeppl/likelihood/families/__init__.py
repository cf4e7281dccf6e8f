"""Families p(y given η) of single numbers for `IndependentObservation`: callables (eta, y) ↦ ln p."""

from .base import ConvolvedFamily, Family
from .counts import Bernoulli, Binomial, NegativeBinomial, Poisson
from .heavy import Laplace, NormalMixture, StudentT
from .normal import Censored, Interval, Normal
from .ordinal import Ordinal

__all__ = [
    "Bernoulli",
    "Binomial",
    "Censored",
    "ConvolvedFamily",
    "Family",
    "Interval",
    "Laplace",
    "NegativeBinomial",
    "Normal",
    "NormalMixture",
    "Ordinal",
    "Poisson",
    "StudentT",
]
