"""A run of a program: the command, the data, the hyperparameters, as tables. Each device has a subclass."""

import functools
import struct
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from .formulas import Rule
from .program import Program
from .state import TrainingState
from .tables import BY_NORM, BY_VALUE, DIVERGED, LOSS, Real, Run

_NUMBERS = (int, np.integer, np.bool_)
_FIELDS = vars(Run)
_INT64 = np.dtype(np.int64).itemsize
_ROWS, _ROWS_AT = struct.Struct("=15q"), _INT64 * Run.ROWS  # the fields ROWS to SEEN, written at once
STEPS, STEPS_AT = struct.Struct("=5q"), _INT64 * Run.STEPS  # the fields STEPS to LOSSES


class Plan:
    """The tables of a run, and the arrays whose places stand in them.

    Parameters
    ----------
    program : Program
        The net.
    parameters : array (program.size,), float32 or float64
        Flat; training updates them in place.
    batch : int
        Most rows in one step.
    command : int
        What is done with the rows, such as `tables.TRAIN`.
    state : TrainingState or None
        Whose parameters these are, where the command is TRAIN or APPLY.

    Attributes
    ----------
    device : str
        "cpu" or "cuda".
    command : int
        What is done with the rows.
    table : array, int64
        The fields of `tables.Run`, and what a device adds.
    reals : array, float64
        The fields of `tables.Real`.
    kept : dict
        From the name of a field to the array that stands in it.
    """

    device: ClassVar[str]
    returns_state = False  # whether the host is going to read parameters and moments after each run
    # What stands for the arrays of the host as they are, and is another object once they may be others; None where
    # nobody knows. A device that keeps copies then need not compare them.
    mark: Any = None

    def __init__(
        self, program: Program, parameters: Any, batch: int, command: int, state: TrainingState | None, extra: int = 0
    ) -> None:
        self.program, self.parameters, self.dtype, self.state = program, parameters, parameters.dtype, state
        self.table = aligned(Run.SIZE + extra, np.int64)
        self.reals = np.zeros(Real.ALPHAS + len(program.operations))
        self.reals[Real.ALPHAS :] = program.alphas
        self.reals[Real.LOSS_PARAM] = program.loss_param
        self.reals[[Real.CLIP_VALUE, Real.CLIP_NORM]] = np.inf
        self.reals[Real.GRADIENT_SCALE] = 1.0
        self.kept: dict[str, Any] = {}
        self.command = command
        self._rule, self._moments = None, ()  # what `bind_rule` was given, and the moments of the state then
        self.set(COMMAND=command, BATCH=batch)

    def set(self, **fields: Any) -> None:
        """Write fields of the table; an array is kept alive and stands as its address."""
        table, kept = self.table, self.kept
        for name, value in fields.items():
            if type(value) is int or isinstance(value, _NUMBERS):
                if name in kept:
                    del kept[name]
                table[_FIELDS[name]] = value
            else:
                kept[name] = value
                table[_FIELDS[name]] = self._place_of(name, value)

    def _place_of(self, name, array):
        """What stands in the table for an array."""
        raise NotImplementedError

    def _keep(self, **arrays):
        """Keep arrays alive; gives what stands in the table for each, 0 for None."""
        self.kept.update(arrays)
        return [0 if array is None else self._place_of(name, array) for name, array in arrays.items()]

    def __getitem__(self, name: str) -> int:
        return self.table.item(_FIELDS[name])

    def bind_data(
        self,
        X: Any,
        y: Any = None,
        weights: Any = None,
        labels: bool = False,
        rows: Any = None,
        shuffle: bool = False,
    ) -> None:
        """Name the rows, all arrays in the run's dtype.

        Parameters
        ----------
        X : array (m, n)
            Samples, with consecutive columns.
        y : array (m,) or (m, k), optional
            Targets.
        weights : array (m,), optional
            Weights of the samples.
        labels : bool
            Whether y holds class indices.
        rows : array (r,) of int64, optional
            Numbers of the rows to visit, in their order; all of them where it is None.
        shuffle : bool
            Visit them in a new order each epoch.
        """
        (gathers, changes), chosen = self._on_rows, rows is not None
        x_at, y_at, weights_at, rows_at = self._keep(X=X, Y=y, WEIGHTS=weights, ROW_INDEX=rows)
        _ROWS.pack_into(
            self.table,
            _ROWS_AT,
            len(rows) if chosen else len(X),
            self["BATCH"],
            x_at,
            X.strides[0] // X.itemsize,
            y_at,
            0 if y is None else y.size // y.shape[0],
            bool(labels),
            weights_at,
            rows_at,
            bool(shuffle),
            False,  # OPEN_EPOCH
            bool(shuffle or chosen or gathers),
            not (shuffle or changes),  # KEEPS_ROWS
            False,  # LOADED
            0,  # SEEN
        )

    def bind_batch(self, X: Any, y: Any, weights: Any, labels: bool, seen: int) -> None:
        """Name rows that are one batch of an epoch that does not end with them.

        Parameters
        ----------
        X, y, weights, labels
            As for `bind_data`.
        seen : int
            Rows of the epoch before these.
        """
        self.bind_data(X, y, weights, labels)
        self.set(BATCH=len(X), OPEN_EPOCH=True, SEEN=seen)

    def unbind_data(self) -> None:
        """Let go of the arrays of the last run; the plan waits for others."""
        for name in ("X", "Y", "WEIGHTS", "ROW_INDEX", "OUT"):
            if self.kept.pop(name, None) is not None:
                self.table[_FIELDS[name]] = 0

    @functools.cached_property
    def _on_rows(self):
        """Whether the rows are gathered for what is done to them at first, and whether that changes in each epoch."""
        operations, widths = self.program.operations, self.program.widths
        end = next(i for i, o in enumerate(operations) if o.by_touched_rows or o.parameters(widths[i]))
        changes = self.program.embedding is not None or any(o.only_trains for o in operations[:end])
        return end > 0, changes

    def bind_output(self, out: Any) -> None:
        """Name what receives outputs, or the gradient with respect to the inputs: array (m, k), rows consecutive."""
        self.set(OUT=out, OUT_STRIDE=out.shape[1])

    def bind_rule(
        self,
        rule: Rule,
        settings: Mapping[str, float],
        weight_decay: float = 0.0,
        l2: float = 0.0,
        clip_value: float | None = None,
        clip_norm: float | None = None,
    ) -> None:
        """Name the update rule; its moments are kept in the state.

        Parameters
        ----------
        rule : Rule
            From `formulas.RULES`.
        settings : mapping
            From each of the rule's settings to a number.
        weight_decay : float
            Coupled decay of all parameters.
        l2 : float
            Strength of the l2 term of the loss.
        clip_value, clip_norm : float or None
            Limits of each element of the gradient, and then of the norm of all of it.
        """
        self.state.keep(rule)
        given = rule, dict(settings), weight_decay, l2, clip_value, clip_norm
        if given != self._rule or self.state.moments is not self._moments:  # else that is how all stands
            self.set(CLIPS=write_settings(self.reals, *given))
            self._bind_state(rule)
            self._rule, self._moments = given, self.state.moments

    def _bind_state(self, rule):
        """Name the rule's functions and the arrays of the state."""
        raise NotImplementedError

    def bind_steps(self, rates: Any, losses: Any = None, finished: int = 0) -> None:
        """Name the steps of the next run.

        Parameters
        ----------
        rates : array (s,), float64
            The learning rate of each.
        losses : array, float64
            Receives the mean loss of each epoch that ends.
        finished : int
            Place of the first of them.

        Raises
        ------
        ValueError
            If there are not as many places.
        """
        steps, field = len(rates), self.table.item
        if steps and self.command & LOSS and not field(Run.OPEN_EPOCH):
            ends, places = self.state.position + steps, 0 if losses is None else len(losses)
            if not 0 <= finished <= places - ends // -(-field(Run.ROWS) // field(Run.BATCH)):
                raise ValueError(f"finished must leave a place for each epoch that ends; got {finished} of {places}")
        rates_at, losses_at = self._keep(RATES=rates, LOSSES=losses)
        STEPS.pack_into(self.table, STEPS_AT, steps, finished, rates_at, 1, losses_at)

    @property
    def loss(self) -> float:
        """Mean loss of the rows of the last run."""
        return float(self.reals[Real.LAST_LOSS])

    @property
    def diverged(self) -> bool:
        """Whether the last run ended at a loss or a parameter that is not finite."""
        return self["STATUS"] == DIVERGED

    def execute(self) -> None:
        """Carry out the command."""
        raise NotImplementedError

    def execute_interruptibly(self) -> None:
        """`execute` for long steps: Ctrl-C need not wait for the end of one."""
        self.execute()

    def remember(self) -> None:
        """Keep the parameters as they stand, for `restore`."""
        raise NotImplementedError

    def restore(self) -> None:
        """Put back the parameters that `remember` kept."""
        raise NotImplementedError

    def hold(self, mark: Any) -> None:
        """Say that what the device has is what `mark` stands for from now on.

        Parameters
        ----------
        mark : object
            The `mark` of later runs before which nothing changes.
        """

    def to_host(self) -> None:
        """Bring parameters and moments into the arrays of the state, where a device keeps copies of its own."""


def write_settings(reals, rule, settings, weight_decay, l2, clip_value, clip_norm):
    """Write what `Plan.bind_rule` takes into the reals of a net; gives how gradients are clipped."""
    reals[Real.SETTINGS :][: len(rule.settings)] = [settings[name] for name in rule.settings]
    reals[Real.WEIGHT_DECAY], reals[Real.L2] = weight_decay, l2
    reals[Real.CLIP_VALUE] = np.inf if clip_value is None else clip_value
    reals[Real.CLIP_NORM] = np.inf if clip_norm is None else clip_norm
    return (clip_value is not None) * BY_VALUE | (clip_norm is not None) * BY_NORM


def aligned(elements, dtype):
    """Zeros that start on a cache line."""
    size = int(elements) * np.dtype(dtype).itemsize
    raw = np.zeros(size + LINE_BYTES, np.uint8)
    start = -raw.ctypes.data % LINE_BYTES
    return raw[start : start + size].view(dtype)


LINE_BYTES, PAGE_BYTES = 64, 4096
# Rows that are read in place many times are copied to whole cache lines, as far as that takes little memory: on a Xeon
# a step of logistic regression on 209 x 12288, whose rows NumPy had put between lines, then took 550 us instead of 660.
COPIED_BYTES = 1 << 26  # an estimate
COPIED_GAP = 1 / 16  # of a row: longer gaps would cost the bandwidth that they save


def rows_on_lines(X):
    """The rows of X, each from a cache line on and no whole pages apart: X itself, or a copy where it is worth one.

    Parameters
    ----------
    X : array (m, n), float32 or float64
        Samples, with consecutive columns.

    Returns
    -------
    array (m, n), dtype of X
        Rows that are whole pages apart would meet in few sets of the caches.
    """
    (rows, columns), stride, line = X.shape, X.strides[0], LINE_BYTES // X.itemsize
    if X.ctypes.data % LINE_BYTES == 0 and stride % LINE_BYTES == 0 and stride % PAGE_BYTES != 0:
        return X
    ld = -(-columns // line) * line
    if X.nbytes > COPIED_BYTES or ld - columns > COPIED_GAP * columns:
        return X
    if ld * X.itemsize % PAGE_BYTES == 0:
        ld += line
    out = aligned(rows * ld, X.dtype).reshape(rows, ld)[:, :columns]
    out[...] = X
    return out
