"""A public kernel of the CPU as users call it, from Python and from compiled code, behind the checks of its contract.

From Python the checks take 10 to 50 us, so calls that were accepted are remembered by their form: types, shapes,
strides, dtypes and flags, and which arguments are one array. All else that the checks look at is where arrays stand,
which is compared in each call. Whatever is not known to be right goes through the checks, which alone refuse.
"""

import ctypes
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import config, typeof, types
from numba.core.targetconfig import ConfigStack
from numba.extending import overload
from numpy.typing import NDArray

from .contract import CONTRACTS, Contract, HostPlace, Operand
from .options import COMPILED
from .symbols import by_symbol, of_any_strides

_HEAD = object.__basicsize__  # bytes of an array before the address of its first element, by NumPy's ABI
REMEMBERED = 4096  # forms of a kernel's calls (an estimate)
_COMPILED = {int: types.int64, float: types.float64, bool: types.boolean, None: types.none}


@functools.cache
def _entry(kernel, kinds):
    """What calls a kernel as it is compiled for some types, without looking at those of its arguments."""
    return kernel.compile(kinds)


class Calls:
    """The calls of one kernel from Python, one kernel for all strides as from compiled code.

    Parameters
    ----------
    contract : Contract
        Of the kernel.
    kernel : callable
        As it is compiled.
    """

    def __init__(self, contract: Contract, kernel: Callable[..., Any]) -> None:
        rules, at = contract.rules, {name: i for i, (name, _) in enumerate(contract.rules)}
        self.contract, self.kernel = contract, kernel
        self.kinds = [np.ndarray if isinstance(rule, Operand) else rule for _, rule in rules]
        operands = contract.operands
        self.same = [(at[a], at[b]) for a, b in contract.apart if b in operands[a].may_be or a in operands[b].may_be]
        self.told_by = [at[name] for name in {r[0] for o in operands.values() for r in (o.where, o.halved) if r}]
        self.accepted: dict[tuple[Any, ...], tuple[list[Any], Callable[..., Any]]] = {}

    def call(self, given: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """What the kernel gives, after the checks of its contract.

        Parameters
        ----------
        given : tuple
            Arguments of the call.
        keywords : dict
            Of the call.

        Returns
        -------
        object
            Its result.

        Raises
        ------
        TypeError, ValueError
            For what the contract does not accept.
        """
        values = given if len(given) == len(self.kinds) else (*given, *self.contract.defaults[len(given) :])
        accepted = None if keywords else self.accepted.get(self._form(values))
        if accepted is not None and _are_apart(values, accepted[0]):
            return accepted[1](*values)
        values = self.contract.values(given, keywords, _on_host)
        self.contract.check(values, HostPlace)
        entry = _entry(self.kernel, tuple(self._types(values))) if COMPILED else self.kernel
        form = self._form(values)
        if form is not None:
            if len(self.accepted) >= REMEMBERED:
                self.accepted.clear()
            self.accepted[form] = self._spans(values), entry
        return entry(*values)

    def _types(self, values):
        for value, kind in zip(values, self.kinds, strict=True):
            yield of_any_strides(typeof(value)) if kind is np.ndarray else _COMPILED[kind]

    def _form(self, values):
        """All that decides whether the arguments of a call are accepted, but where arrays stand; or None."""
        if len(values) != len(self.kinds):
            return None
        form = []
        for value, kind in zip(values, self.kinds, strict=True):
            if type(value) is not kind:
                return None
            if kind is np.ndarray:
                form += value.shape, value.strides, value.dtype, value.flags.num
            elif kind is int and not -(2**63) <= value < 2**63:
                return None
        for i, j in self.same:
            form.append(values[i] is values[j])
        for i in self.told_by:
            form.append(values[i])
        return tuple(form)

    def _spans(self, values):
        """(argument, its first byte and the one past its last, from its first element; whether it is written)."""
        spans = {}
        for i, _, rule in self.contract.arrays:
            array = values[i]
            if array.size > 0:
                reaches = [step * (length - 1) for step, length in zip(array.strides, array.shape, strict=True)]
                low, high = sum(min(0, reach) for reach in reaches), sum(max(0, reach) for reach in reaches)
                spans[i] = i, low, high + array.itemsize, rule.written
        for i, j in self.same:  # one array in two places counts once, where it is written
            if values[i] is values[j] and i in spans and j in spans:
                del spans[i if spans[j][-1] else j]
        return list(spans.values())


def address_of_first(array: NDArray[Any]) -> int:
    """What `array.ctypes.data` is, in 0.3 us instead of 1.5."""
    return ctypes.c_size_t.from_address(id(array) + _HEAD).value


def _are_apart(values, spans):
    """Whether no array that is written stands among the bytes of another."""
    ranges = []
    for i, low, high, written in spans:
        start = address_of_first(values[i])
        ranges.append((start + low, start + high, written))
    ranges.sort()
    read_to = written_to = 0
    for low, high, written in ranges:
        if low < written_to or (written and low < read_to):
            return False
        if written:
            written_to = high
        elif high > read_to:
            read_to = high
    return True


def _on_host(name, rule, array):
    if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"{name} must be a NumPy array; got {type(array).__name__}")
    return array


def public(function: Callable[..., Any], kernel: Callable[..., Any]) -> Callable[..., Any]:
    """What users call: a kernel behind the checks of its contract, or the kernel itself where it has none.

    Parameters
    ----------
    function : callable
        The kernel, in Python.
    kernel : callable
        As it is compiled; callers that have checked use it, as the attribute `kernel` of what this gives.

    Returns
    -------
    callable
        For Python and for compiled code.
    """
    if function.__name__ not in CONTRACTS:
        return kernel
    contract = Contract(function)
    calls = Calls(contract, kernel)

    @functools.wraps(function)
    def checked(*arguments, **keywords):
        return calls.call(arguments, keywords)

    checked.kernel, checked.py_func = kernel, function
    if COMPILED:
        _serve_compiled_code(checked, contract, kernel)
    return checked


def _serve_compiled_code(checked, contract, kernel):
    """Let compiled code call `checked`: it calls the kernel, after what remains to be checked at run time."""
    names, name = ", ".join(name for name, _ in contract.rules), kernel.__name__
    numbers = {i: _COMPILED[rule] for i, (_, rule) in enumerate(contract.rules) if not isinstance(rule, Operand)}
    target = by_symbol(kernel, numbers, _COMPILED[contract.signature.return_annotation])

    def made(*lines, **known):
        known |= {"__name__": __name__}  # without which Numba keeps no constants
        exec("\n    ".join([f"def {name}({names}):", *lines]), known)
        return known[name]

    def choose(*given):
        contract.check_types(given)
        shapes = bool(config.BOUNDSCHECK) or bool(getattr(ConfigStack.top_or_none(), "boundscheck", False))
        return made(*contract.run_time_checks(given, shapes), f"return target({names})", target=target)

    overload(checked)(made(f"return choose({names})", choose=choose))
