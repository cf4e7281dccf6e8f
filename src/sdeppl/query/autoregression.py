"""The Gaussian part of a path: a vector autoregression fitted to draws, good for any length."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ..linalg import BlockTridiagonal, GaussMarkov, PathShape, Time

ORDERS = (1, 2, 3, 4, 6, 8)
LARGEST_STATE = 512  # numbers in `order` states, up to which their regression is tried
TRANSIENT = 0.25  # of the fitted length, which may differ from what follows
RIDGE = 1e-10  # of the mean variance, for states that are functions of others


@dataclass(frozen=True)
class Autoregression:
    """x_t = c_t + Σ_j A_{t,j} x_{t-j} + e_t with e_t ~ N(0, Q_t), j = 1 … order, for states x of d numbers.

    constants c (times, d), coefficients A (times, order, d, d), noise Q (times, d, d). For longer paths the
    last `period` of them go on in turn; 0 where they are others at each time, so that nothing is known of
    later ones. Shorter paths are cut. Lags before the start count as 0. words: what was chosen, and why.
    """

    constants: torch.Tensor
    coefficients: torch.Tensor
    noise: torch.Tensor
    period: int = 1
    words: str = ""

    @property
    def order(self) -> int:
        """How many states back it looks."""
        return self.coefficients.shape[1]

    @property
    def states(self) -> int:
        """Numbers in a state."""
        return self.constants.shape[1]

    def of_length(self, length: int) -> "Autoregression":
        """For paths of another length. Raises: ValueError where nothing is known of so late times."""
        known = len(self.constants)
        if length > known and not self.period:
            raise ValueError(
                f"the path's law was found to change from time to time, and nothing is known of it beyond "
                f"the {known} times that it was fitted to; fit it to paths of {length}"
            )
        times = torch.arange(length)
        late, turn = times >= known, max(self.period, 1)
        times = torch.where(late, known - turn + (times - known) % turn, times)
        constants, coefficients, noise = self.constants[times], self.coefficients[times], self.noise[times]
        return Autoregression(constants, coefficients, noise, self.period, self.words)

    def mean(self) -> torch.Tensor:
        """E x, (times, d). Time grows with the number of times."""
        rows: list[torch.Tensor] = []
        for c, A in zip(self.constants, self.coefficients, strict=True):
            found = c
            for j in range(min(self.order, len(rows))):
                found = found + A[j] @ rows[-1 - j]
            rows.append(found)
        return torch.stack(rows)

    def covariance(self) -> GaussMarkov:
        """Of a path as one vector (times × d,), by its block-banded precision: Σ_t W_tᵀ Q_t⁻¹ W_t with W_t
        = (-A_{t,order} … -A_{t,1}, I)."""
        T, p, d = len(self.noise), self.order, self.states
        unit = torch.eye(d, dtype=self.noise.dtype).expand(T, d, d)
        W = torch.cat([-self.coefficients.flip(1), unit[:, None]], dim=1)
        K = torch.einsum("tiab,tac,tjcd->tijbd", W, torch.linalg.inv(self.noise), W)
        bands = []  # bands[k][s]: the block of states s and s - k
        for k in range(p + 1):
            band = torch.zeros_like(self.noise)
            for j in range(min(p - k + 1, T)):
                band[: T - j] += K[j:, p - j, p - j - k]
            bands.append(band)
        return GaussMarkov(_blocks_of(bands, p, d))


def _blocks_of(bands: list[torch.Tensor], p: int, d: int) -> BlockTridiagonal:
    """Block-banded with bands k = 0 … p of d × d, as block-tridiagonal with blocks of p states."""
    T = len(bands[0])
    count = -(-T // p)
    diagonal = torch.zeros((count, p, p, d, d), dtype=bands[0].dtype)
    lower = torch.zeros((max(count - 1, 0), p, p, d, d), dtype=bands[0].dtype)
    for k, band in enumerate(bands):
        padded = torch.zeros((count * p, d, d), dtype=band.dtype)
        padded[k:T] = band[k:]
        rows = padded.reshape(count, p, d, d)
        for i in range(p):
            j = i - k
            if j >= 0:
                diagonal[:, i, j] = rows[:, i]
                diagonal[:, j, i] = rows[:, i].mT
            elif count > 1:
                lower[:, i, j + p] = rows[1:, i]
    beyond = count * p - T  # states that there are not stand alone
    for i in range(p - beyond, p):
        diagonal[-1, i, i] = torch.eye(d, dtype=diagonal.dtype)

    def whole(blocks: torch.Tensor) -> torch.Tensor:
        return blocks.permute(0, 1, 3, 2, 4).reshape(len(blocks), p * d, p * d)

    return BlockTridiagonal(whole(diagonal), whole(lower), T * d)


@dataclass(frozen=True)
class PathGaussian:
    """The Gaussian part of a path, of any length: z = location + scale · x, x an autoregression.

    scale (d,): of the numbers of a state, the same at all times.
    """

    model: Autoregression
    scale: torch.Tensor

    def moments(self, length: int) -> tuple[torch.Tensor, torch.Tensor, GaussMarkov]:
        """Location and scale (length × d,), and the covariance of x. Raises: ValueError for a length of which
        nothing is known."""
        model = self.model.of_length(length)
        scale = self.scale.repeat(length)
        return model.mean().reshape(-1) * scale, scale, model.covariance()

    def contents(self, prefix: str) -> tuple[dict[str, torch.Tensor], dict[str, object]]:
        """Tensors by name and JSON, from which `of` makes it again."""
        model = self.model
        tensors = {"constants": model.constants, "coefficients": model.coefficients, "noise": model.noise}
        named = {f"{prefix}.{name}": tensor for name, tensor in {**tensors, "scale": self.scale}.items()}
        return named, {"period": model.period, "words": model.words}

    @classmethod
    def of(
        cls, tensors: Mapping[str, torch.Tensor], content: Mapping[str, Any], prefix: str
    ) -> "PathGaussian":
        """What `contents` took apart. Raises: KeyError for what is missing."""
        constants, coefficients, noise, scale = (
            tensors[f"{prefix}.{name}"] for name in ("constants", "coefficients", "noise", "scale")
        )
        period, words = int(content["period"]), str(content["words"])
        return cls(Autoregression(constants, coefficients, noise, period, words), scale)


def estimate_path(
    batches: Callable[[int], Iterable[torch.Tensor]], path: PathShape, time: Time
) -> PathGaussian:
    """By three passes over draws: of scales, of what is fitted to, and held out.

    Raises: ValueError where a number of the state never varies, and as `fit_autoregression`.
    """
    count, total, square, shift = 0, torch.zeros(()), torch.zeros(()), torch.zeros(())
    for batch in batches(0):
        states = batch.reshape(-1, path.states)
        shift = states.mean(dim=0) if not count else shift
        total, square = total + (states - shift).sum(dim=0), square + (states - shift).square().sum(dim=0)
        count += len(states)
    if count < 2:
        raise ValueError(f"moments need at least 2 states; got {count}")
    scale = (square / count - (total / count).square()).clamp_min(0).sqrt()
    still = [k for k, sd in enumerate(scale.tolist()) if not sd > 0]
    if still:
        raise ValueError(
            f"number {still[0]} of the state never varies, neither in time nor from draw to draw; leave it "
            "out of the path"
        )
    model = fit_autoregression(lambda k: batches(k + 1), scale, path.length, time.order, time.period)
    return PathGaussian(model, scale)


# ---- Fitting it


@dataclass(frozen=True)
class _Moments:
    """E w wᵀ, (times, width, width), of w = (x_{t-most}, …, x_t, 1) with zeros before the start."""

    products: torch.Tensor
    most: int
    states: int

    @classmethod
    def of(cls, batches: Iterable[torch.Tensor], scale: torch.Tensor, most: int, states: int) -> "_Moments":
        """From paths (n, times × d)."""
        total, count = None, 0
        for batch in batches:
            n = len(batch)
            x = (batch.reshape(n, -1, states)) / scale
            padded = torch.cat([x.new_zeros(n, most, states), x], dim=1)
            windows = padded.unfold(1, most + 1, 1).permute(1, 0, 3, 2).reshape(x.shape[1], n, -1)
            windows = torch.cat([windows, windows.new_ones((*windows.shape[:2], 1))], dim=-1)
            products = windows.mT @ windows
            total = products if total is None else total + products
            count += n
        if total is None or count < 2:
            raise ValueError(f"moments need at least 2 draws; got {count}")
        return cls(total / count, most, states)

    def chosen(self, order: int, time: int | None = None) -> torch.Tensor:
        """Which numbers of w are regressed on: `order` states back, as far as there are any, and 1."""
        back = order if time is None else min(order, time)
        first = (self.most - back) * self.states
        width = self.products.shape[-1]
        return torch.cat([torch.arange(first, self.most * self.states), torch.tensor([width - 1])])

    @property
    def target(self) -> slice:
        """Where x_t stands in w."""
        return slice(self.most * self.states, (self.most + 1) * self.states)


def fit_autoregression(
    batches: Callable[[int], Iterable[torch.Tensor]],
    scale: torch.Tensor,
    length: int,
    order: int | None = None,
    period: int = 1,
) -> Autoregression:
    """Of paths, in units of `scale` (d,); its order, and whether it is the same at all times, by which
    explains held-out draws best.

    batches: the number of a pass ↦ batches (n, length × d) of fresh draws: the first is fitted to, the second
    held out. Candidates: the same at all times (of a period), from the start or after a quarter of the
    length, or other numbers at each time. order: the one that is wanted. Time grows with draws × length ×
    (order × d)², memory with length × (order × d)². Raises: ValueError for an order too large.
    """
    states = len(scale)
    orders = [one for one in ORDERS if one < length and one * states <= LARGEST_STATE] or [1]
    if order is not None:
        orders = [order]
    most = max(orders)
    if most >= length or most * states > LARGEST_STATE:
        raise ValueError(
            f"an autoregression of order {most} needs a path longer than that and at most {LARGEST_STATE} "
            f"numbers in so many states; the path has {length} states of {states} numbers"
        )
    fitted, held_out = (_Moments.of(batches(k), scale, most, states) for k in (0, 1))
    starts = sorted({0, int(TRANSIENT * length), length})
    best, best_score = None, -math.inf
    for p in orders:
        for start in starts:
            model = _fit(fitted, p, start, period)
            found = _score(model.of_length(length), held_out)
            if best is None or found > best_score:
                best, best_score = model, found
    if best is None:
        raise ValueError("moments of the paths are not finite; the simulator gives NaN or infinity")
    return best


def _fit(moments: _Moments, order: int, start: int, period: int) -> Autoregression:
    """The same at all times from `start` on, by the phase in the period; at each time its own before."""
    T = len(moments.products)
    own = min(max(start, order), T)
    parts = [_regressed(moments, moments.products[t : t + 1], order, t) for t in range(min(order, own))]
    if own > order:
        parts.append(_regressed(moments, moments.products[order:own], order))
    if own < T:
        late = moments.products[own:]
        phases = torch.stack([late[k::period].mean(dim=0) for k in range(min(period, len(late)))])
        parts.append(_regressed(moments, phases, order))
    constants, coefficients, noise = (torch.cat(part) for part in zip(*parts, strict=True))
    how = "at each time" if own == T else f"the same from time {own} on" if start else "the same at all times"
    if period > 1:
        how += f" of a period of {period}"
    words = f"by an autoregression of order {order} ({how}, which explains held-out draws best)"
    return Autoregression(constants, coefficients, noise, period if own < T else 0, words)


def _regressed(
    moments: _Moments, products: torch.Tensor, order: int, time: int | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Constants (times, d), coefficients (times, order, d, d) and noise of least squares."""
    d, index, target = moments.states, moments.chosen(order, time), moments.target
    xx, xy = products[:, index][:, :, index], products[:, index][:, :, target]
    ridge = torch.eye(len(index), dtype=products.dtype)
    ridge[-1, -1] = 0.0
    yy = products[:, target, target]
    solved = torch.linalg.solve(xx + RIDGE * ridge, xy).mT
    noise = yy - solved @ xy
    noise = 0.5 * (noise + noise.mT)
    values, basis = torch.linalg.eigh(noise)
    noise = (basis * values.clamp_min(RIDGE)[:, None, :]) @ basis.mT
    back = (len(index) - 1) // d
    lags = solved[:, :, :-1].reshape(len(products), d, back, d).permute(0, 2, 1, 3).flip(1)
    coefficients = torch.zeros((len(products), order, d, d), dtype=products.dtype)
    coefficients[:, :back] = lags
    return solved[:, :, -1], coefficients, noise


def _score(model: Autoregression, held_out: _Moments) -> float:
    """E ln p of a held-out path."""
    T, d, most = len(held_out.products), held_out.states, held_out.most
    width = held_out.products.shape[-1]
    B = torch.zeros((T, d, width), dtype=held_out.products.dtype)
    first = (most - model.order) * d
    B[:, :, first : most * d] = -model.coefficients.flip(1).permute(0, 2, 1, 3).reshape(T, d, -1)
    B[:, :, held_out.target] = torch.eye(d, dtype=B.dtype)
    B[:, :, -1] = -model.constants
    errors = B @ held_out.products @ B.mT
    squares = torch.linalg.solve(model.noise, errors).diagonal(dim1=-2, dim2=-1).sum()
    found = -0.5 * (torch.logdet(2 * math.pi * model.noise).sum() + squares)
    return float(found) if bool(torch.isfinite(found)) else -math.inf
