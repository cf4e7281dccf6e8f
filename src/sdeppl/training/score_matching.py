"""Denoising score matching on fresh draws from the model."""

import copy
import math
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ..backend import Backend, Progress, real_parameter, resolve, whole_number
from ..backend.files import CorruptFile, Named, check_folder, read, write
from ..backend.sharing import SHARED
from ..denoisers import Eigenbasis, OnGrid
from ..guide import ScoreGuide
from ..sde import to_dict
from ..tracing import ModelError
from ..tracing.randomness import derive_seed, seeded
from .noising import Noising, Noisy

MOST = 10**9  # steps, weeks of work
POOL, POOL_NUMBERS = 8192, 2**22  # prior draws made at once; numbers in them where there is a layout
BATCH, BATCH_NUMBERS, LEAST_BATCH = 512, 2**16, 8  # rows of a step; numbers in them likewise
WARM_UP = 100  # steps
LEAST_VALIDATED, MOST_LEVELS = 64, 16  # fresh rows; noise levels of each row of a data set
Precision = Literal["float32", "bf16", "float64"]
_DTYPES = {"float32": torch.float32, "bf16": torch.float32, "float64": torch.float64}
# independent random streams; the guide's own are (0, …) and (1,)
POOLS, STEPS, HELD_OUT, DROPOUT = 1, 2, 3, 4
KIND = "score matching checkpoint"


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
    Adam's learning rate, on a cosine to 0 within each `fit`, after a linear rise over `warm_up` steps, by
    default none, and 100 where the guide has a layout; gradients are cut to norm 1. batch: rows per step, by
    default 512, with a layout 65,536 numbers, and 8 rows at least. ema: decay of the averaged weights, which
    the guide uses; seed: of everything here.

    device: of the network and the noising, 'cpu' where not given, 'cuda' or 'cuda:1'. precision: None is the
    network's own dtype, 'float32' or 'float64' make it so, 'bf16' computes its forward and backward pass in
    bfloat16 where that is safe (autocast), with weights, loss and optimiser in float32. compile: whether
    the network's steps go through torch.compile, which takes a minute at first. ahead: whether `fit` makes or
    reads the next draws in a thread while it makes its steps; they are the same draws, so the result is the
    same. By default with a layout. Memory: three pools of 4 million numbers of such draws, and what the
    network's backward pass holds.

    Raises: TypeError for no ScoreGuide; ValueError for arguments out of range; BackendUnavailable for a
    device that is not there. Source: Vincent 2011; Song et al. 2021, eq. 7.
    """

    def __repr__(self) -> str:
        made = f"{len(self.losses)} steps made" + ("" if self.gain is None else f", {self.gain}")
        return f"ScoreMatching({self.guide!r}, lr={self.lr:g}, batch={self.batch}; {made})"

    def __init__(
        self,
        guide: ScoreGuide,
        lr: float = 1e-3,
        batch: int | None = None,
        ema: float = 0.999,
        draws: int | None = None,
        seed: int = 0,
        *,
        device: str | None = None,
        precision: Precision | None = None,
        compile: bool = False,
        warm_up: int | None = None,
        ahead: bool | None = None,
    ) -> None:
        if not isinstance(guide, ScoreGuide):
            raise TypeError(f"expected a ScoreGuide, got a {type(guide).__name__}; try ScoreGuide(model)")
        if precision is not None and precision not in get_args(Precision):
            raise ValueError(f"precision={precision!r:.80} is unknown; use one of {get_args(Precision)}")
        self.backend = _on_device(device)
        self.precision, self.compile = precision, bool(compile)
        lr, ema = real_parameter("lr", lr), real_parameter("ema", ema)
        fields, dim = bool(guide.fields), guide.space.dim
        batch = (
            (max(LEAST_BATCH, min(BATCH, BATCH_NUMBERS // dim)) if fields else BATCH)
            if batch is None
            else whole_number("batch", batch)
        )
        if not (lr > 0 and 1 <= batch <= POOL and 0 <= ema < 1):
            raise ValueError(
                f"need lr > 0, 1 <= batch <= {POOL} and 0 <= ema < 1; got lr={lr}, batch={batch}, ema={ema}"
            )
        self.guide, self.lr, self.batch, self.ema = guide, lr, batch, ema
        self.draws = guide.moment_draws if draws is None else whole_number("draws", draws, 2)
        self.seed = whole_number("seed", seed)
        self.warm_up = (WARM_UP if fields else 0) if warm_up is None else whole_number("warm_up", warm_up, 0)
        self.ahead = fields if ahead is None else bool(ahead)
        # rows of a pool of draws, each used in one step only
        self.pool = batch * max(1, min(POOL, POOL_NUMBERS // dim) // batch) if fields else POOL
        self.losses: list[float] = []
        self.gain: Gain | None = None
        self._pool: tuple[int, torch.Tensor] | None = None
        self._next: _Ahead | None = None
        self._ready = False
        self._between_steps = True

    def step(self) -> float:
        """One step on a fresh batch; returns its loss (1 is the Gaussian part alone)."""
        self.prepare(progress=False)
        if self.guide.net is None:
            raise ValueError("the guide has net=None: there is nothing to train; use fit(steps=0)")
        index = len(self.losses)
        inputs, level, reach, target = self._noised(self._fresh(index), STEPS, index)
        output = self._output(inputs, level, index)
        if output.shape != target.shape:
            same = inputs.shape == target.shape
            raise ModelError(
                f"the network {type(self.network).__name__} returns shape {tuple(output.shape)} for x "
                f"{tuple(inputs.shape)} and levels {tuple(level.shape)}; expected "
                f"{'the shape of x' if same else tuple(target.shape)}"
            )
        loss = (reach * output - target).square().mean()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        found = float(loss.detach())
        if not math.isfinite(found):
            raise ModelError(
                f"the loss of step {index} is {found}: the draws or the network's weights are no numbers any "
                f"more; look at the draws, or take a smaller lr than {self.lr:g}"
            )
        self._between_steps = False
        self.optimiser.step()
        self._average(index)
        self.losses.append(found)
        self._between_steps = True
        self.guide.use_net = True
        self.guide.forget()
        return self.losses[-1]

    def _output(self, inputs: torch.Tensor, level: torch.Tensor, index: int) -> torch.Tensor:
        """Of the network that is trained, in its weights' dtype."""
        low = torch.autocast(inputs.device.type, torch.bfloat16, enabled=self.precision == "bf16")
        if self._next is not None and self._next.alone:  # the lock would be the other thread's
            with low:
                return self._forward(inputs, level).to(self.dtype)
        with seeded(self.seed, DROPOUT, index), low:  # what a network draws by itself, as dropout does
            before = _random_state(inputs.device)
            output: torch.Tensor = self._forward(inputs, level).to(self.dtype)
            if self._next is not None:
                self._next.alone = torch.equal(before, _random_state(inputs.device))
        return output

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
            self._set_rate(self.warm_up, math.inf)
        self.validate()
        if checkpoint is not None:
            self.save_checkpoint(checkpoint)
        return self

    def _steps_until(
        self, steps: int, progress: bool | None, checkpoint: str | Path | None, every: int
    ) -> None:
        remaining = range(len(self.losses), steps)
        with Progress(len(remaining), progress, "score matching", "step") as bar, self._drawing(steps):
            start, begin = time.monotonic(), len(self.losses)
            for index in remaining:
                self._set_rate(index, steps)
                self.step()
                if index % 50 == 0:
                    recent, seconds = self.losses[-100:], time.monotonic() - start
                    rows = (index + 1 - begin) * self.batch / max(seconds, 1e-9)
                    bar.note(loss=f"{sum(recent) / len(recent):.4f}", rows=f"{rows:.3g}/s")
                if checkpoint is not None and (index + 1) % every == 0:
                    self.save_checkpoint(checkpoint)

    @contextmanager
    def _drawing(self, steps: int) -> Iterator[None]:
        """While steps are made, draws for the next ones are, too."""
        if not self.ahead:
            yield
            return
        with _Ahead(
            lambda pool: self._x0(POOLS, pool), (steps - 1) // (self.pool // self.batch)
        ) as self._next:
            try:
                yield
            finally:
                self._next = None

    def validate(self, draws: int | None = None) -> Gain:
        """Compare network and Gaussian part on fresh draws; keep the better of them in the guide.

        draws: 32,768 by default, with a layout 4 million numbers; of a data set its held-out rows, each at
        several noise levels. The one kept is then checked by itself (`guide.fit_check`). Warns:
        UntrustedWarning where it is not the model's prior.
        """
        if self.guide.net is None:
            raise ValueError("there is no network to validate")
        if draws is None:
            draws = max(LEAST_VALIDATED, POOL_NUMBERS // self.guide.space.dim)
            draws = min(draws, 4 * POOL) if self.guide.fields else 4 * POOL
        gain = self._gains(draws)
        self.gain = Gain(float(gain.mean()), float(gain.std()) / math.sqrt(gain.shape[0]))
        self.guide.use_net, self.guide.left_out = self.gain.useful, not self.gain.useful
        self.guide.forget()
        self.guide.check_fit()
        return self.gain

    def _gains(self, draws: int) -> torch.Tensor:
        """What the network takes off the loss of each of about `draws` fresh rows, (rows,)."""
        rows = self.guide.rows["held out"]
        if rows is None:
            pools = range(math.ceil(draws / self.pool))
            return torch.cat([self._gain_of(self._x0(HELD_OUT, index), index) for index in pools])
        x0 = self.guide.fitted().standardise(self.guide.held_out(min(rows, draws), HELD_OUT, self.seed))
        times = min(MOST_LEVELS, math.ceil(draws / x0.shape[0]))
        return torch.stack([self._gain_of(x0, index) for index in range(times)]).mean(dim=0)

    def _gain_of(self, x0: torch.Tensor, index: int) -> torch.Tensor:
        assert self.guide.net is not None
        inputs, level, reach, target = self._noised(x0, HELD_OUT, index)
        at_once, outputs = self.batch if self.guide.fields else len(inputs), []
        with torch.no_grad():
            for first in range(0, len(inputs), at_once):
                part = slice(first, first + at_once)
                outputs.append(self.guide.net(inputs[part], level[part]))
        error = (reach * torch.cat(outputs) - target).square().mean(dim=-1)
        return target.square().mean(dim=-1) - error

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
        fields = bool(self.guide.fields)
        where = self.backend if not fields else replace(self.backend, dtype=torch.float32)
        self.noising = Noising(gaussian, self.guide.sde, OnGrid if fields else Eigenbasis, where)
        if self.guide.net is None and self.guide.net_factory is not None:
            with SHARED, torch.random.fork_rng():
                torch.manual_seed(derive_seed(self.seed))
                self.guide.net = self.guide.new_net()
        if self.guide.net is not None:
            kept = None if self.precision is None else _DTYPES[self.precision]
            self.guide.net.to(device=self.backend.device, dtype=kept)
            self.dtype = _dtype_of(self.guide.net)
            self.guide.net.requires_grad_(False).eval()
            self.network = copy.deepcopy(self.guide.net).requires_grad_(True).train()
            self._forward: Any = torch.compile(self.network) if self.compile else self.network
            self.optimiser = torch.optim.Adam(self.network.parameters(), lr=self.lr)
        self._pool = None
        self._ready = True

    def _x0(self, stream: int, index: int) -> torch.Tensor:
        x0 = self.guide.fitted().standardise(self.guide.prior_batch(self.pool, stream, self.seed, index))
        return x0.to(self.noising.backend.dtype)

    def _noised(self, x0: torch.Tensor, stream: int, index: int) -> Noisy:
        generator = torch.Generator(self.backend.device)
        generator.manual_seed(derive_seed(self.seed, stream, index))
        return self.noising.sample(x0, generator, self.dtype)

    def _fresh(self, index: int) -> torch.Tensor:
        """Rows that no other step sees; the same for the same step, so that training can resume."""
        pool, slot = divmod(index, self.pool // self.batch)
        if self._pool is None or self._pool[0] != pool:
            self._pool = None  # room for the next
            self._pool = (pool, self._x0(POOLS, pool) if self._next is None else self._next(pool))
        return self._pool[1][slot * self.batch : (slot + 1) * self.batch]

    def _average(self, index: int) -> None:
        """The guide's weights follow the raw ones, faster in the first steps; buffers are copied."""
        assert self.guide.net is not None
        mean, raw = list(self.guide.net.parameters()), list(self.network.parameters())
        get_ema_multi_avg_fn(min(self.ema, (1 + index) / (10 + index)))(mean, raw, index)
        for kept, buffer in zip(self.guide.net.buffers(), self.network.buffers(), strict=True):
            kept.copy_(buffer)

    def _set_rate(self, index: int, steps: float) -> None:
        risen = min(1.0, (index + 1) / self.warm_up) if self.warm_up else 1.0
        for group in self.optimiser.param_groups:
            group["lr"] = risen * self.lr * 0.5 * (1 + math.cos(math.pi * index / steps))

    def save_checkpoint(self, path: str | Path) -> None:
        """Guide, raw weights, Adam's moments, losses and settings, written atomically."""
        tensors, content = self.guide.contents()
        tensors |= {f"raw.{name}": value for name, value in self.network.state_dict().items()}
        for index, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"adam.{index}.{name}": torch.as_tensor(v) for name, v in state.items()}
        tensors["losses"] = torch.tensor(self.losses, dtype=torch.float64)
        write(
            path,
            KIND,
            {name: value.cpu() for name, value in tensors.items()},
            content | {"settings": self._settings()},
        )

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
        own: dict[str, Any] = {"lr": self.lr, "batch": self.batch, "ema": self.ema, "seed": self.seed}
        if self.warm_up:
            own["warm_up"] = self.warm_up
        if self.precision is not None:
            own["precision"] = self.precision
        return own | {"guide_seed": self.guide.seed, "sde": to_dict(self.guide.sde)}


class _Ahead:
    """Pools of draws, of which the next is made in a thread while the one before is used; a context.

    make: the number of a pool ↦ it; last: the number of the last one. An error in the thread is raised where
    the pool is asked for. alone: whether the steps have been seen to draw no random numbers of torch's, and
    so need no lock against a model that does.
    """

    alone = False

    def __init__(self, make: Callable[[int], torch.Tensor], last: int) -> None:
        self.make, self.last = make, last
        self.thread = ThreadPoolExecutor(1, "sdeppl draws")
        self.coming: tuple[int, Future[torch.Tensor]] | None = None

    def __enter__(self) -> "_Ahead":
        return self

    def __exit__(self, *error: object) -> None:
        self.thread.shutdown(cancel_futures=True)

    def __call__(self, pool: int) -> torch.Tensor:
        """The pool of this number."""
        if self.coming is None or self.coming[0] != pool:
            self.coming = pool, self.thread.submit(self.make, pool)
        found = self.coming[1].result()
        self.coming = None
        if pool < self.last:
            self.coming = pool + 1, self.thread.submit(self.make, pool + 1)
        return found


def _on_device(device: str | None) -> Backend:
    """Torch there. Raises: BackendUnavailable; TypeError for what is no name of a device."""
    if device is not None and not isinstance(device, str):
        raise TypeError(f"device must be a name such as 'cpu' or 'cuda:1'; got {device!r:.80}")
    return resolve("torch" if device is None else f"torch:{device}")


def _random_state(device: torch.device) -> torch.Tensor:
    """Of the generator that a network on this device draws from where it is given none."""
    return torch.get_rng_state() if device.type == "cpu" else torch.cuda.get_rng_state(device)


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
