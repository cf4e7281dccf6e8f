"""A torch classifier as p(y given x_0)."""

from typing import Any

from ..backend import TorchFunction, backend_of, whole_number
from .density import DensityObservation


def classifier_observation(module: Any, label: int, dim: int, like: Any) -> DensityObservation:
    """ln p(y = label given x_0) of a torch module that maps x_0 (batch, dim) to logits (batch, classes).

    The softmax's logarithm, with its gradient by one pullback through the module (classifier guidance). It
    must have been trained on clean x_0. like: an array of the backend and dtype that x_0 will have; arrays
    cross to torch and back on one device.

    Raises: ValueError, at a call, for a label that is not one of the classes, BackendMismatch where the
    module is on another device. Source: Dhariwal & Nichol 2021, section 4.
    """
    function, label = TorchFunction(module), whole_number("classifier_observation: label", label)

    def chosen(logits: Any) -> tuple[Any, Any]:
        """Softmax (batch, classes), and ln of its entry for the label (batch,)."""
        xp = backend_of(logits).xp
        if logits.ndim != 2 or not 0 <= label < logits.shape[1]:
            raise ValueError(
                f"classifier: expected logits (batch, classes) with classes > label = {label}; got "
                f"{tuple(logits.shape)}"
            )
        shifted = logits - xp.max(logits, axis=1, keepdims=True)
        total = xp.sum(xp.exp(shifted), axis=1, keepdims=True)
        return xp.exp(shifted) / total, shifted[:, label] - xp.log(total[:, 0])

    def log_prob(x0: Any) -> Any:
        return chosen(function(x0))[1]

    def gradient(x0: Any) -> Any:
        logits, pullback = function.with_pullback(x0)
        backend = backend_of(logits)
        classes = backend.xp.arange(logits.shape[1], dtype=backend.xp.int64, device=backend.device)
        hit = backend.xp.astype(classes == label, logits.dtype)
        return pullback(hit - chosen(logits)[0])

    return DensityObservation(log_prob, dim, like, gradient)
