"""Covariances that are the same everywhere on a regular grid: diagonal in a Fourier or a cosine transform."""

import math
from collections.abc import Callable
from typing import Any

from array_api_compat import device

from ..backend import Array, array_namespace
from ..backend.sharing import cached_property
from .layouts import FieldShape
from .operators import Dense, Diagonalisable, LinearOperator, Positions, before, chosen, total

LOOKED_UP = 2**24  # entries of a matrix that are written out by looking up the covariance function


class Stationary(Diagonalisable):
    """The covariance of a field that is stationary on its grid, known by its power spectrum.

    Along periodic axes it is diagonal in the Fourier transform, along others, at whose ends the field goes on
    as its mirror image, in the orthonormal cosine transform DCT-II. Numbers stand as in `FieldShape`: (...,
    channels × points), in C order. In the place of complex coefficients a_k (unitary norm) stand the real
    numbers Re a_k - Im a_k (Hartley), so that the basis is real and orthogonal. Several channels have at each
    wavenumber the Hermitian matrix C_k = W_k diag(w_k) W_k*.

    field: the grid; spectrum: the variances w, (channels × points,) or (batch, channels × points), in the
    order of the numbers, the same at k and -k; vectors: of several channels W, (2, channels, channels,
    points): the real part, the same at k and -k, and the imaginary one, of opposite sign there; None where
    channels are independent. A product takes O(n log n) and about four arrays like the rows.

    Raises: ValueError for shapes that do not fit. Source: Gray 2006, Toeplitz and circulant matrices; Makhoul
    1980 for the cosine transform by a Fourier transform of the same length.
    """

    def __init__(self, field: FieldShape, spectrum: Array, vectors: Array | None = None) -> None:
        n, c = field.size, field.channels
        expected = (2, c, c, field.points)
        if spectrum.shape[-1] != n or (vectors is not None and tuple(vectors.shape) != expected):
            got = (tuple(spectrum.shape), None if vectors is None else tuple(vectors.shape))
            raise ValueError(
                f"a field of {field} needs a spectrum (..., {n}) and vectors {expected} or None; got {got}"
            )
        super().__init__((n, n), spectrum.shape[0] if spectrum.ndim == 2 else None, spectrum)
        self.field, self.spectrum, self.vectors = field, spectrum, vectors

    @property
    def eigenvalues(self) -> Array:
        """The spectrum."""
        return self.spectrum

    def inside(self, v: Array) -> Array:
        found = spectral(self._fields(v), self.field)
        return self._flat(found if self.vectors is None else self._turned(found, back=True))

    def outside(self, u: Array) -> Array:
        fields = self._fields(u)
        return self._flat(spatial(fields if self.vectors is None else self._turned(fields), self.field))

    def matvec(self, v: Array) -> Array:
        """By the half of the Fourier transform that real numbers have."""
        axes, sizes = periodic_axes(self.field)
        if not axes or self.vectors is not None:
            return super().matvec(v)
        xp, last = array_namespace(v), axes[-1]
        kept = _along(last, slice(0, sizes[-1] // 2 + 1))
        values = self._fields(self.spectrum)[kept]
        found = values * xp.fft.rfftn(cosines(self._fields(v), self.field), s=sizes, axes=axes)
        return self._flat(from_cosines(xp.fft.irfftn(found, s=sizes, axes=axes), self.field))

    def map(self, function: Callable[[Array], Array]) -> "Stationary":
        return Stationary(self.field, function(self.spectrum), self.vectors)

    def logdet(self) -> Array:
        xp = array_namespace(self.spectrum)
        return xp.sum(xp.log(xp.abs(self.spectrum)), axis=-1)

    def shifted(self, c: Any) -> LinearOperator:
        return self.map(lambda values: values + before(c, 1))

    def __mul__(self, c: Any) -> LinearOperator:
        return self.map(lambda values: values * before(c, 1))

    def diagonal(self) -> Array:
        """Constant along periodic axes; along others of the covariance function at 0 and at the mirror."""
        field, xp = self.field, array_namespace(self.spectrum)
        table, c = self.covariance_function, field.channels
        own = xp.stack([table[..., i, i, :] for i in range(c)], axis=-2)
        own = xp.reshape(own, (*own.shape[:-1], *_images(field)))
        for k, (size, periodic) in enumerate(zip(field.shape, field.periodic, strict=True)):
            axis = k - len(field.shape)
            found = own[_along(axis, slice(0, 1))]
            if not periodic:
                found = found + own[_along(axis, slice(1, 2 * size, 2))]
            shape = list(own.shape)
            shape[axis] = size
            own = xp.broadcast_to(found, tuple(shape))
        return self._flat(own)

    def dense(self) -> Array:
        self._require_small()
        places = self._numbers(slice(0, self.shape[0]))
        return self._looked_up(places, places)

    def rows(self, index: Array | slice) -> LinearOperator:
        """Looked up in the covariance function, up to 2²⁴ entries; beyond, a product."""
        places = self._numbers(index)
        if places.shape[0] * self.shape[0] > LOOKED_UP:
            return super().rows(index)
        return Dense(self._looked_up(places, self._numbers(slice(0, self.shape[0]))))

    def block(self, index: Array | slice) -> LinearOperator:
        """Looked up in the covariance function, up to 2²⁴ entries; beyond, a product."""
        places = self._numbers(index)
        if places.shape[0] ** 2 > LOOKED_UP:
            return super().block(index)
        return Dense(self._looked_up(places, places), positive=True)

    @cached_property
    def covariance_function(self) -> Array:
        """Of two numbers by the step from one to the other, (..., channels, channels, steps).

        A step is one along the grid, in C order; an axis with mirrored ends has twice its length, since
        Cov(x_i, x_j) there is that of the step i - j and of the step i + j + 1 to the mirror image.
        """
        xp, field, c = array_namespace(self.spectrum), self.field, self.field.channels
        w = xp.reshape(self.spectrum, (*self.spectrum.shape[:-1], c, field.points))
        if self.vectors is None:
            unit = xp.eye(c, dtype=w.dtype, device=device(w))[:, :, None]
            both = w[..., :, None, :] * unit
        else:  # Re C_k - Im C_k, whose Hartley transform is the covariance function
            P, Q = self.vectors[0, ...], self.vectors[1, ...]
            terms = (
                w[..., None, None, i, :]
                * (P[:, None, i, :] * (P + Q)[None, :, i, :] + Q[:, None, i, :] * (Q - P)[None, :, i, :])
                for i in range(c)
            )
            both = total(terms)
        both = xp.reshape(both, (*both.shape[:-1], *field.shape))
        for axis in cosine_axes(field):
            rest = xp.flip(both[_along(axis, slice(1, None))], axis=axis)
            both = xp.concat([both, 0 * both[_along(axis, slice(0, 1))], rest], axis=axis)
        sizes = _images(field)
        found = hartley(both, tuple(range(-len(sizes), 0))) / math.sqrt(math.prod(sizes))
        return xp.reshape(found, (*found.shape[: -len(sizes)], math.prod(sizes)))

    def positions(self, index: Array) -> Positions | None:
        """On the grid; channels are two steps apart."""
        xp, field, stride, axes = array_namespace(index), self.field, self.field.points, []
        for size in field.shape:
            stride //= size
            axes.append(index // stride % size)
        axes.append(2 * (index // field.points))
        sizes = zip(field.shape, field.periodic, strict=True)
        return xp.stack(axes, axis=-1), (*(float(size) if ends else 0.0 for size, ends in sizes), 0.0)

    def entries(self, rows: Array, columns: Array) -> Array:
        """C_ij of index arrays i and j that can be broadcast together, looked up."""
        xp, field, table = array_namespace(self.spectrum), self.field, self.covariance_function
        mine, theirs = rows // field.points, columns // field.points
        steps = [mine * field.channels + theirs]
        stride = field.points
        for size, periodic in zip(field.shape, field.periodic, strict=True):
            stride //= size
            i, j = ((numbers // stride % size) for numbers in (rows, columns))
            apart = i - j
            length = size if periodic else 2 * size
            found = [step * length + apart % length for step in steps]
            if not periodic:
                found += [step * length + (i + j + 1) for step in steps]
            steps = found
        flat = xp.reshape(table, (*table.shape[:-3], -1))
        shape = (*table.shape[:-3], *steps[0].shape)
        return total(xp.reshape(xp.take(flat, xp.reshape(s, (-1,)), axis=-1), shape) for s in steps)

    def _looked_up(self, rows: Array, columns: Array) -> Array:
        """C_ij of i in rows (k,) and j in columns (m,), (..., k, m)."""
        return self.entries(rows[:, None], columns[None, :])

    def _numbers(self, index: Array | slice) -> Array:
        return index if not isinstance(index, slice) else self._selection(index).index

    def _fields(self, v: Array) -> Array:
        """(..., n) as (..., channels, *grid)."""
        return array_namespace(v).reshape(v, (*v.shape[:-1], self.field.channels, *self.field.shape))

    def _flat(self, fields: Array) -> Array:
        leading = fields.shape[: -1 - len(self.field.shape)]
        return array_namespace(fields).reshape(fields, (*leading, self.shape[0]))

    def _turned(self, h: Array, back: bool = False) -> Array:
        """W_k b_k of Hartley coefficients (..., channels, *grid), or W_k* b_k: with P + iQ = W_k it is
        P h_k - Q h_-k, or Pᵀ h_k + Qᵀ h_-k."""
        xp, c = array_namespace(h), self.field.channels
        vectors = xp.reshape(self.vectors, (2, c, c, *self.field.shape))
        P, Q = (
            xp.permute_dims(part, (1, 0, *range(2, part.ndim))) if back else part
            for part in (vectors[0, ...], vectors[1, ...])
        )
        opposite = negated(h, periodic_axes(self.field)[0])
        if not back:
            opposite = -opposite
        axis = -1 - len(self.field.shape)
        parts = [xp.sum(P[i, ...] * h + Q[i, ...] * opposite, axis=axis) for i in range(c)]
        return xp.stack(parts, axis=axis)

    def _take(self, index: Array | int) -> LinearOperator:
        return Stationary(self.field, chosen(self.spectrum, index, 1), self.vectors)


# ---- Real transforms of fields (..., *grid)


def spectral(fields: Array, field: FieldShape) -> Array:
    """Coefficients of fields (..., *grid) in the real orthonormal basis, of the same shape."""
    return hartley(cosines(fields, field), periodic_axes(field)[0])


def spatial(coefficients: Array, field: FieldShape) -> Array:
    """The fields that have these coefficients."""
    return from_cosines(hartley(coefficients, periodic_axes(field)[0]), field)


def periodic_axes(field: FieldShape) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The axes of a grid whose ends meet, counted from the last as -1, and their sizes."""
    d = len(field.shape)
    axes = tuple(k - d for k in range(d) if field.periodic[k])
    return axes, tuple(field.shape[axis] for axis in axes)


def cosine_axes(field: FieldShape) -> tuple[int, ...]:
    """The other axes."""
    d = len(field.shape)
    return tuple(k - d for k in range(d) if not field.periodic[k])


def hartley(x: Array, axes: tuple[int, ...]) -> Array:
    """Re - Im of the unitary Fourier transform along some of the last axes: real, orthogonal, its own
    inverse."""
    if not axes:
        return x
    xp, last = array_namespace(x), axes[-1]
    size = x.shape[last]
    half = xp.fft.rfftn(x, axes=axes, norm="ortho")
    real, imaginary = xp.real(half), xp.imag(half)
    mirror = (real + imaginary)[_along(last, slice(1, (size + 1) // 2))]
    rest = negated(xp.flip(mirror, axis=last), axes[:-1])
    return xp.concat([real - imaginary, rest], axis=last)


def negated(h: Array, axes: tuple[int, ...]) -> Array:
    """What stands at -k, at k."""
    xp = array_namespace(h)
    for axis in axes:
        h = xp.concat(
            [h[_along(axis, slice(0, 1))], xp.flip(h[_along(axis, slice(1, None))], axis=axis)], axis=axis
        )
    return h


def cosines(x: Array, field: FieldShape) -> Array:
    """The orthonormal DCT-II along the axes with mirrored ends.

    Of the even numbers in their order and then the odd ones backwards the Hartley coefficients h_k, turned by
    an angle: s_k ((c - s) h_k + (c + s) h_-k)/2 with c, s = cos, sin (π k/2n).
    """
    xp = array_namespace(x)
    for axis in cosine_axes(field):
        even, odd = x[_along(axis, slice(0, None, 2))], x[_along(axis, slice(1, None, 2))]
        h = hartley(xp.concat([even, xp.flip(odd, axis=axis)], axis=axis), (axis,))
        minus, plus = _turns(x, axis)
        x = minus * h + plus * negated(h, (axis,))
    return x


def from_cosines(x: Array, field: FieldShape) -> Array:
    """The inverse of `cosines`, which is its transpose."""
    xp = array_namespace(x)
    for axis in cosine_axes(field):
        size = x.shape[axis]
        minus, plus = _turns(x, axis)
        v = hartley(minus * x + negated(plus * x, (axis,)), (axis,))
        even, odd = v[_along(axis, slice(0, (size + 1) // 2))], v[_along(axis, slice((size + 1) // 2, None))]
        x = _interleaved(even, xp.flip(odd, axis=axis), axis)
    return x


def _turns(x: Array, axis: int) -> tuple[Array, Array]:
    """The factors (c - s)/√2 and (c + s)/√2 of `cosines` in the orthonormal scale, halved at k = 0."""
    xp, size = array_namespace(x), x.shape[axis]
    k = xp.arange(size, dtype=x.dtype, device=device(x))
    angle = 0.5 * math.pi / size * k
    scale = xp.where(k == 0, 0.5 * xp.ones_like(k), math.sqrt(0.5) * xp.ones_like(k))
    shape = (size, *(1,) * (-1 - axis))
    minus, plus = (xp.cos(angle) - xp.sin(angle)) * scale, (xp.cos(angle) + xp.sin(angle)) * scale
    return xp.reshape(minus, shape), xp.reshape(plus, shape)


def _interleaved(even: Array, odd: Array, axis: int) -> Array:
    """One number of each in turn; even has as many or one more."""
    xp, more = array_namespace(even), even.shape[axis] - odd.shape[axis]
    padded = xp.concat([odd, even[_along(axis, slice(0, more))]], axis=axis)
    both = xp.stack([even, padded], axis=axis)
    shape = list(even.shape)
    shape[axis] = 2 * shape[axis]
    return xp.reshape(both, tuple(shape))[_along(axis, slice(0, shape[axis] - more))]


def _images(field: FieldShape) -> tuple[int, ...]:
    """The grid with its mirror images."""
    return tuple(n if ends else 2 * n for n, ends in zip(field.shape, field.periodic, strict=True))


def _along(axis: int, part: slice) -> tuple[Any, ...]:
    """Indices of a part of one of the last axes."""
    return (..., part, *(slice(None),) * (-1 - axis))
