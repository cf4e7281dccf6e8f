"""What `solve` says of arguments that are none, or do not fit each other."""

import warnings

import numpy as np
import pytest
import torch

import sdeppl as sp

X = np.zeros((5, 2))
TIMES = sp.uniform_grid(0.0, 1.0, 4)
SDE = sp.LinearSDE(a=1.0, b=1.0)
VP = sp.VPSDE()
PRIOR = sp.GaussianDenoiser(VP, np.zeros(2), np.diag([2.0, 0.5]))
EYE = np.eye(2)


def additive(drift, diffusion=lambda x, t: 1.0, **options):
    return sp.ItoSDE(drift, diffusion, noise="additive", **options)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((sp.VPSDE, X, TIMES), TypeError, r"not a class: write VPSDE\(\.\.\.\)"),
        ((X, SDE, TIMES), TypeError, r"the order is solve\(sde, x_init, times\); got ndarray"),
        ((SDE, TIMES, X), TypeError, "x_init must be an array of NumPy, torch or CuPy.* got list"),
        ((SDE, 0.0, TIMES), TypeError, "x_init must be an array .* got float"),
        ((SDE, np.zeros((5, 2), dtype=int), TIMES), TypeError, "x_init: expected .* real floating dtype"),
        ((SDE, np.array(0.0), TIMES), ValueError, r"x_init must be \(\.\.\., dim\) .* got shape \(\)"),
        ((SDE, X, 10), TypeError, r"times must be numbers in a row, such as uniform_grid.* got 10"),
        ((SDE, X, X), TypeError, "times must be numbers in a row"),
        ((VP, X, [-1.0, 1.0]), ValueError, "times of VPSDE run from 0 on; got -1"),
        (
            (sp.MatrixLinearSDE(EYE, EYE), np.zeros((5, 3)), TIMES),
            ValueError,
            r"x_init must be \(\.\.\., 2\)",
        ),
        (
            (sp.ReverseSDE(VP, PRIOR), np.zeros((5, 3)), [1.0, 0.5]),
            ValueError,
            r"x_init must be \(batch, 2\)",
        ),
    ],
)
def test_sde_start_and_times(arguments, error, message):
    with pytest.raises(error, match=message):
        sp.solve(*arguments)


@pytest.mark.parametrize(
    ("sde", "x", "message"),
    [
        (sp.MatrixLinearSDE(EYE, EYE), torch.zeros(5, 2), "MatrixLinearSDE of numpy on cpu"),
        (sp.ShiftedVPSDE(np.ones(2)), torch.zeros(5, 2), "ShiftedVPSDE's μ of numpy on cpu"),
    ],
)
def test_two_libraries(sde, x, message):
    with pytest.raises(sp.BackendMismatch, match=f"x_init is of torch on cpu, {message}"):
        sp.solve(sde, x, TIMES)


def test_a_denoiser_of_another_library():
    with pytest.raises(sp.BackendMismatch, match="x_init is of torch on cpu, GaussianDenoiser of numpy"):
        sp.solve(sp.ReverseSDE(VP, PRIOR), torch.zeros(5, 2), [1.0, 0.5])


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        (0, "noise must be .* not int"),
        (sp.Noise, "not Noise, a class"),
        (np.zeros((4, 5, 2)), "not ndarray"),
        (np.random.default_rng(0), "not Generator"),
    ],
)
def test_noise_that_is_none(noise, message):
    with pytest.raises(TypeError, match=message):
        sp.solve(SDE, X, TIMES, noise=noise)


def test_a_stream_of_another_library():
    stream = sp.Noise().stream(sp.resolve("numpy"))
    with pytest.raises(sp.BackendMismatch, match="noise was opened on numpy on cpu, x_init is of torch"):
        sp.solve(SDE, torch.zeros(5, 2), TIMES, noise=stream)


@pytest.mark.parametrize(
    ("sde", "error", "message"),
    [
        (additive(lambda x, t: np.zeros((5, 3))), ValueError, r"drift must return .* like x, \(5, 2\); got"),
        (
            additive(lambda x, t: np.zeros((4, 5, 2))),
            ValueError,
            r"drift must return .* got shape \(4, 5, 2\)",
        ),
        (additive(lambda x, t: None), TypeError, "drift must return an array .* got NoneType"),
        (
            additive(lambda x, t: torch.zeros(5, 2)),
            TypeError,
            "drift must return .* numpy on cpu.* got Tensor",
        ),
        (
            sp.ItoSDE(lambda x, t: -x, lambda x, t: np.ones((5, 2, 2))),
            ValueError,
            "diagonal noise must be like",
        ),
        (
            additive(lambda x, t: -x, lambda x, t: np.ones((2, 3))),
            ValueError,
            "additive noise must be a number",
        ),
        (
            additive(lambda x, t: -x, lambda x, t: np.ones((2, 3)), wiener_dim=2),
            ValueError,
            r"additive noise must be \(2, 2\)",
        ),
    ],
)
def test_a_drift_or_diffusion_that_does_not_fit(sde, error, message):
    with pytest.raises(error, match=f"ItoSDE: the .*{message}"):
        sp.solve(sde, X, TIMES)


def test_an_error_of_the_users_own_function_stays_with_a_note():
    def drift(x, t):
        raise IndexError("mine")

    with pytest.raises(IndexError, match="mine") as caught:
        sp.solve(additive(drift), X, TIMES)
    assert "in a solve of ItoSDE from t=0, with states (5, 2), float64" in caught.value.__notes__[0]


def test_states_keep_their_dtype():
    sde = additive(lambda x, t: np.zeros((5, 2)))
    with pytest.raises(TypeError, match="drift must return float32, as x is; got float64"):
        sp.solve(sde, X.astype("float32"), TIMES)
    for module in (np, torch):
        matrix = module.eye(2, dtype=module.float64)
        x = module.zeros((5, 2), dtype=module.float32)
        with pytest.raises(TypeError, match=r"float32.*float64"):
            sp.solve(sp.MatrixLinearSDE(matrix, matrix), x, TIMES)


def test_a_controlled_solve_says_the_same():
    with pytest.raises(ValueError, match="drift must return"):
        sp.solve(
            additive(lambda x, t: np.zeros((5, 3))),
            X,
            TIMES,
            solver=sp.SRA1(),
            control=sp.PIController(),
            noise=sp.BrownianPath(0, area=True),
        )


@pytest.mark.parametrize("control", [None, sp.PIController()])
def test_a_score_at_zero_is_named(control):
    solver = sp.RungeKutta4() if control is None else sp.Tsitouras54()
    with np.errstate(all="ignore"), pytest.raises(sp.NonFiniteState, match="a score is not known at t = 0"):
        sp.solve(sp.ReverseSDE(VP, PRIOR, 0.0), X, [1.0, 0.5, 0.0], solver=solver, control=control)


def test_paths_and_solvers_show_what_they_are():
    path = sp.solve(SDE, X, TIMES)
    assert repr(path).startswith("Path(states (5, 5, 2) float64, t=0 to 1, {'steps': 4")
    assert repr(sp.BAOAB()) == "BAOAB()"
    assert repr(sp.UniPC()) == "UniPC(p=2)"


def test_the_shape_of_an_increment_is_a_tuple():
    with pytest.raises(TypeError, match=r"shape must be a tuple such as \(1000, 3\); got 3"):
        sp.BrownianPath(0).increment(0.0, 1.0, 3)


def test_a_number_of_steps_is_whole():
    with pytest.raises(ValueError, match=r"max_steps must be a whole number, at least 1; got 1\.5"):
        sp.PIController(max_steps=1.5)


def test_a_controlled_solve_takes_gradients_without_a_warning():
    rate = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    sde = sp.Lorenz63(sigma=rate, amplitude=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path = sp.solve(
            sde,
            torch.ones(2, 3, dtype=torch.float64),
            [0, 0.1],
            solver=sp.Tsitouras54(),
            control=sp.PIController(),
        )
    (slope,) = torch.autograd.grad(torch.sum(path.states[-1]), rate)
    nudged = [
        sp.solve(
            sp.Lorenz63(sigma=0.7 + h, amplitude=0.0),
            torch.ones(2, 3, dtype=torch.float64),
            [0, 0.1],
            solver=sp.Tsitouras54(),
            control=sp.PIController(rtol=1e-10, atol=1e-10),
        )
        .states[-1]
        .sum()
        for h in (-1e-4, 1e-4)
    ]
    assert float(slope) == pytest.approx(float(nudged[1] - nudged[0]) / 2e-4, rel=1e-4)
