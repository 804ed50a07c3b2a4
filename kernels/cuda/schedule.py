"""Which form of the loop takes a run on a GPU, and where its buffers stand in the workspace.

In the loops of one block and of a grid a buffer is (features, LD), in the graph (samples, features).
"""

import itertools
import os
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..options import SHARED_BYTES
from ..program import round_up
from ..tables import (
    BACKWARD,
    EXPANDED,
    FROM_ROWS,
    INPUT_BACKWARD,
    LOGITS,
    LOSS,
    OUTPUT,
    TRAIN,
    UPDATE,
    Buffer,
    Header,
    Op,
    Range,
    Real,
    Run,
    State,
)
from .graph import pass_over
from .launch import line, processors
from .losses import RESULT
from .matmul import may_be_wgmma, parts_of, work_size
from .own import key_of
from .phases import AT_ONCE, FOURS, PASSES, WORK, Structure, operation_module
from .step import SUMS, THREADS, WARPS
from .toolchain import SIMULATED, cuda
from .touched import ARRANGED, INDEX_BYTES

# Work of a step up to which one block, then a grid, is chosen; above one block shards, where each can hold the net.
# On an H100 80GB, 2026-11-27, `asv_bench/cuda_race.py --only loops` took, in float32 and microseconds a step, for 2
# hidden layers of 16 by 32 (0.1 MFLOP) 13.6 in a block and 14.9 in shards; for 2x64 by 32 (1.5) 25.8 and 19.5; for
# 3x256 by 32 (34) 49.6 in a grid and 59.2 in a graph, by 512 (545) 127 and 76.2. Longer fits took, in a grid and in a
# graph, for 128 units on 784 features by 128 (78) 32 and 42; for 2x128 by 32 (6.5) 29 and 31, by 512 (105) 43 and 39
BLOCK_FLOPS, GRID_FLOPS = 1 << 20, 100_000_000
# Numbers of the samples of a step up to which a grid is chosen, which turns them and keeps them in global memory:
# logistic regression on 784 features took, in a grid and in a graph, by 2,048 (1.6 million) 22 and 20 us a step, by
# 10,000 (7.8 million) 205 and 86
GRID_NUMBERS = 1 << 21
BLOCK_ROWS = 1 << 20  # parameters by touched rows, which a run passes over once, with l2 each step (an estimate)
MAX_PARTS = 32  # of the gradient of a long batch (an estimate)
# Samples of a block at least, where many share a batch: 2x64 by 32 took 20.5 us with 4 there, 22.5 with 8, 27.1 with 16
SHARD = 4
TOLD = 3  # numbers that each block of shards tells the others beside its gradient
LOOPS = ("block", "shards", "grid", "graph")


def structure_of(program, command, rule):
    """What a program uses with a command; `rule` is the code of the update rule, or None."""
    applied = [
        operation.activation
        for operation, record in zip(program.operations, records_of(program), strict=True)
        if operation.activation is not None and (command & OUTPUT or not record[Op.FLAGS] & LOGITS)
    ]
    kinds = tuple(sorted({operation.name for operation in program.operations}))
    # in their order: it numbers the user's own functions
    activations = tuple(dict.fromkeys(key_of(activation) for activation in applied))
    return Structure(kinds, activations, key_of(program.loss) if command & LOSS else None, rule, command)


def update_of(program, dtype, loop, parts, clips):
    """How a loop updates, as `Structure.update` has it; `clips`: with l2 or clipping."""
    if loop == "graph":
        return ""
    if clips or program.embedding is not None or np.dtype(dtype) != np.float32:
        return PASSES
    pairs = zip(program.operations, records_of(program), strict=True)
    kinds = {operation.name for operation, record in pairs if record[Op.RANGES]}
    at_once = all(getattr(operation_module(kind), "UPDATES_AT_ONCE", False) for kind in kinds)
    return AT_ONCE if loop == "grid" and parts == 1 and at_once else FOURS


def records_of(program, table=None):
    """The records of the operations in a program's table, or in a copy of it."""
    table = program.table if table is None else table
    start, count = int(table[Header.OPERATIONS_AT]), int(table[Header.OPERATIONS])
    return table[start : start + count * Op.SIZE].reshape(count, Op.SIZE)


def gradient_width_of(program, record, command):
    """Of how many features of an operation's input, the first ones, the gradient is wanted; as `phases` has it."""
    if command & INPUT_BACKWARD or not record[Op.FLAGS] & FROM_ROWS:
        return int(record[Op.N_IN])
    return vectors_of(program) if record[Op.FLAGS] & EXPANDED else 0


def vectors_of(program):
    """Numbers of all learned vectors, which come first among the features of an Embedding."""
    embedding = program.embedding
    return 0 if embedding is None else sum(one.size for one in embedding.tables)


def levels_of(program):
    """Rows of all tables of which a step touches only some."""
    touched = program.ranges[:, Range.BY_TOUCHED_ROWS] != 0
    return int(program.ranges[touched, Range.ROWS].sum())


class Schedule(NamedTuple):
    """The form of the loop, and places in the workspace in elements from its start.

    `loop`: one of LOOPS. `shape`: blocks, and threads of a block. `size`: elements of the workspace. `buffers`: records
    of `tables.Buffer`. `scratch`: elements of global memory that the loop takes. For all but the graph, `tables_size`
    elements of shared memory for the tables, before a workspace there, `ld` elements from feature to feature,
    `theta_at` the parameters, `sums_at` sums over all threads, `grad_at` the `parts` of the gradient, `shard` samples
    that a block, or the grid, takes at a time; for one block and shards, `rows_at` row numbers; for a grid, `second_at`
    how far the buffers of every second step stand behind those of the others. For the graph,
    `picked_at` targets and weights, `result_at` what a loss writes, `penalties_at`, `squares_at` and `scale_at` what an
    update does, `work_at` the scratch of products. `groups_at`: samples by their codes.
    """

    loop: str
    shape: tuple[int, int]
    size: int
    buffers: NDArray[np.int64]
    scratch: int = 0
    tables_size: int = 0
    ld: int = 0
    theta_at: int = 0
    sums_at: int = 0
    rows_at: int = 0
    second_at: int = 0
    shard: int = 0
    grad_at: int = 0
    parts: int = 1
    picked_at: tuple[int, ...] = ()
    result_at: int = 0
    penalties_at: int = 0
    squares_at: int = 0
    scale_at: int = 0
    work_at: int = 0
    work_size: int = 0
    groups_at: int = 0

    @property
    def shared(self):
        """Elements of shared memory that a block takes; the workspace of a grid stands in global memory."""
        return self.tables_size + (0 if self.loop == "grid" else self.size)


def make_schedule(program, dtype, batch, command, loop=None, precision="float32"):
    """The schedule of a run.

    Parameters
    ----------
    program : Program
        The net.
    dtype : dtype
        float32 or float64.
    batch : int
        Most rows in one step.
    command : int
        As in `kernels.tables`.
    loop : str, optional
        One of LOOPS; the environment variable FASTNN_CUDA_LOOP, or by size, where it is None.
    precision : str
        Of the products in the graph's loop.
    """
    if not command & (LOSS | OUTPUT):  # an update alone
        return _graph(program, dtype, 0, command, precision)
    chosen, flops = loop or os.environ.get("FASTNN_CUDA_LOOP"), batch * program.flops_per_sample
    if chosen not in (None, "", *LOOPS):
        raise ValueError(f"FASTNN_CUDA_LOOP must be {', '.join(LOOPS[:-1])} or {LOOPS[-1]}; got {chosen!r}")
    block, shards = one_block(program, dtype, batch, command), None
    if chosen in (None, "", "shards"):
        shards = _shards(program, dtype, batch, command)
    if not chosen or chosen == "shards" and command != TRAIN:
        of_rows = program.size - program.dense_size
        if flops <= BLOCK_FLOPS and of_rows <= BLOCK_ROWS and fits(block, dtype):
            chosen = "block"
        elif shards and fits(shards, dtype):
            chosen = "shards"
        else:
            small = flops <= GRID_FLOPS and batch * program.widths[0] <= GRID_NUMBERS or 0 in program.widths
            chosen = "grid" if small and _holds_tables(program, dtype) else "graph"
    if chosen == "graph":
        if 0 in program.widths:  # its products have no sums of a delta alone
            raise ValueError("FASTNN_CUDA_LOOP must be 'block' or 'grid' for a net of one-hot codes alone; got 'graph'")
        return _graph(program, dtype, batch, command, precision)
    if chosen == "block":
        if not fits(block, dtype):
            accepted = "'grid' or 'graph' for a net and batch"
            raise ValueError(f"FASTNN_CUDA_LOOP must be {accepted} of {block.shared:,} numbers; got 'block'")
        return block
    if chosen == "shards":
        if not shards or not fits(shards, dtype):
            accepted = "'grid' or 'graph' for a net with Columns, or one that does not fit into each block"
            raise ValueError(f"FASTNN_CUDA_LOOP must be {accepted}; got 'shards'")
        return shards
    if not _holds_tables(program, dtype):
        operations = f"a net of {len(program.operations):,} operations"
        raise ValueError(f"FASTNN_CUDA_LOOP must be 'graph' for {operations}; got 'grid'")
    blocks = min(multiprocessors(), -(-_items(program, batch) // THREADS))
    grid = _loop(program, dtype, batch, command, "grid", blocks, THREADS)
    numbers = max(grid.size, batch * touched_features(program))
    if numbers >= 1 << 31:  # places and items have 32 bits
        raise ValueError(f"FASTNN_CUDA_LOOP must be 'graph' for a workspace of {numbers:,} numbers; got 'grid'")
    return grid


def _holds_tables(program, dtype):
    """Whether the tables of a run fit into the shared memory of a block."""
    return _tables_size(program, dtype) * np.dtype(dtype).itemsize <= shared_bytes()


def _shards(program, dtype, batch, command):
    """The schedule of training by blocks that each hold all parameters and a shard of the batch, or None."""
    if command != TRAIN or program.embedding is not None or not program.dense_size:
        return None
    shard = round_up(max(SHARD, -(-batch // multiprocessors())), 4)
    threads = min(THREADS, round_up(_items(program, shard), 32))
    # blocks without samples help to sum and to update, four parameters a thread
    blocks = max(-(-batch // shard), min(multiprocessors(), -(-program.dense_size // (4 * threads))))
    return _loop(program, dtype, shard, command, "shards", blocks, threads)


def one_block(program, dtype, batch, command):
    """The schedule of a run in one block, whether or not it fits there."""
    return _loop(program, dtype, batch, command, "block", 1, min(THREADS, round_up(_items(program, batch), 32)))


def fits(schedule, dtype):
    """Whether what a block takes fits into its shared memory."""
    return schedule.shared * np.dtype(dtype).itemsize <= shared_bytes()


def _items(program, batch):
    """Threads with something to do: an element, four parameters, a tile of 4 x 4, or a share of its sum for each."""
    groups, sizes = -(-batch // 4), program.trained
    return max(
        batch * max(program.widths),
        program.dense_size >> 2,
        batch * touched_features(program),
        *(-(-a // 4) * -(-b // 4) for a, b in sizes),
        *(groups * -(-b // 4) * (a >> 2) for a, b in (*sizes, *(size[::-1] for size in sizes))),
    )


class _Places:
    """Hands out places one behind the other, at multiples of `align` elements."""

    def __init__(self, align):
        self.align, self.end = align, 0

    def __call__(self, elements):
        start, self.end = self.end, self.end + round_up(elements, self.align)
        return start


def _loop(program, dtype, batch, command, loop, blocks, threads):
    place, ld = _Places(4), round_up(batch, 32) + 4  # neighbouring features begin in different banks
    warps = -(-blocks * threads // 32) if loop == "grid" else WARPS
    buffers = _buffers(program, command, lambda width: place(width * ld), lambda width: place(width * ld))
    groups_at = place(_groups(program, dtype, ld, command))
    second_at = place(place.end) if loop == "grid" else 0
    theta_at, sums_at = place(program.dense_size if loop != "grid" else 0), place(SUMS * warps)
    parts = _parts(program, batch, loop, blocks * threads, dtype) if loop != "shards" else 1
    grad_at = place(parts * program.dense_size if command & BACKWARD and loop != "shards" else 0)
    # the rows of a step, and of the next one
    rows_at = place(2 * round_up(batch, 4) * _elements_of_index(dtype) if loop != "grid" else 0)
    return Schedule(
        loop,
        (blocks, int(threads)),
        place.end,
        buffers,
        {"block": 0, "shards": blocks * (program.dense_size + TOLD), "grid": place.end}[loop],
        _tables_size(program, dtype),
        ld,
        theta_at,
        sums_at,
        rows_at,
        second_at,
        batch,
        grad_at,
        parts,
        groups_at=groups_at,
    )


def _parts(program, batch, loop, threads, dtype):
    """Parts of the gradient: as many as keep the threads busy; in a block each has one tile or bias at most."""
    samples, lanes = (16 if loop == "grid" else 8), 1
    if loop == "grid" and np.dtype(dtype) == np.float32:  # the lanes of a warp share the samples of a tile
        samples, lanes = 4 * 32, 32
    tiles = sum(-(-b // 4) * (-(-a // 4) * lanes + 1) for a, b in program.trained)
    parts = int(max(1, min(batch // samples, threads // tiles, MAX_PARTS)))
    # of an operation; both begin with a warp
    each = [items for a, b in program.trained for items in (-(-b // 4) * -(-a // 4), b)]
    while loop != "grid" and parts > 1 and sum(round_up(parts * items, 32) for items in each) > threads:
        parts -= 1
    return parts


def _tables_size(program, dtype):
    """Elements that the tables of a run, of its program, of its reals and of its work take, a multiple of 16 bytes."""
    cells = Run.SIZE + Buffer.SIZE * len(program.widths) + State.SIZE + program.table.size
    operations = len(program.operations)
    tables = round_up(cells * _elements_of_index(dtype) + Real.ALPHAS + operations, 4)
    return tables + WORK * np.dtype(np.int32).itemsize * (operations + 1) // np.dtype(dtype).itemsize


def touched_features(program):
    """Elements of table rows that one sample touches."""
    touched = program.ranges[:, Range.BY_TOUCHED_ROWS] != 0
    return int(program.ranges[touched, Range.COLUMNS].sum())


def _groups(program, dtype, ld, command):
    """Elements that the samples arranged by their codes take."""
    tables = np.count_nonzero(program.ranges[:, Range.BY_TOUCHED_ROWS])
    numbers = ARRANGED * tables * ld if command & BACKWARD and command & LOSS else 0
    return -(-numbers * INDEX_BYTES // np.dtype(dtype).itemsize)


def _elements_of_index(dtype):
    return -(-8 // np.dtype(dtype).itemsize)


def _graph(program, dtype, batch, command, precision):
    place = _Places(32)
    picked_at = place(batch * program.outputs), place(batch)
    result_at, (blocks, _) = place(RESULT), pass_over(program.size)
    of_tables, _ = line(batch * touched_features(program))
    penalties_at, squares_at, scale_at = place(blocks), place(blocks + of_tables), place(1)
    backward, width = command & BACKWARD, max(program.widths[1:])
    # the gradient with respect to a buffer is needed until that with respect to the one before is there
    deltas = itertools.cycle([place(batch * width if backward else 0) for _ in range(2)])
    buffers = _buffers(program, command, lambda width: place(batch * width), lambda width: next(deltas))
    rounds = may_be_wgmma(precision)
    work = max(work_size(batch, *sizes, precision) for sizes in program.trained) if backward or rounds else 0
    parts = 1
    # rows of tables have one part, and wgmma adds its own
    if command & LOSS and command & UPDATE and program.size == program.dense_size and not rounds:
        products = tuple((n_out, n_in, batch) for n_in, n_out in program.trained)
        parts, work = parts_of(products, processors(), True), 0  # the update adds them
    work_at, groups_at = place(work), place(_groups(program, dtype, batch, command))
    return Schedule(
        "graph",
        (0, 0),
        place.end,
        buffers,
        place.end,
        parts=parts,
        picked_at=picked_at,
        result_at=result_at,
        penalties_at=penalties_at,
        squares_at=squares_at,
        scale_at=scale_at,
        work_at=work_at,
        work_size=work,
        groups_at=groups_at,
    )


def _buffers(program, command, new_value, new_delta):
    """The records of the buffers; an operation that works in place has its output where its input stands."""
    buffers, last = np.zeros((len(program.widths), Buffer.SIZE), np.int64), len(program.operations)
    buffers[:, Buffer.TRANSPOSED] = -1
    in_place = [operation_module(operation.name).IN_PLACE for operation in program.operations]
    buffers[0, Buffer.VALUE] = buffers[0, Buffer.PRE] = new_value(program.widths[0])
    for i, (operation, record) in enumerate(zip(program.operations, records_of(program), strict=True)):
        before, after, width, flags = buffers[i], buffers[i + 1], program.widths[i + 1], record[Op.FLAGS]
        # only samples are overwritten: the operation before may need its output
        reused = in_place[i] and flags & FROM_ROWS
        after[Buffer.VALUE] = after[Buffer.PRE] = before[Buffer.VALUE] if reused else new_value(width)
        if operation.activation is not None and operation.activation.needs_input and not flags & LOGITS:
            after[Buffer.PRE] = new_value(width)
    if command & BACKWARD:
        buffers[last, Buffer.DELTA] = new_delta(program.widths[last])
        for i in range(last - 1, -1, -1):
            width = gradient_width_of(program, records_of(program)[i], command)
            if width:
                after = buffers[i + 1, Buffer.DELTA]
                buffers[i, Buffer.DELTA] = after if in_place[i] else new_delta(width)
    return buffers


def shared_bytes():
    """Shared memory that a block can have on the current GPU."""
    return SHARED_BYTES if SIMULATED else cuda.get_current_device().MAX_SHARED_MEMORY_PER_BLOCK_OPTIN


def multiprocessors():
    """How many blocks run at once, so that they can wait for one another."""
    # the simulator runs blocks one after another
    return 1 if SIMULATED else cuda.get_current_device().MULTIPROCESSOR_COUNT
