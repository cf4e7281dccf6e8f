"""Errors of the backend layer."""


class BackendUnavailable(RuntimeError):
    """The chosen backend is not installed, or its device is not there."""


class BackendMismatch(TypeError):
    """Arrays of two libraries, or on two devices, were mixed."""


def require_device(found: object, expected: object, library: str) -> None:
    """Refuse a tensor on another device than the backend's. Raises: BackendMismatch."""
    if found != expected:
        raise BackendMismatch(
            f"got a tensor on {found}, expected {library} on {expected}; "
            "move the module, or choose the backend of its device"
        )
