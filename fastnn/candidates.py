"""What a sweep tries: values by name, and the nets that they make."""

import inspect
import itertools
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import fit, validation
from .errors import described, must_be, quoted, unknown_name
from .layers import Layer

# What a sweep takes beside the parameters of its layers, with the value where none is given
OWN = {"optimizer": None, "batch_size": fit.AUTO, "l2": 0.0, "seed": 0}
_MOST = 10**6  # candidates: each takes some memory for as long as the sweep lasts
_MOST_MISSES = 1000  # draws in a row that were drawn before: then there are hardly any others


@dataclass(frozen=True)
class Range:
    """Numbers between two limits, for a sweep that takes a sample.

    Parameters
    ----------
    low, high : int or float
        The limits, both among the values; two ints give ints.
    log : bool
        Whether all orders of magnitude are equally likely; low must then be above 0.

    Raises
    ------
    TypeError, ValueError
        For an argument that is not accepted.
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        validation.flag("log", self.log)
        low = validation.number("low", self.low, **({"above": 0.0} if self.log else {}))
        validation.number("high", self.high, above=low)

    @property
    def whole(self) -> bool:
        """Whether the values are ints."""
        return all(isinstance(limit, numbers.Integral) for limit in (self.low, self.high))

    def draw(self, rng: np.random.Generator) -> Any:
        """One of the numbers.

        Parameters
        ----------
        rng : numpy.random.Generator
            Source of randomness.

        Returns
        -------
        int or float
            Between the limits.
        """
        low, high = float(self.low), float(self.high)
        if self.whole:
            low, high = low - 0.5, high + 0.5
        value = float(np.exp(rng.uniform(np.log(low), np.log(high)))) if self.log else float(rng.uniform(low, high))
        limited = min(max(value, self.low), self.high)
        return round(limited) if self.whole else limited


@dataclass(frozen=True)
class Candidate:
    """One choice of values, and what it stands for.

    Parameters
    ----------
    values : dict
        By name, as the user names them.
    net : Sequential
        With its layers, not built; the same object for all candidates whose layers are made of the same values.
    steps : fit.Steps
        Optimizer, batch size and l2.
    seed : int
        Of the net.
    """

    values: Mapping[str, Any]
    net: Any
    steps: fit.Steps
    seed: int

    def shown(self) -> str:
        """Its values, for errors."""
        return _shown(self.values)


class Space:
    """All that a sweep may try.

    Parameters
    ----------
    layers : callable or sequence of Layer
        Gives the layers of a net from values by name.
    values : dict
        From name to one value, a sequence of values, a distribution, or a function of other values.
    make : callable
        Gives a net of layers.
    """

    def __init__(
        self, layers: Callable[..., Any] | Sequence[Layer], values: dict[str, Any], make: Callable[..., Any]
    ) -> None:
        self._layers, self._make = layers, make
        self._made: dict[Any, Any] = {}
        accepted = "a function that gives the layers of a net, or a list of them"
        if isinstance(layers, type) or not (callable(layers) or isinstance(layers, list | tuple)):
            raise must_be("layers", accepted, layers, TypeError)
        self._needs = {"layers": _parameters("layers", layers) if callable(layers) else {}}
        self._functions = {name: values[name] for name in OWN if callable(values.get(name))}
        for name, function in self._functions.items():
            self._needs[name] = _parameters(name, function)
        self._choices = self._checked(values)

    def _checked(self, values):
        """From the name of each free value to its choices."""
        wanted: dict[str, Any] = {}
        for needs in self._needs.values():
            for name, has_default in needs.items():
                wanted[name] = wanted.get(name, True) and has_default
        for name in values:
            if name not in wanted and name not in OWN:
                raise unknown_name("a value of the sweep", name, [*wanted, *OWN])
        for name, has_default in wanted.items():
            if name not in values and name not in OWN and not has_default:
                raise must_be(name, "given, as a function of the sweep needs it", described("nothing"), TypeError)
        return {name: _choices(name, value) for name, value in values.items() if name not in self._functions}

    @property
    def choices(self) -> dict[str, Any]:
        """From name to a list of values or a distribution."""
        return self._choices

    def first(self) -> Candidate:
        """The candidate of the first value of each name, for checks of the data."""
        rng = np.random.default_rng(0)
        choices = self._choices.items()
        return self.candidate({name: c[0] if isinstance(c, list) else _drawn(c, rng)[1] for name, c in choices})

    def all(self) -> list[Candidate]:
        """Every combination, the last name changing fastest."""
        for name, choices in self._choices.items():
            if not isinstance(choices, list):
                raise must_be("sample", f"a number of candidates, since {name} is a distribution", None)
        if self._combinations > _MOST:
            raise must_be("sample", f"at most {_MOST:,} candidates", described(f"None for {self._combinations:,}"))
        combinations = itertools.product(*self._choices.values())
        return [self.candidate(dict(zip(self._choices, values, strict=True))) for values in combinations]

    @property
    def _combinations(self):
        """How many there are, as far as all choices are lists."""
        return math.prod(len(choices) for choices in self._choices.values() if isinstance(choices, list))

    def sample(self, count: int, rng: np.random.Generator) -> list[Candidate]:
        """Random combinations, no two the same; all of them where there are no more than `count`."""
        if count > _MOST:
            raise must_be("sample", f"at most {_MOST:,}", count)
        finite = all(isinstance(choices, list) for choices in self._choices.values())
        if finite and self._combinations <= _MOST:
            every, sizes = self._combinations, [len(choices) for choices in self._choices.values()]
            places = np.unravel_index(rng.permutation(every)[:count], sizes) if sizes else ()
            chosen = zip(*places, strict=True) if sizes else [()]
            items = self._choices.items()
            return [self.candidate({name: c[i] for (name, c), i in zip(items, at, strict=True)}) for at in chosen]
        found: dict[Any, Candidate] = {}
        misses = 0
        while len(found) < count and misses < _MOST_MISSES:
            drawn = {name: _drawn(choices, rng) for name, choices in self._choices.items()}
            key = tuple(place for place, _ in drawn.values())
            misses += 1
            if key not in found:
                found[key], misses = self.candidate({name: value for name, (_, value) in drawn.items()}), 0
        return list(found.values())

    def candidate(self, values: dict[str, Any]) -> Candidate:
        """The candidate of these values.

        Raises
        ------
        TypeError, ValueError
            Where they make no net; the message says which values.
        """
        try:
            own = OWN | {name: values[name] for name in OWN if name in values}
            own |= {name: self._made_of(name, values) for name in self._functions}
            steps = fit.Steps(own["optimizer"], batch_size=own["batch_size"], l2=own["l2"], threads=1)
            return Candidate(values, self._net_of(values), steps, validation.count("seed", own["seed"]))
        except Exception as error:
            kind = type(error) if type(error) in (TypeError, ValueError) else ValueError
            raise kind(f"candidate {_shown(values)}: {error}") from error

    def _net_of(self, values):
        if not callable(self._layers):
            return self._once((), lambda: self._layers)
        given = {name: values[name] for name in self._needs["layers"] if name in values}
        key = tuple((name, _identity(value)) for name, value in given.items())
        return self._once(key, lambda: self._layers(**given))

    def _once(self, key, make):
        if key not in self._made:
            self._made[key] = self._make(make())
        return self._made[key]

    def _made_of(self, name, values):
        return self._functions[name](**{need: values[need] for need in self._needs[name] if need in values})


def _parameters(name, function):
    """From the name of each parameter of a function to whether it has a default."""
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        raise must_be(name, "a function whose parameters have names", function, TypeError) from None
    for one in found:
        if one.kind not in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY):
            raise must_be(name, f"a function whose parameters have names, not {one}", function, TypeError)
    return {one.name: one.default is not one.empty for one in found}


def _choices(name, value):
    """A list of values, or a distribution."""
    if isinstance(value, Range) or validation.has(value, "rvs"):
        return value
    if isinstance(value, np.ndarray):
        if value.ndim != 1:
            raise must_be(name, "a 1-D sequence of values", described(f"an array of shape {value.shape}"))
        value = value.tolist()
    if not isinstance(value, list | tuple | range):
        return [value]
    if not len(value):
        raise must_be(name, "at least one value", value)
    return list(value)


def _drawn(choices, rng):
    """(what tells a value from others, the value)."""
    if isinstance(choices, list):
        place = int(rng.integers(len(choices)))
        return place, choices[place]
    value = choices.draw(rng) if isinstance(choices, Range) else choices.rvs(random_state=int(rng.integers(1 << 31)))
    value = value.item() if validation.has(value, "item") else value
    return value, value


def _identity(value):
    """What stands for a value in a key."""
    try:
        hash(value)
        return type(value), value
    except TypeError:
        return id(value)


def _shown(values):
    return f"({', '.join(f'{name}={_short(value)}' for name, value in values.items())})"


def _short(value):
    text = quoted(value)
    return text if len(text) <= 40 else text[:37] + "..."
