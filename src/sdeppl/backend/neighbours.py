"""Which points are near to which, and sparse rows turned to columns: on the host, by NumPy and SciPy."""

from collections.abc import Sequence

import numpy as np
from scipy.spatial import cKDTree

from .arrays import backend_of, to_host
from .typing import Array

GROWTH = 1.2  # of the points among which neighbours are looked for, from one tree to the next


def earlier_neighbours(points: Array, periods: Sequence[float], count: int) -> tuple[Array, Array]:
    """Of each of n points (n, d) its nearest ones, at most `count`, among those before it in a fixed random
    order, and itself last: numbers (n, count + 1), and where there is none, (n, count + 1) of bool.

    periods: the length after which each axis begins again, 0 for never. Time grows with n ln n. On the
    backend of the points.
    """
    host = np.asarray(to_host(points), dtype=np.float64)
    n = len(host)
    order = np.random.Generator(np.random.Philox(key=0)).permutation(n)
    ordered, k = host[order], min(count, max(n - 1, 1))
    found = np.full((n, k + 1), -1)
    first = min(n, k + 1)
    for i in range(first):
        found[i, : min(i, k)] = np.arange(min(i, k))
    while first < n:
        last = min(n, int(first * GROWTH) + 1)
        near = cKDTree(ordered[:first], boxsize=periods).query(ordered[first:last], k=k)[1]
        found[first:last, :k] = near.reshape(last - first, k)
        first = last
    found[:, k] = np.arange(n)
    numbers = np.empty_like(found)
    numbers[order] = np.where(found < 0, -1, order[found])
    backend = backend_of(points)
    xp, device = backend.xp, backend.device
    columns = xp.asarray(np.where(numbers < 0, 0, numbers), dtype=xp.int64, device=device)
    return columns, xp.asarray(numbers < 0, dtype=xp.bool, device=device)


def column_layers(columns: Array, values: Array) -> tuple[Array, list[tuple[Array, Array]]]:
    """Of a sparse matrix with `columns` (n, k) and `values` (n, k) in its rows, n columns, 0 for no entry:
    where each column stands when they are ordered by how many entries they have, most first; and for j = 0,
    1, …, of each column in that order that has more than j entries, the row and the value of the j-th.
    """
    of_rows, entries = to_host(columns), to_host(values)
    n, k = of_rows.shape
    kept = np.nonzero(entries.reshape(-1))[0]
    column, row, entry = of_rows.reshape(-1)[kept], kept // k, entries.reshape(-1)[kept]
    counts = np.bincount(column, minlength=n)
    by_count = np.argsort(-counts, kind="stable")
    place = np.empty(n, dtype=np.int64)
    place[by_count] = np.arange(n)
    sort, starts = np.argsort(column, kind="stable"), np.cumsum(counts) - counts
    backend, layers = backend_of(values), []
    xp, device = backend.xp, backend.device
    for j in range(int(counts.max())):
        own = sort[starts[by_count[: int((counts > j).sum())]] + j]
        rows = xp.asarray(row[own], dtype=xp.int64, device=device)
        layers.append((rows, xp.asarray(entry[own], dtype=backend.dtype, device=device)))
    return xp.asarray(place, dtype=xp.int64, device=device), layers
