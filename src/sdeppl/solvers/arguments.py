"""What `solve` says of arguments that are none."""

from typing import Any

from ..backend import Array, Backend, BackendMismatch, Number, backend_of, require_floating
from ..sde import SDE, IsotropicSDE, ReverseSDE, check_shape


def check_sde(sde: object) -> None:
    """Raises: TypeError for what is no SDE, such as a class or a function."""
    if isinstance(sde, type):
        raise TypeError(f"sde must be an SDE, not a class: write {sde.__name__}(...)")
    if not isinstance(sde, SDE):
        raise TypeError(
            "sde must be an SDE, such as VPSDE() or ItoSDE(drift, diffusion); the order is "
            f"solve(sde, x_init, times); got {type(sde).__name__}"
        )


def check_start(sde: SDE, x: Array) -> None:
    """Raises: TypeError for an x_init that is no array of real numbers, or of another library than the
    arrays in the SDE; ValueError for one without a last axis.
    """
    try:
        backend = backend_of(x)
    except TypeError:
        raise TypeError(
            f"x_init must be an array of NumPy, torch or CuPy, (..., dim); got {type(x).__name__}; make it "
            "one with numpy.asarray or torch.as_tensor"
        ) from None
    try:
        require_floating(backend)
    except TypeError as error:
        raise TypeError(f"x_init: {error}") from None
    if x.ndim == 0 or x.shape[-1] == 0:
        raise ValueError(f"x_init must be (..., dim) with dim >= 1; got shape {tuple(x.shape)}")
    for name, owner in _backends(sde):
        if (owner.name, owner.device) != (backend.name, backend.device):
            raise BackendMismatch(
                f"x_init is of {backend.name} on {backend.device}, {name} of {owner.name} on "
                f"{owner.device}; convert one with sdeppl.backend.convert"
            )


def _backends(sde: Any) -> list[tuple[str, Backend]]:
    """The backends of what is known to hold arrays: the SDE, or its forward SDE and denoiser."""
    found = []
    for part in [sde.forward, sde.denoiser] if isinstance(sde, ReverseSDE) else [sde]:
        name = type(part).__name__
        mu: Number = getattr(part, "mu", None)
        if hasattr(getattr(part, "backend", None), "adapter"):
            found.append((name, part.backend))
        elif isinstance(part, IsotropicSDE) and hasattr(mu, "ndim") and mu.ndim:
            found.append((f"{name}'s μ", backend_of(mu)))
    return found


def opened(noise: Any, default: Any, x: Array) -> Any:
    """The stream that a solve draws from. Raises: TypeError for noise that is none; BackendMismatch."""
    noise = default if noise is None else noise
    if isinstance(noise, type) or not (hasattr(noise, "draws") or hasattr(noise, "stream")):
        raise TypeError(
            "noise must be Noise(seed), BrownianPath(seed, start, stop) or an opened stream of one, not "
            + (noise.__name__ + ", a class" if isinstance(noise, type) else type(noise).__name__)
        )
    here = backend_of(x)
    if not hasattr(noise, "draws"):
        return noise.stream(here)
    backend = getattr(noise, "backend", here)
    if (backend.name, backend.device) != (here.name, here.device):
        raise BackendMismatch(
            f"noise was opened on {backend.name} on {backend.device}, x_init is of {here.name} on "
            f"{here.device}; open it there, or give the Noise itself"
        )
    return noise


def check_states(solver: object, x: Array, x_next: Array) -> None:
    """Raises: ValueError, TypeError where the first step did not leave shape and dtype as they were."""
    if tuple(x_next.shape) != tuple(x.shape):
        raise ValueError(
            f"the first step of {type(solver).__name__} made states {tuple(x_next.shape)} of x_init "
            f"{tuple(x.shape)}: drift and diffusion must return arrays that fit x"
        )
    if x_next.dtype != x.dtype:
        raise TypeError(
            f"the first step of {type(solver).__name__} made states of {x_next.dtype} of an x_init of "
            f"{x.dtype}: give x_init and the arrays in the SDE or denoiser one dtype"
        )


def explain(sde: SDE, x: Array, grid: list[float], error: Exception) -> None:
    """Say what drift, score or diffusion did wrong at the start, after an error in a step.

    Returns where nothing is found, with a note on the error. Raises: TypeError, ValueError.
    """
    t, sde = grid[0], getattr(sde, "original", sde)
    forward = sde.forward if isinstance(sde, ReverseSDE) else sde
    denoiser = getattr(sde, "denoiser", None)
    for part in (forward, denoiser):
        dim = getattr(part, "dim", x.shape[-1])
        if dim != x.shape[-1] or (hasattr(part, "covariance_is_slope") and x.ndim != 2):  # a Denoiser
            rows = "batch" if hasattr(part, "covariance_is_slope") else "..."
            raise ValueError(
                f"x_init must be ({rows}, {dim}) for {type(part).__name__}; got shape {tuple(x.shape)}"
            ) from error
    for name, owner in _backends(sde):
        if owner.dtype != x.dtype:
            raise TypeError(f"x_init is {x.dtype}, {name} {owner.dtype}; give them one dtype") from error
    if min(grid) < 0 and hasattr(forward, "schedule"):
        raise ValueError(f"times of {type(forward).__name__} run from 0 on; got {min(grid):.6g}") from error
    error.add_note(
        f"in a solve of {type(sde).__name__} from t={t:.6g}, with states {tuple(x.shape)}, {x.dtype}"
    )
    fields = [(type(forward).__name__, "drift", forward.drift)]
    if isinstance(sde, ReverseSDE):
        fields.append((type(sde.denoiser).__name__, "score", sde.score))
    for name, what, field in fields:
        try:
            value = field(x, t)
        except Exception:
            return  # the traceback shows the user's own function
        _check_field(f"{name}: the {what}", value, x, error)
    try:
        g = forward.diffusion(x, t)
    except Exception:
        return
    if not isinstance(g, (int, float)):
        _check_library(f"{type(forward).__name__}: the diffusion", g, x, error)
    if not sde.deterministic(grid[0], grid[1]):
        check_shape(forward, x, g)


def _check_library(name: str, value: Array, x: Array, error: Exception) -> None:
    try:
        same = backend_of(value, x)
    except TypeError:  # BackendMismatch is one
        raise TypeError(
            f"{name} must return an array of the library and device of x, {backend_of(x)}; got "
            f"{type(value).__name__}"
        ) from error
    if same.dtype != x.dtype:
        raise TypeError(f"{name} must return {x.dtype}, as x is; got {same.dtype}") from error


def _check_field(name: str, value: Array, x: Array, error: Exception) -> None:
    if isinstance(value, (int, float)):
        return
    _check_library(name, value, x, error)
    shape, like = tuple(value.shape), tuple(x.shape)
    tail = zip(shape[::-1], like[::-1], strict=False)
    if len(shape) > len(like) or not all(a in (1, b) for a, b in tail):
        raise ValueError(f"{name} must return an array like x, {like}; got shape {shape}") from error
