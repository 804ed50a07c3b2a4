"""Where the candidates of a sweep come from: all at once, or batch by batch from a sampler that learns from scores."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from . import backends, validation
from .candidates import Candidate, Range, Space
from .errors import described, must_be

_BATCH = 32  # candidates that a sampler is asked for at a time


class Listed:
    """Candidates that are known beforehand.

    Parameters
    ----------
    candidates : list of Candidate
        At least one.
    """

    def __init__(self, candidates: list[Candidate]) -> None:
        self._candidates = candidates

    def __iter__(self) -> Iterator[list[Candidate]]:
        yield self._candidates

    def tell(self, trials: Any) -> None:
        """Ignore what came of them."""


class Asked:
    """Candidates that an optuna study proposes.

    Parameters
    ----------
    space : Space
        Values and their choices.
    count : int
        Candidates in all.
    sampler : optuna sampler or study
        Proposes them.
    greater : bool
        Whether a greater score is better.
    check : callable
        Refuses a candidate.
    """

    def __init__(self, space: Space, count: int, sampler: Any, greater: bool, check: Any) -> None:
        try:
            import optuna
        except ImportError:
            raise ImportError(f"a sampler needs optuna: {backends.pip_install('optuna')}") from None
        accepted = "None, an optuna sampler such as optuna.samplers.TPESampler(seed=0), or an optuna study"
        direction = "maximize" if greater else "minimize"
        if isinstance(sampler, optuna.samplers.BaseSampler):
            sampler = optuna.create_study(sampler=sampler, direction=direction)
        elif not isinstance(sampler, optuna.study.Study):
            raise must_be("sampler", accepted, sampler, TypeError)
        elif [way.name.lower() for way in sampler.directions] != [direction]:
            ways = ", ".join(way.name.lower() for way in sampler.directions)
            raise must_be("sampler", f"a study with direction={direction!r}, as of the score", described(repr(ways)))
        self._study, self._space, self._left, self._check = sampler, space, count, check
        self._failed = optuna.trial.TrialState.FAIL
        self._ranges = {name: _distribution(optuna, name, choices) for name, choices in space.choices.items()}
        self._asked: list[Any] = []
        self._next = self._ask()

    def _ask(self):
        """The next candidates; choices that are no numbers are known to the study by their place."""
        self._asked = [self._study.ask(self._ranges) for _ in range(min(_BATCH, self._left))]
        self._left -= len(self._asked)
        candidates = []
        for one in self._asked:
            values = {
                name: choices[one.params[name]] if isinstance(choices, list) else one.params[name]
                for name, choices in self._space.choices.items()
            }
            candidates.append(self._space.candidate(values))
            self._check(candidates[-1])
        return candidates

    def __iter__(self) -> Iterator[list[Candidate]]:
        while self._next:
            yield self._next
            self._next = self._ask() if self._left else []

    def tell(self, trials: Any) -> None:
        """Tell the study how they did."""
        for one, trial in zip(self._asked, trials, strict=True):
            if np.isfinite(trial.score):
                self._study.tell(one, trial.score)
            else:
                self._study.tell(one, state=self._failed)


def _distribution(optuna, name, choices):
    kinds = optuna.distributions
    if isinstance(choices, list):
        return kinds.CategoricalDistribution(range(len(choices)))
    if not isinstance(choices, Range):
        raise must_be(name, "a sequence of values or a fastnn.Range, for a sampler", choices, TypeError)
    kind = kinds.IntDistribution if choices.whole else kinds.FloatDistribution
    return kind(choices.low, choices.high, log=choices.log)


def make(space: Space, sample: Any, sampler: Any, greater: Any, check: Any, seed: int) -> Listed | Asked:
    """The proposals of a sweep; the arguments are those of `Sweep.fit`.

    Parameters
    ----------
    space : Space
        Values and their choices.
    sample : int or None
        Candidates to try.
    sampler : object
        None, or an optuna sampler or study.
    greater : bool
        Whether a greater score is better.
    check : callable
        Refuses a candidate.
    seed : int
        Of the sample.

    Returns
    -------
    Listed or Asked
        Gives lists of candidates.
    """
    count = None if sample is None else validation.size("sample", sample)
    if sampler is not None:
        if count is None:
            raise must_be("sample", "a number of candidates where a sampler is given", described("None"))
        return Asked(space, count, sampler, greater, check)
    candidates = space.all() if count is None else space.sample(count, np.random.default_rng(seed))
    for candidate in candidates:
        check(candidate)
    return Listed(candidates)
