"""A piece of a Brownian path, the law of its two parts given the whole, and the whole from its parts."""

import math
from dataclasses import dataclass

from ..backend import Array


@dataclass(frozen=True)
class Piece:
    """A Brownian path over an interval of `length`, read in the order in which it was drawn.

    W: its increment, ~ N(0, length). H: its space-time Lévy area, the mean over the interval of
    the path's height above its chord, ~ N(0, length/12) and independent of W; None where not kept. Read
    backwards in time W changes its sign and H does not.
    """

    length: float
    W: Array
    H: Array | None = None


def join(left: Piece, right: Piece) -> Piece:
    """The path over two intervals, one after the other, of lengths a and b.

    W = W₁ + W₂ and (a + b) H = a H₁ + b H₂ + (b W₁ - a W₂)/2.
    """
    a, b = left.length, right.length
    W = left.W + right.W
    if left.H is None:
        return Piece(a + b, W)
    assert right.H is not None
    p, q = a / (a + b), b / (a + b)
    return Piece(a + b, W, p * left.H + q * right.H + (0.5 * q) * left.W - (0.5 * p) * right.W)


def divide(piece: Piece, p: float, z: Array, n: Array | None = None) -> tuple[Piece, Piece]:
    """The parts of length p L and q L, q = 1 - p, of a piece of length L, from standard normals z and n.

    Without H: W₁ = p W + √(p q L) z. With it, and k = p³ + q³ = 1 - 3pq: Z = √(p q k L) z,
    N = √(p q L/(12 k)) n, W₁ = p W + 6pq H + Z, H₁ = p² H - p²/(2k) Z + q N and
    H₂ = q² H - q²/(2k) Z - p N. `z` and `n` are overwritten. Source: conditioning of the Gaussian
    (W₁, H₁, H₂) on `join`; for p = ½ Foster, Oberhauser & Lyons 2020, theorem 2.5 and its remarks.
    """
    q, L = 1.0 - p, piece.length
    if piece.H is None:
        z *= math.sqrt(p * q * L)
        z += p * piece.W
        return Piece(p * L, z), Piece(q * L, piece.W - z)
    assert n is not None
    k = p**3 + q**3
    z *= math.sqrt(p * q * k * L)
    n *= math.sqrt(p * q * L / (12 * k))
    left = p * piece.W
    left += (6 * p * q) * piece.H
    left += z
    first = p**2 * piece.H + q * n
    first -= (p**2 / (2 * k)) * z
    second = q**2 * piece.H - p * n
    second -= (q**2 / (2 * k)) * z
    return Piece(p * L, left, first), Piece(q * L, piece.W - left, second)
