"""SDEs on positions and velocities: Langevin dynamics, and critically damped Langevin diffusion."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from array_api_compat import device
from scipy.special import gammainc

from ..backend import Array, Number, array_namespace, python_floats, require_positive
from .base import SDE, AffineSDE, Transition, require_forward
from .schedules import ConstantSchedule, Schedule, check_scheduled

Pairs = tuple[tuple[float, float], tuple[float, float]]  # a 2 × 2 matrix


def halves(x: Array, who: str) -> tuple[Array, Array]:
    """Positions and velocities (..., n) of states (..., 2 n), positions first.

    Raises: ValueError, naming `who`, for states of odd length.
    """
    n, rest = divmod(x.shape[-1], 2)
    if rest or not n:
        raise ValueError(
            f"{who}: states hold n positions and then n velocities; got shape {tuple(x.shape)}, whose last "
            "length is no even number"
        )
    return x[..., :n], x[..., n:]


@dataclass(frozen=True)
class LangevinSDE(SDE):
    """dq = v dt, dv = (F(q)/m - γ v) dt + √(2γ kT/m) dW, on states (q, v), (..., 2 n).

    force: q (..., n) ↦ F(q) = -∂U/∂q (..., n); friction: γ ≥ 0, per unit of time; temperature: kT ≥ 0,
    in the energy's units; mass: m > 0. Its stationary density is ∝ e^{-(U(q) + m v²/2)/kT}. Where γ or
    kT is 0 no noise enters. The solver BAOAB is made for it; any other takes it too.

    Raises: ValueError for numbers out of these ranges; TypeError for a force that is no function.
    Source: Leimkuhler & Matthews 2013, eq. 1.
    """

    force: Callable[[Array], Array]
    friction: float = 1.0
    temperature: float = 1.0
    mass: float = 1.0
    noise = "additive"

    def __post_init__(self) -> None:
        python_floats(self)
        if not callable(self.force):
            raise TypeError(f"LangevinSDE: force must be a function q ↦ F(q); got {self.force!r}")
        for name in ("friction", "temperature"):
            value = getattr(self, name)
            if not isinstance(value, float) or not 0 <= value < math.inf:
                raise ValueError(f"LangevinSDE: {name} must be a finite number >= 0; got {value!r}")
        require_positive(self, "mass")

    @property
    def amplitude(self) -> float:
        """√(2γ kT/m)."""
        return math.sqrt(2 * self.friction * self.temperature / self.mass)

    def drift(self, x: Array, t: float) -> Array:
        q, v = halves(x, "LangevinSDE")
        return array_namespace(x).concat([v, self.force(q) / self.mass - self.friction * v], axis=-1)

    def diffusion(self, x: Array, t: float) -> Number:
        """(2 n,): zero on the positions, √(2γ kT/m) on the velocities."""
        return on_velocities(x, self.amplitude, "LangevinSDE")

    def deterministic(self, s: float, t: float) -> bool:
        return self.amplitude == 0


@dataclass(frozen=True)
class CriticallyDampedSDE(AffineSDE):
    """dx = v/M β dt, dv = -(x + Γ v/M) β dt + √(2Γβ) dW with Γ² = 4M, on states (x, v), (..., 2 n).

    x_∞ ~ N(0, I), v_∞ ~ N(0, M I). All n pairs move alike, so that n numbers cost O(n): maps and
    covariances are 2 × 2 tuples of floats, which act on (x_i, v_i). schedule: β(t), per unit of time;
    mass: M. `start` and `start_moments` join x_0 with v_0 ~ N(0, γ M I). Noise on the positions is
    zero, and its normals are drawn but not used. With y = ∫β/√M and P the regularised lower incomplete
    gamma function, Φ = e^{-y} [[1 + y, y/√M], [-√M y, 1 - y]], Q_xx = P(3, 2y),
    Q_xv = 2 √M y² e^{-2y}, Q_vv = M (P(3, 2y) + 4 y e^{-2y}).

    Raises: ValueError for a mass or T that is not positive and finite, or a schedule that is none.
    Source: Dockhorn, Vahdat & Kreis 2022, eq. 5 and appendix B.1; their β = 4, M = 1/4.
    """

    schedule: Schedule = field(default_factory=lambda: ConstantSchedule(4.0))
    mass: float = 0.25
    T: float = 1.0

    def __post_init__(self) -> None:
        python_floats(self)
        check_scheduled(self)
        require_positive(self, "mass")

    @property
    def friction(self) -> float:
        """Γ = 2 √M."""
        return 2 * math.sqrt(self.mass)

    def drift(self, x: Array, t: float) -> Array:
        xp, beta = array_namespace(x), self.schedule.beta(t)
        q, v = halves(x, "CriticallyDampedSDE")
        return xp.concat([beta / self.mass * v, -beta * q - beta * self.friction / self.mass * v], axis=-1)

    def diffusion(self, x: Array, t: float) -> Number:
        """(2 n,): zero on the positions, √(2Γβ) on the velocities."""
        return on_velocities(x, math.sqrt(2 * self.friction * self.schedule.beta(t)), "CriticallyDampedSDE")

    def transition(self, s: float, t: float) -> Transition:
        """2 × 2 tuples of floats for map and covariance, no shift. Raises: ValueError for t < s."""
        require_forward(s, t)
        root = math.sqrt(self.mass)
        y = self.schedule.between(s, t) / root
        decay = math.exp(-y)
        phi = ((decay * (1 + y), decay * y / root), (-decay * root * y, decay * (1 - y)))
        both = float(gammainc(3, 2 * y))
        cross = 2 * root * (y * decay) ** 2
        return Transition(phi, 0.0, ((both, cross), (cross, self.mass * (both + 4 * y * decay * decay))))

    def moments(self, mean: Array, covariance: Array, t: float, s: float = 0.0) -> tuple[Array, Array]:
        phi, _, q = self.transition(s, t)
        xp = array_namespace(mean, covariance)
        halves(mean, "CriticallyDampedSDE")
        n = mean.shape[-1] // 2
        identity = xp.eye(n, dtype=covariance.dtype, device=device(covariance))
        rows = [xp.concat([q[i][0] * identity, q[i][1] * identity], axis=-1) for i in range(2)]
        carried = xp.matrix_transpose(act(phi, covariance))
        return act(phi, mean), xp.matrix_transpose(act(phi, carried)) + xp.concat(rows, axis=-2)

    def advance(self, x: Array, s: float, t: float, z: Array) -> Array:
        """Φ x + L z with L Lᵀ = Q, on each pair (x_i, v_i)."""
        phi, _, q = self.transition(s, t)
        return act(phi, x) + act(cholesky(q), z)

    def snr(self, t: float) -> Number:
        """Φᵀ Q⁻¹ Φ of each pair (x_i, v_i), a 2 × 2 tuple of floats; ∞, a number, at t = 0."""
        if t == 0:
            return math.inf
        y, (first, cross, last) = self._growing_snr(t)
        decay = math.exp(-2 * y)
        return (decay * first, decay * cross), (decay * cross, decay * last)

    def log_snr(self, t: float) -> Number:
        """Logarithms of the two eigenvalues of `snr`, ascending; ∞, a number, at t = 0."""
        if t == 0:
            return math.inf
        y, (first, cross, last) = self._growing_snr(t)
        larger = math.log(0.5 * (first + last) + math.hypot(0.5 * (first - last), cross))
        (root_x, _), (_, root_v) = cholesky(self.transition(0.0, t).covariance)
        log_determinant = -2 * math.log(root_x * root_v)  # that of e^y Φ is 1
        return log_determinant - larger - 2 * y, larger - 2 * y

    def _growing_snr(self, t: float) -> tuple[float, tuple[float, float, float]]:
        """y and e^{2y} Φᵀ Q⁻¹ Φ: entries xx, xv, vv; neither vanishes for large t."""
        root = math.sqrt(self.mass)
        y = self.schedule.between(0.0, t) / root
        (l11, _), (l21, l22) = cholesky(self.transition(0.0, t).covariance)
        first = (1 + y) / l11, y / root / l11
        second = (-root * y - l21 * first[0]) / l22, (1 - y - l21 * first[1]) / l22
        xx, vv = (first[i] ** 2 + second[i] ** 2 for i in range(2))
        return y, (xx, first[0] * first[1] + second[0] * second[1], vv)

    def start(self, x: Array, normals: Array, gamma: float = 0.04) -> Array:
        """(x, √(γM) z), (..., 2 n): positions x (..., n) with velocities from normals z like x."""
        return array_namespace(x).concat([x, math.sqrt(gamma * self.mass) * normals], axis=-1)

    def start_moments(self, mean: Array, covariance: Array, gamma: float = 0.04) -> tuple[Array, Array]:
        """Mean (..., 2 n) and covariance (..., 2 n, 2 n) of (x_0, v_0), v_0 ~ N(0, γ M I).

        mean (..., n) and covariance (..., n, n) of x_0. Source: Dockhorn et al. 2022, section 3.1.
        """
        xp = array_namespace(mean, covariance)
        nothing = xp.zeros_like(covariance)
        identity = xp.eye(mean.shape[-1], dtype=covariance.dtype, device=device(covariance))
        velocities = nothing + gamma * self.mass * identity
        rows = [xp.concat([covariance, nothing], axis=-1), xp.concat([nothing, velocities], axis=-1)]
        return xp.concat([mean, xp.zeros_like(mean)], axis=-1), xp.concat(rows, axis=-2)


def act(matrix: Pairs, x: Array) -> Array:
    """A 2 × 2 matrix of floats on the pairs (x_i, v_i) of states (..., 2 n)."""
    xp = array_namespace(x)
    q, v = halves(x, "a 2 × 2 matrix")
    return xp.concat([row[0] * q + row[1] * v for row in matrix], axis=-1)


def cholesky(q: Pairs) -> Pairs:
    """L with L Lᵀ = Q for a positive definite 2 × 2 matrix of floats."""
    first = math.sqrt(q[0][0])
    cross = q[1][0] / first
    return (first, 0.0), (cross, math.sqrt(q[1][1] - cross * cross))


def on_velocities(x: Array, amplitude: float, who: str) -> Array:
    """(2 n,) for states like x: zero on the positions, `amplitude` on the velocities."""
    halves(x, who)
    xp, n = array_namespace(x), x.shape[-1] // 2
    ones = xp.ones(n, dtype=x.dtype, device=device(x))
    return xp.concat([xp.zeros_like(ones), amplitude * ones])
