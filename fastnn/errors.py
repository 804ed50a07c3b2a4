"""The errors of fastnn that Python has no name for, and the wording that all errors share."""

import reprlib
import sys
from typing import TYPE_CHECKING

import numpy as np

from . import habits

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


class BusyError(RuntimeError):
    """A net is being trained, and was to be trained by another, or to become another net."""


class DeadUnitsWarning(UserWarning):
    """A fit left a layer of ReLU units that are 0 for all rows: no gradient passes them, and it cannot learn."""


class UnscaledWarning(UserWarning):
    """Features are so large that a net learns little from them as they are."""


class IdColumnWarning(UserWarning):
    """A column of whole numbers looks like ids, which a net can learn something from as codes, and not as numbers."""


def users_level():
    """The `stacklevel` with which a warning names the line of the user's that led to it: the first outside fastnn."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "fastnn":
        frame, level = frame.f_back, level + 1
    return level


MOST_QUOTED = 1000  # elements of an array


class _Quotation(reprlib.Repr):
    """A repr that neither fails nor grows with what is quoted."""

    def __init__(self):
        super().__init__()
        self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = self.maxdict = self.maxarray = 20
        self.maxstring, self.maxlevel = 150, 4

    def repr1(self, x, level):
        for kind in (list, tuple, dict, set, frozenset, str, bytes, int):
            if type(x).__repr__ is kind.__repr__:  # a subclass, too
                return getattr(self, f"repr_{kind.__name__}")(x, level)
        return self.repr_instance(x, level)

    def repr_int(self, x, level):
        # more than 4300 digits are an error of Python
        return repr(x) if x.bit_length() <= 128 else f"an int of {x.bit_length():,} bits"

    def repr_bytes(self, x, level):
        return repr(bytes(x[: self.maxstring]))

    def repr_instance(self, x, level):
        if isinstance(x, np.ndarray) and x.size > MOST_QUOTED:
            return f"an array of shape {x.shape} and dtype {x.dtype}"  # with many dimensions NumPy would write all
        return repr(x)


_quotation = _Quotation()


class _Description(str):
    """What `must_be` is to quote as it stands."""


def quoted(value):
    """The repr of a value, for an error: short, and a description where there is none."""
    try:
        text = _quotation.repr(value)
    except Exception:  # the value's own repr failed
        text = f"a {type(value).__name__}"
    return text if len(text) <= 200 else text[:197] + "..."


def must_be(name, accepted, given, error=ValueError):
    """The error for an argument: its name, what is accepted, and what was given."""
    return error(f"{name} must be {accepted}; got {given if isinstance(given, _Description) else quoted(given)}")


def described(text):
    """A description of what was given, for `must_be` to quote as it stands."""
    return _Description(text if len(text) <= 200 else text[:197] + "...")


def unknown_name(name, given, known):
    """The error for a name outside a list, with a hint where there is one."""
    listed, kind = ", ".join(repr(k) for k in known), ValueError if isinstance(given, str) else TypeError
    return must_be(name, f"one of {listed}", misspelt(given, known), kind)


def misspelt(given, known):
    """A description of a name outside a list, with a hint where there is one."""
    said = habits.hint(given, known) if isinstance(given, str) else ""
    return described(quoted(given) + (f" ({said})" if said else ""))


def unknown_argument(function, given, known):
    """The error for a keyword that a function does not take, with what is meant, or all that it takes."""
    said = habits.hint(given, known) or f"it takes {', '.join(known)}"
    return TypeError(f"{function} takes no argument {given!r}: {said}")


def unknown_attribute(owner, given, known):
    """The error for an attribute that is not there, with a hint where some are known."""
    said = habits.hint(given, known) if known else ""
    return AttributeError(f"{owner} has no attribute {given!r}{said and ': '}{said}")
