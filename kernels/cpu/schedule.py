"""How a CPU cuts the work of a run: shards of a batch, blocks of samples, parts of the parameters, and their memory.

All of it follows from shapes and the width of a register alone, so that bits do not depend on the number of threads.
Where a threshold is an estimate it says so; what was measured was measured on a Zen 4 (512-bit vectors, 118 GFLOP/s a
core in float32) unless it says otherwise.
"""

import numpy as np

from ..program import Dense, Program, round_up
from ..tables import Buffer
from .bfloat16 import PANEL, STEP, is_rounded, operand_size, weights_size
from .dense import PACKED_OUTPUTS, takes_rows
from .matmul import PANELS, ROWS

# A part of a matrix: its gradient, 64 KB in float32, fits in the inner caches. 16 rows instead of 64 brought 5% on two
# threads with 784-128-10, batch 128: more parts share better.
PART_ROWS, PART_COLUMNS = 16, 1024
# All rows of a matrix that has no more: else its samples are read again, from the third-level cache. The gradient of
# 12288-20 by 209 rows then takes 1,087 us on one core of a Xeon, not 1,372.
MOST_ROWS = 32
# Gradients by parts, each updated at once, or by shards. With 1024-1024-1024-10, batch 256, by parts: 43.6 ms instead
# of 49.6 on one core, 22.4 instead of 24.4 on two. Estimates: below this many parameters partial gradients stay in the
# second-level cache; above this many bytes the inputs and deltas that must be kept leave the third.
BY_PARTS_SIZE, BY_PARTS_BYTES = 1 << 15, 1 << 24
MAX_SHARDS = 16  # partial gradients, so threads that can share a step
SHARD_FLOPS = 1 << 20  # work below which a shard of its own costs more than it saves: a phase costs about 1 us
BLOCK_BYTES = 1 << 19  # a block of samples and its activations stay in a second-level cache of 1 MB
MAX_BLOCK = 512  # samples
MOST_KEPT = 16  # schedules of a program (an estimate)


class Schedule:
    """How batches of a program are cut.

    Parameters
    ----------
    program : Program
        The net.
    rows : int
        Most samples in a batch.
    itemsize : int
        Bytes of an element.
    width : int
        Elements of a register.
    step : int
        Samples of a register tile; blocks are multiples of it.
    backward : bool
        Whether gradients are wanted.
    rounds : bool
        Whether products may round their operands to bfloat16.

    Attributes
    ----------
    by_rows : bool
        Whether the first parameters take samples as they lie, with registers of `width` features.
    shards, block, ld : int
        Shards of a batch, samples of a block, elements from feature to feature of one.
    by_parts : bool
        Whether the gradient is made part by part, each updated at once, instead of shard by shard: it then never
        leaves the inner caches, and the shards need no partial gradients; but the inputs and deltas of the whole batch
        are kept.
    parts : array (n, Part.SIZE), int64
        The parts, as `block.Part` describes them.
    part_size : int
        Elements that the gradient of a part, or of what a batch touches of a table, takes.
    fields : dict
        Fields of `tables.Run`: where gathered rows, targets, weights and codes stand in a scratch; sizes of what is
        kept of codes.
    buffers : array (buffers, Buffer.SIZE), int64
        Where each buffer stands in a scratch, as `tables.Buffer` describes it.
    scratch, tiles : int
        Elements of a scratch, and of the operands that all threads share.
    """

    def __init__(
        self, program: Program, rows: int, itemsize: int, width: int, step: int, backward: bool, rounds: bool = False
    ) -> None:
        self.program = program
        records = zip(program.operations, program.records, strict=True)
        self.rounded = [rounds and is_rounded(operation, record) for operation, record in records]
        n_in, n_out = program.trained[0]
        outputs = [n for _, n in program.trained]
        first = next(o for o in program.operations if o.parameters(1) and not o.by_touched_rows)
        self.by_rows = isinstance(first, Dense) and takes_rows(n_in, n_out, width)
        least = 32 if program.dense_size < 1 << 15 else 64 if program.dense_size < 1 << 20 else 128
        worthwhile = rows * program.flops_per_sample // SHARD_FLOPS
        # two even of few rows: a step of 500-200-50-7, batch 100, Adam, takes 413 us on two threads of a Xeon, not 703
        many = program.dense_size >= BY_PARTS_SIZE
        wanted = max(rows // least, min(2, -(-rows // step)) if many else 1)
        self.shards = int(max(1, min(MAX_SHARDS, wanted, worthwhile)))
        kept = rows * itemsize * ((1 if self.by_rows else 2) * n_in + 3 * sum(outputs))
        self.by_parts = backward and many and rows <= self.shards * MAX_BLOCK and kept <= BY_PARTS_BYTES
        # An even number: of three, one thread of two does twice as much. On a Xeon a step of 12288-20-7-5-1, 209 rows,
        # takes 1,589 us on two threads, not 1,801. Not where samples fill register tiles, which more shards cut, nor
        # where each shard takes a partial gradient.
        if self.by_parts and self.by_rows and self.shards > 1:
            self.shards += self.shards % 2
        in_shard = -(-rows // self.shards)
        self.block = round_up(in_shard, step)
        if not self.by_parts:
            step_rows, inputs = 8, n_in
            if not self.by_rows:
                step_rows, inputs = step, 2 * n_in + 3 * max(n_in, *outputs)
            fitting = BLOCK_BYTES // (itemsize * (inputs + 5 * sum(outputs))) // step_rows * step_rows
            self.block = int(max(step_rows, min(MAX_BLOCK, fitting, round_up(in_shard, step_rows))))
        # an odd number of registers: rows of a block do not meet in one set of a cache
        self.ld = round_up(self.block, step) + width
        # whole panels of rounded weights
        part_rows = PANEL if any(self.rounded) else PART_ROWS
        self.parts = np.array(list(self._parts(part_rows)), np.int64)
        self.part_size = round_up(max(MOST_ROWS, part_rows) * PART_COLUMNS + max(outputs), 64)
        self._place(step)
        self._place_tables(rows, width)
        self._place_operands(rows)

    def _parts(self, part_rows):
        """Parts that cover all parameters but the gaps between ranges."""
        program = self.program
        for i, (operation, n_in) in enumerate(zip(program.operations, program.widths, strict=False)):
            shapes = [(*shape, 1)[:2] for shape, _ in operation.parameters(n_in)]
            if not shapes:
                continue
            if operation.by_touched_rows:
                yield from ((i, number, 1, 0, columns) for number, (_, columns) in enumerate(shapes))
                continue
            height, across = max(rows for rows, _ in shapes), max(columns for _, columns in shapes)
            # partial gradients that are added are shared even where one part would hold all
            columns = min(across, PART_COLUMNS if self.by_parts else PART_COLUMNS // 2)
            rows = height if height <= MOST_ROWS else part_rows * (PART_COLUMNS // columns)
            for row in range(0, height, rows):
                for column in range(0, across, columns):
                    yield i, row, min(rows, height - row), column, min(columns, across - column)

    def _place(self, step):
        """Find a place for everything in a scratch; transposed inputs stand in panels of up to `step` features."""
        program, ld, block, place, self.scratch = self.program, self.ld, self.block, self._take, 0
        widths = program.widths
        packed = max((n_out for _, n_out in program.trained if PANELS and n_out >= PACKED_OUTPUTS), default=0)
        self.fields = {
            "ROWS_AT": place(block * widths[0]),
            "TARGETS_AT": place(widths[-1] * ld),
            "WEIGHTS_AT": place(ld),
            "PACKED_AT": place(ROWS * packed),
        }
        # where they are kept, a delta and a transposed input for each layer; else what layers use by turns
        by_turns = [] if self.by_parts else [place(max(widths) * ld) for _ in range(2)]
        transposed = 0 if self.by_parts else place(round_up(max((0, *widths[:-1])), step) * block)
        buffers, on_rows, turn, expanded = [], True, 0, 0
        values = place(0 if self.by_rows or program.embedding else widths[0] * ld)
        buffers.append([values, values, 0, -1, 0, 0, 0])
        for i, operation in enumerate(program.operations):
            trained = bool(operation.parameters(widths[i])) and operation is not program.embedding
            before, after = buffers[-1], [0, 0, 0, -1, 0, 0, 0]
            if operation is program.embedding:
                after[0] = after[1] = place(0 if self.by_rows else widths[i + 1] * ld)
                after[3] = place(widths[i + 1] * block)
            elif on_rows and not trained:
                after[:] = before  # in place, as rows
            else:
                after[0] = after[1] = place(widths[i + 1] * ld)
                if operation.activation is not None and operation.activation.needs_input:
                    after[1] = place(widths[i + 1] * ld)
            if trained and not on_rows:
                before[3] = place(round_up(widths[i], step) * block) if self.by_parts else transposed
            on_rows = on_rows and not trained
            buffers.append(after)
            expanded += on_rows and program.embedding is not None
        # deltas, from the last buffer to the first; in place where an operation has no parameters
        for i in range(len(program.operations), -1, -1):
            follows = program.operations[i] if i < len(program.operations) else None
            if i <= expanded and expanded > 0:
                continue  # no gradient goes back through the samples
            if follows is not None and not follows.parameters(widths[i]) and widths[i] == widths[i + 1]:
                buffers[i][2] = buffers[i + 1][2]
            else:
                buffers[i][2] = place(widths[i] * ld) if self.by_parts else by_turns[turn % 2]
                turn += 1
        self.buffers = np.array(buffers, np.int64)

    def _place_tables(self, rows, width):
        """Find places for the codes of a block, and the sizes of what is kept of a batch of `rows`."""
        embedding = self.program.embedding
        tables = embedding.tables if embedding else []
        units, vectors = (embedding.units if embedding else 0), sum(one.size for one in tables)
        self.fields |= {
            "ADDED_AT": self._take(units * self.ld),
            "CODES_AT": self._take(len(tables) * self.block),  # of 32 bits, at most as long as an element
            "VECTORS": vectors,
            "DELTA_STRIDE": vectors + units,
            # a slot for each level, or at least two for each sample
            "SLOT_BITS": max((min(2 * rows, one.levels) - 1 for one in tables), default=0).bit_length(),
        }
        # the sums of the rows that a batch touches, and one row of zeros
        sums = max(((min(rows, one.levels) + 1) * round_up(one.size or units, width) for one in tables), default=0)
        self.part_size = max(self.part_size, round_up(sums, 64))

    def _place_operands(self, rows):
        """Find places for the operands of rounded products: where gradients are made by parts, one for all threads."""
        self.tiles = operand = 0
        samples = rows if self.by_parts else self.block
        for i in np.flatnonzero(self.rounded):
            n_in, n_out = self.program.widths[i : i + 2]
            weights, self.tiles = self.tiles, self.tiles + weights_size(n_in, n_out)
            inputs, deltas = operand_size(n_in, samples), operand_size(n_out, samples)
            if self.by_parts:
                at = self.tiles, self.tiles + inputs
                self.tiles += inputs + deltas
            else:
                at = self._take(inputs), self._take(deltas)
            self.buffers[i, Buffer.WEIGHTS :] = weights, *at
            operand = max(operand, operand_size(self.block, max(n_in, n_out)))
        self.fields |= {"OPERAND_AT": self._take(operand), "OPERAND_STEPS": round_up(samples, STEP) // STEP}

    def _take(self, elements):
        """A place for so many elements in a scratch."""
        start, self.scratch = self.scratch, self.scratch + round_up(elements, 64)
        return start


def schedule_of(
    program: Program, rows: int, itemsize: int, width: int, step: int, backward: bool, rounds: bool
) -> Schedule:
    """The Schedule for these arguments, made once while it is in use: a small fit or partial_fit has no time for it."""
    made, key = program.__dict__.setdefault("schedules", {}), (rows, itemsize, width, step, backward, rounds)
    schedule = made.get(key)
    if schedule is None:
        if len(made) >= MOST_KEPT:
            made.clear()
        schedule = made[key] = Schedule(program, *key)
    return schedule
