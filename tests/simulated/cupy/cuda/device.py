"""The one simulated device."""

from typing import Any


class Device:
    """Device 0. Raises: RuntimeError for another, when it is asked about itself."""

    def __init__(self, index: Any = None) -> None:
        self.id = index.id if isinstance(index, Device) else int(index or 0)

    @property
    def compute_capability(self) -> str:
        if self.id:
            raise RuntimeError("cudaErrorInvalidDevice: invalid device ordinal (simulated)")
        return "simulated"

    @property
    def mem_info(self) -> tuple[int, int]:
        """Bytes free, and all of them."""
        return 6 * 10**9, 8 * 10**9

    def __enter__(self) -> "Device":
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and other.id == self.id

    def __hash__(self) -> int:
        return hash(("simulated", self.id))

    def __repr__(self) -> str:
        return f"<CUDA Device {self.id} (simulated)>"
