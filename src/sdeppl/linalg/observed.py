"""The covariance of what was observed, H C Hᵀ + R: its equations and its determinant."""

from dataclasses import replace

from array_api_compat import device

from ..backend import Array, array_namespace
from ..backend.sharing import cached_property
from .conjugate_gradients import iterated
from .lanczos import Estimate, log_trace
from .markov import GaussMarkov, Innovations
from .nearest import NearestRoot
from .operators import DIRECT, Dense, Diagonal, Diagonalisable, LinearOperator, Symmetric

FACTORED = 4_096  # observed numbers up to which all entries are written out, where that is cheap
TOLERANCE = 1e-8  # of conjugate gradients: the residual beside |b|
ROUNDING = 8.0  # times that of the dtype, which no tolerance is below
COLUMNS = 2**22  # numbers in the rows of H that products with C are made of at once
QUICK, FEW = 2_048, 8  # equations of more numbers are not worth a factor, where they are few
LOOK = 16  # iterations after which a device is asked whether all have ended


class ObservedCovariance(Symmetric):
    """S = H C Hᵀ + R of n numbers, for H (n, dim), C a covariance of dim numbers and R that of the noise.

    form: 'diagonal' where each number was observed with the same noise, and S has the eigenvectors of C;
    'sequential' where C is Gauss–Markov and each observation sees neighbouring states alone (`Innovations`);
    'factored' where at most 4,096 numbers were observed one by one (`single_entries`), so that entries of C
    are entries of S, or at most 512 in any way: n³/3 operations for Cholesky's factor, once; else 'iterated':
    conjugate gradients, a product with C each, to a residual of 1e-8 |b|, preconditioned by what each number
    says of its neighbours where it is known which they are (`near_root`). So are up to 8 equations of more
    than 2,048 numbers, which are not worth a factor. `iterations`: the most that any call took. No matrix of
    n × dim or dim × dim numbers is made.

    Raises: ValueError where S is factored and not positive definite; for operators of several rows.
    """

    def __init__(self, H: LinearOperator, C: LinearOperator, R: LinearOperator) -> None:
        if not (H.shared and C.shared and R.shared):
            raise ValueError(f"H, C and R must each be one for all rows; got {H!r}, {C!r} and {R!r}")
        super().__init__((H.shape[0], H.shape[0]), None, C.like)
        self.H, self.C, self.R, self.iterations, self.asked = H, C, R, 0, 0

    @cached_property
    def structured(self) -> LinearOperator | None:
        """S where it is diagonal or sequential, else None."""
        if isinstance(self.C, GaussMarkov) and self.shape[0]:
            return self._diagonal() or Innovations.of(self.H, self.C, self.R)
        return self._diagonal()

    @cached_property
    def closed(self) -> LinearOperator | None:
        """S where it is diagonal, sequential or factored, else None."""
        if self.structured is not None:
            return self.structured
        n, entries = self.shape[0], self.H.single_entries
        if n > (DIRECT if entries is None else FACTORED):
            return None
        S = self._by_columns() if entries is None else self._by_entries(*entries)
        if isinstance(S, Dense):
            self._require_root(S)
        return S

    @cached_property
    def near_root(self) -> NearestRoot | None:
        """Of S⁻¹, nearly, where numbers were observed one by one and it is known which are near to which."""
        entries = self.H.single_entries
        positions = None if entries is None else self.C.positions(entries[0])
        if entries is None or positions is None:
            return None
        xp, (places, values), noise = array_namespace(self.like), entries, self.R.diagonal()

        def of_S(i: Array, j: Array) -> Array:
            def at(array: Array, index: Array) -> Array:
                return xp.reshape(xp.take(array, xp.reshape(index, (-1,))), index.shape)

            found = at(values, i) * self.C.entries(at(places, i), at(places, j)) * at(values, j)
            return found + xp.where(i == j, at(noise, i), xp.zeros_like(found))

        return NearestRoot.of(positions, of_S, self.like)

    @property
    def has_factor(self) -> bool:
        """Whether its closed form has been made, and there is one."""
        return self.__dict__.get("closed") is not None

    @property
    def form(self) -> str:
        """'diagonal', 'sequential', 'factored' or 'iterated'."""
        if self.closed is None:
            return "iterated"
        if isinstance(self.closed, Innovations):
            return "sequential"
        return "factored" if isinstance(self.closed, Dense) else "diagonal"

    @property
    def words(self) -> str:
        """What equations of n numbers took."""
        n = self.shape[0]
        if not self.has_factor and self.iterations:  # few equations, and not its determinant
            return f"{n:,} numbers by at most {self.iterations} iterations of conjugate gradients"
        if self.form == "diagonal":
            return f"{n:,} numbers by the eigenvectors of their covariance"
        if self.form == "sequential":
            return f"{n:,} numbers by one factorisation of the precision given them, block by block in time"
        if self.form == "factored":
            return f"{n:,} numbers by one factorisation"
        return f"{n:,} numbers by at most {self.iterations} iterations of conjugate gradients"

    def matvec(self, v: Array) -> Array:
        return self.H.matvec(self.C.matvec(self.H.rmatvec(v))) + self.R.matvec(v)

    def solve(self, b: Array) -> Array:
        """S⁻¹ b row by row. Raises: FloatingPointError where conjugate gradients do not get there."""
        xp, n = array_namespace(b), self.shape[0]
        if not n:
            return b
        rows = xp.reshape(b, (-1, n))
        self.asked += rows.shape[0]
        by_factor = n <= QUICK or self.asked > FEW or self.has_factor or self.structured is not None
        if (by_factor or self.near_root is None) and self.closed is not None:
            return self.closed.solve(b)
        near = None if self.near_root is None else self.near_root.near_inverse
        most = 4 * n + 50
        found, count = iterated(lambda v: (self.matvec(v), v), rows, self._tolerance, most, near, look=LOOK)
        self.iterations = max(self.iterations, count)
        if bool(xp.any(xp.isnan(found))):
            raise FloatingPointError(
                f"conjugate gradients did not solve the equations of {self.shape[0]} observed numbers in "
                f"{count} iterations: H C Hᵀ + R is not positive definite, or its noise is too small beside "
                "the prior's variance for this dtype; give the observation more noise, or use float64"
            )
        return xp.reshape(found, b.shape)

    def logdet(self) -> Array:
        return self.log_determinant.value

    @cached_property
    def log_determinant(self) -> Estimate:
        """ln det S, exact where S has a closed form, else by stochastic Lanczos quadrature (`log_trace`) of
        what the near root leaves of it, where there is one."""
        if self.closed is not None:
            return Estimate(self.closed.logdet(), 0.0, 0)
        root = self.near_root
        if root is None:
            return log_trace(self.matvec, self.shape[0], self.like)
        found = log_trace(lambda v: root.matvec(self.matvec(root.rmatvec(v))), self.shape[0], self.like)
        return replace(found, value=found.value - 2 * root.logdet())

    @property
    def _tolerance(self) -> float:
        return max(TOLERANCE, ROUNDING * float(array_namespace(self.like).finfo(self.like.dtype).eps))

    def _diagonal(self) -> LinearOperator | None:
        """S where that has the eigenvectors of C, or is diagonal itself."""
        n, entries = self.shape[0], self.H.single_entries
        if entries is None or not self.R.is_diagonal:
            return None
        xp, (places, values), noise = array_namespace(self.like), entries, self.R.diagonal()
        if not n:
            return Diagonal(noise)
        numbers = xp.arange(n, dtype=places.dtype, device=device(places))
        in_order = self.H.shape[1] == n and bool(xp.all(places == numbers))
        same = all(bool(xp.all(part == part[0])) for part in (values, noise))
        if in_order and same and isinstance(self.C, Diagonalisable):
            found = (self.C * float(values[0]) ** 2).shifted(float(noise[0]))
            return found if isinstance(found, Diagonalisable) else None
        once = bool(xp.all(xp.sort(places)[1:] > xp.sort(places)[:-1]))
        if self.C.is_diagonal and once:
            return Diagonal(values**2 * xp.take(self.C.diagonal(), places) + noise)
        return None

    def _by_entries(self, places: Array, values: Array) -> Dense:
        xp = array_namespace(self.like)
        once, again = xp.unique_inverse(places)
        block = self.C.block(once).dense()
        block = xp.take(xp.take(block, again, axis=0), again, axis=1)  # in the order of the observations
        matrix = values[:, None] * block * values[None, :]
        return Dense(self.R.added_to(matrix), positive=True)

    def _by_columns(self) -> Dense:
        xp, n = array_namespace(self.like), self.shape[0]
        at_once, unit = max(COLUMNS // self.H.shape[1], 1), self._identity()
        parts = [
            self.H.matvec(self.C.matvec(self.H.rmatvec(unit[i : min(i + at_once, n), :])))
            for i in range(0, n, at_once)
        ]
        matrix = xp.concat(parts, axis=0)
        return Dense(self.R.added_to(0.5 * (matrix + matrix.T)), positive=True)

    def _require_root(self, S: Dense) -> None:
        try:
            finite = bool(array_namespace(self.like).isfinite(S.root.logdet()))
        except (RuntimeError, ValueError):  # torch's and NumPy's LinAlgError
            finite = False
        if not finite:
            raise ValueError(
                "H C Hᵀ + R is singular: some observed combination has no noise and no prior variance, or "
                "two rows say the same; leave one out, or give it noise"
            )

    def _take(self, index: Array | int) -> LinearOperator:
        return self
