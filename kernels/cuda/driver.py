"""Runs a program on a GPU: a chunk of steps is one launch, or replays of a graph.

Arrays of the host move to the device once for a plan; those of the device are read and written in place. Parameters
and moments stay there until the host wants them (`Plan.to_host`). From run to run only tables, rates and losses move,
which are small.
"""

import _signal  # whose functions `signal` wraps: it makes an enum of each handler, by an exception

import numpy as np

from .. import plan as base
from ..annotations import Floats
from ..program import Program
from ..state import TrainingState
from ..tables import (
    BACKWARD,
    DIVERGED,
    FINE,
    GRADIENT,
    INPUT_BACKWARD,
    LOSS,
    OUTPUT,
    TRAIN,
    UPDATE,
    Buffer,
    Real,
    Run,
    State,
    Sums,
)
from .arrays import address_of, on_device
from .graph import queue_step, queue_update
from .launch import Recording, clear, copies_past_registers, copy_into, load, queue, run, to_host
from .matrices import first_not_finite, warps_for
from .memory import PINNED, Memory
from .own import codes_of
from .schedule import levels_of, make_schedule, records_of, structure_of, update_of, vectors_of
from .step import run_of
from .toolchain import check
from .updates import FACTORS, write_step_numbers

FEW_ROWS = 1 << 16  # that a pass without a gradient takes at a time: bounds its memory (an estimate)
ROWS = "X", "Y", "WEIGHTS", "ROW_INDEX"  # fields of the table whose arrays come to the device once
GIVEN = frozenset((*ROWS, "OUT"))  # those of arrays that are the user's
# Steps for which a run of more than one, or of none, which only compiles, has room at once: for more of them all would
# be laid out anew (an estimate)
AT_ONCE = 1 << 14
FEW_STEPS = 16  # of a graph without an update, whose launches are kept for the next run (an estimate)
AHEAD = 64  # steps of one rate whose factors are computed together (an estimate)
MOMENTS = ("FIRST_MOMENT", "SECOND_MOMENT")  # fields of the table, in the order of a rule's states


class Plan(base.Plan):
    """The tables of a run on a GPU; arguments and use are those of `kernels.plan.Plan`.

    X and the output may be arrays of the device, X as `arrays.Rows`; all others are the host's. `precision` is that of
    `make_plan`. `loop` is "block", "shards", "grid" or "graph"; where it is None, that which the environment variable
    FASTNN_CUDA_LOOP names, or by size.
    """

    device = "cuda"

    def __init__(self, program, parameters, batch, command, state=None, precision="float32", loop=None):
        super().__init__(program, parameters, batch, command, state, extra=Buffer.SIZE * len(program.widths))
        self.precision, self.recording, self._recorded_of = precision, None, None
        self.schedule = make_schedule(program, self.dtype, batch, command, loop, precision)
        self.structure = structure_of(program, command, None)
        self.table[Run.SIZE :] = self.schedule.buffers.ravel()
        self.set(LD=self.schedule.ld, BUFFERS_AT=Run.SIZE, GROUPS_AT=self.schedule.groups_at)
        self.set(VECTORS=vectors_of(program), STATE=self.table.size)
        self.memory = Memory(self.dtype)  # by the name of a field or of what it holds
        self._changed = set()  # fields whose arrays of the host are not on the device yet
        self._room, self._at = {}, {}  # elements of what is sent side by side; by field where the device keeps arrays
        self._twins = {}  # of rows, in their shape
        self._mirror({"parameters": parameters})
        self._device_is_newer, self._held = False, None  # the mark of what the device has
        self._remembered, self._remembers_here = None, False  # parameters on the host, and whether they stand there
        self._program_table, self.records = None, None
        self._ahead_of, self._ahead = None, None  # of which rate and which steps, and their factors
        self._launched, self._launches = None, []  # of what, and the launch of it
        self._queued, self._queued_of = [], None  # launches of a graph without an update, and what they were made of
        self._weightless, self._levels = 0, levels_of(program)  # rows of weight 0; rows of all tables
        self.gradient, self._has_gradient = None, False  # on the host; whether the device has room for one

    def _place_of(self, name, array):
        if on_device(array):
            self._changed.discard(name)
            return address_of(array)
        self._changed.add(name)
        return self._at.get(name, 1)  # there is one: its address comes with the next run

    def _bind_state(self, rule):
        self.to_host()
        self._has_gradient = False
        self.update_by(rule, self.table[Run.CLIPS] != 0 or self.reals[Real.L2] != 0)
        self._mirror({"parameters": self.parameters, **dict(zip(MOMENTS, self.state.moments, strict=False))})
        if all(name in self.memory for name in self._mirrored):
            return
        self._room = {}  # all is laid out anew, with these

    def update_by(self, rule, clips):
        """Choose the kernel for an update rule; `clips`: with l2 or clipping."""
        chosen = update_of(self.program, self.dtype, self.schedule.loop, self.schedule.parts, clips)
        if (self.structure.rule, self.structure.update) != (rule.code, chosen):
            self.structure = self.structure._replace(rule=rule.code, update=chosen)

    def _mirror(self, arrays):
        """Name the arrays of the host that the device has copies of."""
        self._held = None
        self._mirrored, self._sizes = arrays, tuple((name, array.size) for name, array in arrays.items())

    def bind_data(self, X, y=None, weights=None, labels=False, rows=None, shuffle=False):
        """Name the rows, as `kernels.plan.Plan.bind_data` says; X may be on the device."""
        super().bind_data(X, y, weights, labels, rows, shuffle)
        self._weightless = 0
        if weights is not None:
            self._weightless = np.count_nonzero((weights if rows is None else weights[rows]) == 0)
        if not on_device(X):
            self.table[Run.X_STRIDE] = self.program.n_features  # of the copy

    def bind_gradient(self, gradient):
        """Name the gradient of the next update.

        Parameters
        ----------
        gradient : array (p,), dtype of the parameters
            On the host, as `gradient` of a plan gives it.
        """
        self.set(GRADIENTS=gradient)

    @property
    def every_step_counts(self):
        """Whether no batch can be without weight, which no update counts."""
        if not self._weightless or not self.command & LOSS:
            return True
        rows, batch = self["ROWS"], self["BATCH"]
        return self._weightless < (rows % batch or batch)

    def execute(self):
        """Carry out the command; counters and losses then stand on the host."""
        if not (self.command & UPDATE and self["STEPS"]):
            self._execute()
            return
        with interrupt_deferred():
            if self.every_step_counts:
                self._execute()
            else:
                self._execute_one_by_one()

    def remember(self):
        """Keep the parameters as they stand, for `restore`: on the device, where they are newer there."""
        self._remembers_here = not self._device_is_newer
        if not self._remembers_here:
            copy_into(self.reserve("remembered", self.program.size), self.memory["parameters"])
            return
        if self._remembered is None:
            self._remembered = np.empty_like(self.parameters)
        self._remembered[...] = self.parameters

    def restore(self):
        """Put back the parameters that `remember` kept."""
        self.parameters[...] = self._remembered if self._remembers_here else to_host(self.memory["remembered"])
        self._device_is_newer, self._held = False, None

    def to_device(self):
        """Bring parameters and moments to the device, if it has not newer ones."""
        if self._device_is_newer or self._held is not None and self._held is self.mark:
            return
        for name, array in self._mirrored.items():
            self.memory.upload(name, array, stays=True)
        self._held = self.mark

    def hold(self, mark):
        """Say that what the device has is what `mark` stands for, as `kernels.plan.Plan.hold`."""
        self._held = None if self._device_is_newer else mark

    def to_host(self):
        """Bring parameters and moments into the arrays of the state."""
        if self._device_is_newer:
            self._fetch_state()

    def _fetch_state(self, wanted=()):
        """`to_host`; gives other arrays of the device that come with them, as `Memory.fetch` does."""
        mirrored = self._mirrored
        found = self.memory.fetch(wanted + self._sizes, mirrored)
        for array in reversed(mirrored.values()):
            came = found.pop()
            if came is not array:
                array[...] = came
        self._device_is_newer = False
        return found

    def reserve(self, name, size, dtype=None):
        """Memory of the device under a name, for `size` numbers at least."""
        return self.memory.reserve(name, size, dtype)

    def upload(self, name, array, stays=False):
        """Copy an array of the host to the device, as `Memory.upload` says."""
        self.memory.upload(name, array, stays)

    def address(self, name):
        """Where the device keeps an array."""
        kept = self.kept.get(name)
        return address_of(kept) if on_device(kept) else self.memory.address(name)

    def within(self, at):
        """Address of a place in the workspace."""
        return self.address("workspace") + int(at) * self.dtype.itemsize

    def _execute_one_by_one(self):
        """All steps, where an update may not count."""
        rates = self.kept["RATES"]
        for i in range(len(rates)):
            self.set(STEPS=1, RATES=rates[i : i + 1])
            self._execute()
            if self.diverged:
                return

    def _execute(self):
        """`execute`, once it is settled what Ctrl-C does."""
        command = self.command
        updates, has_rows = command & UPDATE, command & (LOSS | OUTPUT)
        steps = self["STEPS"] if updates else -(-self["ROWS"] // self["BATCH"])
        self.table[Run.STATUS] = FINE
        self._prepare(steps)
        if not steps:  # it only compiles
            load(self._recorded().launches if self.schedule.loop == "graph" else self._blocks(1))
            return
        if not has_rows:
            self.upload("gradient", self.kept["GRADIENTS"])
            copy_into(self.memory["workspace"][self.schedule.result_at :][:2], np.array([0.0, 1.0], self.dtype))
            queue_update(self, 0)
        elif self.schedule.loop == "graph":
            self._queue_graph(steps)
        else:
            self.queue_blocks(1)
        if updates:
            self._device_is_newer, self._held = True, None
            for name in self._mirrored:
                self.memory.written(name)
        made, status, results = steps, FINE, None
        if command & LOSS:  # waits for the run
            fetch = self._fetch_state if self.returns_state and self._device_is_newer else self.memory.fetch
            table, results = fetch((("table", Run.SIZE), ("results", 2 * steps)))
            made, status = table.item(Run.FINISHED), table.item(Run.STATUS)
        if updates:
            checked = has_rows and self.schedule.loop != "graph"  # by the kernel itself
            if made < steps or status != FINE or not checked and not self._finite():
                self.set(STATUS=DIVERGED)
            if not has_rows:
                self.state.step += made
            elif steps == made == 1:
                self._count_step(*results.tolist())
            elif made:
                self._count(*(numbers[0] for numbers in results_of(results, 1, made)))
        else:
            if command & LOSS:
                values, masses = results_of(results, 1, steps)
                total = masses.sum()
                self.reals[[Real.BATCH_WEIGHT, Real.LAST_LOSS]] = total, mean_loss(values[0], masses[0])
            self._report(command)

    def _prepare(self, steps):
        """Bring to the device what it lacks, and the tables of this run."""
        memory, command = self.memory, self.command
        first = self._write_rows(steps)
        if steps:
            self.to_device()
        if command & UPDATE:
            self._write_factors(steps)
        if command & (BACKWARD | UPDATE) and not self._has_gradient:
            self._prepare_gradient()
        if command & (OUTPUT | INPUT_BACKWARD):
            self._reserve_output()
        self._table[:] = self.table
        base.STEPS.pack_into(self._table, base.STEPS_AT, steps, 0, *self._step_places)
        self._state[:] = self.state.table if command & UPDATE else 0
        memory.twin("reals")[:] = self.reals
        memory.send(first, "table")

    def _write_rows(self, steps):
        """Write the rows that the device lacks to where they are sent from; gives the first name of what is to be sent.

        Large ones go there by themselves.
        """
        changed, first = self._changed, "factors"
        if 2 * max(steps, 1) > self._room.get("results", 0):
            self._make_room(steps)
        self.memory.settle()
        for name in reversed(ROWS):
            array = self.kept.get(name) if name in changed else None
            if array is None:
                continue
            twin = self._twins.get(name)
            if twin is None or twin.shape != array.shape:
                self._make_room(steps)
                return self._write_rows(steps)
            twin[...], first = array, name
        changed.clear()
        return first

    def _make_room(self, steps):
        """Have a twin for all rows but large ones, which go to the device at once, and room for so many steps."""
        updates, rows = self.command & UPDATE, {}
        one_by_one = steps == 1 or self["OPEN_EPOCH"]  # a stream
        places = max(steps, 1 if one_by_one or not updates else AT_ONCE)
        room = {"factors": FACTORS * places if updates else 1, "results": 2 * places}
        for name in ROWS:
            array = self.kept.get(name)
            if array is None or on_device(array):
                continue
            if array.nbytes <= PINNED:
                rows[name], room[name] = array, array.size
            elif name in self._changed:
                self._room.pop(name, None)
                self.upload(name, array, stays=True)
                self._keep_at(name, name)
                self._changed.remove(name)
        if any(size > self._room.get(name, 0) for name, size in room.items()):
            self._lay_out(room)
            self._changed.update(rows)
        self._twins = {name: self.memory.twin(name)[: rows[name].size].reshape(rows[name].shape) for name in rows}

    def _lay_out(self, room):
        """Make room, side by side, for what a run sends to the device and brings back, with parameters and moments."""
        self.to_host()
        memory, program, length = self.memory, self.device_program(), self.table.size + State.SIZE
        self._room = room = {name: max(size, room.get(name, 0)) for name, size in (self._room | room).items()}
        sizes = {name: (room[name], np.int64 if name == "ROW_INDEX" else self.dtype) for name in ROWS if name in room}
        sizes |= {"factors": (max(room["factors"], 1), self.dtype), "reals": (self.reals.size, self.dtype)}
        sizes |= {"counter": (1, np.uint32), "table": (length + program.size, np.int64)}
        sizes["results"] = room["results"], self.dtype
        if self.parameters.nbytes * len(self._mirrored) <= PINNED:
            sizes |= {name: (size, self.dtype) for name, size in self._sizes}
        memory.lay_out(**sizes)
        self._held = None
        for name, size in self._sizes:
            self.reserve(name, size)
        table, memory.twin("counter")[:], size = memory.twin("table"), 0, self.table.size
        self._table, self._state, table[length:] = table[:size], table[size:length], program
        self._step_places = memory.address("factors"), 1, memory.address("results")  # from RATES to LOSSES
        places = {"PARAMETERS": "parameters", "REALS": "reals"} | {name: name for name in room if name in ROWS}
        places |= {name: name for name in MOMENTS if name in self._mirrored}
        if self.schedule.loop != "block":
            self.reserve("workspace", self.schedule.scratch)
            places["SCRATCH"] = "workspace"
        self.table[Run.PROGRAM] = length
        for field, name in places.items():
            self._keep_at(field, name)

    def _keep_at(self, field, name):
        """Write to the table where the device keeps an array, if one of the host is named."""
        self._at[field], given = self.memory.address(name), self.kept.get(field)
        if field not in GIVEN or given is not None and not on_device(given):
            self.table[getattr(Run, field)] = self._at[field]

    def _reserve_output(self):
        """Have room for outputs of the host."""
        out = self.kept.get("OUT")
        if out is not None and not on_device(out) and ("OUT" not in self.memory or self.memory["OUT"].size < out.size):
            self.reserve("OUT", out.size)
            self._keep_at("OUT", "OUT")

    def _write_factors(self, steps):
        """Write what the host computes of the rule for each step to where it is sent from."""
        rates, start, numbers = self.kept["RATES"], self.state.step, self.memory.twin("factors")[: FACTORS * steps]
        if steps != 1:
            self._compute_factors(numbers.reshape(steps, FACTORS), rates, start)
            return
        begun, place = divmod(start, AHEAD)  # steps that come one by one mostly have the rate of the last
        known = begun, rates.item(), self._rule
        if known != self._ahead_of:
            self._ahead_of, self._ahead = known, np.empty((AHEAD, FACTORS), self.dtype)
            self._compute_factors(self._ahead, rates.repeat(AHEAD), begun * AHEAD)
        numbers[:] = self._ahead[place]

    def _compute_factors(self, out, rates, before):
        """The factors of steps after so many others; all as float64, which each rule makes of them anyway."""
        rule, steps = self.state.rule, np.arange(before + 1.0, before + 1.0 + len(rates))
        settings = self.reals[Real.SETTINGS :][: len(rule.settings)].tolist()
        write_step_numbers(out, self.dtype.type, rule, rates, settings, steps)

    def _prepare_gradient(self):
        """Zeros where kernels write a gradient, and where they look for rows of tables that a batch touches."""
        # those of table rows stand there only where a gradient is read whole
        whole = self.command != TRAIN or self.reals[Real.L2] != 0
        leaves = self.command == GRADIENT and self.program.embedding is not None
        if leaves:
            self.memory.forget("gradient")  # what other rows left
        parts = self.schedule.parts if self.schedule.loop == "graph" else 1
        size = self.program.size if whole else self.program.dense_size
        self.zeros("gradient", parts * size)  # also between the ranges
        self.zeros("marks", self._levels, np.uint32)
        self._keep_at("GRADIENTS", "gradient")
        self._keep_at("MARKS", "marks")
        self._has_gradient = not leaves

    def zeros(self, name, size, dtype=None):
        """Memory of the device as `reserve` gives it, of zeros when it is new."""
        if name not in self.memory or self.memory[name].size < size:
            clear(self.reserve(name, size, dtype))

    def device_table(self, steps):
        """The table of a run of so many steps, followed by counters at zero; brings the rows to the device."""
        for name in ROWS:
            array = self.kept.get(name)
            if name in self._changed and array is not None:
                self.upload(name, array, stays=True)
                self._keep_at(name, name)
        self._changed.clear()
        self._reserve_output()
        table = np.concatenate([self.table, np.zeros(State.SIZE, np.int64)])
        table[[Run.STATUS, Run.FINISHED, Run.STEPS]] = FINE, 0, steps
        return table

    def upload_tables(self, tables):
        """Bring tables (nets, length) to the device, and behind them the program, which they share."""
        nets, length = tables.shape
        tables[:, Run.PROGRAM] = range(length * nets, 0, -length)  # from the start of each
        self.upload("table", np.concatenate([tables.ravel(), self.device_program()]))

    def device_program(self):
        """The program's table as the device reads it: with numbers for the user's functions, and with addresses."""
        if self._program_table is None:
            self._program_table = self.program.table.copy()
            self.records, codes = records_of(self.program, self._program_table), codes_of(self.structure.activations)
            for i, (operation, record) in enumerate(zip(self.program.operations, self.records, strict=True)):
                pair = operation.activation and operation.activation.functions
                if pair in codes:
                    record[operation.fields.ACTIVATION] = codes[pair]
                constants = operation.constants(self.dtype, self.program.offsets(i))
                if constants is not None:
                    self.upload(f"constants {i}", constants)
                    record[operation.fields.CONSTANTS] = self.address(f"constants {i}")
        return self._program_table

    def queue_blocks(self, nets):
        """Queue all steps of so many nets as one launch: a block each, or all blocks for one."""
        queue(self._blocks(nets), 0)

    def _blocks(self, nets):
        """That launch, in a list."""
        table, places = self.address("table"), self.schedule
        if self._launched != (nets, table, self.structure):
            self._launched, self._launches = (nets, table, self.structure), []
            counter = 0 if places.loop == "block" else self.address("counter")
            shared = places.shared * self.dtype.itemsize
            kernel = run_of(self.dtype.type, places.loop, self.structure, copies_past_registers())
            blocks, threads = places.shape
            numbers = places.theta_at, places.grad_at, places.parts, places.sums_at, places.rows_at
            numbers += places.second_at, places.shard
            shape, length = (nets * blocks, threads), self.table.size + State.SIZE
            run(kernel, shape, self._launches, table, length, places.tables_size, *numbers, counter, shared=shared)
        return self._launches

    def _queue_graph(self, steps):
        """Queue steps as rows of launches: those of training from a recording, those of the last run as they were."""
        if self.command & UPDATE:
            self._recorded().queue(steps)
            return
        if steps > FEW_STEPS:
            for step in range(steps):
                queue_step(self, 0, step * self["BATCH"])
            return
        known = self._facts_of_launches()
        if known != self._queued_of:
            launches = []
            for step in range(steps):
                queue_step(self, launches, step * self["BATCH"])
            self._queued, self._queued_of = launches, known
        queue(self._queued, 0)

    def _recorded(self):
        """The recording of a step, made anew where its launches have changed."""
        known = self._facts_of_launches()
        if known != self._recorded_of:
            launches = []
            queue_step(self, launches)
            if self.recording is None or self.recording.launches != launches:
                self.recording = Recording(launches)
            self._recorded_of = known
        return self.recording

    def _facts_of_launches(self):
        """All that launches of a graph are made of: kernels read the rest on the device."""
        table = self.table.copy()
        table[[Run.SEEN, Run.STEPS, Run.FINISHED]] = 0
        settings = self.reals[: Real.BATCH_WEIGHT].tobytes(), self.reals[Real.RATE :].tobytes()
        return self.memory.moves, self.structure, table.tobytes(), *settings

    def _finite(self):
        """Whether all parameters on the device are."""
        size = self.program.size
        found = self.reserve("found", warps_for(size), np.int64)
        first_not_finite(self.memory["parameters"].reshape(1, size), found)
        return to_host(found).min() == size

    def _report(self, command):
        """What a run without an update gives beside a loss."""
        if command & BACKWARD:
            self.gradient = self.memory.fetch((("gradient", self.program.size),))[0].copy()
        out = self.kept.get("OUT")
        if on_device(out):
            self.memory.fetch(())  # waits
        elif out is not None:
            out[...] = self.memory.fetch((("OUT", out.size),))[0].reshape(out.shape)

    def _count_step(self, value, mass):
        """`_count` for one step, in a tenth of the time."""
        state, counters, field = self.state, self.state.table, self.table.item
        per_epoch = -(-field(Run.ROWS) // field(Run.BATCH))
        ends = not field(Run.OPEN_EPOCH) and counters.item(State.POSITION) + 1 == per_epoch
        if mass > 0:  # else it was no update
            counters[State.STEP] = counters.item(State.STEP) + 1
        loss = state.count(value, mass, ends)
        if ends:
            finished = field(Run.FINISHED)
            self.kept["LOSSES"][finished], self.table[Run.FINISHED] = loss, finished + 1

    def _count(self, values, masses):
        """Bring losses and counters of the host to where the device stands after the steps that it made."""
        state, open_epoch = self.state, bool(self["OPEN_EPOCH"])
        end = state.position + len(values)
        per_epoch = end + 1 if open_epoch else -(-self["ROWS"] // self["BATCH"])
        state.step += int(np.count_nonzero(masses))
        done, position = divmod(end, per_epoch)
        made, position_before = np.array([len(values)]), np.array([state.position])
        each = values[np.newaxis], masses[np.newaxis]
        sums = epoch_sums(*each, made, position_before, per_epoch, state.sums[np.newaxis])[0]
        if done:
            finished = self["FINISHED"]
            self.kept["LOSSES"][finished : finished + done] = sums[:done, Sums.LOSS] / sums[:done, Sums.WEIGHT]
            self.set(FINISHED=finished + done)
        state.sums[:], state.table[State.POSITION] = sums[done], position
        state.epoch += done


def results_of(memory, nets, steps):
    """(losses, weights) of each step of each net, (nets, steps) in float64, of what the loop left."""
    found = memory[: 2 * nets * steps].astype(np.float64).reshape(nets, steps, 2)
    return found[..., 0], found[..., 1]


def mean_loss(values, masses):
    """Mean of losses of batches by their weights, over the last axis; NaN where all weigh nothing."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(masses > 0, values * masses, 0.0).sum(axis=-1) / masses.sum(axis=-1)


def epoch_sums(values, masses, made, positions, per_epoch, begun):
    """Sums of losses times weights, and of weights, in each epoch that steps take part in.

    Parameters
    ----------
    values, masses : array (nets, steps), float64
        Loss and weight of each step.
    made : array (nets,), int64
        How many of its steps a net has made.
    positions : array (nets,), int64
        Steps of the first epoch that were made before.
    per_epoch : int
        Steps of an epoch.
    begun : array (nets, Sums.SIZE), float64
        Sums of those before.

    Returns
    -------
    array (nets, epochs, Sums.SIZE)
        As many epochs as the furthest net has begun.
    """
    nets, steps = values.shape
    epochs = int((positions + made).max()) // per_epoch + 1
    places = (positions[:, np.newaxis] + np.arange(steps)) // per_epoch + epochs * np.arange(nets)[:, np.newaxis]
    counted = np.arange(steps) < made[:, np.newaxis]
    with np.errstate(invalid="ignore"):
        products = np.where(masses > 0, values * masses, 0.0)
    shares = [
        np.bincount(places[counted], numbers[counted], nets * epochs).reshape(nets, epochs)
        for numbers in (products, masses)
    ]
    sums = np.stack(shares, axis=-1).astype(np.float64)  # bincount of nothing gives integers
    sums[:, 0] += begun
    return sums


def make_plan(
    program: Program,
    parameters: Floats,
    batch: int,
    command: int,
    state: TrainingState | None = None,
    precision: str = "float32",
) -> Plan:
    """A plan for rows of `batch` at a time on the current GPU.

    Parameters
    ----------
    program : Program
        The net.
    parameters : array (program.size,), float32 or float64
        The flat parameters, on the host.
    batch : int
        Most rows in one step.
    command : int
        What is done with the rows, such as `kernels.tables.TRAIN`.
    state : TrainingState, optional
        Whose parameters these are, where they are updated.
    precision : str
        "float32", "tf32" or "bf16", for the products of large nets, as `matmul` says.

    Returns
    -------
    Plan
        Name the rows with `bind_data`, what else the command needs with its other methods, and `execute` it.
    """
    check()
    return Plan(program, parameters, batch if command & BACKWARD else min(batch, FEW_ROWS), command, state, precision)


class interrupt_deferred:
    """Context that defers SIGINT until the device's results are recorded; 1.5 us less than by `contextmanager`."""

    def __enter__(self):
        self._handler, self._caught = _signal.getsignal(_signal.SIGINT), []
        self._defers = callable(self._handler)
        if self._defers:
            try:
                _signal.signal(_signal.SIGINT, lambda *given: self._caught.append(given))
            except ValueError:  # not the main thread, which nothing interrupts
                self._defers = False

    def __exit__(self, *error):
        if self._defers:
            _signal.signal(_signal.SIGINT, self._handler)
            if self._caught:
                self._handler(*self._caught[-1])
