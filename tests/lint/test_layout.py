"""A file of tests stands where its module stands, and has its name, with what of it is tested behind that."""

from checks import ROOT

PACKAGE = ROOT / "src" / "sdeppl"
# of no package: what goes through all of it
BESIDE = {"benchmarks", "docs", "fuzz", "lint", "nile", "packaging", "tutorials"}
# one class, or one command: files are named for what they ask of it
WHOLE = {"guide", "cli", "training"}
# of several modules of their package at once
ACROSS = {
    "backend": {"agreement", "compile", "diagonal", "meta", "public_names"},
    "diagnostics": {"every_verdict", "reprs", "verdicts"},
    "likelihood": {"observation_families", "overflow", "rungs", "rungs_integrals"},
    "mcmc": {"hamiltonian_kernel"},
    "posterior": {"cost", "earlier_pickles"},
    "query": {"no_number"},
    "reference": {"reference_supports"},
    "sde": {"isotropic_errors", "isotropic_sdes", "nonlinear_sdes", "sde_arguments", "sde_marginals"},
    "solvers": {
        "general_solvers", "gradients", "gradients_checkpoints", "gradients_denoiser", "isotropic_reverse",
        "noise_that_starts_later", "order_table", "solver_orders",
    },
    "tracing": {"batched_models", "moving_sites", "pyro_families", "site_derivatives", "site_errors"},
}  # fmt: skip


def misplaced():
    """'package/name' of each file whose package or module is not there."""
    for path in sorted((ROOT / "tests").glob("*/test_*.py")):
        package, name = path.parent.name, path.stem.removeprefix("test_")
        if package in BESIDE | WHOLE or name in ACROSS.get(package, ()):
            continue
        modules = {file.stem for file in (PACKAGE / package).rglob("*.py")}
        if not any(name == module or name.startswith(f"{module}_") for module in modules):
            yield f"{package}/{name}"


def test_each_file_has_its_module():
    assert list(misplaced()) == []


def test_what_is_said_of_several_modules_is_there():
    missing = [
        f"{package}/{name}"
        for package, names in ACROSS.items()
        for name in names
        if not (ROOT / "tests" / package / f"test_{name}.py").exists()
    ]
    assert missing == []
