"""One adapter per array library. Adding a backend is adding one here and one file in `backends/`."""

from .base import Adapter
from .cupy import CupyAdapter
from .numpy import NumpyAdapter, StrictAdapter
from .torch import TorchAdapter

ADAPTERS: dict[str, type[Adapter]] = {
    adapter.name: adapter for adapter in (NumpyAdapter, TorchAdapter, CupyAdapter, StrictAdapter)
}
