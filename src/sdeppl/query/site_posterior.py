"""Posteriors of a model's sites: compiled, drawn in the sites' own supports, shapes and units, and saved."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch.distributions import (
    AffineTransform,
    ComposeTransform,
    CumulativeDistributionTransform,
    ExpTransform,
    IndependentTransform,
    Transform,
)
from torch.distributions.transforms import identity_transform

from ..backend import Array, Backend, from_torch, place, to_host, to_torch, warn_user
from ..backend.files import check_folder, write
from ..denoisers import Denoiser, Eigenbasis, NetworkDenoiser, OnGrid
from ..likelihood import observation_to_dict
from ..nn import ResidualMLP, export_onnx
from ..posterior import (
    ONNX,
    PORTABLE,
    FitCheck,
    HamiltonianMC,
    Posterior,
    PosteriorBySite,
    PosteriorRun,
    PosteriorRuns,
    Posteriors,
    axes_to_json,
)
from ..sde import to_dict
from ..tracing import GivenModel, LatentSite, LatentSpace, ModelError, SinhTransform
from .gaussian_part import GaussianPart
from .model_density import ModelDensity
from .observation import densities_of, observation_of

Arrays = dict[str, Any]


@dataclass(frozen=True)
class SitePosterior(PosteriorBySite[PosteriorRun]):
    """p(latent sites given the data), compiled; `sample` solves the guided reverse SDE.

    space: how the latents were flattened; gaussian: how they were standardised; arrays: the
    posterior of the standardised vector; given: the model given the data.
    """

    space: LatentSpace
    gaussian: GaussianPart
    arrays: Posterior
    fit: FitCheck | None = None
    given: GivenModel | None = field(default=None, repr=False, compare=False)

    def __repr__(self) -> str:
        return f"SitePosterior({self.space!r}; {self.arrays.choice}; on {self.backend})"

    @property
    def axes(self) -> Arrays:
        return self.space.axes

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"given": self.given if self.given is not None and self.given.sendable else None}

    def _asked(self) -> tuple[int, ...]:
        parts = [part.asked for part in densities_of(self.arrays.observation)]
        return tuple(
            sum(counts) for counts in zip(*((p.rows, p.undefined, p.impossible) for p in parts), strict=True)
        )

    def _noted(self, found: PosteriorRun, before: tuple[int, ...]) -> PosteriorRun:
        counts = [now - then for now, then in zip(self._asked(), before, strict=True)]
        if not any(counts):
            return found
        rows, undefined, impossible = counts
        firsts = (part.asked.first for part in densities_of(self.arrays.observation))
        first = next(filter(None, firsts), "") if undefined else ""
        return found.with_no_density(undefined / rows, impossible / rows, first)

    def save(self, path: str | Path) -> None:
        """Write all that sampling needs to one safetensors file, for `load_posterior`, which needs no torch.

        Raises: FileNotFoundError; TypeError for what only torch can evaluate: an observation that is not
        affine, a support such as the simplex, a network other than ResidualMLP that `export_onnx` cannot
        write.
        """
        save_posterior(self, path)

    def _in_units(self, x: Array) -> dict[str, Array]:
        return site_values(self.space, self.gaussian, self.backend, x)


def site_values(space: LatentSpace, gaussian: GaussianPart, backend: Backend, x: Array) -> dict[str, Array]:
    """Draws (draws, dim) of the standardised vector as {site name: (draws, *shape)}, in the sites' units."""
    xp, values = backend.xp, {}
    z = place(gaussian.location, backend) + place(gaussian.scale, backend) * x
    for site in space.sites:
        flat = z[:, site.start : site.stop]
        if site.is_real:
            value = xp.reshape(flat, (z.shape[0], *site.shape))
        else:
            inner = to_torch(flat).reshape(z.shape[0], *site.unconstrained_shape)
            value = from_torch(site.transform(inner), backend)
        dtype = xp.float32 if site.dtype == torch.float32 else value.dtype
        values[site.name] = xp.astype(value, dtype, copy=False)
    return values


# ---- Compiles what tracing found, a denoiser and the data to a posterior


@dataclass(frozen=True)
class SitePosteriors(PosteriorBySite[PosteriorRuns]):
    """p(latent sites given the data) for many data sets; `sample` solves them together.

    space, gaussian: as of `SitePosterior`; arrays: the posteriors of the standardised vector.
    """

    space: LatentSpace
    gaussian: GaussianPart
    arrays: Posteriors
    fit: FitCheck | None = None

    def __repr__(self) -> str:
        return f"SitePosteriors({self.space!r}; {self.sets} data sets; on {self.backend})"

    @property
    def axes(self) -> Arrays:
        return self.space.axes

    @property
    def sets(self) -> int:
        """Number of data sets."""
        return self.arrays.sets

    def log_likelihood(self, values: Mapping[str, object]) -> Any:
        """ln p(y given the latents), (data sets, draws), each data set's own y at {site: (data sets, draws,
        *shape)}; None under a hard constraint, which has no density. But for what no latent changes.

        Raises: ModelError for values outside the support, and for a site without values.
        """
        missing = [name for name in self.space.names if name not in values]
        if missing:
            raise ModelError(
                f"there are no values of latent site '{missing[0]}'; give those of {self.space.names}"
            )
        tensors = {name: to_torch(place(value, self.backend)) for name, value in values.items()}
        shape = next(iter(tensors.values())).shape[:2]
        flat = {name: value.reshape(-1, *value.shape[2:]) for name, value in tensors.items()}
        x = place(self.gaussian.standardise(self.space.flatten(flat)), self.backend)
        xp, observation = self.backend.xp, self.arrays.observation
        if observation is not None:
            return None if observation.hard else xp.reshape(observation.log_prob(x), tuple(shape))
        rows = xp.reshape(x, (*shape, x.shape[-1]))
        parts = [self.arrays.one(number).observation for number in range(self.sets)]
        if any(part is None or part.hard for part in parts):
            return None
        return xp.stack([part.log_prob(rows[n, ...]) for n, part in enumerate(parts) if part is not None])

    def _in_units(self, x: Any) -> dict[str, Any]:
        xp = self.backend.xp
        flat = site_values(self.space, self.gaussian, self.backend, xp.reshape(x, (-1, x.shape[-1])))
        return {name: xp.reshape(v, (*x.shape[:2], *v.shape[1:])) for name, v in flat.items()}


class ApproximateWarning(UserWarning):
    """The posterior of a non-Gaussian prior by a mean likelihood without correction."""


class LinearisedWarning(UserWarning):
    """An observation is not affine and Gaussian in the latents, and its mean likelihood is not corrected."""


def compile_posterior(
    space: LatentSpace,
    gaussian: GaussianPart,
    denoiser: Denoiser,
    sites: Sequence[Any],
    likelihood: str = "auto",
    steps: int = 100,
    correction: Any = "auto",
    density: ModelDensity | None = None,
    fit: FitCheck | None = None,
) -> SitePosterior:
    """p(latents given the sites' data) as a reverse SDE on the denoiser's backend; density: the model's own;
    fit: of the denoiser.

    Raises: ModelError where nothing at all was observed; ValueError for an unknown likelihood. Warns:
    ApproximateWarning, LinearisedWarning, where an approximation is not corrected.
    """
    observation = observation_of(sites, gaussian, denoiser.backend)
    if observation.count == 0:
        names = [site.name for site in sites]
        raise ModelError(f"every value of {names} is NaN, which means not observed; give some data")
    posterior = Posterior(
        denoiser, observation, likelihood, steps, correction=correction, density=density, doubt=doubt_of(fit)
    )
    choice = posterior.choice
    if choice.twist is not None and choice.correction is None and not choice.unweighed:
        if isinstance(denoiser, NetworkDenoiser):
            warnings.warn(
                "the prior is not Gaussian (the network is kept), so the mean likelihood "
                f"'{posterior.choice.name}', and with it the posterior, is approximate: leave correction at "
                "'auto', or compare it with reference.nuts",
                ApproximateWarning,
                stacklevel=4,
            )
        if not observation.is_linear:
            warnings.warn(
                f"the observation of {[site.name for site in sites]} is not affine and Gaussian in the "
                f"unconstrained latents, so the mean likelihood '{posterior.choice.name}' is approximate: "
                "leave correction at 'auto', or compare it with reference.nuts",
                LinearisedWarning,
                stacklevel=4,
            )
    return SitePosterior(space, gaussian, posterior, fit)


def doubt_of(fit: FitCheck | None) -> str:
    """In words, why what was learned of the prior is not to be relied on; '' where it is."""
    return "" if fit is None or fit.good else "what was learned of it departs from it (fit_check)"


# ---- Writing a compiled posterior, for `load_posterior`


def save_posterior(posterior: "SitePosterior", path: str | Path) -> None:
    """Everything that sampling needs. Raises: FileNotFoundError for the folder; TypeError, naming what cannot
    be written: another network than ResidualMLP, an observation or a support that takes torch, moves on the
    model's density. Warns: UserWarning where 'auto' chose these: the file draws by what was learned."""
    check_folder(path)
    solved, gaussian = posterior.arrays, posterior.gaussian
    _check_moves(solved)
    assert solved.observation is not None
    moments, content = gaussian.contents()
    arrays: Arrays = {name: to_host(tensor) for name, tensor in moments.items()}
    arrays |= _network(solved.prior)
    seen, observation = observation_to_dict(solved.observation)
    arrays |= {name: to_host(array) for name, array in seen.items()}
    sites = []
    for site in posterior.space.sites:
        steps, constants = _steps(site)
        arrays |= constants
        sites.append(
            {
                "name": site.name,
                "shape": list(site.shape),
                "start": site.start,
                "stop": site.stop,
                "dtype": str(site.dtype).removeprefix("torch."),
                "steps": steps,
                "axes": axes_to_json(site.axes),
            }
        )
    correction: Any = solved.asked_for[1]
    if correction is not None and correction != "auto":
        settings = {field.name: getattr(correction, field.name) for field in fields(correction)}
        correction = {"type": type(correction).__name__, "settings": settings}
    content |= {
        "sde": to_dict(solved.prior.sde),
        "on_grid": isinstance(solved.prior, NetworkDenoiser) and solved.prior.coordinates is OnGrid,
        "observation": observation,
        "sites": sites,
        "likelihood": solved.asked_for[0],
        "correction": correction,
        "steps": solved.steps,
        "fit": None if posterior.fit is None else posterior.fit.to_dict(),
    }
    write(path, PORTABLE, arrays, content)


def _check_moves(solved: Posterior) -> None:
    """A file has no model whose density could be followed."""
    if isinstance(solved.asked_for[1], HamiltonianMC):
        raise TypeError(
            "cannot save the posterior: HamiltonianMC follows the model's density, and the file does not "
            "hold the model; save the guide instead, or ask for correction=TwistedSMC()"
        )
    if solved.choice.known or isinstance(solved.choice.correction, HamiltonianMC):
        how = "in closed form" if solved.choice.known else "by guidance"
        like = "" if solved.choice.known else ", as correction=TwistedSMC() does here"
        warn_user(
            "these draws follow the model's density, and the file does not hold the model: what is loaded "
            f"draws {how} from the learned prior{like}; save the guide instead "
            f"where that matters ({solved.choice.why})",
            UserWarning,
        )


def _network(prior: object) -> Arrays:
    """The weights of the library's own network; the ONNX file of another, byte for byte."""
    if not isinstance(prior, NetworkDenoiser):
        return {}
    module: Any = getattr(prior.net, "module", None)
    if type(module) is ResidualMLP:
        return {f"net.{name}": to_host(value) for name, value in module.state_dict().items()}
    with TemporaryDirectory() as folder:
        try:
            dim = prior.gaussian.eigenvalues.shape[0] if prior.coordinates is Eigenbasis else None
            export_onnx(module, Path(folder) / "net.onnx", dim=dim)
        except (ImportError, TypeError) as error:
            raise TypeError(
                f"cannot save the posterior: its network is not the library's own, and {error}; save the "
                "guide instead, or train sdeppl.ResidualMLP"
            ) from error
        return {ONNX: np.frombuffer((Path(folder) / "net.onnx").read_bytes(), dtype=np.uint8)}


def _steps(site: LatentSite) -> tuple[list[dict[str, Any]], Arrays]:
    """The bijection from unconstrained numbers (rows, numbers) as steps in words, and their constants."""
    steps: list[dict[str, Any]] = []
    constants: Arrays = {}
    for part in _parts(site.transform):
        if isinstance(part, ExpTransform):
            steps.append({"kind": "exp"})
        elif isinstance(part, CumulativeDistributionTransform):
            steps.append({"kind": "normal cdf"})
        elif isinstance(part, (AffineTransform, SinhTransform)):
            kind = "sinh" if isinstance(part, SinhTransform) else "affine"
            step = {"kind": kind}
            for name in ("loc", "scale"):
                step[name] = f"site.{site.name}.{len(steps)}.{name}"
                value = torch.as_tensor(getattr(part, name), dtype=torch.float64)
                constants[step[name]] = to_host(value.expand(site.unconstrained_shape).reshape(-1))
            steps.append(step)
        else:
            raise TypeError(
                f"cannot save the posterior: latent site '{site.name}' has the bijection "
                f"{type(part).__name__}, which only torch can make; save the guide instead"
            )
    return steps, constants


def _parts(transform: Transform) -> list[Transform]:
    if isinstance(transform, IndependentTransform):
        return _parts(transform.base_transform)
    if isinstance(transform, ComposeTransform):
        return [inner for part in transform.parts for inner in _parts(part)]
    return [] if transform is identity_transform else [transform]
