"""Data of many data sets at once: one row for each."""

from typing import Any

from array_api_compat import array_namespace, device, is_array_api_obj


def checked_data(name: str, y: Any, like: Any, count: int) -> Any:
    """y (count,) or (data sets, count), an array of like's library, device and dtype.

    Raises: TypeError for another kind of array; ValueError for another shape, NaN or infinity.
    """
    shape = tuple(y.shape) if is_array_api_obj(y) else type(y).__name__
    if not is_array_api_obj(y) or y.ndim not in (1, 2) or y.shape[-1] != count:
        raise ValueError(
            f"{name}: data must be ({count},) or (data sets, {count}), as many numbers as were observed; got "
            f"{shape}"
        )
    xp = array_namespace(like)
    if array_namespace(y) is not xp or device(y) != device(like) or y.dtype != like.dtype:
        raise TypeError(f"{name}: data sets must be an array like the first, in {like.dtype}; got {y.dtype}")
    if not bool(xp.all(xp.isfinite(y))):
        raise ValueError(
            f"{name}: many data sets must all be observed in the same numbers, without NaN or infinity"
        )
    return y


def matched(values: Any, batch: int) -> Any:
    """(data sets, ...) repeated for `batch` rows of x_0, neighbours of one set; (observations,) as it is.

    Raises: ValueError where the rows cannot be shared out evenly.
    """
    if values.ndim == 1 or values.shape[0] == batch:
        return values
    sets = values.shape[0]
    if sets == 0 or batch % sets:
        raise ValueError(f"{batch} rows of x_0 cannot be shared out among {sets} data sets")
    xp, shape = array_namespace(values), tuple(values.shape)
    each = xp.broadcast_to(values[:, None, ...], (sets, batch // sets, *shape[1:]))
    return xp.reshape(each, (batch, *shape[1:]))
