"""Denoising score matching on fresh draws from the model."""

import copy
import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ..backend import Progress, real_parameter, resolve, whole_number
from ..backend.files import CorruptFile, Named, check_folder, read, write
from ..backend.sharing import SHARED
from ..guide import ScoreGuide
from ..query import GaussianPart
from ..sde import IsotropicSDE, log_snr_grid, to_dict
from ..tracing import ModelError
from ..tracing.randomness import derive_seed, seeded

MOST = 10**9  # steps, weeks of work
POOL = 8192  # prior draws made at once, each used in one step only
# independent random streams; the guide's own are (0, …) and (1,)
POOLS, STEPS, HELD_OUT, DROPOUT = 1, 2, 3, 4
LEVELS = 512
KIND = "score matching checkpoint"
Noisy = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


class Noising:
    """x_0 ↦ (whitened x_t, ln(α/σ), ρ², target), with t uniform in ln(α/σ) from T to σ/α = 1e-3.

    The target is V-coordinates of (x_0 - best linear E[x_0 given x_t]) over their standard
    deviation: unit variance at every t, and what a network of zero output leaves unexplained. The
    network's output counts ρ² times, ρ the correlation of x_t with x_0, as in NetworkDenoiser.
    """

    def __init__(self, gaussian: GaussianPart, sde: IsotropicSDE) -> None:
        self.sde = sde
        self.denoiser = gaussian.denoiser(sde, resolve("torch"))
        # the grid's last step to t = 0 is left out: there is no noise to learn from at 0
        self.times = torch.tensor(log_snr_grid(sde, LEVELS)[:-1], dtype=torch.float64)

    def sample(
        self, x0: torch.Tensor, generator: torch.Generator, dtype: torch.dtype = torch.float32
    ) -> Noisy:
        """x0 (batch, dim) in float64 to inputs (batch, rank), levels (batch, 1), ρ² and targets.

        dtype: of all four, the network's own.
        """
        batch = x0.shape[0]
        position = torch.rand((batch, 1), generator=generator, dtype=torch.float64) * (LEVELS - 1)
        left = position.floor().long().clamp(max=LEVELS - 2)
        early, late = self.times[left], self.times[left + 1]
        t = early + (position - left) * (late - early)
        eps = torch.randn(x0.shape, generator=generator, dtype=torch.float64)
        x = self.sde.alpha(t) * x0 + self.sde.sigma(t) * eps + self.sde.shift(t)
        residual = (x0 - self.denoiser.mean(x, t)) @ self.denoiser.basis
        target = residual / self.denoiser.posterior_scale(t)
        found: Any = self.denoiser.whiten(x, t), self.sde.half_log_snr(t), self.denoiser.explained(t), target
        inputs, level, explained, target = (part.to(dtype) for part in found)
        return inputs, level, explained, target


@dataclass(frozen=True)
class Gain:
    """How much loss per number the network takes off the Gaussian part, on fresh draws.

    `mean` ± `standard_error` (the Gaussian part's loss is 1); `useful`: more than 3 standard errors,
    which a network that adds nothing passes once in 740 trainings.
    """

    mean: float
    standard_error: float

    @property
    def useful(self) -> bool:
        """Whether the network is kept."""
        return self.mean > 3 * self.standard_error


class ScoreMatching:
    """Trains a guide as `SVI` does: `.step()` in a loop of one's own, or `.fit(steps)`.

    Minimises E |ρ² F(x_t, t) - r|²/dim over fresh x_0 from the model, t uniform in ln(α/σ), with r the
    residual of the best linear denoiser in units of its standard deviation, ρ the correlation of
    x_t with x_0: the ε-loss |ε̂ - ε|² weighted so that the Gaussian part alone has loss 1 at every t.

    guide: fitted in place (Gaussian part first, from `draws` draws, by default `guide.moment_draws`); lr:
    Adam's learning rate, on a cosine to 0 within each `fit`; batch: rows per step; ema: decay of the
    averaged weights, which the guide uses; seed: of everything here.

    Raises: TypeError for no ScoreGuide; ValueError for arguments out of range. Source: Vincent
    2011; Song et al. 2021, eq. 7.
    """

    def __repr__(self) -> str:
        made = f"{len(self.losses)} steps made" + ("" if self.gain is None else f", {self.gain}")
        return f"ScoreMatching({self.guide!r}, lr={self.lr:g}, batch={self.batch}; {made})"

    def __init__(
        self,
        guide: ScoreGuide,
        lr: float = 1e-3,
        batch: int = 512,
        ema: float = 0.999,
        draws: int | None = None,
        seed: int = 0,
    ) -> None:
        if not isinstance(guide, ScoreGuide):
            raise TypeError(f"expected a ScoreGuide, got a {type(guide).__name__}; try ScoreGuide(model)")
        lr, ema = real_parameter("lr", lr), real_parameter("ema", ema)
        batch = whole_number("batch", batch)
        if not (lr > 0 and 1 <= batch <= POOL and 0 <= ema < 1):
            raise ValueError(
                f"need lr > 0, 1 <= batch <= {POOL} and 0 <= ema < 1; got lr={lr}, batch={batch}, ema={ema}"
            )
        self.guide, self.lr, self.batch, self.ema = guide, lr, batch, ema
        self.draws = guide.moment_draws if draws is None else whole_number("draws", draws, 2)
        self.seed = whole_number("seed", seed)
        self.losses: list[float] = []
        self.gain: Gain | None = None
        self._pool: tuple[int, torch.Tensor] | None = None
        self._ready = False
        self._between_steps = True

    def step(self) -> float:
        """One step on a fresh batch; returns its loss (1 is the Gaussian part alone)."""
        self.prepare(progress=False)
        if self.guide.net is None:
            raise ValueError("the guide has net=None: there is nothing to train; use fit(steps=0)")
        index = len(self.losses)
        inputs, level, reach, target = self._noised(self._fresh(index), STEPS, index)
        with seeded(self.seed, DROPOUT, index):  # what a network draws by itself, as dropout does
            output = self.network(inputs, level)
        if output.shape != target.shape:
            raise ModelError(
                f"the network {type(self.network).__name__} returns shape {tuple(output.shape)} for x "
                f"{tuple(inputs.shape)} and levels {tuple(level.shape)}; expected the shape of x"
            )
        loss = (reach * output - target).square().mean()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self._between_steps = False
        self.optimiser.step()
        self._average(index)
        self.losses.append(float(loss.detach()))
        self._between_steps = True
        self.guide.use_net = True
        self.guide.forget()
        return self.losses[-1]

    def fit(
        self,
        steps: int,
        progress: bool | None = None,
        checkpoint: str | Path | None = None,
        every: int = 500,
    ) -> "ScoreMatching":
        """Train until `steps` steps have been made in all; steps=0 fits the Gaussian part alone.

        At the end the network is compared with the Gaussian part on fresh draws (`.gain`) and left
        out of the guide where it is no improvement. checkpoint: a file written every `every` steps
        and at an interruption; where it exists, training goes on from it, with the same result as if
        it had never stopped, given the same `steps`.

        Raises: CorruptFile, ModelError for a file that does not fit; FileNotFoundError where it has no
        folder. Warns: UserWarning where this training has made `steps` steps already.
        """
        steps, every = whole_number("steps", steps, 0, MOST), whole_number("every", every, 1)
        made = len(self.losses)
        if made and steps <= made:
            text = f"nothing to do: {made} steps were already made; steps counts in all"
            warnings.warn(text, stacklevel=2)
        if checkpoint is not None:
            check_folder(checkpoint)
            self._settings()  # an SDE that cannot be saved is refused before any work
            if Path(checkpoint).exists():
                self.load_checkpoint(checkpoint)
        self.prepare(progress)
        if steps == 0 or self.guide.net is None:
            self.guide.check_fit()
            return self
        try:
            self._steps_until(steps, progress, checkpoint, every)
        except KeyboardInterrupt:
            # half a step is not worth keeping: the step would be made twice
            if checkpoint is not None and self._between_steps:
                self.save_checkpoint(checkpoint)
            raise
        finally:
            self._set_rate(0, 1)
        self.validate()
        if checkpoint is not None:
            self.save_checkpoint(checkpoint)
        return self

    def _steps_until(
        self, steps: int, progress: bool | None, checkpoint: str | Path | None, every: int
    ) -> None:
        remaining = range(len(self.losses), steps)
        with Progress(len(remaining), progress, "score matching", "step") as bar:
            for index in remaining:
                self._set_rate(index, steps)
                self.step()
                if index % 50 == 0:
                    recent = self.losses[-100:]
                    bar.note(loss=f"{sum(recent) / len(recent):.4f}")
                if checkpoint is not None and (index + 1) % every == 0:
                    self.save_checkpoint(checkpoint)

    def validate(self, draws: int = 4 * POOL) -> Gain:
        """Compare network and Gaussian part on fresh draws; keep the better of them in the guide.

        That one is then checked by itself (`guide.fit_check`). Warns: UntrustedWarning where it is not the
        model's prior.
        """
        if self.guide.net is None:
            raise ValueError("there is no network to validate")
        gains = []
        for index in range(math.ceil(draws / POOL)):
            inputs, level, reach, target = self._noised(self._x0(HELD_OUT, index), HELD_OUT, index)
            with torch.no_grad():
                error = (reach * self.guide.net(inputs, level) - target).square().mean(dim=-1)
            gains.append(target.square().mean(dim=-1) - error)
        gain = torch.cat(gains)
        self.gain = Gain(float(gain.mean()), float(gain.std()) / math.sqrt(gain.shape[0]))
        self.guide.use_net, self.guide.left_out = self.gain.useful, not self.gain.useful
        self.guide.forget()
        self.guide.check_fit()
        return self.gain

    def prepare(self, progress: bool | None) -> None:
        """Fit the Gaussian part and make the network, once."""
        if self._ready:
            return
        if self.guide.gaussian is None:
            self.guide.estimate(self.draws, progress)
        self.build()

    def build(self) -> None:
        """Network, its average in the guide, optimiser and noising, for a fitted Gaussian part."""
        gaussian = self.guide.fitted()
        self.noising = Noising(gaussian, self.guide.sde)
        if self.guide.net is None and self.guide.net_factory is not None:
            with SHARED, torch.random.fork_rng():
                torch.manual_seed(derive_seed(self.seed))
                self.guide.net = self.guide.new_net()
        if self.guide.net is not None:
            self.dtype = _dtype_of(self.guide.net)
            self.guide.net.requires_grad_(False).eval()
            self.network = copy.deepcopy(self.guide.net).requires_grad_(True).train()
            self.optimiser = torch.optim.Adam(self.network.parameters(), lr=self.lr)
        self._pool = None
        self._ready = True

    def _x0(self, stream: int, index: int) -> torch.Tensor:
        return self.guide.fitted().standardise(self.guide.prior_batch(POOL, stream, self.seed, index))

    def _noised(self, x0: torch.Tensor, stream: int, index: int) -> Noisy:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, stream, index))
        return self.noising.sample(x0, generator, self.dtype)

    def _fresh(self, index: int) -> torch.Tensor:
        """Rows that no other step sees; the same for the same step, so that training can resume."""
        per_pool = POOL // self.batch
        pool, slot = divmod(index, per_pool)
        if self._pool is None or self._pool[0] != pool:
            self._pool = (pool, self._x0(POOLS, pool))
        return self._pool[1][slot * self.batch : (slot + 1) * self.batch]

    def _average(self, index: int) -> None:
        """The guide's weights follow the raw ones, faster in the first steps; buffers are copied."""
        assert self.guide.net is not None
        mean, raw = list(self.guide.net.parameters()), list(self.network.parameters())
        get_ema_multi_avg_fn(min(self.ema, (1 + index) / (10 + index)))(mean, raw, index)
        for kept, buffer in zip(self.guide.net.buffers(), self.network.buffers(), strict=True):
            kept.copy_(buffer)

    def _set_rate(self, index: int, steps: int) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = self.lr * 0.5 * (1 + math.cos(math.pi * index / steps))

    def save_checkpoint(self, path: str | Path) -> None:
        """Guide, raw weights, Adam's moments, losses and settings, written atomically."""
        tensors, content = self.guide.contents()
        tensors |= {f"raw.{name}": value for name, value in self.network.state_dict().items()}
        for index, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"adam.{index}.{name}": torch.as_tensor(v) for name, v in state.items()}
        tensors["losses"] = torch.tensor(self.losses, dtype=torch.float64)
        write(path, KIND, tensors, content | {"settings": self._settings()})

    def load_checkpoint(self, path: str | Path) -> None:
        """Go on from a checkpoint. Raises: CorruptFile, also for other settings; ModelError."""
        tensors, content = read(path, KIND)
        if content.get("settings") != self._settings():
            raise CorruptFile(
                f"{path} was written with the settings {content.get('settings')}, this training has "
                f"{self._settings()}; use another file or the same settings"
            )
        self.guide.restore(tensors, content, path)
        self.build()
        try:
            self.network.load_state_dict(_with_prefix(tensors, "raw."))
            state: dict[int, dict[str, Any]] = {}
            for name, value in _with_prefix(tensors, "adam.").items():
                index, key = name.split(".")
                state.setdefault(int(index), {})[key] = value
            groups = self.optimiser.state_dict()["param_groups"]
            self.optimiser.load_state_dict({"state": state, "param_groups": groups})
            self.losses = [float(loss) for loss in tensors["losses"]]
        except (KeyError, IndexError, AttributeError, RuntimeError, TypeError, ValueError) as error:
            raise CorruptFile(f"{path} does not fit this training: {error}") from error

    def _settings(self) -> dict[str, Any]:
        """What must agree for a resumed training to be the same. Raises: TypeError for an unknown SDE."""
        own = {"lr": self.lr, "batch": self.batch, "ema": self.ema, "seed": self.seed}
        return own | {"guide_seed": self.guide.seed, "sde": to_dict(self.guide.sde)}


def _dtype_of(net: torch.nn.Module) -> torch.dtype:
    """Of its parameters. Raises: ModelError where there are none."""
    for parameter in net.parameters():
        if parameter.is_floating_point():
            return parameter.dtype
    raise ModelError(
        f"the network {type(net).__name__} has no parameters to train; use net=None, and fit(steps=0)"
    )


def _with_prefix(tensors: Named, prefix: str) -> Named:
    return {name[len(prefix) :]: v for name, v in tensors.items() if name.startswith(prefix)}
