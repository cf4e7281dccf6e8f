"""sdeppl's mean likelihoods on the mixture problem, with the mixture known, and as functions."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from mixture_problems import Problem

import sdeppl as sp
from sdeppl.backend import place, to_host, with_pullback

OURS = sp.VPSDE(sp.LinearSchedule(0.1, 30.0))
PUBLISHED = sp.VPSDE(sp.LinearSchedule(0.1, 20.0))
RUNGS = ("naive", "dps", "sda", "pigdm", "tweedie", "monte-carlo")
SLOW = ("monte-carlo",)  # 25 seconds a problem with 8 numbers, minutes with 80


@dataclass(frozen=True)
class Answer:
    """draws (n, d_x); where the method says them: ln p(y), its standard error, and whether it trusts them.

    work: evaluations of E[x_0 given x_t] for a draw, and products with its slope, where they were counted.
    """

    draws: np.ndarray
    log_evidence: float | None = None
    error: float = 0.0
    trusted: bool | None = None
    work: tuple[float, float] | None = None


def known(problem: Problem, backend: sp.Backend) -> sp.GaussianMixtureDenoiser:
    """The prior as what it is."""
    unit = place(np.eye(problem.dim), backend)
    covariances = backend.xp.broadcast_to(unit, (len(problem.weights), problem.dim, problem.dim))
    weights, means = (place(part, backend) for part in (problem.weights, problem.means))
    return sp.GaussianMixtureDenoiser(OURS, weights, means, covariances)


def mean_and_covariance(problem: Problem, backend: sp.Backend) -> sp.CallableDenoiser:
    """The same mean and covariance, as functions that tell nothing of the mixture."""
    prior = known(problem, backend)
    return sp.CallableDenoiser(OURS, prior.mean, lambda x, t: prior(x, t).covariance, problem.dim, backend)


class MeanAlone:
    """E[x_0 given x_t] as one writes it in torch, and nothing else: its slope is left to autograd.

    Σ_k r_k (α x + σ² m_k)/(α² + σ²), with r_k ∝ w_k N(x; α m_k, (α² + σ²) I). It counts the rows that it is
    evaluated at, and the products of a row with its slope.
    """

    def __init__(self, problem: Problem) -> None:
        self.log_weights = torch.as_tensor(np.log(problem.weights))
        self.means = torch.as_tensor(problem.means)
        self.evaluations = self.products = 0

    def __call__(self, x: torch.Tensor, t: float) -> torch.Tensor:
        self.evaluations += x.shape[0]
        alpha, sigma = OURS.alpha(t), OURS.sigma(t)
        variance = alpha**2 + sigma**2
        squares = ((x[:, None, :] - alpha * self.means) ** 2).sum(-1)
        shares = torch.softmax(self.log_weights - squares / (2 * variance), -1)
        return (alpha * x + sigma**2 * (shares @ self.means)) / variance

    def with_pullback(self, x: torch.Tensor, t: float) -> Any:
        """The value, and v ↦ vᵀ ∂value/∂x, as of any function of the user's."""
        value, pull = with_pullback(lambda z: self(z, t), x, OURS.sigma(t))

        def counted(v: torch.Tensor) -> torch.Tensor:
            self.products += math.prod(v.shape[:-1])
            return pull(v)

        return value, counted


def answer_by_mean(problem: Problem, n: int, seed: int, backend: sp.Backend, steps: int) -> Answer:
    """As `answer`, by 'auto', of a prior that is its mean alone."""
    function = MeanAlone(problem)
    prior = sp.CallableDenoiser(OURS, function, None, problem.dim, backend)
    found = answer(problem, n, seed, backend, lambda *_: prior, steps)
    return replace(found, work=(function.evaluations / n, function.products / n))


def observation(problem: Problem, backend: sp.Backend) -> sp.LinearGaussian:
    """y = A x_0 + sd ε."""
    return sp.LinearGaussian(place(problem.A, backend), place(problem.y, backend), problem.sd**2)


def answer(
    problem: Problem, n: int, seed: int, backend: sp.Backend, prior: Any, steps: int, **options: Any
) -> Answer:
    """n draws of `sp.Posterior` with these options, and what its diagnosis says."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # distrust is counted in the table
        seen = observation(problem, backend)
        posterior = sp.Posterior(prior(problem, backend), seen, steps=steps, **options)
        if options.get("correction", "auto") is None:
            return Answer(to_host(posterior.sample(n, seed=seed)))
        run = posterior.run(n, seed=seed)
    found = run.diagnosis
    return Answer(to_host(run.draws), found.log_evidence, found.log_evidence_error, found.trusted)


def methods(
    steps: tuple[int, ...], name: str, slow: bool
) -> dict[str, Callable[[Problem, int, int], Answer]]:
    """name: of the backend; slow: those that sample p(x_0 given x_t) at every step, too."""
    backend, table = sp.resolve(name), {}

    def add(label: str, prior: Any, count: int, **options: Any) -> None:
        table[f"{label}, {count} steps"] = lambda problem, n, seed: answer(
            problem, n, seed, backend, prior, count, **options
        )

    for count in steps:
        for rung in RUNGS:
            if slow or rung not in SLOW:
                add(rung, known, count, likelihood=rung, correction=None)
        add("exact", known, count, likelihood="exact")
        add("auto, mixture known", known, count)
        add("auto, mean and covariance", mean_and_covariance, count)
        if backend.name == "torch":
            table[f"auto, mean alone, {count} steps"] = lambda problem, n, seed, count=count: answer_by_mean(
                problem, n, seed, backend, count
            )
    return table
