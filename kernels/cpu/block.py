"""How the operations of a net share a block of samples, and what each of them is called with.

An operation's file has a unit `block`, called with (phase, run, reals, theta, scratch, op, first, count, part, start,
target, packed):

- Phase.FORWARD fills its output buffer from its input buffer;
- Phase.BACKWARD has the gradient with respect to its output and makes the one with respect to its input; unless
  gradients are made by parts, it adds that of its parameters to `target`, which has the layout of the parameters, or
  writes it there if `start` is ZERO;
- Phase.GRADIENT makes the gradient of one part of its parameters, rows and columns of its ranges: `target` has the
  layout of the parameters or, if `packed`, holds the part alone, range after range;
- Phase.TABLE, of operations of whose ranges a step updates only the rows that its batch touches, does a task of one
  part: `first` is the number of the thread, `count` that of the part, `start` the task, `target` the flat gradient;
- Phase.ROUND, of operations whose products are rounded, rounds the weights of one part of its parameters.

And it may have a unit `few_rows`, called with (op, alphas, theta, count, x, ld_x, out, failure): its outputs for a
few samples, both as rows, the outputs consecutive. `link(record, dtype, operation, purpose)`, where it is there,
completes the record with addresses, and gives what must be kept alive.

Buffers are (features, ld), the samples side by side along the lanes, so that even two units fill the registers; only
what comes before the first layer works on the samples as rows, in place: on those of the data, or on those that an
Embedding made. Samples past the last one are computed with, up to a whole register, and never used.
"""

from ..compiler import jit
from ..options import EXACT
from ..tables import EXPANDED, Buffer, Fields, Header, Op, Run
from .memory import integers_at, pointer_at

Phase = Fields("Phase", "FORWARD BACKWARD GRADIENT TABLE ROUND")
# What a task does: a shard of the batch; of a part of the parameters the gradient, the update, or both in one visit; or
# it rounds them
SHARD, COLLECT, UPDATE_PART, COLLECT_AND_UPDATE, ROUND_PART = 0, 1, 2, 3, 4
# What a program is linked for: runs that train or take losses, runs that give outputs, a few rows at a time, runs that
# give derivatives of outputs
Purpose = Fields("Purpose", "TRAIN OUTPUTS FEW_ROWS SLOPES")
# A part of the parameters of an operation: from ROW and COLUMN on, of each of its ranges as far as it goes; for
# Phase.TABLE its range number ROW
Part = Fields("Part", "OPERATION ROW ROWS COLUMN COLUMNS")


@jit(EXACT)
def program_at(run):
    """The program of a run."""
    return integers_at(run[Run.PROGRAM])


@jit(EXACT)
def operations_at(program):
    """Its first operation."""
    return program + program[Header.OPERATIONS_AT]


@jit(EXACT)
def buffer_at(run, index):
    """Where a buffer stands in the scratch: the fields of `tables.Buffer`."""
    return run + (run[Run.BUFFERS_AT] + Buffer.SIZE * index)


@jit(EXACT)
def samples_at(run, theta, scratch, first, op):
    """(rows, their stride) of the block as samples: made or gathered in the scratch, or where the data stand."""
    if op[Op.FLAGS] & EXPANDED != 0:
        return scratch + buffer_at(run, op[Op.INPUT])[Buffer.TRANSPOSED], op[Op.N_IN]
    if run[Run.GATHERS] != 0:
        program = program_at(run)
        return scratch + run[Run.ROWS_AT], program[Header.FEATURES]
    return pointer_at(run[Run.X], theta) + first * run[Run.X_STRIDE], run[Run.X_STRIDE]


@jit(EXACT)
def deltas_at(run, theta, first):
    """(rows, their stride) of what the gradients of tables are made of, from sample number `first` of the data on."""
    stride = run[Run.DELTA_STRIDE]
    return pointer_at(run[Run.DELTAS], theta) + (first - run[Run.FIRST]) * stride, stride


@jit(EXACT)
def whole_registers(count, width):
    """Elements that whole registers hold."""
    return (count + width - 1) // width * width
