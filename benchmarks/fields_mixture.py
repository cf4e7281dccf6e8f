"""A mixture of four fields on the torus, known by its mean function alone, against its exact posterior.

    python benchmarks/fields_mixture.py --side 64 --observed 200 --draws 64

Components differ in range, mean and anisotropy. The prior goes in as a black box, E[x_0 given x_t]; what is
known of it (weights of the modes, exact draws) stays outside. It prints the weights of the modes with their
standard errors, the sliced Wasserstein distance beside its floor, seconds, memory, and the diagnosis.
"""

import argparse
import math
import os
import resource
import time
import warnings
from dataclasses import dataclass

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from fields_problems import matern_spectrum, stationary_draws, torus

import sdeppl as sp
from sdeppl.likelihood import GaussianPosterior, LinearGaussian
from sdeppl.linalg import Diagonal, Selection, Stationary
from sdeppl.posterior import Posterior

WEIGHTS = (0.3, 0.3, 0.2, 0.2)
SD, DIRECTIONS = 0.1, 1_000


def stretched_spectrum(side: int, rows: float, columns: float, reach: float) -> np.ndarray:
    """Matérn, ν = 1, with other ranges along rows and columns."""
    k = side * np.fft.fftfreq(side)
    square = (2 * math.pi) ** 2 * ((rows * k[:, None]) ** 2 + (columns * k[None, :]) ** 2)
    spectrum = (2 / reach**2 + square) ** -2.0
    found: np.ndarray = spectrum / spectrum.mean()
    return found


@dataclass(frozen=True)
class Mixture:
    """spectra and means (4, side, side)."""

    sde: sp.VPSDE
    spectra: torch.Tensor
    means: torch.Tensor

    @classmethod
    def of(cls, side: int, apart: float) -> "Mixture":
        """apart: how much the components differ, 0 for not at all."""
        wide, narrow = 1 + apart, 1 / (1 + apart)
        spectra = [
            matern_spectrum((side, side), reach=0.1),
            matern_spectrum((side, side), reach=0.1 * wide),
            stretched_spectrum(side, wide, narrow, 0.1),
            stretched_spectrum(side, narrow, wide, 0.1),
        ]
        angle = 2 * math.pi * np.arange(side) / side
        waves = [0 * angle[:, None], np.cos(angle)[:, None], np.cos(angle)[None, :], np.sin(angle)[:, None]]
        means = np.stack([apart * np.broadcast_to(wave, (side, side)) for wave in waves])
        return cls(sp.VPSDE(), torch.tensor(np.stack(spectra)), torch.tensor(means))

    @property
    def dim(self) -> int:
        return self.means[0].numel()

    def mean(self, x: torch.Tensor, t: float) -> torch.Tensor:
        """E[x_0 given x_t = x], (batch, dim), by Fourier transforms of each component."""
        alpha, sigma = self.sde.alpha_sigma(t)
        shape = tuple(self.means.shape[1:])
        half = self.spectra[..., : shape[1] // 2 + 1]
        twice = torch.full((half.shape[-1],), 2.0, dtype=x.dtype)
        twice[0] = twice[-1] = 1.0
        transformed = torch.fft.rfft2(x.reshape(-1, 1, *shape) - alpha * self.means)
        variance = alpha**2 * half + sigma**2
        power = transformed.real**2 + transformed.imag**2
        square = (twice * power / variance).sum((-1, -2)) / self.dim
        logdet = (alpha**2 * self.spectra + sigma**2).log().sum((-1, -2))
        share = torch.softmax(torch.tensor(WEIGHTS).log() - 0.5 * (square + logdet), dim=-1)
        each = self.means + torch.fft.irfft2(alpha * half / variance * transformed, s=shape)
        return (share[..., None, None] * each).sum(1).reshape(x.shape)

    def posteriors(self, seen: LinearGaussian) -> tuple[list[GaussianPosterior], torch.Tensor]:
        """Of each component, and their weights given the data."""
        found = []
        for spectrum, mean in zip(self.spectra, self.means, strict=True):
            covariance = Stationary(torus(tuple(mean.shape)), spectrum.reshape(-1))
            prior = sp.GaussianDenoiser(self.sde, mean.reshape(-1), covariance)
            found.append(GaussianPosterior(prior, seen))
        logs = torch.stack([one.log_evidence for one in found])
        return found, torch.softmax(torch.tensor(WEIGHTS).log() + logs, dim=-1)


def data_of(mixture: Mixture, observed: int, seed: int) -> LinearGaussian:
    """Of a draw of the third component."""
    rng, dim = np.random.default_rng(seed), mixture.dim
    places = np.sort(rng.choice(dim, observed, replace=False))
    truth = mixture.means[2].numpy() + stationary_draws(mixture.spectra[2].numpy(), 1, rng)[0]
    y = torch.tensor(truth.reshape(-1)[places] + SD * rng.standard_normal(observed))
    H = Selection(torch.tensor(places), dim, y)
    return LinearGaussian(H, y, Diagonal(torch.full_like(y, SD**2)))


def exact_draws(found: list[GaussianPosterior], weights: torch.Tensor, count: int, seed: int) -> torch.Tensor:
    """Of the mixture's posterior."""
    generator = torch.Generator().manual_seed(seed)
    which = torch.multinomial(weights, count, replacement=True, generator=generator)
    rows = []
    for k, one in enumerate(found):
        own = int((which == k).sum())
        if not own:
            continue
        shapes = (own, one.prior.dim), (own, one.count)
        z, e = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
        rows.append(one.draws(z, e))
    return torch.cat(rows)


def sliced(one: torch.Tensor, other: torch.Tensor) -> float:
    """Wasserstein-1 distance along 1,000 random directions, of as many draws each."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn((one.shape[1], DIRECTIONS), generator=generator, dtype=one.dtype)
    directions = directions / directions.norm(dim=0)
    pair = [(x @ directions).sort(dim=0).values for x in (one, other)]
    return float((pair[0] - pair[1]).abs().mean())


def modes(found: list[GaussianPosterior], x: torch.Tensor) -> torch.Tensor:
    """Weight of each component given x_0, (draws, 4)."""
    logs = torch.stack([one.prior.log_prob(x) for one in found], dim=-1)
    return torch.softmax(torch.tensor(WEIGHTS).log() + logs, dim=-1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--observed", type=int, default=200)
    parser.add_argument("--draws", type=int, default=64)
    parser.add_argument("--apart", type=float, default=0.08)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--correction", choices=("auto", "none"), default="auto")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    mixture = Mixture.of(arguments.side, arguments.apart)
    seen = data_of(mixture, arguments.observed, arguments.seed)
    found, weights = mixture.posteriors(seen)
    prior = sp.CallableDenoiser(mixture.sde, mixture.mean, dim=mixture.dim, backend="torch")
    begin = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        how = "auto" if arguments.correction == "auto" else None
        run = Posterior(prior, seen, correction=how).run(arguments.draws)  # type: ignore[arg-type]
    seconds, n = time.process_time() - begin, arguments.draws
    share = modes(found, run.draws)
    error = (weights * (1 - weights) / n).sqrt()
    pairs = [(exact_draws(found, weights, n, s), exact_draws(found, weights, n, s + 1)) for s in (1, 3, 5)]
    floor = np.mean([sliced(*pair) for pair in pairs])
    distance = np.mean([sliced(run.draws, pair[0]) for pair in pairs])
    for k in range(len(WEIGHTS)):
        off = float((share[:, k].mean() - weights[k]) / max(float(error[k]), 1e-3))
        exact = f"exact {weights[k]:.3f} ± {error[k]:.3f}"
        print(f"mode {k}: {share[:, k].mean():.3f}, {exact}, off by {off:.1f} standard errors")
    print(f"sliced W1 {distance:.4f}, floor {floor:.4f}, ratio {distance / floor:.2f}")
    print(f"{seconds:.0f} s, peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")
    print(f"{run.state}: {run.diagnosis}")


if __name__ == "__main__":
    main()
