"""`sdeppl sample` and `sdeppl check` against the closed form of a Gaussian model."""

import numpy as np
import pytest

Y = np.array([3.7, np.nan])
# x ~ N(m, 4), y = 2 x + e, e ~ N(0, 1/4): precision 1/4 + 4/(1/4) where seen
MEAN = np.array([(1.0 / 4 + 2 * 3.7 / 0.25) / (1 / 4 + 4 / 0.25), -2.0])
SD = np.array([1 / np.sqrt(1 / 4 + 4 / 0.25), 2.0])
NUMBER = 2_000


@pytest.fixture(scope="module")
def files(folder):
    from sdeppl.cli import main

    out, model = str(folder / "prior.safetensors"), f"{folder}/model.py:gaussian"
    assert main(["train", model, "--out", out, "--steps", "0", "--draws", "400000", "-q"]) == 0
    np.savez(folder / "y.npz", y=Y)
    np.save(folder / "y.npy", Y)
    (folder / "y.csv").write_text("y\n3.7\nNA\n", "utf-8")
    (folder / "y.json").write_text('{"y": [3.7, null]}', "utf-8")
    generator = np.random.default_rng(5)
    exact = MEAN + SD * generator.standard_normal((NUMBER, 2))
    np.savez(folder / "exact.npz", x=exact)
    np.savez(folder / "shifted.npz", x=exact + 0.3 * SD)
    np.savez(folder / "wide.npz", x=MEAN + 1.3 * (exact - MEAN))
    signs = np.sign(generator.standard_normal((NUMBER, 2)))  # the same moments, two modes
    np.savez(folder / "modes.npz", x=MEAN + SD * (0.95 * signs + 0.31225 * (exact - MEAN) / SD))
    return folder


SAMPLE = ["sample", "prior.safetensors", "--model", "model.py:gaussian", "-n", NUMBER, "-q"]


def has_moments(x):
    """Within 5 standard errors, as all but 2 in a million are; and 400,000 draws' own."""
    assert x.shape == (NUMBER, 2) and x.dtype == np.float64
    error = 5 / np.sqrt(NUMBER) + 0.01
    assert np.all(np.abs(x.mean(axis=0) - MEAN) < error * SD)
    assert np.all(np.abs(x.std(axis=0) / SD - 1) < error)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("data", ["y.npz", "y.npy", "y.csv", "y.json"])
def test_draws_are_the_posterior_s(data, backend, files, sdeppl):
    code, out, error = sdeppl(*SAMPLE, "--data", data, "--backend", backend, "--out", "draws.npz")
    assert (code, error) == (0, "")
    assert out.startswith("exact: ")
    with np.load(files / "draws.npz") as found:
        assert found.files == ["x"]
        has_moments(found["x"])


def test_what_is_read_is_said(files, sdeppl):
    code, _, error = sdeppl(*SAMPLE[:-3], "-n", 20, "--data", "y.csv", "--out", "draws.npz")
    assert code == 0 and "data: y.csv: y (2,), 1 not observed\n" in error


def test_arviz_s_file_holds_draws_data_and_diagnosis(files, sdeppl):
    import arviz

    assert sdeppl(*SAMPLE, "--data", "y.npz", "--seed", 4, "--out", "draws.nc")[0] == 0
    found = arviz.from_netcdf(files / "draws.nc")
    has_moments(found["posterior"]["x"].values[0])
    np.testing.assert_array_equal(found["observed_data"]["y"].values, Y)
    assert found["posterior"].attrs["diagnosis"].startswith("exact: ")
    assert sdeppl("check", "draws.nc", "exact.npz")[0] == 0


def test_a_saved_posterior_needs_no_model(files, sdeppl):
    from sdeppl.cli.opening import make_guide

    guide = make_guide(f"{files}/model.py:gaussian", {}, 0)
    guide.load_into(files / "prior.safetensors")
    guide.condition(y=Y).save(files / "posterior.safetensors")
    words = ["sample", "posterior.safetensors", "-n", NUMBER, "--backend", "numpy", "--out", "p.npz"]
    code, _, error = sdeppl(*words)
    assert code == 0 and "draws: p.npz: x (2000, 2)" in error
    with np.load(files / "p.npz") as found:
        has_moments(found["x"])
    code, _, error = sdeppl(*words, "--data", "y.npz", "--model", "model.py")
    assert code == 2 and error.endswith("in it: leave out --model and --data\n")


def test_inputs_of_the_model(files, sdeppl):
    np.savez(files / "inputs.npz", slope=4.0)  # y = 4 x: the guide is not trained again
    words = [*SAMPLE[:3], "model.py:scaled", *SAMPLE[4:], "--data", "y.npz", "--out", "steep.npz"]
    assert sdeppl(*words, "--inputs", "inputs.npz")[0] == 0
    with np.load(files / "steep.npz") as found:
        precision = 1 / 4 + 16 / 0.25
        error = abs(found["x"][:, 0].mean() - (1 / 4 + 4 * 3.7 / 0.25) / precision)
        assert error < 5 / np.sqrt(NUMBER * precision)


def test_draws_that_are_not_the_posterior_s_end_in_1(files, sdeppl, monkeypatch):
    from sdeppl.posterior import Posterior

    monkeypatch.setattr(Posterior, "drawn", _untrusted(Posterior.drawn))
    code, out, _ = sdeppl(*SAMPLE, "--data", "y.npz", "--out", "doubtful.npz")
    assert code == 1 and out
    assert (files / "doubtful.npz").exists()


def _untrusted(run):
    from dataclasses import replace

    def changed(self, *arguments, **options):
        found = run(self, *arguments, **options)
        return replace(found, diagnosis=replace(found.diagnosis, trusted=False))

    return changed


@pytest.mark.parametrize(
    ("draws", "code", "word"),
    [
        ("exact", 0, "\ntrusted: no error beyond 5%"),
        ("shifted", 1, "\ndo not trust: x: "),
        ("wide", 1, "\ndo not trust: x: "),
        ("modes", 1, "\ndo not trust: x: "),
    ],
)
def test_check_finds_what_differs(draws, code, word, files, sdeppl):
    generator = np.random.default_rng(6)
    np.savez(files / "again.npz", x=MEAN + SD * generator.standard_normal((NUMBER, 2)))
    found, out, _ = sdeppl("check", f"{draws}.npz", "again.npz")
    assert found == code
    assert word in out, out


def test_check_counts_a_chain_s_effective_draws(files, sdeppl):
    """Four chains that never leave where they start: no reference, whatever it agrees with."""
    generator = np.random.default_rng(7)
    stuck = np.repeat(generator.standard_normal((4, 1, 2)), 500, axis=1)
    stuck = MEAN + SD * (stuck + 0.05 * generator.standard_normal(stuck.shape))
    import arviz

    groups = {"posterior": {"x": stuck}}
    of_release_1 = int(arviz.__version__.split(".")[0]) >= 1
    tree = arviz.from_dict(groups) if of_release_1 else arviz.from_dict(**groups)
    tree.to_netcdf(str(files / "stuck.nc"))
    code, out, _ = sdeppl("check", "exact.npz", "stuck.nc")
    assert code == 1
    assert "cannot tell: the reference is not to be trusted itself: split R-hat" in out


def test_check_of_a_score(files, sdeppl):
    words = ["check", "prior.safetensors", "--score", "--model"]
    code, out, _ = sdeppl(*words, "model.py:gaussian")
    assert code == 0 and "nothing in 20000 draws speaks against the score" in out
    train = ["train", "model.py:mixture", "--steps", 0, "--draws", 2000, "--out", "linear.safetensors", "-q"]
    assert sdeppl(*train)[0] == 0
    code, out, _ = sdeppl("check", "linear.safetensors", "--score", "--model", "model.py:mixture")
    assert code == 1 and "the score is wrong" in out


def test_check_of_the_calibration(files, sdeppl):
    """A Gaussian model's guide passes; the Gaussian part alone of a simulated mixture does not."""
    words = ["check", "prior.safetensors", "--sbc", "--sets", 100, "--backend", "numpy", "--model"]
    code, out, _ = sdeppl(*words, "model.py:gaussian", "-q")
    assert code == 0 and "SBC" in out, out
    train = [
        "train",
        "model.py:simulated",
        "--steps",
        0,
        "--draws",
        2000,
        "--out",
        "normal.safetensors",
        "-q",
    ]
    assert sdeppl(*train)[0] == 0
    words = ["check", "normal.safetensors", "--sbc", "--sets", 1000, "--backend", "numpy"]
    code, out, _ = sdeppl(*words, "--model", "model.py:simulated", "-q")
    assert code == 1 and "do not trust" in out, out


def test_a_report_ends_in_its_verdict(files, sdeppl):
    words = ["report", "prior.safetensors", "--model", "model.py:gaussian", "--data", "y.npz", "-n", NUMBER]
    code, out, error = sdeppl(*words, "--reference", "exact.npz", "--score", "--out", "good.html")
    assert code == 0 and out.startswith("trusted: "), out
    assert "page: good.html" in error
    page = (files / "good.html").read_text("utf-8")
    assert page.lstrip().lower().startswith("<!doctype html>") and "reference" in page.lower()
    code, out, _ = sdeppl(*words, "--reference", "shifted.npz", "--out", "bad.html", "-q")
    assert code == 1 and out.startswith("do not trust: "), out
    code, out, _ = sdeppl(*words, "--out", "alone.html")  # nothing from outside has looked at it
    assert code == 1 and out.startswith("cannot tell: "), out


def test_the_demo_s_picture_and_figures(files, sdeppl):
    code, out, error = sdeppl("demo", "--steps", 2, "--backend", "numpy", "--out", "demo.png")
    assert code == 0
    assert "backend: numpy on cpu in float64" in out and "diagnosis: exact" in out
    assert (files / "demo.png").read_bytes().startswith(b"\x89PNG")
    assert "picture: demo.png" in error


def test_the_demo_s_exact_answer_is_the_kalman_smoother_s():
    import statsmodels.api as sm

    from sdeppl.cli.demo import FLOW, NOISE_SD, START_MEAN, START_SD, STEP_SD, exact_level

    flow = np.array(FLOW.split(), dtype=float)
    np.testing.assert_array_equal(flow, sm.datasets.nile.load_pandas().data["volume"])
    flow[20:40] = np.nan
    smoother = sm.tsa.UnobservedComponents(flow, "local level")
    smoother.ssm.initialize_known(np.array([START_MEAN]), np.array([[START_SD**2]]))
    result = smoother.smooth([NOISE_SD**2, STEP_SD**2])
    mean, sd = exact_level(flow)
    np.testing.assert_allclose(mean, result.smoothed_state[0], rtol=1e-8)
    np.testing.assert_allclose(sd, np.sqrt(result.smoothed_state_cov[0, 0]), rtol=1e-8)
