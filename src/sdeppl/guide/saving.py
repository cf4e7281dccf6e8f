"""Saving and loading a guide."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..backend.files import CorruptFile, check_folder, read, write
from ..posterior import FitCheck
from ..query import GaussianPart
from ..sde import from_dict, to_dict
from ..tracing import ModelError, SiteReader, changed_prior

if TYPE_CHECKING:
    from .guide import ScoreGuide

KIND = "guide"


def contents(guide: "ScoreGuide") -> tuple[dict[str, Any], dict[str, Any]]:
    """Tensors and JSON that restore the guide. Raises: ModelError for a guide not fitted yet."""
    if guide.gaussian is None:
        raise ModelError("the guide is not fitted, so there is nothing to save")
    tensors = {f"gaussian.{name}": getattr(guide.gaussian, name) for name in _PARTS}
    for name, (loc, scale) in guide.tails.items():
        tensors |= {f"tail.loc.{name}": loc, f"tail.scale.{name}": scale}
    if guide.net is not None:
        tensors |= {f"net.{name}": value for name, value in guide.net.state_dict().items()}
    z, fit = guide.prior_batch(4, 1), guide.checked
    tensors |= {"check.z": z, **_prior_at(guide, z)}
    content = {
        "latents": {site.name: list(site.shape) for site in guide.space.sites},
        "sde": to_dict(guide.sde),
        "draws": guide.gaussian.draws,
        "has_net": guide.net is not None,
        "use_net": guide.use_net,
        "fit": None if fit is None else fit.to_dict(),
    }
    return tensors, content


def restore(guide: "ScoreGuide", tensors: dict[str, Any], content: dict[str, Any], path: Any) -> None:
    """Put saved contents into a guide. Raises: ModelError for another prior, CorruptFile."""
    mine = {site.name: list(site.shape) for site in guide.space.sites}
    if content.get("latents") != mine:
        raise ModelError(f"{path} was trained on latents {content.get('latents')}; the model has {mine}")
    tailed = [name.removeprefix("tail.loc.") for name in tensors if name.startswith("tail.loc.")]
    if not all(name in mine and f"tail.scale.{name}" in tensors for name in tailed):
        raise CorruptFile(f"{path} does not fit this guide: its heavy tails are of {tailed}")
    guide.set_tails({name: (tensors[f"tail.loc.{name}"], tensors[f"tail.scale.{name}"]) for name in tailed})
    _check_prior(guide, tensors, path)
    try:
        parts = {name: tensors[f"gaussian.{name}"] for name in _PARTS}
        guide.sde = from_dict(content["sde"])
        guide.gaussian = GaussianPart(**parts, draws=int(content["draws"]))
        guide.net, guide.use_net = None, bool(content["use_net"])
        if content["has_net"]:
            if guide.net_factory is None:
                raise ModelError(f"{path} holds a network, and the guide was made with net=None")
            guide.net = guide.net_factory(guide.gaussian.eigenvalues.shape[0])
            prefix = "net."
            state = {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
            guide.net.load_state_dict(state)
        guide.forget()
        guide.checked = FitCheck.from_dict(content.get("fit"))
    except (KeyError, RuntimeError, TypeError) as error:
        raise CorruptFile(f"{path} does not fit this guide: {error}") from error


def save(guide: "ScoreGuide", path: str | Path, origin: dict[str, str] | None = None) -> None:
    """Write the guide, and with it where its model is to be found, which the command line reads.

    Raises: FileNotFoundError where the folder does not exist.
    """
    check_folder(path)
    if guide.gaussian is not None:
        _ = guide.fit_check  # so that the file holds it
    tensors, content = contents(guide)
    write(path, KIND, tensors, content if origin is None else content | {"origin": origin})


def load_into(guide: "ScoreGuide", path: str | Path) -> None:
    """Read a guide's file into it."""
    restore(guide, *read(path, KIND), path)


def _prior_at(guide: "ScoreGuide", z: torch.Tensor) -> dict[str, torch.Tensor]:
    reader = SiteReader(guide.model, guide.space, guide.args, guide.kwargs)
    return {f"check.prior.{name}": value for name, value in reader.prior_log_densities(z).items()}


def _check_prior(guide: "ScoreGuide", tensors: dict[str, Any], path: Any) -> None:
    """The prior's density at a few points shows a support or a parameter that has changed."""
    if "check.z" not in tensors or tensors["check.z"].shape[1:] != (guide.space.dim,):
        raise CorruptFile(f"{path} does not fit this guide: it has no check of the prior")
    changed = changed_prior(_prior_at(guide, tensors["check.z"]), tensors)
    if changed:
        raise ModelError(
            f"{path} was trained on another prior of latent site '{changed.removeprefix('check.prior.')}'; "
            "train a guide for this model"
        )


_PARTS = ("location", "scale", "basis", "eigenvalues")
