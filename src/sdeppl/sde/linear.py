"""Linear SDEs: Brownian motion and Ornstein–Uhlenbeck; with matrices any coupling and correlated noise."""

import math
from dataclasses import dataclass
from typing import NamedTuple

from scipy import linalg

from ..backend import (
    Array,
    Backend,
    Number,
    array_namespace,
    backend_of,
    elementary,
    place,
    python_floats,
    real_number,
    require_arrays,
    resolve,
    to_host,
)
from .base import AffineSDE, IsotropicSDE, Transition, require_forward
from .schedules import ConstantSchedule, Schedule

SPANS_KEPT = 256


@dataclass(frozen=True)
class LinearSDE(IsotropicSDE):
    """dx = -a x dt + b dW: α = e^{-at}, σ² = b²/(2a) (1 - e^{-2at}), or b² t for a = 0.

    a: rate per unit of time, of any sign; b > 0: amplitude, in units of x per √time; T: where
    noising ends when it carries data to noise. Raises: ValueError for parameters that are not
    finite numbers, b ≤ 0 or T ≤ 0. Source: Gardiner, Stochastic Methods, §4.5.4.
    """

    a: float
    b: float
    T: float = 1.0

    def __post_init__(self) -> None:
        python_floats(self)
        for name, value in (("a", self.a), ("b", self.b), ("T", self.T)):
            if not isinstance(value, (int, float)) or not math.isfinite(value):
                raise ValueError(f"LinearSDE: {name} must be a finite number; got {value!r}")
        if self.b <= 0 or self.T <= 0:
            raise ValueError(f"LinearSDE: b and T must be positive; got b={self.b}, T={self.T}")

    def transition(self, s: Number, t: Number) -> Transition:
        functions = elementary(t)
        span = t - s
        if self.a == 0:
            return Transition(functions.exp(0.0 * span), 0.0, self.b**2 * span)
        variance = -functions.expm1(-2 * self.a * span) * (self.b**2 / (2 * self.a))
        return Transition(functions.exp(-self.a * span), 0.0, variance)

    def rate(self, t: float) -> float:
        return -self.a

    def amplitude(self, t: float) -> float:
        return self.b


class HostTransition(NamedTuple):
    """Φ (k, k), shift (k,) and Q (k, k): x_t given x_s ~ N(Φ x_s + shift, Q); NumPy, float64."""

    map: Array
    shift: Array
    covariance: Array


def linear_transition(F: Number, G: Array, u: Array, span: float) -> HostTransition:
    """Of dx = (F x + u) dt + B dW with G = B Bᵀ over `span` ≥ 0.

    Φ = e^{F h}, shift = ∫_0^h e^{F r} u dr, Q = ∫_0^h e^{F r} G e^{Fᵀ r} dr. One exponential of
    [[F h, G, u], [0, -Fᵀ h, 0], [0, 0, 0]] gives all three over a span with |F| h ≤ 1/2; longer ones
    are doubled from it, Q ← Q + Φ Q Φᵀ, since e^{-Fᵀ h} would grow and cost Q its digits. Nothing is
    subtracted, so that Q is precise for short steps too, entry by entry. F, G (k, k), u (k,):
    NumPy, float64. Source: Van Loan 1978, Computing integrals involving the matrix exponential.
    """
    xp, k = array_namespace(F), F.shape[0]
    size = float(xp.max(xp.sum(xp.abs(F), axis=1))) * span
    doublings = max(0, math.ceil(math.log2(2 * size))) if size > 0 else 0
    h = span / 2.0**doublings
    scale_g = float(xp.max(xp.abs(G))) or 1.0
    scale_u = float(xp.max(xp.abs(u))) or 1.0
    block = xp.zeros((2 * k + 1, 2 * k + 1), dtype=xp.float64)  # array-lint: NumPy's, on the host
    block[:k, :k] = F * h
    block[:k, k : 2 * k] = G / scale_g
    block[:k, 2 * k] = u / scale_u
    block[k : 2 * k, k : 2 * k] = -F.T * h
    exponential = linalg.expm(block)
    phi = exponential[:k, :k]
    shift = (scale_u * h) * exponential[:k, 2 * k]
    q = (scale_g * h) * (exponential[:k, k : 2 * k] @ phi.T)
    for _ in range(doublings):
        shift = shift + phi @ shift
        q = q + phi @ q @ phi.T
        phi = phi @ phi
    return HostTransition(phi, shift, 0.5 * (q + q.T))


def covariance_root(q: Array) -> Array:
    """L (k, k) with L Lᵀ = Q, for any covariance; scaled first, so that small variances keep their digits."""
    xp = array_namespace(q)
    scale = xp.sqrt(xp.linalg.diagonal(q))
    positive = xp.where(scale > 0, scale, xp.ones_like(scale))
    eigenvalues, basis = linalg.eigh(q / (positive[:, None] * positive))
    return scale[:, None] * basis * xp.sqrt(xp.clip(eigenvalues, 0.0, None))


def signal_to_noise(transition: HostTransition, t: float) -> Array:
    """Φᵀ Q⁻¹ Φ. Raises: ValueError where Q is singular."""
    half = linalg.solve_triangular(_factor(transition.covariance, t), transition.map, lower=True)
    return half.T @ half


def log_signal_to_noise(transition: HostTransition, t: float) -> Array:
    """Logarithms of the eigenvalues of Φᵀ Q⁻¹ Φ, ascending.

    The upper ones come from that matrix, the lower ones from its inverse Φ⁻¹ Q Φ⁻ᵀ, where they are
    the large ones: an eigenvalue below 2⁻⁵² of the largest would drown in its rounding.
    Raises: ValueError where Q is singular.
    """
    xp = array_namespace(transition.map)
    upper = linalg.eigvalsh(signal_to_noise(transition, t))
    half = linalg.solve(transition.map, _factor(transition.covariance, t))
    lower = 1 / xp.flip(linalg.eigvalsh(half @ half.T))
    return xp.log(xp.where(upper * upper > upper[-1] * lower[0], upper, lower))


def _factor(q: Array, t: float) -> Array:
    """Cholesky's factor of Q. Raises: ValueError where Q is singular."""
    try:
        return linalg.cholesky(q, lower=True)
    except linalg.LinAlgError as error:
        raise ValueError(
            f"no signal-to-noise ratio at t={t}: the covariance of x_t given x_0 is singular, for the noise "
            "does not reach all directions of x; give B a column for them, or A a coupling"
        ) from error


class MatrixLinearSDE(AffineSDE):
    """dx = β(t) (u - A x) dt + √β(t) B dW: Φ = e^{-A τ}, Q = ∫_0^τ e^{-A r} B Bᵀ e^{-Aᵀ r} dr, τ = ∫β.

    A (dim, dim), per unit of time, and B (dim, wiener_dim), in units of x per √time: any matrices, so
    noise may be correlated or reach some components only; u (dim,): none by default. schedule: β(t),
    which only changes the time; 1 by default. Their library, device and dtype are those of every
    result, and of the states; transitions are computed on the host in float64 and kept for each τ,
    which is rounded to 12 digits so that a uniform grid costs one matrix exponential.

    Raises: ValueError for an A that is not square, a B or u whose rows are not A's, entries that
    are not finite, T ≤ 0; TypeError for whole numbers, or a schedule that is none.
    Source: Van Loan 1978; Särkkä & Solin 2019, section 6.2.
    """

    noise = "additive"

    def __init__(
        self, A: Array, B: Array, u: Array | None = None, schedule: Schedule | None = None, T: float = 1.0
    ) -> None:
        backend = require_arrays("MatrixLinearSDE", A=A, B=B, u=u)
        if A is None or B is None:
            raise TypeError(f"MatrixLinearSDE: A and B must be matrices; got A={A!r:.40}, B={B!r:.40}")
        _check_matrices(A, B, u)
        if not (schedule is None or isinstance(schedule, Schedule)):
            raise TypeError(
                f"MatrixLinearSDE: schedule must be a Schedule, as LinearSchedule is; got {schedule!r}"
            )
        number = real_number(T)
        if number is None or not 0 < number < float("inf"):
            raise ValueError(f"MatrixLinearSDE: T must be positive and finite; got {T!r}")
        self.A, self.B, self.u, self.T = A, B, u, number
        self.schedule = schedule or ConstantSchedule(1.0)
        self.dim, self.wiener_dim = B.shape
        self._spans: dict[float, tuple[HostTransition, Transition]] = {}
        self._roots: dict[float, Array] = {}
        precise = resolve("numpy")
        zeros = backend.xp.zeros(self.dim, dtype=backend.dtype, device=backend.device)
        host_a, host_b, self._host_u = (place(m, precise) for m in (A, B, zeros if u is None else u))
        self._host_F, self._host_G = -host_a, host_b @ host_b.T

    def __repr__(self) -> str:
        return f"MatrixLinearSDE(dim={self.dim}, wiener_dim={self.wiener_dim}, {self.schedule}, T={self.T})"

    @property
    def backend(self) -> Backend:
        """Of A."""
        return backend_of(self.A)  # not kept, for a namespace cannot be pickled

    def drift(self, x: Array, t: float) -> Array:
        pulled = x @ self.A.T
        return self.schedule.beta(t) * (-pulled if self.u is None else self.u - pulled)

    def diffusion(self, x: Array, t: float) -> Number:
        return float(self.schedule.beta(t)) ** 0.5 * self.B  # array-lint: a number

    def transition(self, s: float, t: float) -> Transition:
        """map (dim, dim), shift (dim,), covariance (dim, dim). Raises: ValueError for t < s."""
        return self._between(s, t)[1]

    def moments(self, mean: Array, covariance: Array, t: float, s: float = 0.0) -> tuple[Array, Array]:
        phi, shift, q = self.transition(s, t)
        return mean @ phi.T + shift, phi @ covariance @ phi.T + q

    def advance(self, x: Array, s: float, t: float, z: Array) -> Array:
        """Φ x + shift + L z with L Lᵀ = Q, which may be singular."""
        host, (phi, shift, _) = self._between(s, t)
        span = self._span(s, t)
        if span not in self._roots:
            self._roots[span] = place(covariance_root(host.covariance), self.backend)
        return x @ phi.T + shift + z @ self._roots[span].T

    def snr(self, t: float) -> Number:
        """Φᵀ Q⁻¹ Φ, (dim, dim); ∞, a number, at t = 0. Raises: ValueError where Q is singular."""
        if t == 0:
            return float("inf")
        return place(signal_to_noise(self._between(0.0, t)[0], t), self.backend)

    def log_snr(self, t: float) -> Number:
        """Logarithms of the eigenvalues of `snr`, ascending, (dim,); ∞, a number, at t = 0."""
        if t == 0:
            return float("inf")
        return place(log_signal_to_noise(self._between(0.0, t)[0], t), self.backend)

    def equilibrium(self) -> tuple[Array, Array]:
        """Mean A⁻¹ u and covariance C of x_∞, with A C + C Aᵀ = B Bᵀ (Lyapunov).

        Raises: ValueError unless all eigenvalues of A have positive real parts.
        """
        eigenvalues = linalg.eigvals(self._host_F).real
        if not max(eigenvalues) < 0:
            raise ValueError(
                "MatrixLinearSDE: there is no equilibrium, for an eigenvalue of A has the real part "
                f"{-max(eigenvalues):.3g}, which is not positive"
            )
        mean = linalg.solve(-self._host_F, self._host_u)
        covariance = linalg.solve_continuous_lyapunov(-self._host_F, self._host_G)
        return place(mean, self.backend), place(covariance, self.backend)

    def _span(self, s: float, t: float) -> float:
        """τ from s to t, rounded: the times of a uniform grid would each cost an exponential else."""
        return float(f"{self.schedule.between(s, t):.11e}")

    def _between(self, s: float, t: float) -> tuple[HostTransition, Transition]:
        require_forward(s, t)
        span = self._span(s, t)
        if span not in self._spans:
            if len(self._spans) >= SPANS_KEPT:
                self._spans.clear()
                self._roots.clear()
            host = linear_transition(self._host_F, self._host_G, self._host_u, span)
            backend = self.backend
            self._spans[span] = host, Transition(*(place(part, backend) for part in host))
        return self._spans[span]


def _check_matrices(A: Array, B: Array, u: Array | None) -> None:
    """Raises: ValueError for shapes that do not fit, and entries that are not finite."""
    if A.ndim != 2 or A.shape[0] != A.shape[1] or not A.shape[0]:
        raise ValueError(f"MatrixLinearSDE: A must be square, (dim, dim); got shape {tuple(A.shape)}")
    dim = A.shape[0]
    if B.ndim != 2 or B.shape[0] != dim or not B.shape[1]:
        raise ValueError(
            f"MatrixLinearSDE: B must have as many rows as A, ({dim}, wiener_dim); got shape {tuple(B.shape)}"
        )
    if u is not None and tuple(u.shape) != (dim,):
        raise ValueError(f"MatrixLinearSDE: u must be ({dim},), as A says; got shape {tuple(u.shape)}")
    for name, entries in (("A", A), ("B", B), ("u", u)):
        if entries is not None and not bool(array_namespace(A).all(array_namespace(A).isfinite(entries))):
            got = to_host(entries).tolist()  # array-lint: on the host
            raise ValueError(f"MatrixLinearSDE: {name} must be finite; got {got}")
