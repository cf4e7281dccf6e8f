"""Training state in a file, so that an interrupted training goes on where it was."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..guide import CorruptFile, contents, read, restore, write
from ..sde import to_dict

if TYPE_CHECKING:
    from .score_matching import ScoreMatching

KIND = "score matching checkpoint"


def save_checkpoint(training: "ScoreMatching", path: str | Path) -> None:
    """Guide, raw weights, Adam's moments, losses and settings, written atomically."""
    tensors, content = contents(training.guide)
    tensors |= {f"raw.{name}": value for name, value in training.network.state_dict().items()}
    for index, state in training.optimiser.state_dict()["state"].items():
        tensors |= {f"adam.{index}.{name}": torch.as_tensor(v) for name, v in state.items()}
    tensors["losses"] = torch.tensor(training.losses, dtype=torch.float64)
    write(path, KIND, tensors, content | {"settings": settings(training)})


def load_checkpoint(training: "ScoreMatching", path: str | Path) -> None:
    """Go on from a checkpoint. Raises: CorruptFile, also for other settings; ModelError."""
    tensors, content = read(path, KIND)
    if content.get("settings") != settings(training):
        raise CorruptFile(
            f"{path} was written with the settings {content.get('settings')}, this training has "
            f"{settings(training)}; use another file or the same settings"
        )
    restore(training.guide, tensors, content, path)
    training.build()
    try:
        training.network.load_state_dict(_with_prefix(tensors, "raw."))
        state: dict[int, dict[str, Any]] = {}
        for name, value in _with_prefix(tensors, "adam.").items():
            index, key = name.split(".")
            state.setdefault(int(index), {})[key] = value
        groups = training.optimiser.state_dict()["param_groups"]
        training.optimiser.load_state_dict({"state": state, "param_groups": groups})
        training.losses = [float(loss) for loss in tensors["losses"]]
    except (KeyError, IndexError, AttributeError, RuntimeError, TypeError, ValueError) as error:
        raise CorruptFile(f"{path} does not fit this training: {error}") from error


def settings(training: "ScoreMatching") -> dict[str, Any]:
    """What must agree for a resumed training to be the same. Raises: TypeError for an unknown SDE."""
    own = {"lr": training.lr, "batch": training.batch, "ema": training.ema, "seed": training.seed}
    return own | {"guide_seed": training.guide.seed, "sde": to_dict(training.guide.sde)}


def _with_prefix(tensors: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {name[len(prefix) :]: v for name, v in tensors.items() if name.startswith(prefix)}
