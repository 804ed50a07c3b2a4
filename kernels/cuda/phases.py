"""What an operation computes in the loops of one block and of a grid, and its arguments there.

An operation's file offers `loop_of(real, structure)`, which gives `Phases`. A step goes through them one after another;
after a phase that says that it wrote something, all threads wait for one another. Threads deal out the work of a phase
by number. Samples stand side by side: a buffer is (features, LD), so that neighbouring threads take neighbouring
samples.

LD: elements from feature to feature; count: samples of the step; padded: count, rounded up to a multiple of four, which
is what a phase computes. The samples beyond count are copies of the last one and have gradient zero: where the user's
functions are finite, nothing of them spoils a sum.
"""

from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from ..program import Embedding
from ..tables import EXPANDED, FROM_ROWS, INPUT_BACKWARD, Buffer, Op, Run
from .primitives import quotient
from .toolchain import device


def operation_module(name):
    """The file of a kind of operation."""
    return import_module(f".{name}", __package__)


# How the loops of one launch update, as `loop_updates` says
PASSES, FOURS, AT_ONCE = "passes", "fours", "at once"


class Structure(NamedTuple):
    """What a program and a run use: kernels are specialised on it, never on widths.

    `kinds`: names of the operations. `activations`, `loss`: keys of `own.key_of`. `rule`: code of the update rule, None
    where nothing is updated. `command`: as in `kernels.tables`. `loop`: the form of the loop, once it is chosen.
    `update`: how it updates, PASSES, FOURS or AT_ONCE; "" where it does not.
    """

    kinds: tuple[str, ...]
    activations: tuple[Any, ...]
    loss: Any
    rule: int | None
    command: int
    loop: str = ""
    update: str = ""


class Rows(NamedTuple):
    """What a kind of operation does with parameters of which a step touches only some rows.

    Where l2 acts, those are all rows. `collect(step, op)` writes the gradient of touched rows to that of all
    parameters, where the others read it if l2 acts. `penalty(step)` gives a thread's share of what l2 adds to the loss,
    `squares(step, op)` its share of the squares of the gradient, clipped by value; `update(step, op, scale)` updates
    the rows.
    """

    collect: Any
    penalty: Any
    squares: Any
    update: Any


# Of each operation, in shared memory: numbers of 32 bits that stay while steps have as many samples. FIRST and the one
# behind it: the threads that take the first items of the parts of its gradient. The others are its kind's: where its
# buffers stand, how its work is dealt. In fours, to be read by one access.
WORK, FIRST = 36, 0
PARTS = 2  # of the gradient of an operation


class Phases(NamedTuple):
    """Phases of a kind of operation; each takes (step, op, work) and says whether it wrote something.

    `forward` and `backward` come in their order; `work` points to the operation's WORK numbers, which `prepare(step,
    op, work)` fills, but for the first PARTS. `gradient`: PARTS at most, which need not wait for one another, as pairs:
    how many items of work a part has, by (step, op); and a function (step, op, work) that deals them out from thread
    work[FIRST + part] on. It writes to `step.gradients`; but where `Structure.update` is AT_ONCE it updates parameters:
    an operation's file that can do so says UPDATES_AT_ONCE = True. `rows`: of an operation by touched rows.
    """

    forward: tuple[Any, ...]
    backward: tuple[Any, ...]
    prepare: Any = None
    gradient: tuple[tuple[Any, Any], ...] = ()
    rows: Rows | None = None


class Step(NamedTuple):
    """A step, as phases see it: its tables, vectors and workspace as pointers.

    `seen`: place in the epoch of its first sample; `mask_key`: what dropout draws from in this epoch; `parts`: parts of
    the sum over the samples in `gradients`, each a vector of `size` elements. Neither `parameters` nor `gradients` have
    the ranges of which a step touches only some rows. `factors`: what `Rule.prepare` computed for the step.
    """

    table: Any
    reals: Any
    parameters: Any
    gradients: Any
    workspace: Any
    thread: int
    threads: int
    count: int
    seen: int
    mask_key: int
    parts: int
    size: int
    factors: Any


@device
def inverse_of(n):
    """What `divided` takes for a divisor from 1 to 2^31 - 1; something for 0."""
    return np.int32(min(quotient(np.int64(1) << 31, max(n, 1)), np.int64(0x7FFFFFFF)))


@device
def divided(a, n, inverse):
    """(a // n, a % n) for a from 0 to 2^31 - 1: the product with the inverse is too small by one at most."""
    whole = np.int32(np.uint64(np.uint32(a)) * np.uint64(np.uint32(inverse)) >> np.uint64(31))
    below = np.int32(np.int32(n - 1 - a + whole * n) >> 31)  # -1 where it is
    whole = np.int32(whole - below)
    return whole, np.int32(a - whole * n)


@device
def buffer_of(step, number):
    """The record of a buffer."""
    return step.table + (step.table[Run.BUFFERS_AT] + Buffer.SIZE * number)


@device
def value_of(step, number):
    """What a buffer holds."""
    return step.workspace + buffer_of(step, number)[Buffer.VALUE]


@device
def pre_of(step, number):
    """What went into the activation that made a buffer."""
    return step.workspace + buffer_of(step, number)[Buffer.PRE]


@device
def delta_of(step, number):
    """The gradient with respect to a buffer."""
    return step.workspace + buffer_of(step, number)[Buffer.DELTA]


@device
def padded_count(step):
    """Samples of the step, rounded up to a multiple of four."""
    return (step.count + 3) & ~3


@device
def element_at(step, item):
    """(feature, sample, place in a buffer) of an item of an elementwise phase."""
    padded = padded_count(step)
    feature = quotient(item, padded)
    sample = item - feature * padded
    return feature, sample, feature * step.table[Run.LD] + sample


@device
def first_item(step, first):
    """The first item of a thread, of those that are dealt out from thread `first` on."""
    item = np.int32(step.thread - first)
    return item if item >= 0 else np.int32(item + step.threads)


def gradient_width_of(structure):
    """`gradient_width(step, op)`: of how many features of its input, the first ones, the gradient is wanted."""
    wanted, expands = structure.command & INPUT_BACKWARD != 0, Embedding.name in structure.kinds

    @device
    def gradient_width(step, op):
        features = op[Op.N_IN] if wanted or op[Op.FLAGS] & FROM_ROWS == 0 else 0
        if expands:
            if op[Op.FLAGS] & EXPANDED != 0:
                features = step.table[Run.VECTORS]
        return np.int32(features)

    return gradient_width
