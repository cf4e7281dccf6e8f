"""A U-Net on the linear part of a φ⁴ field: its loss, the spectrum of its draws, a posterior against HMC; and
what a step and a draw cost from 16² to 256², beside azula with the same network.

    python benchmarks/fields_networks.py draws --folder DIR       # by HMC, once for all that follows
    python benchmarks/fields_networks.py train --folder DIR --steps 3000
    python benchmarks/fields_networks.py edm --folder DIR --steps 3000
    python benchmarks/fields_networks.py prior --folder DIR
    python benchmarks/fields_networks.py posterior --folder DIR
    python benchmarks/fields_networks.py cost --sides 16 32 64 128 256

The action is S = Σ_x [-2 κ φ_x (φ_{x+1} + φ_{x+2}) + φ_x² + λ (φ_x² - 1)²] on a torus of 32², κ = .30, λ = 1,
in the symmetric phase: kurtosis 1.7, correlation length about 2. One thread; seconds are processor time.
"""

import argparse
import copy
import math
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn

import sdeppl as sp
from sdeppl.training.noising import Noising

SIDE, KAPPA, LAMBDA = 32, 0.30, 1.0
CHAINS, BURN, KEPT, EVERY = 512, 400, 60, 20  # of the draws that are learned from
STEP, LEAPS = 0.1, 20
HELD = 64  # chains that are held out
SEEN, NOISE = 82, 0.5  # numbers observed, 8%
NET = sp.UNet(width=16, depth=2)
LAYOUT = {"field": sp.Grid(periodic=True)}
BINS = (-9.0, -2.0, -1.0, 0.0, 1.0, 2.0, 9.0)  # of ln(α/σ)
Field = torch.Tensor
Log = Callable[[Field], tuple[Field, Field]]


def action(phi: Field) -> tuple[Field, Field]:
    """S (chains,) and its gradient (chains, side, side)."""
    right, all_four = (
        sum(phi.roll(1, a) for a in (-1, -2)),
        sum(phi.roll(s, a) for a in (-1, -2) for s in (1, -1)),
    )
    well = phi**2 - 1
    value = (-2 * KAPPA * phi * right + phi**2 + LAMBDA * well**2).sum(dim=(-2, -1))
    return value, -2 * KAPPA * all_four + 2 * phi + 4 * LAMBDA * phi * well


def hmc(
    phi: Field, energy: Log, count: int, generator: torch.Generator, every: int = 0
) -> tuple[Field, list[Field]]:
    """`count` trajectories of all chains; the last places, and those after each `every`."""
    kept, (value, slope) = [], energy(phi)
    for k in range(count):
        p = torch.randn(phi.shape, generator=generator)
        before, new, moved, force = value + 0.5 * p.square().sum(dim=(-2, -1)), value, phi, slope
        p = p - 0.5 * STEP * force
        for leap in range(LEAPS):
            moved = moved + STEP * p
            new, force = energy(moved)
            p = p - (STEP if leap < LEAPS - 1 else 0.5 * STEP) * force
        after = new + 0.5 * p.square().sum(dim=(-2, -1))
        accept = torch.rand(before.shape, generator=generator) < torch.exp(before - after)
        phi = torch.where(accept[:, None, None], moved, phi)
        slope = torch.where(accept[:, None, None], force, slope)
        value = torch.where(accept, new, value)
        if every and (k + 1) % every == 0:
            kept.append(phi)
    return phi, kept


def make_draws(folder: Path) -> None:
    """(kept, chains, side, side) of the model."""
    generator = torch.Generator().manual_seed(1)
    phi = torch.randn((CHAINS, SIDE, SIDE), generator=generator)
    phi, _ = hmc(phi, action, BURN, generator)
    _, kept = hmc(phi, action, KEPT * EVERY, generator, EVERY)
    torch.save(torch.stack(kept), folder / "phi4.pt")


def spectrum(phi: Field) -> torch.Tensor:
    """Mean power at each wavenumber (side, side) of draws (..., side, side), by the torus's symmetries."""
    found = torch.fft.fft2(phi.double()).abs().square().flatten(0, -3).mean(dim=0) / SIDE**2
    found = 0.5 * (found + found.T)
    return 0.5 * (found + found.flip(0).roll(1, 0))


def prior_of(phi: Field) -> Callable[..., None]:
    """The model: stored draws moved and turned by the symmetries of the action, and what is seen of them."""
    rows = phi[:, :-HELD].flatten(0, 1)
    places = seen_places()

    def simulate(n: int, generator: torch.Generator) -> Field:
        x = rows[torch.randint(len(rows), (n,), generator=generator)]
        shift = torch.randint(SIDE, (2, n, 1), generator=generator)
        first, second = ((torch.arange(SIDE) + s) % SIDE for s in shift)
        x = x[torch.arange(n)[:, None, None], first[:, :, None], second[:, None, :]]
        return x * (1 - 2 * torch.randint(2, (n, 1, 1), generator=generator))

    def model(y: Any = None) -> None:
        x = pyro.sample("field", sp.Simulated(simulate, shape=(SIDE, SIDE)))
        pyro.sample("y", dist.Normal(x.flatten(-2)[..., places], NOISE).to_event(1), obs=y)

    return model


def seen_places() -> torch.Tensor:
    """Of the numbers observed."""
    return torch.randperm(SIDE**2, generator=torch.Generator().manual_seed(3))[:SEEN]


def guide_of(phi: Field, net: Any = NET) -> sp.ScoreGuide:
    """Not trained."""
    return sp.ScoreGuide(prior_of(phi), layout=LAYOUT, net=net)


def by_level(level: torch.Tensor, loss: torch.Tensor) -> str:
    """Means in the bins of ln(α/σ)."""
    places = torch.bucketize(level[:, 0], torch.tensor(BINS)) - 1
    means = [float(loss[places == k].mean()) for k in range(len(BINS) - 1)]
    return ", ".join(f"{mean:.3f}" for mean in means)


def noised(guide: sp.ScoreGuide, x0: Field, generator: torch.Generator) -> Any:
    """x_t (rows, numbers), ln(α/σ), the coordinates of a network there and the linear part's mean."""
    part, sde = guide.fitted(), guide.sde
    noising = Noising(part, sde, sp.denoisers.OnGrid, sp.resolve("torch", "float32"))
    position = torch.rand((len(x0), 1), generator=generator) * (len(noising.times) - 1)
    left = position.long().clamp(max=len(noising.times) - 2)
    t = (noising.times[left] + (position - left) * (noising.times[left + 1] - noising.times[left])).float()
    x = sde.alpha(t) * x0 + sde.sigma(t) * torch.randn(x0.shape, generator=generator)
    return x, sde.half_log_snr(t), sp.denoisers.OnGrid(noising.denoiser, t), noising.denoiser.mean(x, t)


def report_loss(guide: sp.ScoreGuide, phi: Field, mean: Callable[..., Field]) -> None:
    """Of held-out draws, |E[x_0 given x_t] - x_0|² over the linear part's conditional variance, for that part
    1, ln(α/σ) uniform; mean: of x_t, ln(α/σ), coordinates and linear mean."""
    held = guide.fitted().standardise(phi[::15, -HELD:].flatten(0, 1).flatten(1).double()).float()
    generator, found = torch.Generator().manual_seed(4), []
    for x0 in (row for _ in range(4) for row in held.split(256)):
        x, level, here, linear = noised(guide, x0, generator)
        with torch.no_grad():
            means = mean(x, level, here, linear), linear
        found.append([level, *(((m - x0) / here.spread).square().mean(dim=-1, keepdim=True) for m in means)])
    level, loss, alone = (torch.cat(column)[:, 0] for column in zip(*found, strict=True))
    gain, places = alone - loss, torch.bucketize(level, torch.tensor(BINS)) - 1
    bins = [float(loss[places == k].mean() / alone[places == k].mean()) for k in range(len(BINS) - 1)]
    print(
        f"held-out loss {float(loss.mean() / alone.mean()):.4f} of the linear part's, gain "
        f"{float(gain.mean()):.4f} ± {float(gain.std()) / math.sqrt(len(gain)):.4f}; by ln(α/σ) in {BINS}: "
        + ", ".join(f"{one:.3f}" for one in bins),
        flush=True,
    )


def train(folder: Path, steps: int, batch: int) -> None:
    """The guide with a network, and what it leaves of the linear part's loss."""
    phi = torch.load(folder / "phi4.pt")
    guide, begin = guide_of(phi), time.process_time()
    guide.fit_gaussian(30_000)
    fitted = time.process_time() - begin
    training = sp.ScoreMatching(guide, lr=2e-3, batch=batch)
    training.fit(steps)
    seconds = time.process_time() - begin - fitted
    print(
        f"{guide!r}\n{fitted:.0f} s of the fit, {steps} steps of {batch} in {seconds:.0f} s; {training.gain}"
    )
    guide.save(folder / "phi4.guide")
    report_loss(
        guide, phi, lambda x, level, here, linear: linear + here.outputs(guide.net(here.inputs(x), level))
    )


def train_edm(folder: Path, steps: int, batch: int) -> None:
    """The same network with Karras et al.'s scalar preconditioning, noise levels and steps as ours."""
    phi = torch.load(folder / "phi4.pt")
    guide = sp.ScoreGuide.load(folder / "phi4.guide", prior_of(phi), layout=LAYOUT, net=NET)
    torch.manual_seed(0)
    net = NET(guide.fields["field"]).train()
    kept, optimiser = copy.deepcopy(net), torch.optim.Adam(net.parameters(), lr=2e-3)
    generator = torch.Generator().manual_seed(5)

    def mean(x: Field, level: Field, *_: Any, net: torch.nn.Module = kept) -> Field:
        images = x.reshape(-1, 1, SIDE, SIDE)  # of variance 1 at every t, as the data have
        output = net(torch.cat([images, images], dim=1), level).flatten(1)
        alpha, sigma = torch.sigmoid(2 * level).sqrt(), torch.sigmoid(-2 * level).sqrt()
        return alpha * x + sigma * output

    begin, rows = time.process_time(), torch.empty(0)
    for k in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * min(1.0, (k + 1) / 100) * 0.5 * (1 + math.cos(math.pi * k / steps))
        if len(rows) < batch:
            rows = guide.fitted().standardise(guide.prior_batch(4096, 11, k)).float()
        x0, rows = rows[:batch], rows[batch:]
        x, level, *_ = noised(guide, x0, generator)
        sigma = torch.sigmoid(-2 * level).sqrt()  # of which in units what is learned has variance 1
        loss = ((mean(x, level, net=net) - x0) / sigma).square().mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        with torch.no_grad():
            decay = min(0.999, (1 + k) / (10 + k))
            get_ema_multi_avg_fn(decay)(list(kept.parameters()), list(net.parameters()), k)
    print(f"EDM: {steps} steps of {batch} in {time.process_time() - begin:.0f} s")
    report_loss(guide, phi, mean)


def trained(folder: Path) -> tuple[sp.ScoreGuide, Field]:
    """The guide of `train`, and the draws."""
    phi = torch.load(folder / "phi4.pt")
    return sp.ScoreGuide.load(folder / "phi4.guide", prior_of(phi), layout=LAYOUT, net=NET), phi


def report_prior(folder: Path, draws: int, steps: int) -> None:
    """Two-point function of prior draws in Fourier: where a wavenumber, with those that the symmetries make
    equal to it, carries 1% of the variance, its power against that of the draws of HMC."""
    guide, phi = trained(folder)
    begin = time.process_time()
    x = guide.prior(steps=steps).run(draws, seed=2).draws["field"]
    seconds, found, true = (
        time.process_time() - begin,
        spectrum(torch.as_tensor(np.asarray(x))),
        spectrum(phi),
    )
    k = torch.minimum(torch.arange(SIDE), SIDE - torch.arange(SIDE))
    square = k[:, None] ** 2 + k**2
    print(f"{draws} draws in {steps} steps, {1e3 * seconds / draws:.1f} ms each")
    for level in torch.unique(square):
        own = square == level
        share = float(true[own].sum() / true.sum())
        if share < 0.01:
            continue
        ratio, count = float(found[own].mean() / true[own].mean()), int(own.sum())
        print(
            f"  |k|² = {int(level):2d}: {100 * share:.1f}% of the variance, by {100 * ratio - 100:+.1f}% ± "
            f"{100 * math.sqrt(2 / (count * draws)):.1f}%",
            flush=True,
        )
    drawn = torch.as_tensor(np.asarray(x))
    alike = [float((p**4).mean() / (p**2).mean() ** 2) for p in (drawn, phi)]
    print(
        f"  in all {100 * float(found.sum() / true.sum() - 1):+.2f}%, kurtosis {alike[0]:.3f} for "
        f"{alike[1]:.3f}"
    )


def by_hmc(y: Field, places: torch.Tensor, chains: int, count: int, burn: int) -> tuple[Field, Field]:
    """Draws (chains × kept, numbers) of φ given y by the model's own density, and the first half's means."""
    generator = torch.Generator().manual_seed(7)

    def energy(phi: Field) -> tuple[Field, Field]:
        value, slope = action(phi)
        residual = (phi.flatten(1)[:, places] - y) / NOISE
        pull = torch.zeros_like(phi).flatten(1)
        pull[:, places] = residual / NOISE
        return value + 0.5 * residual.square().sum(dim=1), slope + pull.reshape(phi.shape)

    phi = torch.randn((chains, SIDE, SIDE), generator=generator)
    phi, _ = hmc(phi, energy, burn, generator)
    _, kept = hmc(phi, energy, count, generator, 5)
    half = len(kept) // 2
    return torch.stack(kept).flatten(0, 1).flatten(1), torch.stack(kept[:half]).flatten(0, 1).flatten(1)


def rms(a: torch.Tensor) -> float:
    """Root mean square."""
    return float(a.square().mean().sqrt())


def reference_of(folder: Path, y: Field, places: torch.Tensor) -> tuple[Field, Field]:
    """`by_hmc` of 256 chains and 1,500 trajectories, kept in a file."""
    if not (folder / "reference.pt").exists():
        begin = time.process_time()
        torch.save(by_hmc(y, places, 256, 1_500, 300), folder / "reference.pt")
        print(f"HMC of the posterior: {time.process_time() - begin:.0f} s")
    exact, half = torch.load(folder / "reference.pt")
    return exact, half


def report_posterior(folder: Path, draws: int, steps: int, correction: Any) -> None:
    """Of one held-out field, 8% of whose numbers were seen: means and standard deviations against HMC's."""
    guide, phi = trained(folder)
    places, truth = seen_places(), phi[7, -1].flatten()
    y = truth[places] + NOISE * torch.randn(SEEN, generator=torch.Generator().manual_seed(8))
    exact, half = reference_of(folder, y, places)
    begin = time.process_time()
    run = guide.condition(y=y, correction=correction, steps=steps).run(draws, seed=3)
    seconds = time.process_time() - begin
    x = torch.as_tensor(np.asarray(run.draws["field"])).flatten(1)
    sd = exact.std(dim=0)
    print(f"{run.diagnosis}\n{draws} draws in {steps} steps, {seconds / draws:.2f} s each")
    for words, rows in (
        ("draws", x),
        ("HMC's own first half", half),
        ("prior", phi.flatten(0, 1).flatten(1)),
    ):
        off, wide = (rows.mean(dim=0) - exact.mean(dim=0)) / sd, rows.std(dim=0) / sd - 1
        print(
            f"  {words}: means {rms(off):.3f} sd off (rms; {1 / math.sqrt(len(rows)):.3f} by chance), sd "
            f"{100 * rms(wide):.1f}% off (rms; on average {100 * float(wide.mean()):+.1f}%)",
            flush=True,
        )


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["draws", "train", "edm", "prior", "posterior", "cost"])
    parser.add_argument("--folder", type=Path, default=Path("."))
    parser.add_argument("--steps", type=int, default=3_000)
    parser.add_argument("--solve", type=int, default=64, help="steps of the reverse SDE")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--draws", type=int, default=4_096)
    parser.add_argument("--correction", choices=["auto", "twisted"], default="auto")
    parser.add_argument("--particles", type=int, default=64)
    parser.add_argument("--sides", type=int, nargs="+", default=[16, 32, 64])
    return parser.parse_args()


def main() -> None:
    """Run what was asked for."""
    torch.set_num_threads(1)
    asked = parse()
    match asked.what:
        case "draws":
            make_draws(asked.folder)
        case "train":
            train(asked.folder, asked.steps, asked.batch)
        case "edm":
            train_edm(asked.folder, asked.steps, asked.batch)
        case "prior":
            report_prior(asked.folder, asked.draws, asked.solve)
        case "posterior":
            twisted = sp.TwistedSMC(asked.particles)
            correction = twisted if asked.correction == "twisted" else "auto"
            report_posterior(asked.folder, asked.draws, asked.solve, correction)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory {memory:.2f} GB")


if __name__ == "__main__":
    main()
