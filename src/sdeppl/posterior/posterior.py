"""Draws from p(x_0 given y)."""

import warnings
from collections.abc import Callable
from typing import Any, Literal

from ..backend import Noise
from ..denoisers import Denoiser
from ..likelihood import Observation, TweedieDenoiser
from ..sde import ReverseSDE, log_snr_grid
from ..solvers import ExponentialHeun, Solver, solve
from .start import start_moments

FEW_STEPS = 20


class Posterior:
    """A prior, given as its denoiser, and an observation; `sample` solves the guided reverse SDE.

    prior: E and Cov of x_0 given x_t; observation: on the prior's backend, or None
    for the prior itself. likelihood: how l(y given x_t) is approximated: 'tweedie', or 'auto',
    which is 'tweedie' for now. steps: of the reverse SDE; for a Gaussian posterior and c = 1, 100 leave
    standard deviations within 1%, 50 within 3%, 20 within 10%. noise_to_signal: σ/α at which the last
    step goes to t = 0, in the units of x_0; by default 1/20 of the smallest standard deviation of
    x_0 that the (guided) denoiser sees at T, and at most 1e-3.

    Raises: TypeError for arguments of another kind, ValueError for an unknown likelihood,
    BackendMismatch, and what the denoiser raises. Warns: SignalLeftWarning, and for fewer than 20 steps.
    """

    def __init__(
        self,
        prior: Denoiser,
        observation: Observation | None,
        likelihood: Literal["auto", "tweedie"] = "auto",
        steps: int = 100,
        noise_to_signal: float | None = None,
    ) -> None:
        if not isinstance(prior, Denoiser) or not isinstance(observation, Observation | None):
            raise TypeError(
                "Posterior(prior, observation) takes a Denoiser and an Observation or None; got "
                f"{type(prior).__name__} and {type(observation).__name__}"
            )
        if likelihood not in ("auto", "tweedie"):
            raise ValueError(f"likelihood={likelihood!r} is unknown; use 'auto' or 'tweedie'")
        self.denoiser = prior if observation is None else TweedieDenoiser(prior, observation)
        if steps < FEW_STEPS:
            warnings.warn(f"{steps} steps are few: standard deviations may be 10% off", stacklevel=2)
        self.start = start_moments(self.denoiser, prior)
        level = noise_to_signal or min(self.start.smallest_sd / 20, 1e-3)
        self.times = log_snr_grid(prior.sde, steps, level)

    def sample(
        self,
        draws: int,
        *,
        seed: int = 0,
        c: float | Callable[[float], float] = 1.0,
        solver: Solver | None = None,
        noise: Literal["host", "native"] = "host",
        progress: bool = False,
    ) -> Any:
        """(draws, dim), on the prior's backend: independent draws from p(x_0 given y).

        c: noise amplitude of the reverse SDE in units of g(t), 0 for the probability-flow ODE;
        solver: `ExponentialHeun` by default; noise: as in `Noise`. Raises: NonFiniteState.
        """
        if not isinstance(draws, int) or draws < 1:
            raise ValueError(f"draws must be a whole number, at least 1; got {draws!r}")
        backend = self.denoiser.backend
        # one stream for the start and the steps: opened twice, a native one would repeat itself
        stream = Noise(seed, noise).stream(backend)
        z = stream.normal(0, (draws, self.denoiser.dim))
        start = self.start.mean + z @ self.start.root
        reverse = ReverseSDE(self.denoiser.sde, self.denoiser, c)
        path = solve(
            reverse,
            start,
            self.times,
            solver=solver or ExponentialHeun(),
            noise=stream,
            keep="last",
            progress=progress,
        )
        return path.states[-1, ...]
