"""Saving and loading a guide."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..backend.files import CorruptFile, check_folder, read, write
from ..posterior import FitCheck
from ..query import GaussianPart
from ..sde import from_dict, to_dict
from ..tracing import ROWS, ModelError, PriorRecord, SiteReader
from ..tracing.randomness import seeded

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
    trained, fit = guide.trained_on(), guide.checked
    tensors["check.z"] = trained.z
    tensors |= {f"check.prior.{name}": density for name, density in trained.densities.items()}
    content = {
        "latents": {site.name: list(site.shape) for site in guide.space.sites},
        "sde": to_dict(guide.sde),
        "draws": guide.gaussian.draws,
        "has_net": guide.net is not None,
        "use_net": guide.use_net,
        "check_seed": trained.seed,
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
    guide.trained = _trained_on(guide, tensors, content, path)
    try:
        parts = {name: tensors[f"gaussian.{name}"] for name in _PARTS}
        guide.sde = from_dict(content["sde"])
        guide.gaussian = GaussianPart(**parts, draws=int(content["draws"]))
        guide.net, guide.use_net = None, bool(content["use_net"])
        if content["has_net"]:
            if guide.net_factory is None:
                raise ModelError(f"{path} holds a network, and the guide was made with net=None")
            with seeded(0):  # its first weights are drawn, and then replaced
                guide.net = guide.net_factory(guide.gaussian.eigenvalues.shape[0])
            prefix = "net."
            state = {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
            guide.net.load_state_dict(state)
        guide.forget()
        guide.checked = FitCheck.from_dict(content.get("fit"))
    except ModelError:
        raise
    except (KeyError, IndexError, AttributeError, RuntimeError, TypeError, ValueError) as error:
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


def _trained_on(
    guide: "ScoreGuide", tensors: dict[str, Any], content: dict[str, Any], path: Any
) -> PriorRecord:
    """What the prior was, where it still is. Raises: ModelError; CorruptFile."""
    z = tensors.get("check.z")
    if z is None or z.shape[1:] != (guide.space.dim,) or len(z) < ROWS:
        raise CorruptFile(f"{path} does not fit this guide: it has no check of the prior")
    prefix, seed = "check.prior.", content.get("check_seed", [0])
    densities = {n.removeprefix(prefix): value for n, value in tensors.items() if n.startswith(prefix)}
    record = PriorRecord(z, tuple(int(key) for key in seed), densities)
    changed = record.changed(SiteReader(guide.model, guide.space, guide.args, guide.kwargs))
    if changed:
        raise ModelError(
            f"{path} was trained on another prior of latent site '{changed}'; train a guide for this model"
        )
    return record


_PARTS = ("location", "scale", "basis", "eigenvalues")
