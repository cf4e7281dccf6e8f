"""What the backend layer asks of an array library."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

Normal = Callable[[tuple[int, ...], Any], Any]


class Adapter(ABC):
    """One array library: how to open it, draw with it, and cross to torch and to the host.

    Class attributes: `name`, as in `SDEPPL_BACKEND`, and `selectors`, every form that selects it
    (checked against the file in `backends/`).
    """

    name: ClassVar[str]
    selectors: ClassVar[tuple[str, ...]]

    @classmethod
    @abstractmethod
    def open(cls, device: str) -> tuple[Any, Any]:
        """The array namespace and the device object for the text after the colon.

        Raises: BackendUnavailable, in one line, where the library or the device is missing.
        """

    @classmethod
    @abstractmethod
    def owns(cls, array: Any) -> bool:
        """Whether `array` belongs to this library; never imports the library."""

    @classmethod
    @abstractmethod
    def normal(cls, seed: int, device: Any) -> Normal:
        """A seeded stateful source of standard normals, `(shape, dtype) -> array`, on `device`."""

    @classmethod
    @abstractmethod
    def to_torch(cls, array: Any) -> Any:
        """The same numbers as a torch tensor on the same device; shares memory where it can."""

    @classmethod
    @abstractmethod
    def from_torch(cls, tensor: Any, device: Any) -> Any:
        """A detached tensor as an array of this library on `device`; shares memory where it can."""

    @classmethod
    @abstractmethod
    def to_host(cls, array: Any) -> Any:
        """The same numbers as a NumPy array."""
