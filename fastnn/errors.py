"""The errors of fastnn that Python has no name for, and the wording that all errors share."""

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .history import History


class DivergedError(ArithmeticError):
    """Training reached a loss or a parameter that is not finite.

    The net has the weights of the last check at which everything was finite, and no optimizer state.

    Parameters
    ----------
    epoch : int
        Epoch of this fit, from 0, in which it happened.
    last_loss : float or None
        Last finite loss of an epoch of this fit; None in its first epoch.
    history : History
        What was recorded until then.
    """

    def __init__(self, epoch: int, last_loss: float | None, history: "History") -> None:
        self.epoch, self.last_loss, self.history = epoch, last_loss, history
        last = "no epoch before it" if last_loss is None else f"the last finite epoch loss was {last_loss:.6g}"
        super().__init__(
            f"training diverged in epoch {epoch}: the loss or a parameter is not finite; {last}. "
            "The weights are those of the last finite check. Try a smaller learning_rate or scaled inputs"
        )

    def __reduce__(self):
        return type(self), (self.epoch, self.last_loss, self.history)


class NotBuiltError(RuntimeError):
    """A net was used before its number of inputs was known."""


def must_be(name, accepted, given, error=ValueError):
    """The error for an argument: its name, what is accepted, and what was given."""
    text = given if isinstance(given, str) and given.startswith("\0") else repr(given)
    text = text.lstrip("\0")
    if len(text) > 200:
        text = text[:197] + "..."
    return error(f"{name} must be {accepted}; got {text}")


def described(text):
    """A description of what was given, for `must_be` to quote as it stands."""
    return "\0" + text


def unknown_name(name, given, known):
    """The error for a name outside a list, with the nearest known one."""
    listed = ", ".join(repr(k) for k in known)
    near = difflib.get_close_matches(str(given), known, n=1) if isinstance(given, str) else []
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    kind = ValueError if isinstance(given, str) else TypeError
    return kind(f"{name} must be one of {listed}; got {given!r}{hint}")
