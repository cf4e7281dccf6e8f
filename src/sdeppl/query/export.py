"""Writing a compiled posterior, for `load_posterior`."""

from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

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

from ..backend import to_host, warn_user
from ..backend.files import check_folder, write
from ..denoisers import NetworkDenoiser
from ..likelihood import observation_to_dict
from ..nn import ResidualMLP, export_onnx
from ..posterior import ONNX, PORTABLE, HamiltonianMC, Posterior
from ..sde import to_dict
from ..tracing import LatentSite, SinhTransform

if TYPE_CHECKING:
    from .site_posterior import SitePosterior

Arrays = dict[str, Any]


def save_posterior(posterior: "SitePosterior", path: str | Path) -> None:
    """Everything that sampling needs. Raises: FileNotFoundError for the folder; TypeError, naming what cannot
    be written: another network than ResidualMLP, an observation or a support that takes torch, moves on the
    model's density. Warns: UserWarning where 'auto' chose these: the file draws by what was learned."""
    check_folder(path)
    solved, gaussian = posterior.arrays, posterior.gaussian
    _check_moves(solved)
    assert solved.observation is not None
    arrays: Arrays = {
        name: to_host(getattr(gaussian, name)) for name in ("location", "scale", "basis", "eigenvalues")
    }
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
            }
        )
    correction: Any = solved.asked_for[1]
    if correction is not None and correction != "auto":
        settings = {field.name: getattr(correction, field.name) for field in fields(correction)}
        correction = {"type": type(correction).__name__, "settings": settings}
    content = {
        "sde": to_dict(solved.prior.sde),
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


def _network(prior: Any) -> Arrays:
    """The weights of the library's own network; the ONNX file of another, byte for byte."""
    if not isinstance(prior, NetworkDenoiser):
        return {}
    module: Any = getattr(prior.net, "module", None)
    if type(module) is ResidualMLP:
        return {f"net.{name}": to_host(value) for name, value in module.state_dict().items()}
    with TemporaryDirectory() as folder:
        try:
            export_onnx(module, Path(folder) / "net.onnx", dim=prior.gaussian.eigenvalues.shape[0])
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
