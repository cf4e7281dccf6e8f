"""What each check of a posterior said, and what all of them say together."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

State = Literal["trusted", "do not trust", "cannot tell"]


@dataclass(frozen=True)
class Check:
    """One check: its name, what it says, in one of three states and in words, and its table if it has one.

    independent: whether it looks at the draws from outside, by a reference or by simulated data sets,
    and so can show that they are right; the others can only show that something is wrong; needed: whether
    nothing is trusted before it can tell.
    """

    name: str
    state: State
    text: str
    table: str = ""
    independent: bool = False
    needed: bool = False

    @classmethod
    def of(cls, name: str, result: Any, independent: bool = False) -> "Check":
        """Of a result that has a `verdict` in words (or a `text`), and is `trusted` (or `good`) or not.

        Raises: TypeError for a result that has neither.
        """
        text = getattr(result, "verdict", getattr(result, "text", None))
        good = getattr(result, "trusted", getattr(result, "good", None))
        if text is None or good is None:
            raise TypeError(
                f"report: {name} must be what a check returns, with a verdict and whether it is trusted; "
                f"got {type(result).__name__}"
            )
        state: State = "trusted" if good else "do not trust"
        if not good and (getattr(result, "state", "") or str(text)).startswith("cannot tell"):
            state = "cannot tell"
        table = str(result)
        return cls(name, state, str(text), "" if table == text else table, independent)


def overall(checks: Sequence[Check]) -> tuple[State, str]:
    """All checks together, in words: one that fails is enough, and one from outside is needed.

    An answer in closed form needs no check from outside, but that the score is the prior's.
    """
    failed = [check for check in checks if check.state == "do not trust"]
    if failed:
        return "do not trust", "; ".join(f"{check.name}: {check.text}" for check in failed)
    unmade = [check for check in checks if check.needed and check.state == "cannot tell"]
    if unmade:
        return "cannot tell", "; ".join(f"{check.name}: {check.text}" for check in unmade)
    passed = [check.name for check in checks if check.independent and check.state == "trusted"]
    if passed:
        return "trusted", f"nothing speaks against these draws, and they passed: {', '.join(passed)}"
    return (
        "cannot tell",
        "nothing speaks against these draws, but nothing from outside has looked at them: give a reference "
        "(sp.reference.nuts, hmc or exact) or a simulation-based calibration (sp.sbc)",
    )
