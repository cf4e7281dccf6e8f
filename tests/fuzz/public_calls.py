"""Public functions with arguments that are right: (name, function, {argument: value})."""

import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from matplotlib.figure import Figure

import sdeppl as sp

Call = tuple[str, Callable[..., Any], dict[str, Any]]
D = torch.float64


def model(y=None, scale=0.5):
    x = pyro.sample("x", dist.Normal(torch.tensor([1.0, -2.0], dtype=D), 3.0).to_event(1))
    pyro.sample("y", dist.Normal(x, scale).to_event(1), obs=y)


@cache
def calls() -> list[Call]:
    """All of them; guides and posteriors are made once."""
    return [*_sdes(), *_arrays(), *_solves(), *_guides(), *_diagnostics(), *_rest(), *_shown()]


def _sdes() -> list[Call]:
    schedule = sp.LinearSchedule()
    A, B = np.array([[0.5, 0.1], [0.0, 0.7]]), np.eye(2)

    def drift(x: Any, t: float) -> Any:
        return -x

    def level(t: float) -> float:
        return 0.1 + t

    found: list[tuple[Any, dict[str, Any]]] = [
        (sp.VPSDE, {"schedule": schedule, "T": 1.0}),
        (sp.SubVPSDE, {"schedule": schedule, "T": 1.0}),
        (sp.DataAnchoredSDE, {"schedule": schedule, "T": 1.0}),
        (sp.CriticallyDampedSDE, {"schedule": sp.ConstantSchedule(4.0), "mass": 0.25, "T": 1.0}),
        (sp.ShiftedVPSDE, {"mu": np.array([1.0, 2.0]), "schedule": schedule, "T": 1.0}),
        (sp.VESDE, {"sigma_min": 0.01, "sigma_max": 50.0, "T": 1.0}),
        (sp.EDMSDE, {"T": 80.0}),
        (sp.LinearSDE, {"a": 0.5, "b": 1.0, "T": 1.0}),
        (sp.MatrixLinearSDE, {"A": A, "B": B, "u": np.array([1.0, 0.0]), "T": 1.0}),
        (sp.GeometricBrownianMotion, {"mu": 0.05, "sigma": 0.2}),
        (sp.DoubleWell, {"barrier": 1.0, "well": 1.0, "temperature": 0.5}),
        (sp.Lorenz63, {"sigma": 10.0, "rho": 28.0, "beta": 8 / 3, "amplitude": 1.0}),
        (sp.Lorenz96, {"F": 8.0, "amplitude": 1.0}),
        (sp.LangevinSDE, {"force": drift, "friction": 1.0, "temperature": 1.0, "mass": 1.0}),
        (sp.ConstantSchedule, {"value": 4.0}),
        (sp.LinearSchedule, {"beta_min": 0.1, "beta_max": 20.0, "T": 1.0}),
        (sp.CosineSchedule, {"offset": 0.008, "beta_max": 999.0, "T": 1.0}),
        (sp.CallableSchedule, {"beta": level}),
        (sp.CallableVESDE, {"sigma": level, "T": 1.0}),
        (sp.ItoSDE, {"drift": drift, "diffusion": drift, "noise": "diagonal"}),
        (sp.StratonovichSDE, {"drift": drift, "diffusion": drift, "noise": "diagonal"}),
        (sp.to_ito, {"sde": sp.VPSDE()}),
        (sp.to_stratonovich, {"sde": sp.VPSDE()}),
        (sp.uniform_grid, {"start": 0.0, "stop": 1.0, "steps": 10}),
        (sp.quadratic_grid, {"start": 0.001, "stop": 1.0, "steps": 10}),
        (sp.log_snr_grid, {"sde": sp.VPSDE(), "steps": 10, "noise_to_signal": 1e-3}),
        (sp.edm_grid, {"sde": sp.EDMSDE(), "steps": 10, "rho": 7.0, "sigma_min": 0.002, "sigma_max": 80.0}),
        (sp.ddpm_grid, {"sde": sp.VPSDE(), "betas": [0.001, 0.002, 0.01]}),
        (sp.ncsn_grid, {"sde": sp.VESDE(), "sigmas": [10.0, 1.0, 0.1]}),
    ]
    return [(f.__name__, f, given) for f, given in found]


def _arrays() -> list[Call]:
    sde, mean, covariance = sp.VPSDE(), np.array([0.5, -1.0]), np.array([[2.0, 0.3], [0.3, 1.0]])
    prior = sp.GaussianDenoiser(sde, mean, covariance)
    H, y, R = np.array([[1.0, 2.0]]), np.array([0.5]), np.array([0.1])
    observation = sp.LinearGaussian(H, y, R)

    def log_prob(x: Any) -> Any:
        return -0.5 * (x**2).sum(axis=-1)

    def function(x: Any) -> tuple[Any, Any]:
        return x, np.broadcast_to(np.eye(2), (x.shape[0], 2, 2))

    found: list[tuple[Any, dict[str, Any]]] = [
        (sp.GaussianDenoiser, {"sde": sde, "mean": mean, "covariance": covariance}),
        (
            sp.GaussianMixtureDenoiser,
            {
                "sde": sde,
                "weights": np.array([0.4, 0.6]),
                "means": np.stack([mean, -mean]),
                "covariances": np.stack([covariance, covariance]),
            },
        ),
        (sp.LinearGaussian, {"H": H, "y": y, "R": R}),
        (sp.LinearConstraint, {"H": H, "y": y}),
        (sp.NonlinearGaussian, {"function": function, "dim": 2, "y": mean, "R": mean**2}),
        (sp.DensityObservation, {"log_prob": log_prob, "dim": 2, "like": mean}),
        (sp.joint_observation, {"parts": [observation, observation]}),
        (sp.exact_posterior, {"prior": prior, "observation": observation}),
        (
            sp.Posterior,
            {
                "prior": prior,
                "observation": observation,
                "likelihood": "auto",
                "steps": 20,
                "noise_to_signal": 1e-3,
                "correction": "auto",
            },
        ),
        (
            sp.Posteriors,
            {
                "prior": prior,
                "observation": observation,
                "y": np.array([[0.5], [1.0]]),
                "likelihood": "auto",
                "steps": 20,
                "correction": "auto",
            },
        ),
        (sp.TwistedSMC, {"particles": 64, "kept": 8, "resample_below": 0.5}),
        (sp.TemperedSMC, {"particles": 64, "kept": 8, "moves": 4, "share": 0.7}),
        (sp.LangevinCorrector, {"steps": 2, "level": 0.1, "step_size": 0.1, "nodes": 3}),
        (sp.Noise, {"seed": 0, "mode": "host"}),
        (sp.ReverseSDE, {"forward": sde, "denoiser": prior, "c": 1.0}),
        (sp.log_density, {"source": prior, "x": np.zeros((2, 2)), "t": 0.0, "rtol": 1e-2, "seed": 0}),
        (sp.place, {"data": [1.0], "backend": "numpy"}),
        (sp.to_host, {"array": np.zeros(2)}),
        (sp.resolve, {"backend": "numpy", "dtype": "float64"}),
        (
            sp.TweedieDenoiser,
            {"prior": prior, "observation": observation, "method": "auto", "gradient": "full"},
        ),
        (sp.DPSDenoiser, {"prior": prior, "observation": observation, "zeta": 1.0, "step": 0.01}),
        (sp.SDADenoiser, {"prior": prior, "observation": observation, "gamma": 1.0}),
        (sp.PiGDMDenoiser, {"prior": prior, "observation": observation, "variance": 1.0}),
        (
            sp.NestedDenoiser,
            {"prior": prior, "observation": observation, "samples": 4, "steps": 2, "seed": 0},
        ),
        (
            sp.MonteCarloDenoiser,
            {"prior": prior, "observation": observation, "samples": 8, "rounds": 1, "seed": 0},
        ),
        (sp.BrownianPath, {"seed": 0, "start": 0.0, "stop": 1.0, "cells": 4}),
        (sp.PIController, {"rtol": 1e-3, "atol": 1e-5, "safety": 0.9, "max_steps": 100}),
        (sp.DPMSolverPP, {"order": 2}),
        (sp.UniPC, {"p": 2}),
        (sp.MilsteinLevy, {"terms": 5}),
        (sp.EDMHeun, {"S_churn": 0.0, "steps": 10, "S_noise": 1.0}),
        (sp.PredictorCorrector, {"predictor": sp.EulerMaruyama(), "corrections": 1, "snr": 0.16}),
        (sp.AncestralSampler, {"variance": "posterior"}),
    ]
    return [(f.__name__, f, given) for f, given in found]


def _solves() -> list[Call]:
    prior = sp.GaussianDenoiser(sp.VPSDE(), np.zeros(2), np.eye(2))
    observation = sp.LinearGaussian(np.array([[1.0, 2.0]]), np.array([0.5]), np.array([0.1]))
    posterior = sp.Posterior(prior, observation, steps=20)
    twisted = sp.Posterior(prior, observation, "tweedie", steps=20, correction=sp.TwistedSMC(8))
    many = sp.Posteriors(prior, observation, np.array([[0.5], [1.0]]), steps=20)
    draws = {"draws": 4, "seed": 0, "c": 1.0, "noise": "host", "progress": False}
    return [
        (
            "solve",
            sp.solve,
            {
                "sde": sp.LinearSDE(0.5, 1.0),
                "x_init": np.zeros((3, 2)),
                "times": [0.0, 0.5, 1.0],
                "solver": sp.EulerMaruyama(),
                "noise": sp.Noise(0),
                "keep": "last",
            },
        ),
        ("Posterior.sample", posterior.sample, {**draws, "solver": sp.ExponentialHeun()}),
        ("Posterior.run", twisted.run, draws),
        ("Posteriors.run", many.run, draws),
    ]


def _guides() -> list[Call]:
    folder = Path(tempfile.mkdtemp())
    guide = sp.ScoreGuide(model, net=None).fit_gaussian(500, progress=False)
    posterior = guide.condition(y=[1.0, 2.0], steps=20)
    guide.save(folder / "guide")
    posterior.save(folder / "posterior")
    data = {"y": torch.tensor([1.0, 2.0], dtype=D)}
    settings = {"backend": "numpy", "likelihood": "auto", "steps": 20, "correction": "auto"}
    draws = {"draws": 4, "seed": 0, "c": 1.0, "noise": "host", "progress": False}

    def condition(data: Any, **named: Any) -> Any:
        return guide.condition(data, **named)

    def condition_many(data: Any, **named: Any) -> Any:
        return guide.condition_many(data, **named)

    def fit(**named: Any) -> Any:
        training = sp.ScoreMatching(sp.ScoreGuide(model, net=_small), draws=100, batch=16)
        return training.fit(**named)

    def train(**named: Any) -> Any:
        return sp.ScoreMatching(**named).fit(0, progress=False)

    def load(path: Any, model: Any, **named: Any) -> Any:
        return sp.ScoreGuide.load(path, model, **named)

    return [
        (
            "ScoreGuide",
            sp.ScoreGuide,
            {
                "model": model,
                "sde": sp.VPSDE(),
                "net": None,
                "args": (),
                "kwargs": {},
                "latents": ["x"],
                "seed": 0,
                "tails": True,
            },
        ),
        ("ScoreGuide.fit_gaussian", sp.ScoreGuide(model).fit_gaussian, {"draws": 100, "progress": False}),
        (
            "ScoreGuide.condition",
            condition,
            {"data": data, "args": (), "kwargs": {}, "model": model, **settings},
        ),
        ("ScoreGuide.condition(y)", guide.condition, {"y": [1.0, 2.0]}),
        ("ScoreGuide.condition_many", condition_many, {"data": {"y": np.zeros((2, 2))}, **settings}),
        ("ScoreGuide.prior", guide.prior, {"backend": "numpy", "steps": 20}),
        ("ScoreGuide.save", guide.save, {"path": folder / "again"}),
        ("ScoreGuide.load", load, {"path": folder / "guide", "model": model, "net": None, "seed": 0}),
        (
            "ScoreMatching",
            train,
            {
                "guide": sp.ScoreGuide(model, net=None),
                "lr": 1e-3,
                "batch": 16,
                "ema": 0.9,
                "draws": 100,
                "seed": 0,
            },
        ),
        ("ScoreMatching.fit", fit, {"steps": 1, "progress": False, "checkpoint": folder / "c", "every": 5}),
        ("SitePosterior.sample", posterior.sample, draws),
        ("SitePosterior.run", posterior.run, draws),
        ("SitePosterior.save", posterior.save, {"path": folder / "third"}),
        (
            "load_posterior",
            sp.load_posterior,
            {"path": folder / "posterior", "backend": "numpy", "dtype": "float64"},
        ),
    ]


def _diagnostics() -> list[Call]:
    guide = sp.ScoreGuide(model, net=None).fit_gaussian(500, progress=False)
    rng = np.random.default_rng(0)
    one, other = ({"x": rng.normal(size=(200, 2))} for _ in range(2))
    truths, draws = {"x": rng.normal(size=(40, 2))}, {"x": rng.normal(size=(40, 19, 2))}
    simulations = sp.Simulations(truths, draws)
    return [
        (
            "compare",
            sp.compare,
            {"draws": one, "reference": other, "seed": 0, "tolerance": 0.05, "classifier": False},
        ),
        ("Simulations", sp.Simulations, {"truths": truths, "draws": draws}),
        ("sbc", sp.sbc, {"posterior": simulations}),
        (
            "sbc of a guide",
            sp.sbc,
            {"posterior": guide, "sets": 20, "draws": 9, "seed": 0, "progress": False},
        ),
        ("coverage", sp.coverage, {"posterior": simulations}),
        ("tarp", sp.tarp, {"posterior": simulations, "seed": 0}),
        ("check_score", sp.check_score, {"prior": guide, "draws": 500, "levels": 4, "seed": 0}),
        ("check_covariance", sp.check_covariance, {"prior": guide, "draws": 500, "levels": 4, "seed": 0}),
        ("check_loss", sp.check_loss, {"prior": guide, "draws": 500, "levels": 4, "seed": 0}),
        (
            "check_prior",
            sp.check_prior,
            {"model": model, "args": (), "kwargs": {}, "latents": ["x"], "draws": 500, "seed": 0},
        ),
        (
            "posterior_sbc",
            lambda data, **named: sp.posterior_sbc(guide, data, **named),
            {"data": {"y": [1.0, 2.0]}, "sets": 20, "draws": 9, "seed": 0, "progress": False},
        ),
    ]


def _rest() -> list[Call]:
    data = {"y": torch.tensor([1.0, 2.0], dtype=D)}
    return [
        (
            "reference.exact",
            sp.reference.exact,
            {
                "model": model,
                "data": data,
                "args": (),
                "kwargs": {},
                "draws": 20,
                "seed": 0,
                "latents": ["x"],
            },
        ),
        (
            "reference.hmc",
            sp.reference.hmc,
            {
                "model": model,
                "data": data,
                "draws": 4,
                "warmup": 20,
                "chains": 4,
                "seed": 0,
                "mass": "auto",
                "target": 0.8,
                "max_steps": 5,
                "progress": False,
            },
        ),
        (
            "reference.nuts",
            sp.reference.nuts,
            {
                "model": model,
                "data": data,
                "draws": 4,
                "warmup": 2,
                "chains": 1,
                "seed": 0,
                "progress": False,
            },
        ),
        ("Censored", sp.Censored, {"base": dist.Normal(0.0, 1.0), "low": -1.0, "high": 1.0}),
        ("Interval", sp.Interval, {"base": dist.Normal(0.0, 1.0), "low": -1.0, "high": 1.0}),
        (
            "SDEPath",
            sp.SDEPath,
            {"sde": sp.LinearSDE(0.5, 1.0), "x_init": dist.Normal(0.0, 1.0), "times": [0.0, 1.0], "t0": 0.0},
        ),
        ("Diffusion", sp.Diffusion, {"sde": sp.VPSDE(), "x0": torch.zeros(2), "times": [0.1, 1.0]}),
        ("ResidualMLP", sp.ResidualMLP, {"dim": 2, "width": 16, "depth": 1, "frequencies": 4}),
        ("TorchFunction", sp.TorchFunction, {"module": _small(2)}),
    ]


def _shown() -> list[Call]:
    """Pictures, the report and ArviZ's container."""
    folder, rng, times = Path(tempfile.mkdtemp()), np.random.default_rng(0), np.linspace(0.0, 1.0, 5)
    guide = sp.ScoreGuide(model, net=None).fit_gaussian(500, progress=False)
    posterior = guide.condition(y=[1.0, 2.0], steps=20)
    draws, states = {"x": rng.normal(size=(50, 2))}, rng.normal(size=(5, 20, 1))
    simulations = sp.Simulations({"x": rng.normal(size=(40, 2))}, {"x": rng.normal(size=(40, 19, 2))})
    band = {"x": sp.plots.Band(np.zeros(5), -np.ones(5), np.ones(5))}
    bars = {"reference": draws, "guide": guide, "checks": {}, "draws": 50, "seed": 0, "title": "a title"}
    dims: dict[str, Any] = {"coords": {"k": [0, 1]}, "dims": {"x": ["k"]}, "observed": {"y": [1.0, 2.0]}}

    def on_figure(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda **given: function(figure=Figure(), **given)

    def on_axes(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda **given: function(axes=Figure().subplots(), **given)

    in_figures: list[tuple[Any, dict[str, Any]]] = [
        (sp.plots.plot_sbc, {"result": sp.sbc(simulations)}),
        (sp.plots.plot_coverage, {"result": sp.coverage(simulations)}),
        (sp.plots.plot_comparison, {"comparison": sp.compare(draws, draws)}),
        (sp.plots.plot_corner, {"draws": draws, "reference": draws, "numbers": ["x[0]"], "labels": {}}),
        (sp.plots.plot_fields, {"rows": {"truth": rng.normal(size=(2, 4, 4))}, "limits": (0.0, 1.0)}),
        (sp.plots.plot_trajectories, {"times": times, "states": states, "shown": 3, "span": (-1.0, 1.0)}),
        (sp.plots.animate_trajectories, {"times": times, "states": states, "frames": 3, "shown": 5}),
    ]
    in_axes: list[tuple[Any, dict[str, Any]]] = [
        (sp.plots.plot_paths, {"times": times, "bands": band, "observed": times, "gaps": [(0.1, 0.2)]}),
        (sp.plots.plot_convergence, {"curves": {"a": ([1.0, 0.5, 0.2], [1.0, 0.4, 0.1])}, "fitted": 2}),
        (sp.plots.plot_training, {"losses": [1.0, 0.9, 0.8, 0.7], "window": 2}),
    ]
    return [
        *((f.__name__, on_figure(f), given) for f, given in in_figures),
        *((f.__name__, on_axes(f), given) for f, given in in_axes),
        ("report", sp.report, {"posterior": posterior, "path": folder / "report.html", **bars}),
        ("to_arviz", sp.to_arviz, {"draws": draws, **dims}),
    ]


def _small(dim: int) -> torch.nn.Module:
    return sp.ResidualMLP(dim, width=8, depth=1)
