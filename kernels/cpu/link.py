"""A program with the addresses of its compiled functions: what the loop and `apply_rows` read."""

import functools
from collections.abc import Sequence
from importlib import import_module

import numpy as np

from ..formulas import OWN
from ..program import KINDS, Dense, Program
from ..tables import FEW_ROWS_MARK, ROUNDED, Header, Op
from . import bfloat16
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
    rounds : bool
        Whether products may round their operands to bfloat16.

    Attributes
    ----------
    table : array, int64
        As `program.table`, then the constants of the operations, read-only. It and its views, wherever they go, keep
        alive what its addresses lead to.
    """

    def __init__(self, program: Program, dtype: np.dtype, purpose: int, rounds: bool) -> None:
        memory = _Memory(_with_constants(program, dtype).tobytes())
        self.table = np.frombuffer(memory, np.int64)
        for operation, record in zip(program.operations, _records(self.table), strict=True):
            memory.kept.append(_link_record(record, dtype, operation, purpose))
            if rounds and bfloat16.is_rounded(operation, record):
                record[Op.FLAGS] |= ROUNDED
                record[Op.BLOCK] = bfloat16.block.address(dtype)
        if purpose == Purpose.TRAIN:
            self.table[Header.LOSS], loops = address_of_loss(program.loss, dtype)
            memory.kept.append(loops)
        elif purpose == Purpose.FEW_ROWS:
            self.table[[Header.FEW_ROWS, Header.LENGTH]] = FEW_ROWS_MARK + dtype.itemsize, self.table.size
        self.table.flags.writeable = False


def link(program: Program, dtype: np.dtype, purpose: int = Purpose.FEW_ROWS, rounds: bool = False) -> Linked:
    """The program for this process, made once for each dtype and purpose.

    Parameters
    ----------
    program : Program
        The net.
    dtype : dtype
        float32 or float64.
    purpose : int
        From `block.Purpose`; for `apply_rows` by default.
    rounds : bool
        Whether products may round their operands to bfloat16, of a run in float32.

    Returns
    -------
    Linked
        Its `table` is valid in this process and its forks.
    """
    made = program.__dict__.setdefault("linked", {})
    key = np.dtype(dtype), purpose, rounds
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
    records = (record for net in _nets(table) for record in _records(net) if KINDS[record[Op.KIND]] is Dense)
    return any(record[Dense.fields.ACTIVATION] == OWN for record in records)


def dtype_of(table: np.ndarray) -> np.dtype | None:
    """The dtype that a table is linked for `apply_rows` in.

    Parameters
    ----------
    table : object
        From `link`, or not.

    Returns
    -------
    dtype or None
        float32 or float64; None for what is no such table, or a part of one.
    """
    if type(table) is not np.ndarray or table.dtype != _INT64 or table.ndim != 1 or len(table) < Header.SIZE:
        return None
    if not (table.flags.c_contiguous and table.flags.aligned):
        return None
    dtype = _LINKED_IN.get(int(table[Header.FEW_ROWS]))
    return dtype if table.size == table[Header.LENGTH] else None


_INT64 = np.dtype(np.int64)
_LINKED_IN = {FEW_ROWS_MARK + np.dtype(real).itemsize: np.dtype(real) for real in (np.float32, np.float64)}


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
    for net in _nets(table):
        for record in _records(net):
            _link_record(record, np.dtype(dtype), None, Purpose.FEW_ROWS)
    table.flags.writeable = False
    return table


def join(tables: Sequence[np.ndarray]) -> np.ndarray:
    """The table of an ensemble, for `apply_rows`.

    Parameters
    ----------
    tables : sequence of array, int64
        From `link`, of nets with the same inputs, outputs and dtype.

    Returns
    -------
    array, int64
        Read-only; it keeps alive what keeps the others valid.
    """
    header = tables[0][: Header.SIZE].copy()
    for field in (Header.OPERATIONS, Header.PARAMETERS, Header.LENGTH):
        header[field] = sum(int(table[field]) for table in tables)
    header[Header.LENGTH] += Header.SIZE
    header[Header.MEMBERS], header[Header.WIDEST] = len(tables), max(int(table[Header.WIDEST]) for table in tables)
    memory = _Memory(np.concatenate([header, *tables]).tobytes())
    memory.kept = list(tables)
    table = np.frombuffer(memory, np.int64)
    table.flags.writeable = False
    return table


def _nets(table):
    """The tables of the nets in one: itself, or those of an ensemble."""
    if table[Header.MEMBERS] == 0:
        yield table
        return
    rest = table[Header.SIZE :]
    for _ in range(table[Header.MEMBERS]):
        yield rest[: rest[Header.LENGTH]]
        rest = rest[rest[Header.LENGTH] :]


def _with_constants(program, dtype):
    """A copy of a program's table, with the constants of its operations after it: a record says how far behind it."""
    parts, end = [program.table.copy()], program.table.size
    for i, operation in enumerate(program.operations):
        constants = operation.constants(dtype, program.offsets(i))
        if constants is not None:
            record = int(program.table[Header.OPERATIONS_AT]) + i * Op.SIZE
            parts[0][record + operation.fields.CONSTANTS] = end - record
            cells = np.zeros(-(-constants.nbytes // 8), np.int64)
            cells.view(constants.dtype)[: constants.size] = constants
            parts.append(cells)
            end += cells.size
    return np.concatenate(parts)


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
