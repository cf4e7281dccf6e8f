"""How the numerical layers may use arrays: the standard's functions, stated devices, nothing read in a step.

    python tests/lint/array_lint.py        # prints what it finds, and fails if there is anything

Works on the source alone: `xp.name(...)` must be of the Array API standard; an array that is made states
dtype and device; methods that only some libraries have are not called; and functions that run in every step
read no number off a device by float(), int(), bool() or to_host(). A line that is right all the same says why
behind `# array-lint:`.
"""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import array_api_strict

PACKAGE = Path(__file__).resolve().parents[2] / "src" / "sdeppl"
LAYERS = ("linalg", "sde", "solvers", "denoisers", "mcmc", "likelihood", "posterior")
BACKEND_FILES = ("backend/derivatives.py",)

STANDARD = {name for name in dir(array_api_strict) if not name.startswith("_")} - {
    "get_array_api_strict_flags",
    "set_array_api_strict_flags",
    "reset_array_api_strict_flags",
    "ArrayAPIStrictFlags",
    "Device",
}
LINALG = {name for name in dir(array_api_strict.linalg) if not name.startswith("_")}
CREATION = {"arange", "asarray", "empty", "eye", "full", "linspace", "ones", "zeros"}
FOREIGN_METHODS = {
    "astype", "clone", "contiguous", "cpu", "cuda", "detach", "dot", "double", "flatten", "item", "numpy",
    "permute", "ravel", "requires_grad_", "squeeze", "swapaxes", "tolist", "transpose", "unsqueeze", "view",
}  # fmt: skip
READS = {"bool", "float", "int", "to_host"}
STEP_FUNCTIONS = {
    "__call__", "_guided", "advance", "add", "covariance_slope", "diffusion", "diffusion_jvp", "draw",
    "drift", "eps", "guided", "linearise", "log_density", "log_prob", "matmat", "matvec", "mean", "move",
    "note", "propose", "resample", "rmatvec", "score", "site_approximation", "step", "systematic",
    "tilted_moments",
}  # fmt: skip
PASS = "# array-lint:"


@dataclass(frozen=True)
class Finding:
    """One line that breaks a rule."""

    path: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text}"


def sources() -> list[Path]:
    """The files of the numerical layers."""
    found = [path for layer in LAYERS for path in sorted((PACKAGE / layer).rglob("*.py"))]
    return found + [PACKAGE / name for name in BACKEND_FILES]


def check(source: str, path: str = "<source>") -> list[Finding]:
    """What breaks the rules in one file."""
    lines = source.splitlines()
    found = (Finding(path, node.lineno, text) for node, text in _walk(ast.parse(source), False))
    return sorted({f for f in found if PASS not in lines[f.line - 1]}, key=lambda f: (f.line, f.text))


def _walk(node: ast.AST, in_step: bool) -> Iterator[tuple[ast.expr, str]]:
    for child in ast.iter_child_nodes(node):
        inside = in_step
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            inside = child.name in STEP_FUNCTIONS or in_step
        named = isinstance(child, ast.Attribute) and _is_namespace(child.value)
        if named and child.attr not in STANDARD | {"linalg", "fft"}:
            yield child, f"xp.{child.attr} is not in the Array API standard"
        if isinstance(child, ast.Attribute) and _is_linalg(child.value) and child.attr not in LINALG:
            yield child, f"xp.linalg.{child.attr} is not in the Array API standard"
        if isinstance(child, ast.Call):
            yield from ((child, text) for text in _call(child, inside))
        yield from _walk(child, inside)


def _call(call: ast.Call, in_step: bool) -> Iterator[str]:
    function = call.func
    if isinstance(function, ast.Attribute):
        if _is_namespace(function.value) and function.attr in CREATION:
            stated = {keyword.arg for keyword in call.keywords}
            missing = [name for name in ("dtype", "device") if name not in stated]
            if missing and None not in stated:  # **like states both
                yield f"xp.{function.attr} does not state {' and '.join(missing)}"
        if function.attr in FOREIGN_METHODS and not _is_namespace(function.value):
            yield f".{function.attr}() is no method of a standard array"
    reads = in_step and isinstance(function, ast.Name) and function.id in READS and call.args
    # the largest number of a dtype is known without the device
    if reads and not isinstance(call.args[0], ast.Constant) and "finfo(" not in ast.unparse(call.args[0]):
        yield f"{ast.unparse(function)}() in a step waits for the device"


def _is_namespace(node: ast.AST) -> bool:
    """`xp`, or anything's attribute `xp`."""
    return (isinstance(node, ast.Name) and node.id == "xp") or (
        isinstance(node, ast.Attribute) and node.attr == "xp"
    )


def _is_linalg(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "linalg" and _is_namespace(node.value)


def main() -> int:
    """All files; the number of findings."""
    findings = [
        finding
        for path in sources()
        for finding in check(path.read_text("utf-8"), str(path.relative_to(PACKAGE.parents[1])))
    ]
    for finding in findings:
        print(finding)
    return len(findings)


if __name__ == "__main__":
    sys.exit(min(main(), 1))
