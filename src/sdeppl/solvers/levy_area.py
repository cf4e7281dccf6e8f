"""Lévy areas of several Wiener processes over one step."""

import math

from array_api_compat import array_namespace, device

from ..backend import Array


def levy_area(z: Array, u: Array, coefficients: Array) -> Array:
    """A_jk = ½ (I_(j,k) - I_(k,j)) over a step of length 1; multiply by |t - s| for another length.

    From the Fourier series of the Brownian bridge, X_r and Y_r its coefficients as standard normals:
    A_jk ≈ (u_j z_k - z_j u_k)/√12 + Σ_{r=1}^p (X_jr Y_kr - Y_jr X_kr)/(2π r). The first term is exact,
    since u is the whole series Σ_r X_r √6/(π r), with the minus sign; X is therefore conditioned on u.
    The mean square error of an entry is Σ_{r>p} 1/(2π² r²) ≈ 1/(2π² p).

    z, u: (..., m), as 'wiener' and 'area' give them. coefficients: (..., 2 p + 1, m) standard normals:
    p rows of X, p of Y, one for the rest of u. Result: (..., m, m), antisymmetric.
    Source: Kloeden & Platen 1992, section 5.8.
    """
    xp, p = array_namespace(z), (coefficients.shape[-2] - 1) // 2
    like = {"dtype": z.dtype, "device": device(z)}
    first = xp.matrix_transpose(z[..., None, :]) @ u[..., None, :]  # z_j u_k
    area = (xp.matrix_transpose(first) - first) / math.sqrt(12)
    if p == 0:
        return area
    X, Y, rest = coefficients[..., :p, :], coefficients[..., p : 2 * p, :], coefficients[..., 2 * p, :]
    share = [math.sqrt(6) / (math.pi * r) for r in range(1, p + 1)]
    of_rest = math.sqrt(1 - sum(n * n for n in share))
    direction = xp.asarray(share, **like)[:, None]
    missing = u + xp.sum(direction * X, axis=-2) + of_rest * rest
    X = X - direction * missing[..., None, :]
    rate = xp.asarray([1 / (2 * math.pi * r) for r in range(1, p + 1)], **like)[:, None]
    product = xp.matrix_transpose(rate * X) @ Y
    return area + product - xp.matrix_transpose(product)
