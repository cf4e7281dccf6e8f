"""States that hold positions and velocities."""

from ..backend import Array


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
