"""What a file of sdeppl's holds."""

import json
from pathlib import Path
from typing import Any

from .errors import UsageError


def kind_of(path: str) -> str:
    """'guide', 'posterior' or another kind. Raises: UsageError for a file that sdeppl did not write."""
    return str(header_of(path)["kind"])


def header_of(path: str) -> dict[str, Any]:
    """What is written beside the arrays, with a 'kind' at least. Raises: as `kind_of`."""
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise UsageError(f"there is no file {path}")
    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {}).get("sdeppl", "{}"))
    except (SafetensorError, json.JSONDecodeError) as error:
        raise UsageError(f"{path} is not a file that sdeppl wrote ({error})") from error
    if not isinstance(header, dict) or header.get("kind") is None:
        raise UsageError(f"{path} is a safetensors file, but sdeppl did not write it")
    return header
