"""A run on the CPU: its tables and memory; the leader in this thread, helpers in threads that live as long as the call.

No pool outlives a call, so there is nothing that a fork could break or that two Python threads could enter at once.
A helper that comes late, or never, only means that the leader does more tasks itself.
"""

from functools import partial

import numpy as np
from numpy.typing import DTypeLike

from .. import plan as _plan
from ..annotations import Floats
from ..formulas import ACTIVATIONS, LINEAR, LOSSES, MSE, RULES
from ..options import VECTORS, lanes
from ..program import Dense, Dropout, Program, Standardize, limits, round_up
from ..state import TrainingState
from ..tables import APPLY, BACKWARD, EVALUATE, JACOBIAN, PREDICT, UPDATE, Run
from ..threads import Job, apart, finish
from .activations import addresses_of
from .apply import apply_rows
from .average import add_outputs, average_of_sums
from .block import Part, Purpose
from .link import link
from .losses import address_of_loss
from .own import failure_at
from .schedule import schedule_of
from .step import LINE, NO_MORE, entry, run
from .updates import addresses_of_rule

_PURPOSES = {PREDICT: Purpose.OUTPUTS, JACOBIAN: Purpose.SLOPES}


class Plan(_plan.Plan):
    """The tables of a run on the CPU, and the memory that it works in; arguments are those of `make_plan`."""

    device = "cpu"

    def __init__(self, program, parameters, batch, command, threads, state, rounds=False):
        width = lanes(8 * parameters.itemsize)
        backward, purpose = bool(command & BACKWARD), _PURPOSES.get(command, Purpose.TRAIN)
        schedule = schedule_of(program, batch, parameters.itemsize, width, VECTORS * width, backward, rounds)
        parts, buffers = schedule.parts, schedule.buffers
        self.threads = max(1, min(threads, schedule.shards))
        parts_at, buffers_at = Run.SIZE, Run.SIZE + parts.size
        waiting_at = round_up(buffers_at + buffers.size, LINE)
        size = waiting_at + self.threads * LINE
        super().__init__(program, parameters, batch, command, state, size - Run.SIZE)
        self._linked = link(program, self.dtype, purpose, rounds)
        self.table[parts_at:buffers_at] = parts.ravel()
        self.table[buffers_at : buffers_at + buffers.size] = buffers.ravel()
        self.set(
            THREADS=self.threads,
            PROGRAM=self._linked.table,
            ENTRY=entry.address(self.dtype),
            BLOCK=schedule.block,
            LD=schedule.ld,
            SHARDS=schedule.shards,
            SHARDS_NOW=1,
            BY_PARTS=schedule.by_parts,
            BY_ROWS=schedule.by_rows,
            PARTS=len(parts),
            PARTS_AT=parts_at,
            BUFFERS_AT=buffers_at,
            WAITING_AT=waiting_at,
            SHARD_LOSSES=np.zeros(schedule.shards),
            SQUARES=np.zeros(len(parts)),
            SCRATCH_SIZE=schedule.scratch,
            **schedule.fields,
        )
        if command != APPLY:
            scratches = schedule.shards if schedule.by_parts else self.threads
            self.set(SCRATCH=self._allocate(scratches * schedule.scratch))
            if schedule.tiles:
                self.set(TILES=self._allocate(schedule.tiles))
        if backward:
            self._allocate_gradients(schedule)

    def _allocate_gradients(self, schedule):
        """Memory of the gradients: of tables, a step of training keeps the touched rows of one at a time."""
        program, batch = self.program, self["BATCH"]
        tables = len(program.embedding.tables) if program.embedding else 0
        self.set(GRADIENTS=self._allocate(program.dense_size if self.command & UPDATE else program.size))
        if schedule.by_parts or tables:
            part_buffer = self._allocate(self.threads * schedule.part_size)
            self.set(PART_BUFFER=part_buffer, PART_BUFFER_SIZE=schedule.part_size)
        if not schedule.by_parts and schedule.shards > 1:
            self.set(PARTIALS=self._allocate((schedule.shards - 1) * program.dense_size))
        if tables:
            self.set(
                CODES=self._allocate(tables * batch, np.int32),
                DELTAS=self._allocate(batch * schedule.fields["DELTA_STRIDE"]),
                SLOTS=self._allocate(self.threads << schedule.fields["SLOT_BITS"], np.int32),
                TOUCHED=self._allocate(self.threads * 2 * batch, np.int32),
            )

    def _allocate(self, elements, dtype=None):
        """Zeroed memory, of the run's dtype by default, starting on a cache line."""
        dtype = np.dtype(dtype or self.dtype)
        try:
            return _plan.aligned(elements, dtype)
        except MemoryError:
            size = elements * dtype.itemsize
            raise MemoryError(f"no memory for {size:,} bytes of working space of the run") from None

    def _place_of(self, name, array):
        return array.ctypes.data

    def _bind_state(self, rule):
        update, prepare = addresses_of_rule(rule, self.dtype)
        moments = dict(zip(("FIRST_MOMENT", "SECOND_MOMENT"), self.state.moments, strict=False))
        self.set(UPDATE=update, PREPARE=prepare, STATE=self.state.table, SUMS=self.state.sums, **moments)

    @property
    def gradient(self) -> Floats:
        """The flat gradient of the last run: a view that the next one overwrites."""
        return self.kept["GRADIENTS"][: self.program.size]

    def bind_gradient(self, gradient: Floats) -> None:
        """Name the flat gradient that APPLY updates the parameters with; l2 and clipping change it in place."""
        self.set(GRADIENTS=gradient)

    def leave_share(self, share: int, shares: int) -> None:
        """Let APPLY update only the parameters of `Program.share`, with the rows of each operation cut alike."""
        at, kept = self["PARTS_AT"], []
        for part in self.table[at : at + self["PARTS"] * Part.SIZE].reshape(-1, Part.SIZE).copy():
            operation = self.program.operations[part[Part.OPERATION]]
            rows = max(shape[0] for shape, _ in operation.parameters(self.program.widths[part[Part.OPERATION]]))
            low, high = limits(rows, share, shares)
            low, high = max(low, part[Part.ROW]), min(high, part[Part.ROW] + part[Part.ROWS])
            part[[Part.ROW, Part.ROWS]] = low, high - low
            if low < high:
                kept.append(part)
        self.set(PARTS=len(kept))
        self.table[at : at + len(kept) * Part.SIZE] = np.ravel(kept)

    def remember(self) -> None:
        """Keep the parameters as they stand, for `restore`."""
        if not hasattr(self, "_remembered"):
            self._remembered = np.empty_like(self.parameters)
        np.copyto(self._remembered, self.parameters)

    def restore(self) -> None:
        """Put back the parameters that `remember` kept."""
        np.copyto(self.parameters, self._remembered)

    def execute(self) -> None:
        """Carry out the command; results then stand in the tables."""
        arguments = self.table, self.reals, self.parameters
        self.set(TASKS=0)
        helpers = [Job(partial(run, *arguments, thread)) for thread in range(1, self.threads)]
        try:
            try:
                for helper in helpers:
                    helper.start()
            except (RuntimeError, MemoryError):
                pass  # no more threads in this process: those that there are do the work
            run(*arguments, 0)
        finally:
            finish(helpers, stop=partial(self.set, TASKS=NO_MORE))
        if self["FAILURE"]:
            raise failure_at(self["FAILURE"])
        for helper in helpers:
            if helper.failure is not None:
                raise helper.failure

    def execute_interruptibly(self) -> None:
        """`execute` for long steps: Ctrl-C stops it before its next block, with no update begun."""
        self.set(STOP=0)
        try:
            apart(self.execute, stop=partial(self.set, STOP=1))
        finally:
            self.set(STOP=0)


def make_plan(
    program: Program,
    parameters: Floats,
    batch: int,
    command: int,
    threads: int,
    state: TrainingState | None = None,
    precision: str = "float32",
) -> Plan:
    """A run of a program on this machine.

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
    threads : int
        Threads that may take part.
    state : TrainingState, optional
        Whose parameters these are, for TRAIN and APPLY.
    precision : str
        "float32", or "bf16" for products of operands that are rounded to bfloat16, in float32, where `amx.works`.

    Returns
    -------
    Plan
        Bind data and rule, then execute it.
    """
    return Plan(program, parameters, batch, command, threads, state, precision == "bf16")


def compile_all(dtype: DTypeLike) -> None:
    """Compile everything that runs, `apply_rows` and averages need in a dtype, or load it.

    Parameters
    ----------
    dtype : dtype
        float32 or float64.
    """
    dtype = np.dtype(dtype)
    for rule in RULES:
        addresses_of_rule(rule, dtype)
    for loss in LOSSES:
        address_of_loss(loss, dtype)
    for activation in ACTIVATIONS:
        addresses_of(activation, dtype, slope_too=True)
    same = Standardize(np.zeros(1), np.ones(1), np.zeros(1))
    operations = same, Dropout(0.5, 0), Dense(1, ACTIVATIONS[LINEAR])
    program, theta, X = Program(1, operations, LOSSES[MSE]), np.zeros(32, dtype), np.zeros((2, 1), dtype)
    for net, command in ((program, EVALUATE), (program.predicting, PREDICT)):
        plan = make_plan(net, theta, 2, command, 1)
        plan.bind_data(X, X)
        plan.bind_output(np.empty_like(X))
        plan.execute()
    theta.flags.writeable = False  # as that of every frozen net
    outputs, sums = np.empty_like(X), np.zeros(X.shape)
    apply_rows.kernel(link(program.predicting, dtype).table, program.predicting.alphas, theta, X, outputs)
    add_outputs(1.0, outputs, sums)
    average_of_sums(1.0, sums, outputs)
