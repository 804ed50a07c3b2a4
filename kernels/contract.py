"""What each public kernel takes, and the checks of it: for calls from Python, and for calls from compiled code.

A kernel goes by addresses and strides: an array of another size, dtype or layout than it expects would be memory of
something else. A call from Python is checked as a whole. A call from the user's @njit function is checked by its types,
when it is compiled; at run time only strides that types do not show, and shapes where boundscheck is on.
"""

import functools
import inspect
import math
import numbers
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import config, types
from numba.core.errors import TypingError
from numba.core.targetconfig import ConfigStack
from numba.extending import overload

from .annotations import DeviceArray, Floats, Integers
from .formulas import CROSS_ENTROPY
from .options import COMPILED

REALS = ("<f4", "<f8") if np.little_endian else (">f4", ">f8")  # all operands that name no dtype share one of them


class Operand(NamedTuple):
    """An array that a kernel takes.

    Parameters
    ----------
    dims : tuple of str
        Its shape: names stand for one length throughout a call, numbers for themselves.
    written : bool
        Whether the kernel writes it: then it overlaps no other operand.
    may_be : tuple of str
        Operands that it may be all the same, element for element.
    dtype : str
        "float64" or "int64"; empty for the dtype of the call.
    consecutive : bool
        Whether its elements must be.
    otherwise : tuple of str
        Another shape that it may have, that of an array that is not wanted; on a GPU that may be None, too.
    where : tuple (str, int), optional
        Argument and its value for which alone it may have the other shape.
    """

    dims: tuple[str, ...]
    written: bool = False
    may_be: tuple[str, ...] = ()
    dtype: str = ""
    consecutive: bool = False
    otherwise: tuple[str, ...] = ()
    where: tuple[str, int] | None = None

    @property
    def shape(self) -> str:
        """The shape as text."""
        return _text(self.dims) + (f" or {_text(self.otherwise)}" if self.otherwise else "")


def reads(dims: str, otherwise: str = "", **more: Any) -> Operand:
    """An operand that is only read."""
    return Operand(tuple(dims.split()), otherwise=tuple(otherwise.split()), **more)


def writes(dims: str, *may_be: str, **more: Any) -> Operand:
    """An operand that is written, in place or before it is read."""
    return reads(dims, written=True, may_be=may_be, **more)


SCRATCH = writes("work", consecutive=True, otherwise="0")
_STATE = {"theta": writes("n"), "grad": reads("n")}
_LOSS = {
    "Z": reads("m k"),
    "y": reads("m k", "m 1", where=("code", CROSS_ENTROPY)),
    "w": reads("m", "0"),
}
_FLAT = {"consecutive": True}
CONTRACTS: dict[str, dict[str, Operand]] = {
    "activation_backward": {name: reads("m n") for name in ("dA", "Z", "A")} | {"dZ": writes("m n", "dA")},
    "activation_forward": {"Z": reads("m n"), "A": writes("m n", "Z")},
    "adam_update": _STATE | {"first": writes("n"), "second": writes("n")},
    "apply_rows": {
        "table": reads("t", dtype="int64", **_FLAT),
        "alphas": reads("operations", dtype="float64", **_FLAT),
        "theta": reads("p", **_FLAT),
        "X": reads("m n_in"),
        "out": writes("m n_out"),
    },
    "dense_backward": {
        "dA": writes("m n_out"),
        "Z": reads("m n_out"),
        "A": reads("m n_out"),
        "X": reads("m n_in"),
        "W": reads("n_out n_in"),
        "work": SCRATCH,
        "dX": writes("m n_in", otherwise="0 0"),
        "dW": writes("n_out n_in"),
        "db": writes("n_out"),
    },
    "dense_forward": {
        "X": reads("m n_in"),
        "W": reads("n_out n_in"),
        "b": reads("n_out"),
        "work": SCRATCH,
        "Z": writes("m n_out", "A"),
        "A": writes("m n_out", "Z"),
    },
    "dropout": {"A": reads("m n"), "out": writes("m n", "A")},
    "evaluate": {"x": reads("n", **_FLAT), "out": writes("n", "x", **_FLAT)},
    "input_gradient": {
        "dZ": reads("m n_out"),
        "W": reads("n_out n_in"),
        "Z": reads("m n_in", "0 0"),
        "A": reads("m n_in", "0 0"),
        "dX": writes("m n_in"),
    },
    "loss_backward": _LOSS | {"dZ": writes("m k")},
    "loss_forward": _LOSS,
    "matmul": {"A": reads("m k"), "B": reads("k n"), "work": SCRATCH, "out": writes("m n")},
    "momentum_update": _STATE | {"velocity": writes("n")},
    "permutation": {"out": writes("m", dtype="int64")},
    "rmsprop_update": _STATE | {"square": writes("n"), "velocity": writes("n")},
    "sgd_update": _STATE,
    "weight_gradient": {
        "dZ": reads("m n_out"),
        "X": reads("m n_in"),
        "work": SCRATCH,
        "dW": writes("n_out n_in"),
        "db": writes("n_out"),
    },
}


def _text(dims):
    return f"({', '.join(map(str, dims))}{',' * (len(dims) == 1)})"


class Place(NamedTuple):
    """Where an operand stands in memory: address, shape, strides in bytes, bytes of an element."""

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    size: int

    @classmethod
    def of(cls, facts: dict[str, Any], size: int) -> "Place":
        """From the array interface of NumPy or of CUDA."""
        shape, strides = tuple(facts["shape"]), facts.get("strides")
        if strides is None:
            strides = tuple(size * math.prod(shape[i + 1 :]) for i in range(len(shape)))
        return cls(int(facts["data"][0] or 0), shape, tuple(strides), size)

    @property
    def steps(self) -> list[tuple[int, int]]:
        """(stride, length) along the axes that have more than one element."""
        return [(step, length) for step, length in zip(self.strides, self.shape, strict=True) if length > 1]

    @property
    def bounds(self) -> tuple[int, int]:
        """Addresses of its first byte and behind its last."""
        if 0 in self.shape:
            return self.address, self.address
        reach = [step * (length - 1) for step, length in self.steps]
        low = self.address + sum(r for r in reach if r < 0)
        return low, self.address + sum(r for r in reach if r > 0) + self.size

    @property
    def on_its_size(self) -> bool:
        """Whether every element stands at a multiple of its size."""
        return 0 in self.shape or not (self.address % self.size or any(step % self.size for step, _ in self.steps))

    @property
    def repeats(self) -> bool:
        """Whether two elements of a matrix or a vector share memory."""
        if 0 in self.shape or not self.steps:
            return False
        (a, m), (b, n) = (*self.steps, (0, 1))[:2]
        common = math.gcd(a, b)  # steps b / common along the first axis are a / common along the second
        return common == 0 or (abs(b) // common < m and abs(a) // common < n)

    def overlaps(self, other: "Place") -> bool:
        """Whether they share memory."""
        (low, high), (other_low, other_high) = self.bounds, other.bounds
        if low == high or other_low == other_high or high <= other_low or other_high <= low:
            return False
        return np.shares_memory(*(np.asarray(_Interface(place)) for place in (self, other)))


class _Interface:
    """Memory that NumPy looks at the place of, and not into."""

    def __init__(self, place):
        kind = {"typestr": f"|V{place.size}", "data": (place.address, True), "version": 3}
        self.__array_interface__ = kind | {"shape": place.shape, "strides": place.strides}


class Contract:
    """The parameters of a public kernel, and the checks of what is given for them.

    Parameters
    ----------
    function : callable
        The kernel, in Python; its annotations say which of its parameters are numbers.
    **more : Operand
        Operands beside those in CONTRACTS.
    """

    def __init__(self, function: Callable[..., Any], **more: Operand) -> None:
        operands = CONTRACTS[function.__name__] | more
        self.signature = inspect.signature(function)
        self.rules = [
            (name, operands.get(name, parameter.annotation)) for name, parameter in self.signature.parameters.items()
        ]
        if any(rule in (Floats, Integers, DeviceArray, DeviceArray | None) for _, rule in self.rules):
            raise TypeError(f"each array of {function.__name__} needs an operand in its contract")

    def checked(self, arguments: tuple[Any, ...], keywords: dict[str, Any], facts: Callable[..., Any]) -> list[Any]:
        """The arguments as the kernel takes them.

        Parameters
        ----------
        arguments : tuple
            Of the call.
        keywords : dict
            Of the call.
        facts : callable
            From the name of an operand, its rule and what was given to its array interface, or None where there is
            none and none is needed.

        Returns
        -------
        list
            In order, numbers as int, float and bool.

        Raises
        ------
        TypeError, ValueError
            For an argument that is not accepted.
        """
        if keywords or len(arguments) != len(self.rules):
            bound = self.signature.bind(*arguments, **keywords)
            bound.apply_defaults()
            arguments = bound.args
        values, lengths, real, places = {}, {}, None, {}
        for (name, rule), value in zip(self.rules, arguments, strict=True):
            if isinstance(rule, Operand):
                given = facts(name, rule, value)
                if given is not None:
                    kinds = (np.dtype(rule.dtype).str,) if rule.dtype else (real,) if real else REALS
                    places[name] = _place(name, rule, given, kinds, lengths, values)
                    real = real if rule.dtype else given["typestr"]
            elif rule in (int, float, bool):
                value = _number(name, rule, value)
            values[name] = value
        self._check_overlap(places)
        return list(values.values())

    def _check_overlap(self, places):
        rules = dict(self.rules)
        for name, place in places.items():
            for other, its_place in places.items() if rules[name].written else ():
                same = place == its_place and other in rules[name].may_be
                if other != name and not same and place.overlaps(its_place):
                    accepted = f"an array that shares no memory with {other}"
                    raise ValueError(f"{name} must be {accepted}; got one that does")

    def check_types(self, given: tuple[types.Type, ...]) -> None:
        """Raise TypingError for types that compiled code may not pass."""
        real = None
        for (name, rule), kind in zip(self.rules, given, strict=True):
            if isinstance(rule, Operand):
                wanted = rule.dtype or real or "float32 or float64"
                fits = isinstance(kind, types.Array) and kind.ndim == len(rule.dims)
                if not fits or str(kind.dtype) not in wanted.split(" or "):
                    raise TypingError(f"{name} must be an array of {wanted} of shape {rule.shape}; got {kind}")
                if rule.written and not kind.mutable:
                    raise TypingError(f"{name} must be an array that can be written to; got a read-only one")
                if not kind.aligned:
                    raise TypingError(f"{name} must be {ON_ITS_SIZE}; got one between them")
                real = real if rule.dtype else str(kind.dtype)
            elif not isinstance(kind, types.Number | types.Boolean):
                raise TypingError(f"{name} must be {_NUMBERS[rule]}; got {kind}")

    def run_time_checks(self, given: tuple[types.Type, ...], shapes: bool) -> list[str]:
        """Lines of Python that check what types do not show: strides, and if wanted shapes."""
        lines, known = [], {}
        for (name, rule), kind in zip(self.rules, given, strict=True):
            if not isinstance(rule, Operand):
                continue
            if kind.layout == "A":
                odd = [f"{name}.shape[{i}] > 1 and {name}.strides[{i}] % {name}.itemsize" for i in range(kind.ndim)]
                lines.append((" or ".join(odd), f"{name} must be {ON_ITS_SIZE}"))
                if rule.consecutive:
                    apart = f"{name}.shape[0] > 1 and {name}.strides[0] != {name}.itemsize"
                    lines.append((apart, f"{name} must be {_CONSECUTIVE}"))
            if shapes:
                places = [f"{name}.shape[{i}]" for i in range(kind.ndim)]
                for dim, place in zip(rule.dims, places, strict=True):
                    known.setdefault(dim, place)
                fits = _equal(places, rule.dims, known)
                if rule.otherwise:
                    other = _equal(places, rule.otherwise, known)
                    fits += f" or {other}" + (f" and {rule.where[0]} == {rule.where[1]}" if rule.where else "")
                lines.append((f"not ({fits})", f"{name} must be an array of shape {rule.shape}"))
        return [f"if {wrong}: raise ValueError({message!r})" for wrong, message in lines]


ON_ITS_SIZE = "an array whose elements stand at multiples of their size"
_CONSECUTIVE = "an array of consecutive elements"
_NUMBERS = {int: "an int", float: "a float", bool: "a bool"}


def _equal(places, dims, known):
    return " and ".join(
        f"{place} == {dim if dim.isdigit() else known[dim]}" for place, dim in zip(places, dims, strict=True)
    )


def _number(name, kind, value):
    accepted = {int: numbers.Integral, float: numbers.Real, bool: (bool, np.bool_)}[kind]
    if not isinstance(value, accepted) or (kind is not bool and isinstance(value, bool)):
        raise TypeError(f"{name} must be {_NUMBERS[kind]}; got {value!r}")
    try:
        number = kind(value)
    except OverflowError:
        number = None
    if number is None or (kind is int and not -(2**63) <= number < 2**63):
        raise ValueError(f"{name} must be {_NUMBERS[kind]} of 64 bits; got {value!r}")
    return number


def _place(name, rule, facts, kinds, lengths, values):
    """The Place of an operand that fits; its lengths join those that are known."""
    kind, shape = facts["typestr"], tuple(facts["shape"])
    known = [lengths.get(dim, dim if not dim.isdigit() else int(dim)) for dim in rule.dims]
    if kind not in kinds:
        names = " or ".join(np.dtype(each).name for each in kinds)
        raise TypeError(f"{name} must be an array of {names} of shape {_text(known)}; got one of {np.dtype(kind)}")
    fits = _fits(shape, known)
    if not fits and rule.otherwise and (rule.where is None or values[rule.where[0]] == rule.where[1]):
        fits = _fits(shape, [lengths.get(dim, dim if not dim.isdigit() else int(dim)) for dim in rule.otherwise])
    else:
        lengths.update(zip(rule.dims, shape, strict=False))
    if not fits:
        other = f" or {_text(rule.otherwise)}" if rule.otherwise and rule.where is None else ""
        raise ValueError(f"{name} must be an array of shape {_text(known)}{other}; got shape {shape}")
    place = Place.of(facts, int(kind[2:]))
    if not place.on_its_size:
        raise ValueError(f"{name} must be {ON_ITS_SIZE}; got one between them")
    if rule.consecutive and any(step != place.size for step, _ in place.steps):
        raise ValueError(f"{name} must be {_CONSECUTIVE}; got strides {place.strides}")
    if rule.written and facts["data"][1]:
        raise ValueError(f"{name} must be an array that can be written to; got a read-only one")
    if rule.written and place.repeats:
        raise ValueError(f"{name} must be an array without repeated elements; got strides {place.strides}")
    return place


def _fits(shape, known):
    return len(shape) == len(known) and all(
        isinstance(dim, str) or dim == length for dim, length in zip(known, shape, strict=True)
    )


def _host_facts(name, rule, array):
    if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"{name} must be a NumPy array; got {type(array).__name__}")
    return array.__array_interface__


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

    @functools.wraps(function)
    def checked(*arguments, **keywords):
        return kernel(*contract.checked(arguments, keywords, _host_facts))

    checked.kernel, checked.py_func = kernel, function
    if COMPILED:
        _serve_compiled_code(checked, contract, kernel)
    return checked


def _serve_compiled_code(checked, contract, kernel):
    """Let compiled code call `checked`: it calls the kernel, after what remains to be checked at run time."""
    names = ", ".join(name for name, _ in contract.rules)

    def made(*lines, **known):
        exec("\n    ".join([f"def call({names}):", *lines]), known)
        return known["call"]

    def choose(*given):
        contract.check_types(given)
        shapes = bool(config.BOUNDSCHECK) or bool(getattr(ConfigStack.top_or_none(), "boundscheck", False))
        return made(*contract.run_time_checks(given, shapes), f"return kernel({names})", kernel=kernel)

    overload(checked)(made(f"return choose({names})", choose=choose))
