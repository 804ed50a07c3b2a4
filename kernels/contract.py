"""What each public kernel takes, and the checks of it: for calls from Python, and for calls from compiled code.

A kernel goes by addresses and strides: an array of another size, dtype or layout than it expects would be memory of
something else. A call from Python is checked as a whole. A call from the user's @njit function is checked by its types,
when it is compiled; at run time only strides that types do not show, and shapes where boundscheck is on.
"""

import inspect
import itertools
import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.core.errors import TypingError
from numpy.typing import NDArray

from .annotations import Codes, DeviceArray, Floats, Integers
from .formulas import CROSS_ENTROPY, GAUSSIAN

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
        "float64", "int32" or "int64"; empty for the dtype of the call.
    consecutive : bool
        Whether its elements must be.
    otherwise : tuple of str
        Another shape that it may have, that of an array that is not wanted; on a GPU that may be None, too.
    where : tuple (str, int), optional
        Argument and its value for which alone it may have the other shape.
    halved : tuple (str, int), optional
        Argument and its value for which its last length is half of what it is else.
    """

    dims: tuple[str, ...]
    written: bool = False
    may_be: tuple[str, ...] = ()
    dtype: str = ""
    consecutive: bool = False
    otherwise: tuple[str, ...] = ()
    where: tuple[str, int] | None = None
    halved: tuple[str, int] | None = None

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
    "y": reads("m k", "m 1", where=("code", CROSS_ENTROPY), halved=("code", GAUSSIAN)),
    "w": reads("m", "0"),
}
_FLAT = {"consecutive": True}
CONTRACTS: dict[str, dict[str, Operand]] = {
    "activation_backward": {name: reads("m n") for name in ("dA", "Z", "A")} | {"dZ": writes("m n", "dA")},
    "activation_forward": {"Z": reads("m n"), "A": writes("m n", "Z")},
    "adagrad_update": _STATE | {"square": writes("n")},
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
    "embedding_gather": {
        "codes": reads("m", dtype="int32"),
        "table": reads("levels size"),
        "out": writes("m size"),
    },
    "embedding_gradient": {
        "codes": reads("m", dtype="int32"),
        "dOut": reads("m size"),
        "work": writes("work", dtype="int32", consecutive=True),
        "rows": writes("m", dtype="int32"),
        "dRows": writes("m size"),
    },
    "embedding_sum": {
        "codes": reads("m k", dtype="int32"),
        "table": reads("levels size"),
        "out": writes("m size"),
    },
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


class HostPlace:
    """Where an array of NumPy stands in memory: what a contract looks at.

    Parameters
    ----------
    array : array
        Of NumPy.
    """

    def __init__(self, array: NDArray[Any]) -> None:
        flags = array.flags
        self.array, self.kind, self.shape, self.strides = array, array.dtype.str, array.shape, array.strides
        self.writable, self.on_its_size, self.consecutive = flags.writeable, flags.aligned, flags.c_contiguous

    def overlaps(self, other: "HostPlace") -> bool:
        """Whether they share memory."""
        return np.may_share_memory(self.array, other.array) and np.shares_memory(self.array, other.array)

    def equals(self, other: "HostPlace") -> bool:
        """Whether they are the same elements in the same order."""
        here, there = (place.array.__array_interface__["data"][0] for place in (self, other))
        return (here, self.shape, self.strides) == (there, other.shape, other.strides)


class DevicePlace:
    """Where an array of a GPU stands in its memory.

    Parameters
    ----------
    address : int
        Of its first element; 0 where it has none.
    shape : tuple of int
        Of the array.
    strides : tuple of int or None
        In bytes; None in C order.
    kind : str
        Its dtype, as the CUDA array interface writes it.
    read_only : bool
        Whether it must not be written to.
    """

    def __init__(
        self, address: int, shape: tuple[int, ...], strides: tuple[int, ...] | None, kind: str, read_only: bool
    ) -> None:
        self.address, self.shape, self.kind, self.writable = address, shape, kind, not read_only
        size = np.dtype(kind).itemsize or 1
        packed = tuple(size * math.prod(shape[i + 1 :]) for i in range(len(shape)))
        self.strides = strides or packed
        steps = _steps(self)
        self.consecutive = steps == [step for step in zip(packed, self.shape, strict=True) if step[1] > 1]
        self.on_its_size = not steps or not any(number % size for number in (self.address, *dict(steps)))

    def overlaps(self, other: "DevicePlace") -> bool:
        """Whether they share memory."""
        return np.shares_memory(*(np.asarray(_Interface(place)) for place in (self, other)))

    def equals(self, other: "DevicePlace") -> bool:
        """Whether they are the same elements in the same order."""
        return (self.address, self.shape, self.strides) == (other.address, other.shape, other.strides)


class _Interface:
    """An array that NumPy is asked the place of, and does not look into."""

    def __init__(self, place):
        kind = {"typestr": place.kind, "shape": place.shape, "strides": place.strides, "version": 3}
        self.__array_interface__ = kind | {"data": (place.address, True)}


def _steps(place):
    """(stride, length) of the axes that have more than one element; none of an empty array."""
    if 0 in place.shape:
        return []
    return [step for step in zip(place.strides, place.shape, strict=True) if step[1] > 1]


def _repeats(place):
    """Whether two elements of a matrix or a vector share memory."""
    steps = _steps(place)
    if place.consecutive or not steps:
        return False
    (a, m), (b, n) = (*steps, (0, 1))[:2]
    common = math.gcd(a, b)  # steps b / common along the first axis are a / common along the second
    return common == 0 or (abs(b) // common < m and abs(a) // common < n)


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
        self.operands = CONTRACTS[function.__name__] | more
        pairs = itertools.combinations(self.operands, 2)
        self.apart = [pair for pair in pairs if any(self.operands[name].written for name in pair)]
        self.signature = inspect.signature(function)
        parameters = self.signature.parameters.items()
        self.defaults = tuple(parameter.default for _, parameter in parameters)
        self.rules = [(name, self.operands.get(name, parameter.annotation)) for name, parameter in parameters]
        places = [(i, name, rule) for i, (name, rule) in enumerate(self.rules)]
        self.arrays = [place for place in places if isinstance(place[2], Operand)]
        self._numbers = [place for place in places if place[2] in (int, float, bool)]
        if any(rule in (Codes, Floats, Integers, DeviceArray, DeviceArray | None) for _, rule in self.rules):
            raise TypeError(f"each array of {function.__name__} needs an operand in its contract")

    def values(self, arguments: tuple[Any, ...], keywords: dict[str, Any], taken: Callable[..., Any]) -> list[Any]:
        """The arguments in order, numbers checked and arrays not yet.

        Parameters
        ----------
        arguments : tuple
            Of the call.
        keywords : dict
            Of the call.
        taken : callable
            From the name of an operand, its rule and what was given to what stands for it in the result.

        Returns
        -------
        list
            Numbers as int, float and bool.

        Raises
        ------
        TypeError, ValueError
            For a number that is not accepted, and whatever `taken` raises.
        """
        missing = self.defaults[len(arguments) :]
        if not keywords and missing and inspect.Parameter.empty not in missing:  # without `bind`, which takes as long
            arguments = (*arguments, *missing)
        if keywords or len(arguments) != len(self.rules):
            bound = self.signature.bind(*arguments, **keywords)
            bound.apply_defaults()
            arguments = bound.args
        values = list(arguments)
        for i, name, rule in self.arrays:
            values[i] = taken(name, rule, values[i])
        for i, name, kind in self._numbers:
            value = values[i]
            if type(value) is not kind or kind is int and not -(2**63) <= value < 2**63:
                values[i] = _number(name, kind, value)
        return values

    def check(self, values: Sequence[Any], place_of: Callable[..., Any]) -> None:
        """Refuse arrays that are not what the kernel takes.

        Parameters
        ----------
        values : sequence
            As `values` gives them.
        place_of : callable
            From what stands for an array there to its place.

        Raises
        ------
        TypeError, ValueError
            For an array that is not accepted.
        """
        known, lengths, real, places = {}, {}, None, {}
        for (name, rule), value in zip(self.rules, values, strict=True):
            known[name] = value
            if isinstance(rule, Operand) and value is not None:
                place = places[name] = place_of(value)
                kinds = (np.dtype(rule.dtype).str,) if rule.dtype else (real,) if real else REALS
                _check_place(name, rule, place, kinds, lengths, known)
                real = real if rule.dtype else place.kind
        for name, other in self.apart:
            if name in places and other in places and places[name].overlaps(places[other]):
                same = other in self.operands[name].may_be or name in self.operands[other].may_be
                if not (same and places[name].equals(places[other])):
                    raise ValueError(f"{name} must be an array that shares no memory with {other}; got one that does")

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
                if rule.halved:
                    half = _equal([*places[:-1], f"2 * {places[-1]}"], rule.dims, known)
                    fits = f"{half} if {rule.halved[0]} == {rule.halved[1]} else {fits}"
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


def _check_place(name, rule, place, kinds, lengths, values):
    """Refuse an operand that does not fit; the lengths of one that does join those that are known."""
    known = [lengths.get(dim, dim) for dim in rule.dims]
    if rule.halved and values[rule.halved[0]] == rule.halved[1]:
        known[-1] = known[-1] / 2 if known[-1] % 2 else known[-1] // 2  # no shape has half a column
    if place.kind not in kinds:
        names = " or ".join(np.dtype(each).name for each in kinds)
        raise TypeError(
            f"{name} must be an array of {names} of shape {_text(known)}; got one of {np.dtype(place.kind)}"
        )
    fits = _fits(place.shape, known)
    if fits:
        for dim, length in zip(rule.dims, place.shape, strict=True):
            lengths.setdefault(dim, length)  # that of a halved one stays what it is
    elif rule.otherwise and (rule.where is None or values[rule.where[0]] == rule.where[1]):
        fits = _fits(place.shape, [int(dim) if dim.isdigit() else lengths.get(dim, dim) for dim in rule.otherwise])
    if not fits:
        other = f" or {_text(rule.otherwise)}" if rule.otherwise and rule.where is None else ""
        raise ValueError(f"{name} must be an array of shape {_text(known)}{other}; got shape {place.shape}")
    if not place.on_its_size:
        raise ValueError(f"{name} must be {ON_ITS_SIZE}; got one between them")
    if rule.consecutive and not place.consecutive:
        raise ValueError(f"{name} must be {_CONSECUTIVE}; got strides {place.strides}")
    if rule.written and not place.writable:
        raise ValueError(f"{name} must be an array that can be written to; got a read-only one")
    if rule.written and _repeats(place):
        raise ValueError(f"{name} must be an array without repeated elements; got strides {place.strides}")


def _fits(shape, known):
    if len(shape) != len(known):
        return False
    return all(type(dim) is str or dim == length for dim, length in zip(known, shape, strict=True))
