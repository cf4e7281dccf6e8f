"""A simulator as a distribution."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from ..backend import whole_number
from .draws_alone import Asking, DrawsAlone, SamplerError, Values, as_rows, check_finite


class Simulated(DrawsAlone):
    """What a simulator draws: a distribution that can be sampled, and has no density.

        def simulate(n, rng):                     # n draws at once, by a NumPy generator
            return spectrum_root * rng.standard_normal((n, 64, 64))

        field = pyro.sample("field", sp.Simulated(simulate, shape=(64, 64)))

    sampler: a function that is called by name with what its parameters ask for:

    - n: how many draws to make; it returns (n, *shape). Without it it returns one draw of `shape`, and is
      called once for each;
    - rng: a numpy.random.Generator, generator: a torch.Generator, or seed: a whole number below 2**31, as for
      a program that is run. Without any of them the global generators of torch, NumPy and Python are seeded
      for the call, as pyro.set_rng_seed does, and then set back;
    - the names of `given`, values of other sites that it depends on, {name: tensor}: each (n, *shape of the
      value) where it takes n; NumPy arrays where it takes rng or seed, else tensors.

    It returns an array of torch, NumPy or anything that NumPy takes. shape: of one draw. dtype: of the
    tensors; by default the sampler's own where it is floating. workers: threads that run a sampler of one
    draw, such as an external program; the draws are the same for any number. dims, coords: names of the axes
    and {name: values} along them, or {name: (dims, values)}, for `run.to_xarray()`.

    The same torch seed gives the same draws. Where the sampler changes its randomness by itself, they are
    draws all the same and cannot be repeated. Time and memory are the sampler's, and n draws in one batch.
    Raises: TypeError for a sampler that asks for something else; ValueError for shape, dims or coords;
    SamplerError, which a guide reports with the site's name, for draws of another shape, not finite numbers,
    or what the sampler raises; NotImplementedError for log_prob.
    """

    def __init__(
        self,
        sampler: Any,
        shape: int | Sequence[int],
        *,
        given: Mapping[str, Any] | None = None,
        dtype: torch.dtype | None = None,
        workers: int = 1,
        dims: str | Sequence[str] | None = None,
        coords: Mapping[str, Any] | None = None,
    ) -> None:
        if given is not None and not isinstance(given, Mapping):
            raise TypeError(f"Simulated: given must be {{name: value}}; got {given!r:.80}")
        self.given = {name: torch.as_tensor(value) for name, value in (given or {}).items()}
        self.sampler = Asking("sampler", sampler, list(self.given))
        self.dtype, self.workers = dtype, whole_number("workers", workers, 1)
        sizes = (shape,) if isinstance(shape, int) else shape
        sizes = [whole_number("shape", size, 1) for size in sizes]
        super().__init__(sizes, dims, coords)
        if self.workers > 1 and not (self.sampler.seeded and "n" not in self.sampler.asked):
            raise ValueError(
                f"workers={workers} run a sampler of single draws that takes rng, generator or seed; "
                f"{self.sampler.name} takes {sorted(self.sampler.asked) or 'none of them'}"
            )

    def __repr__(self) -> str:
        return f"Simulated({self.sampler.name}, {tuple(self.event_shape)})"

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError(
            f"{self!r} has no density: it can only be sampled, which is all that ScoreGuide needs; HMC, NUTS "
            "and an ELBO need one"
        )

    def _rows(self, keys: torch.Tensor, given: Values) -> torch.Tensor:
        seeds = keys.tolist()
        values: dict[str, Any] = {
            name: value if self.sampler.takes_tensors else value.cpu().numpy()
            for name, value in given.items()
        }
        if "n" in self.sampler.asked:
            found = self._checked(self.sampler(seeds[0], len(seeds), **values), (len(seeds),))
        else:
            found = torch.stack(self._one_by_one(seeds, values))
        check_finite(repr(self), found, [f"draw {k} of {len(seeds)}" for k in range(len(seeds))])
        return found

    def _one_by_one(self, seeds: Sequence[int], values: Mapping[str, Any]) -> list[torch.Tensor]:
        def one(k: int) -> torch.Tensor:
            own = {name: value[k] for name, value in values.items()}
            return self._checked(self.sampler(seeds[k], 1, **own), ())

        if self.workers == 1:
            return [one(k) for k in range(len(seeds))]
        with ThreadPoolExecutor(self.workers) as pool:
            return list(pool.map(one, range(len(seeds))))

    def _checked(self, found: Any, lead: tuple[int, ...]) -> torch.Tensor:
        rows, expected = as_rows(repr(self), found, self.dtype), (*lead, *self.event_shape)
        if tuple(rows.shape) != expected:
            words = f"for n={lead[0]}" if lead else "for one draw"
            hint = "" if lead else "; a sampler that makes many at once takes a parameter n"
            raise SamplerError(
                f"{self!r}: the sampler gave shape {tuple(rows.shape)} {words}; expected {expected}{hint}"
            )
        return rows
