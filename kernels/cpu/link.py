"""A program with the addresses of its compiled functions: what the loop and `apply_rows` read."""

import functools
from importlib import import_module

import numpy as np

from ..formulas import OWN
from ..program import KINDS, Dense, Program
from ..tables import Header, Op
from .block import Purpose
from .losses import address_of_loss


class _Memory(bytearray):
    """Memory of a table, and what must live as long."""

    def __init__(self, content):
        super().__init__(content)
        self.kept = []


class Linked:
    """A program for this process, its forks, and one dtype.

    Parameters
    ----------
    program : Program
        The net.
    dtype : dtype
        Of the run.
    purpose : int
        From `block.Purpose`.

    Attributes
    ----------
    table : array, int64
        As `program.table`, read-only. It and its views, wherever they go, keep alive what its addresses lead to.
    """

    def __init__(self, program: Program, dtype: np.dtype, purpose: int) -> None:
        memory = _Memory(program.table.tobytes())
        self.table = np.frombuffer(memory, np.int64)
        for operation, record in zip(program.operations, _records(self.table), strict=True):
            memory.kept.append(_link_record(record, dtype, operation, purpose))
        if purpose == Purpose.TRAIN:
            self.table[Header.LOSS], loops = address_of_loss(program.loss, dtype)
            memory.kept.append(loops)
        self.table.flags.writeable = False


def link(program: Program, dtype: np.dtype, purpose: int = Purpose.FEW_ROWS) -> Linked:
    """The program for this process, made once for each dtype and purpose.

    Parameters
    ----------
    program : Program
        The net.
    dtype : dtype
        float32 or float64.
    purpose : int
        From `block.Purpose`; for `apply_rows` by default.

    Returns
    -------
    Linked
        Its `table` is valid in this process and its forks.
    """
    made = program.__dict__.setdefault("linked", {})
    key = np.dtype(dtype), purpose
    if key not in made:
        made[key] = Linked(program, *key)
    return made[key]


def has_own(table: np.ndarray) -> bool:
    """Whether a linked table holds functions of the user's own.

    Parameters
    ----------
    table : array, int64
        From `link`.

    Returns
    -------
    bool
        Then another process can do nothing with it.
    """
    return any(record[Dense.fields.ACTIVATION] == OWN for record in _records(table) if KINDS[record[Op.KIND]] is Dense)


def relink(table: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """A linked table of another process, for `apply_rows` in this one.

    Parameters
    ----------
    table : array, int64
        Without functions of the user's own.
    dtype : dtype
        Of the net.

    Returns
    -------
    array, int64
        A copy with the addresses of this process, read-only.
    """
    table = table.copy()
    for record in _records(table):
        _link_record(record, np.dtype(dtype), None, Purpose.FEW_ROWS)
    table.flags.writeable = False
    return table


def _records(table):
    start, count = table[Header.OPERATIONS_AT], table[Header.OPERATIONS]
    return table[start : start + count * Op.SIZE].reshape(count, Op.SIZE)


@functools.cache
def _module(kind):
    """The file of a kind of operation."""
    return import_module(f".{kind.name}", __package__)


def _link_record(record, dtype, operation, purpose):
    """Complete one record; gives what must be kept alive."""
    module = _module(KINDS[record[Op.KIND]])
    if purpose == Purpose.FEW_ROWS:
        record[Op.FEW_ROWS] = module.few_rows.address(dtype)
    else:
        record[Op.BLOCK] = module.block.address(dtype)
    return module.link(record, dtype, operation, purpose) if hasattr(module, "link") else None
