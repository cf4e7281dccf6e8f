"""Draws by site name, from the posterior of a vector; and such a posterior from its file."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from ..backend import Array, Backend, OnnxFunction, log_ndtr, place, resolve, warn_user
from ..backend.arguments import sites_in_words
from ..backend.files import CorruptFile, read
from ..denoisers import ArrayMLP, Denoiser, Eigenbasis, GaussianDenoiser, NetworkDenoiser, OnGrid
from ..likelihood import observation_from_dict
from ..linalg import LinearOperator, Spectral, operator_from_dict
from ..sde import from_dict
from .diagnosis import FitCheck, UntrustedWarning
from .labelled import Axes, axes_from_json
from .langevin import LangevinCorrector
from .posterior import Posterior, PosteriorRun, PosteriorRuns
from .problem import Sampler, Sampling
from .tempered import TemperedSMC
from .twisted import TwistedSMC

Run = TypeVar("Run", PosteriorRun, PosteriorRuns)


class PosteriorBySite(Sampler[Run], Generic[Run]):
    """`arrays`, the posterior of the standardised vector of latents, and what makes sites of its draws.

    arrays: a `Posterior`, or `Posteriors` of many data sets, whose draws have one more axis in front; fit:
    what held-out draws say of the learned prior; given: the model given the data, where a run takes it along.
    """

    arrays: Any
    fit: FitCheck | None
    given: Any = None

    @property
    def backend(self) -> Backend:
        """Where the reverse SDE is solved and whose arrays come back."""
        found: Backend = self.arrays.prior.backend
        return found

    @property
    @abstractmethod
    def axes(self) -> dict[str, Axes]:
        """{site: (names, labels)} of the prior's axes, where it has them."""

    def _sampled(self, sampling: Sampling) -> dict[str, Array]:
        found = self.arrays.drawn(sampling)
        if self.fit is not None and self.fit.state == "do not trust":
            judged = getattr(found, "diagnosis", found)  # None, of one data set, where nothing was measured
            if judged is None or judged.state != "do not trust" == judged.with_fit(self.fit).state:
                warn_user(self.fit.verdict, UntrustedWarning)
        return self._in_units(found.draws)

    def _run(self, sampling: Sampling) -> Run:
        before = self._asked()
        found = self.arrays._run(sampling)
        judged: Run = self._noted(found, before).with_fit(self.fit)
        if judged.state == "do not trust" != found.state:
            warn_user(str(judged), UntrustedWarning)
        changes: dict[str, Any] = {"draws": self._in_units(found.draws), "axes": self.axes}
        if self.given is not None:
            changes["given"] = self.given
        return replace(judged, **changes)

    def _asked(self) -> Any:
        """How often densities were asked until now, where that is counted."""
        return None

    def _noted(self, found: Run, before: Any) -> Run:
        """A run, with what was found since about densities that are no number."""
        return found

    @abstractmethod
    def _in_units(self, x: Array) -> dict[str, Array]:
        """Draws ([data sets,] draws, dim) of the standardised vector, by site and in its shape."""


KIND = "posterior"
ONNX = "onnx"  # the array of bytes that is the network, where it is not the library's own
CORRECTIONS = {kind.__name__: kind for kind in (TwistedSMC, TemperedSMC, LangevinCorrector)}


@dataclass(frozen=True)
class PortableSite:
    """A latent: where its numbers lie, its shape and dtype, and the steps from them to its support; axes: its
    names and labels, if it has them."""

    name: str
    shape: tuple[int, ...]
    start: int
    stop: int
    dtype: str
    steps: tuple[dict[str, str], ...]
    axes: Axes | None = None


@dataclass(frozen=True)
class PortablePosterior(PosteriorBySite[PosteriorRun]):
    """p(latent sites given the data), as it was saved; `sample` solves the reverse SDE.

    sites: how the latents are put together; location, scale: how they were standardised, (dim,); arrays:
    the posterior of the standardised vector, whose `prior` is the trained denoiser.
    """

    sites: tuple[PortableSite, ...]
    location: Array
    scale: Array
    constants: Mapping[str, Array]
    arrays: Posterior
    fit: FitCheck | None = None

    def __repr__(self) -> str:
        sites = sites_in_words({site.name: tuple(site.shape) for site in self.sites})
        return f"PortablePosterior({sites}; {self.arrays.choice}; on {self.backend})"

    @property
    def axes(self) -> dict[str, Axes]:
        return {site.name: site.axes for site in self.sites if site.axes is not None}

    def _in_units(self, x: Array) -> dict[str, Array]:
        xp, z = self.backend.xp, self.location + self.scale * x
        values = {}
        for site in self.sites:
            value = z[:, site.start : site.stop]
            for step in site.steps:
                value = self._apply(step, value)
            dtype = xp.float32 if site.dtype == "float32" else value.dtype
            values[site.name] = xp.astype(xp.reshape(value, (x.shape[0], *site.shape)), dtype, copy=False)
        return values

    def _apply(self, step: Mapping[str, str], value: Array) -> Array:
        xp, kind = self.backend.xp, step["kind"]
        if kind == "exp":
            return xp.exp(value)
        if kind == "normal cdf":
            return xp.exp(log_ndtr(value))
        loc, scale = self.constants[step["loc"]], self.constants[step["scale"]]
        return loc + scale * (xp.sinh(value) if kind == "sinh" else value)


def load_posterior(
    path: str | Path, backend: str | Backend | None = None, dtype: str = "float64"
) -> PortablePosterior:
    """A posterior that `SitePosterior.save` wrote, on a backend: SDEPPL_BACKEND, then torch, by default.

    Neither Pyro nor, on another backend than torch's, torch is imported. dtype: 'float64' or 'float32'. A
    network other than `ResidualMLP` is run by onnxruntime (`pip install 'sdeppl[onnx]'`), on the CPU.
    Raises: FileNotFoundError; CorruptFile; ValueError, BackendUnavailable for the backend; ImportError
    without onnxruntime where it is needed.
    """
    chosen = resolve(backend, dtype)
    host, content = read(path, KIND, "numpy")
    try:
        onnx = host.pop(ONNX, None)
        arrays = {name: place(value, chosen) for name, value in host.items()}
        correction = content["correction"]
        if isinstance(correction, dict):
            correction = CORRECTIONS[correction["type"]](**correction["settings"])
        posterior = Posterior(
            _prior(arrays, content, onnx),
            observation_from_dict(arrays, content["observation"]),
            content["likelihood"],
            content["steps"],
            correction=correction,
        )
        return PortablePosterior(
            _sites(content["sites"]),
            arrays["location"],
            arrays["scale"],
            arrays,
            posterior,
            FitCheck.from_dict(content["fit"]),
        )
    except (KeyError, IndexError) as error:
        raise CorruptFile(f"{path} is not whole: it has no {error}") from error


def saved_covariance(arrays: Mapping[str, Any], content: Mapping[str, Any]) -> LinearOperator:
    """Of a saved prior, on the arrays' backend: by the structure of its layout, or by eigenvectors.

    Raises: KeyError for what is missing.
    """
    if "covariance" in content:
        return operator_from_dict(arrays, content["covariance"], "covariance")
    return Spectral(arrays["basis"], arrays["eigenvalues"])


def _prior(arrays: Mapping[str, Any], content: Mapping[str, Any], onnx: Any) -> Denoiser:
    covariance = saved_covariance(arrays, content)
    gaussian = GaussianDenoiser(from_dict(content["sde"]), 0 * arrays["location"], covariance)
    if onnx is not None:
        coordinates = OnGrid if content.get("on_grid") else Eigenbasis
        return NetworkDenoiser(gaussian, OnnxFunction(onnx.tobytes()), coordinates)
    weights = {name.removeprefix("net."): a for name, a in arrays.items() if name.startswith("net.")}
    return NetworkDenoiser(gaussian, ArrayMLP(weights)) if weights else gaussian


def _sites(found: Sequence[Mapping[str, Any]]) -> tuple[PortableSite, ...]:
    return tuple(
        PortableSite(
            s["name"],
            tuple(s["shape"]),
            s["start"],
            s["stop"],
            s["dtype"],
            tuple(s["steps"]),
            axes_from_json(s.get("axes")),
        )
        for s in found
    )
