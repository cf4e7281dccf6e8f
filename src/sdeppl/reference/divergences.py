"""Where trajectories that diverge begin: what the posterior is too steep in for the step."""

import numpy as np
import torch

from ..tracing import LatentSpace

FAR = 3.0  # standard deviations
ROWS = 4096


@torch.no_grad()
def place_of(space: LatentSpace, z: torch.Tensor, starts: torch.Tensor) -> str:
    """In words, "mostly where 'tau' is small"; '' where they begin as all draws lie, or there are none.

    z (draws, dim), starts (trajectories, dim), unconstrained. It names the number whose median over the
    starts is farthest from that of the draws, in their standard deviations on that side, by quartiles.
    """
    if not len(starts):
        return ""
    rows = z[:: max(len(z) // ROWS, 1)]
    levels = torch.tensor([0.25, 0.5, 0.75], dtype=z.dtype, device=z.device)
    low, middle, high = torch.quantile(rows, levels, dim=0)
    typical = starts.median(dim=0).values
    spread = torch.where(typical < middle, middle - low, high - middle) / 0.6745
    distance = torch.where(spread > 0, (typical - middle).abs() / spread, 0.0)
    k = int(distance.argmax())
    if float(distance[k]) < FAR:
        return ""
    site = next(site for site in space.sites if site.start <= k < site.stop)
    near, usual = space.unflatten(torch.stack([typical, middle]))[site.name]
    if near.shape != site.unconstrained_shape:
        return f"mostly where '{site.name}' is unusual"
    index = np.unravel_index(k - site.start, tuple(near.shape)) if near.dim() else ()
    label = f"[{', '.join(str(int(i)) for i in index)}]" if index else ""
    side = "small" if float(near[index]) < float(usual[index]) else "large"
    return f"mostly where '{site.name}{label}' is {side}"
