"""Layer 2: Hamiltonian Monte Carlo of many chains at once, on arrays: moves, their adaptation, convergence.

Source: Hoffman, Radul and Sountsov 2021, "An adaptive-MCMC scheme for setting trajectory lengths in
Hamiltonian Monte Carlo".
"""

from .chains import Convergence, bulk_ess, convergence, r_hat, tail_ess
from .trajectory import Density, Proposal, Scale, State, choose, propose
from .warmup import Randomness, Run, Sampled, Tuned, sample, warm_up
