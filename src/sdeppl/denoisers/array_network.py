"""The library's own network in the standard's functions alone, for where torch is not wanted."""

from collections.abc import Callable, Mapping

from ..backend import Array, array_namespace, bilinear_slope, require_arrays

NORM_EPSILON = 1e-5  # of torch's LayerNorm


class ArrayMLP:
    """`nn.ResidualMLP` as x (batch, dim), ln(α/σ) ↦ (batch, dim) on arrays of any backend.

    weights: the module's `state_dict` as arrays of one backend, in the dtype to compute in. Interface as
    `backend.TorchFunction`, with a pullback of its own; torch differentiates through it, too.

    Raises: KeyError for weights that are not those of a ResidualMLP; TypeError, BackendMismatch for arrays
    that do not fit together.
    """

    def __init__(self, weights: Mapping[str, Array]) -> None:
        self.backend = require_arrays(type(self).__name__, **weights)
        self.scales = weights["scales"]
        self.enter, self.level, self.leave = (_Linear.of(weights, n) for n in ("enter", "level", "leave"))
        depth = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("blocks."))
        self.blocks = [_Block.of(weights, f"blocks.{k}") for k in range(depth)]

    def __call__(self, x: Array, half_log_snr: float) -> Array:
        """(batch, dim); half_log_snr: ln(α/σ)."""
        embedding, hidden = self._embedding(half_log_snr), self.enter(x)
        for block in self.blocks:
            hidden = block.forward(hidden, embedding)[0]
        return self.leave(_silu(hidden)[0])

    def with_pullback(self, x: Array, half_log_snr: float) -> tuple[Array, Callable[[Array], Array]]:
        """The value at x, and v ↦ vᵀ ∂value/∂x row by row, from one evaluation."""
        embedding, hidden = self._embedding(half_log_snr), self.enter(x)
        pullbacks = []
        for block in self.blocks:
            hidden, pull = block.forward(hidden, embedding)
            pullbacks.append(pull)
        last, slope = _silu(hidden)

        def pullback(v: Array) -> Array:
            back = self.leave.back(v) * slope
            for pull in reversed(pullbacks):
                back = back + pull(back)
            return self.enter.back(back)

        return self.leave(last), pullback

    def bilinear_slope(self, x: Array, left: Array, right: Array, half_log_snr: float) -> Array:
        """∂/∂x Σ_a l_aᵀ (∂value/∂x) r_a row by row, (batch, dim), for left and right (batch, dim, k)."""
        return bilinear_slope(lambda z: self.with_pullback(z, half_log_snr)[1], x, left, right)

    def _embedding(self, half_log_snr: float) -> Array:
        xp, phase = self.backend.xp, half_log_snr * self.scales
        return self.level(xp.concat([xp.sin(phase), xp.cos(phase)])[None, :])


class _Linear:
    """x Wᵀ + b."""

    def __init__(self, weight: Array, bias: Array) -> None:
        self.weight, self.bias = weight, bias

    @classmethod
    def of(cls, weights: Mapping[str, Array], name: str) -> "_Linear":
        return cls(weights[f"{name}.weight"], weights[f"{name}.bias"])

    def __call__(self, x: Array) -> Array:
        return x @ self.weight.T + self.bias

    def back(self, v: Array) -> Array:
        return v @ self.weight


class _Block:
    """hidden + MLP(normalised hidden + embedding)."""

    def __init__(self, first: _Linear, second: _Linear, scale: Array, shift: Array) -> None:
        self.first, self.second, self.scale, self.shift = first, second, scale, shift

    @classmethod
    def of(cls, weights: Mapping[str, Array], name: str) -> "_Block":
        first, second = (_Linear.of(weights, f"{name}.{part}") for part in ("first", "second"))
        return cls(first, second, weights[f"{name}.norm.weight"], weights[f"{name}.norm.bias"])

    def forward(self, hidden: Array, embedding: Array) -> tuple[Array, Callable[[Array], Array]]:
        """The block's value, and the pullback of what it adds to `hidden`."""
        xp = array_namespace(hidden)
        centred = hidden - xp.mean(hidden, axis=-1, keepdims=True)
        spread = xp.sqrt(xp.mean(centred * centred, axis=-1, keepdims=True) + NORM_EPSILON)
        white = centred / spread
        inner, slope = _silu(self.first(white * self.scale + self.shift) + embedding)

        def pullback(v: Array) -> Array:
            back = self.first.back(self.second.back(v) * slope) * self.scale
            along = xp.mean(back * white, axis=-1, keepdims=True)
            return (back - xp.mean(back, axis=-1, keepdims=True) - white * along) / spread

        return hidden + self.second(inner), pullback


def _silu(x: Array) -> tuple[Array, Array]:
    """x/(1 + e^-x), and its slope; by tanh, which does not overflow."""
    sigmoid = 0.5 + 0.5 * array_namespace(x).tanh(0.5 * x)
    value = x * sigmoid
    return value, sigmoid + value * (1 - sigmoid)
