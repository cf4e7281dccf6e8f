"""A correlated Gaussian seen through two rows of a matrix, and the solvers of its reverse SDE."""

import numpy as np
from checks import array, covariance_matrix

import sdeppl as sp

SDE = sp.VPSDE()
MEAN, COVARIANCE = np.array([2.0, -1.0, 0.5]), covariance_matrix(3, seed=21, smallest=0.1, largest=2.0)
H, Y, R = np.array([[1.0, 0.5, 0.0], [0.0, -1.0, 2.0]]), np.array([1.5, 0.0]), np.array([0.2, 0.6])
SOLVERS = {
    "ExponentialHeun": sp.ExponentialHeun(),
    "ExponentialEuler": sp.ExponentialEuler(),
    "EulerMaruyama": sp.EulerMaruyama(),
    "DPMSolverPP": sp.DPMSolverPP(),
    "UniPC": sp.UniPC(),
    "EDMHeun": sp.EDMHeun(),
    "AncestralSampler": sp.AncestralSampler(),
    "PredictorCorrector": sp.PredictorCorrector(sp.EulerMaruyama()),
    "StochasticHeun": sp.StochasticHeun(),
    "PlatenWeak2": sp.PlatenWeak2(),
    "SRA1": sp.SRA1(),
    "SRIW1": sp.SRIW1(),
    "RungeKutta4": sp.RungeKutta4(),
    "Tsitouras54": sp.Tsitouras54(),
}
ODE = {"EDMHeun", "RungeKutta4", "Tsitouras54", "UniPC"}


def priors(backend):
    gaussian = sp.GaussianDenoiser(SDE, array(MEAN, backend), array(COVARIANCE, backend))
    mixture = sp.GaussianMixtureDenoiser(
        SDE,
        array([0.3, 0.7], backend),
        array(np.stack([MEAN, -MEAN]), backend),
        array(np.stack([COVARIANCE, 0.5 * COVARIANCE]), backend),
    )
    net = sp.ResidualMLP(3).double()
    weights = {name: value.detach() for name, value in net.state_dict().items()}
    return {
        "gaussian": gaussian,
        "mixture": mixture,
        "network": sp.NetworkDenoiser(gaussian, sp.backend.TorchFunction(net)),
        "array network": sp.NetworkDenoiser(gaussian, sp.denoisers.ArrayMLP(weights)),
    }
