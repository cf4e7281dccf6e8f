"""The linear SDE with matrices: any coupling, correlated noise."""

from array_api_compat import array_namespace
from scipy import linalg

from ..backend import Array, Backend, Number, backend_of, place, real_number, require_arrays, resolve, to_host
from .affine import AffineSDE, Transition
from .schedules import ConstantSchedule, Schedule
from .van_loan import (
    HostTransition,
    covariance_root,
    linear_transition,
    log_signal_to_noise,
    signal_to_noise,
)

SPANS_KEPT = 256


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
        if t < s:
            raise ValueError(f"a forward SDE runs forward: got a step from t={s} to t={t}; use ReverseSDE")
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
