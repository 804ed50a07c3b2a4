"""Many small nets at once on a GPU: each is trained by a block of its own, all of them in one launch.

The nets are of one program and read the same rows; parameters, counters and hyperparameters are each net's own. The
kernel is that of a single net (`step.run_of`), and so is the schedule: net i has the bits of the same net trained alone
by the loop of one block. Parameters and moments are arrays (nets, parameters) of the device, a row a net.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..formulas import Rule
from ..plan import write_settings
from ..program import Program
from ..state import TrainingState
from ..tables import EVALUATE, FINE, PREDICT, TRAIN, Real, Run, State, Sums
from .driver import FEW_ROWS, MOMENTS, Plan, epoch_sums, interrupt_deferred, mean_loss, results_of
from .launch import copy_into, to_host
from .matrices import copy_rows
from .schedule import fits, levels_of, one_block, shared_bytes
from .toolchain import check
from .updates import step_numbers

MOST_PASSED = 512  # rows that a pass without a gradient takes at a time (an estimate)


class Group:
    """Nets of one program that train side by side on the same rows.

    Training goes in runs: `bind_data` once, `bind_net` for each net, then `bind_steps` and `execute` again and again.
    All nets that are active make the same number of steps in a run; a net that was not goes on later from where it
    stood, in an epoch of its own.

    Parameters
    ----------
    program : Program
        Of all nets.
    parameters : array (k, program.size), float32 or float64
        Where the nets start, a row a net. Training updates them when `to_host` is called.
    seeds : array (k,), int64
        Of shuffling and dropout.
    batch : int
        Most rows in one step.
    rule : Rule
        Of all updates, from `formulas.RULES`.
    precision : str
        "float32": no block has products for tensor cores.

    Attributes
    ----------
    active : array (k,), bool
        Nets that take part in the next run, evaluation or prediction; the caller may change it. A net that diverges is
        taken out.
    diverged : array (k,), bool
        Nets that have ended at a loss or parameters that are not finite.
    counters : array (k, State.SIZE), int64
        Seeds, steps, epochs and positions, as the fields of `tables.State`.
    sums : array (k, Sums.SIZE), float64
        Of the epoch that each net has begun.
    parameters : array (k, program.size)
        As they were at the last `to_host`.
    moments : tuple of array (k, program.size)
        Those of the rule, likewise.

    Raises
    ------
    ValueError
        If one block cannot hold a net and a batch, or the precision is another.
    """

    device = "cuda"

    def __init__(
        self,
        program: Program,
        parameters: NDArray[Any],
        seeds: NDArray[np.int64],
        batch: int,
        rule: Rule,
        precision: str = "float32",
    ) -> None:
        check()
        if precision != "float32":
            raise ValueError(f"precision must be 'float32' for nets that share a GPU, a block each; got {precision!r}")
        self.program, self.parameters, self.rule = program, parameters, rule
        self._must_fit(batch)
        nets, size = parameters.shape
        self.plan = Plan(program, parameters[0], batch, TRAIN, loop="block")
        self.moments = tuple(np.zeros_like(parameters) for _ in rule.states)
        self.counters, self.sums = np.zeros((nets, State.SIZE), np.int64), np.zeros((nets, Sums.SIZE))
        self.counters[:, State.SEED] = seeds
        self.active, self.diverged = np.ones(nets, bool), np.zeros(nets, bool)
        self.reals, self.clips = np.tile(self.plan.reals, (nets, 1)), np.zeros(nets, np.int64)
        self.to_device()
        self.plan.reserve("remembered", nets * size)
        self._passes: dict[int, Plan] = {}

    def _must_fit(self, batch):
        dtype = self.parameters.dtype
        block = one_block(self.program, dtype, batch, TRAIN)
        if not fits(block, dtype):
            accepted = f"a net and batch of at most {shared_bytes():,} bytes, which one block holds"
            bytes_taken = block.shared * dtype.itemsize
            raise ValueError(f"program must be {accepted}; got {bytes_taken:,} for a batch of {batch}")

    @property
    def _mirrored(self):
        return {"parameters": self.parameters, **dict(zip(MOMENTS, self.moments, strict=False))}

    def go_on(self, states: Sequence[TrainingState]) -> None:
        """Take over where nets stand that have been trained before.

        Parameters
        ----------
        states : sequence of TrainingState
            Of each net, with moments of the rule.
        """
        for i, state in enumerate(states):
            self.counters[i], self.sums[i] = state.table, state.sums
            for moments, own in zip(self.moments, state.moments, strict=True):
                moments[i] = own
        self.to_device()

    def to_device(self) -> None:
        """Bring `parameters` and `moments` to the device."""
        for name, array in self._mirrored.items():
            self.plan.upload(name, array.ravel())
        self._device_is_newer = False

    def bind_data(
        self,
        X: Any,
        y: Any,
        weights: Any = None,
        labels: bool = False,
        rows: Any = None,
        shuffle: bool = False,
    ) -> None:
        """Name the rows to train on, as `kernels.plan.Plan.bind_data`; they go to the device once for all nets.

        Parameters
        ----------
        X : array (m, n) or arrays.Rows
            Samples.
        y : array (m,) or (m, k)
            Targets.
        weights : array (m,), optional
            Weights of the samples.
        labels : bool
            Whether y holds class indices.
        rows : array (r,) of int64, optional
            Numbers of the rows to visit.
        shuffle : bool
            Visit them in a new order each epoch, that of each net's seed.
        """
        self.plan.bind_data(X, y, weights, labels, rows, shuffle)

    def bind_held_out(self, X: Any, y: Any, weights: Any = None, labels: bool = False, rows: Any = None) -> None:
        """Name the rows of `evaluate`, as `bind_data`.

        Parameters
        ----------
        X, y, weights, labels, rows
            As for `bind_data`.
        """
        self._pass(EVALUATE, self.program.evaluating, len(X) if rows is None else len(rows)).bind_data(
            X, y, weights, labels, rows
        )

    def bind_net(
        self,
        i: int,
        settings: Mapping[str, float],
        weight_decay: float = 0.0,
        l2: float = 0.0,
        clip_value: float | None = None,
        clip_norm: float | None = None,
    ) -> None:
        """Name the hyperparameters of a net, as `kernels.plan.Plan.bind_rule`.

        Parameters
        ----------
        i : int
            Its number.
        settings : mapping
            From each of the rule's settings to a number.
        weight_decay : float
            Coupled decay of all parameters.
        l2 : float
            Strength of the l2 term of the loss.
        clip_value, clip_norm : float or None
            Limits of each element of the gradient, and then of the norm of all of it.
        """
        self.clips[i] = write_settings(self.reals[i], self.rule, settings, weight_decay, l2, clip_value, clip_norm)

    def bind_steps(self, rates: NDArray[np.float64], losses: NDArray[np.float64]) -> None:
        """Name the steps of the next run.

        Parameters
        ----------
        rates : array (k, s) or (1, s), float64
            The learning rate of each step, of each net or of all.
        losses : array (k, epochs), float64
            Receives the mean loss of epoch e of net i at losses[i, e]; epochs are counted from the start of the net.

        Raises
        ------
        ValueError
            If an epoch that ends has no place there.
        """
        self.rates, self.losses = rates, losses
        self.plan.update_by(self.rule, bool(self.clips.any() or self.reals[:, Real.L2].any()))
        ends = (self.counters[:, State.POSITION] + rates.shape[1]) // self._steps_per_epoch
        needed = int((self.counters[:, State.EPOCH] + ends)[self.active].max(initial=0))
        if needed > losses.shape[1]:
            raise ValueError(f"losses must have a place for each epoch that ends, {needed}; got {losses.shape[1]}")

    @property
    def _steps_per_epoch(self):
        return -(-self.plan["ROWS"] // self.plan["BATCH"])

    def execute(self) -> None:
        """Let all active nets make the steps that are bound; counters and losses then stand on the host."""
        together = self.rates.shape[1] if self.plan.every_step_counts else 1
        with interrupt_deferred():
            for start in range(0, self.rates.shape[1], together):
                nets = np.flatnonzero(self.active)
                if nets.size:
                    self._execute(nets, self.rates[:, start : start + together])

    def _execute(self, nets, rates):
        steps, plan = rates.shape[1], self.plan
        numbers, rows = self._numbers(nets, rates)
        plan.upload("factors", numbers.astype(plan.dtype).ravel())
        factors, stride = plan.address("factors"), steps * numbers.shape[-1] * plan.dtype.itemsize
        values, masses, found = self._run(plan, nets, steps, RATES=factors + stride * rows, CLIPS=self.clips[nets])
        made = found[:, Run.FINISHED]
        self._device_is_newer = True
        self._count(nets, values, masses, made)
        wrong = nets[(made < steps) | (found[:, Run.STATUS] != FINE)]
        self.diverged[wrong], self.active[wrong] = True, False

    def _run(self, plan, nets, steps, **fields):
        """Queue a block for each of some nets and wait; gives losses and weights of their steps, and their tables."""
        size, count = plan.dtype.itemsize, np.arange(len(nets))
        plan.reserve("results", 2 * steps * len(nets))
        reals = self.reals[nets] if plan is self.plan else plan.reals[np.newaxis]  # which passes have in common
        plan.upload("reals", reals.astype(plan.dtype).ravel())
        table = plan.device_table(steps)
        tables = np.tile(table, (len(nets), 1))
        fields["LOSSES"] = plan.address("results") + 2 * steps * size * count
        fields["REALS"] = plan.address("reals") + reals.shape[1] * size * count * (len(reals) > 1)
        for name in self._mirrored:
            fields[name.upper()] = self.plan.address(name) + self.program.size * size * nets
        if plan is self.plan and self.program.embedding is not None:
            fields |= self._places_of_rows(count)
        for name, values in fields.items():
            tables[:, getattr(Run, name)] = values
        if plan is self.plan:
            tables[:, table[Run.STATE] :] = self.counters[nets]
        plan.upload_tables(tables)
        plan.queue_blocks(len(nets))
        found = to_host(plan.memory["table"])[: tables.size].reshape(tables.shape)  # waits for the run
        return *results_of(to_host(plan.memory["results"]), len(nets), steps), found

    def _places_of_rows(self, count):
        """Where each net marks the rows of tables that a batch touches, and has their gradient if l2 acts on all."""
        levels, size = levels_of(self.program), self.program.size * bool(self.reals[:, Real.L2].any())
        self.plan.zeros("marks", levels * len(self.active), np.uint32)
        self.plan.zeros("gradient", size * len(self.active))
        marks, gradients = self.plan.address("marks"), self.plan.address("gradient")
        return {
            "MARKS": marks + levels * np.dtype(np.uint32).itemsize * count,
            "GRADIENTS": gradients + size * self.plan.dtype.itemsize * count,
        }

    def _numbers(self, nets, rates):
        """(what `updates.step_numbers` computes, (rows, s, 3); the row of each net): one where all share it."""
        settings = self.reals[nets, Real.SETTINGS :][:, : len(self.rule.settings)]
        keys = np.column_stack([self.counters[nets, State.STEP], settings])  # a step is exact as a float64
        numbers, rows, used = [], np.zeros(len(nets), np.int64), 0
        for key in np.unique(keys, axis=0):
            alike = np.flatnonzero((keys == key).all(axis=1))
            own = rates if len(rates) == 1 else rates[nets[alike]]
            steps = int(key[0]) + 1 + np.arange(rates.shape[1])
            numbers.append(step_numbers(self.plan.dtype.type, self.rule, own, key[1:], steps))
            rows[alike] = used + np.arange(len(alike)) * (len(own) > 1)
            used += len(own)
        return np.concatenate(numbers), rows

    def _count(self, nets, values, masses, made):
        """Bring losses and counters to where the nets stand."""
        positions, per_epoch = self.counters[nets, State.POSITION], self._steps_per_epoch
        sums = epoch_sums(values, masses, made, positions, per_epoch, self.sums[nets])
        done, self.counters[nets, State.POSITION] = np.divmod(positions + made, per_epoch)
        for epoch in range(int(done.max())):
            over = done > epoch
            ended, loss = nets[over], sums[over, epoch, Sums.LOSS] / sums[over, epoch, Sums.WEIGHT]
            self.losses[ended, self.counters[ended, State.EPOCH] + epoch] = loss
        self.sums[nets] = sums[np.arange(len(nets)), done]
        self.counters[nets, State.EPOCH] += done
        counts = np.arange(values.shape[1]) < made[:, np.newaxis]
        self.counters[nets, State.STEP] += (counts & (masses > 0)).sum(axis=1)

    def _pass(self, command, program, rows):
        """A plan for passes over so many rows without a gradient, as many of them at a time as one block holds."""
        batch, dtype = min(rows, MOST_PASSED), self.parameters.dtype
        while not fits(one_block(program, dtype, batch, command), dtype) and batch > 1:
            batch = -(-batch // 2)
        if command not in self._passes or self._passes[command]["BATCH"] != batch:
            self._passes[command] = Plan(program, self.parameters[0], batch, command, loop="block")
        return self._passes[command]

    def evaluate(self) -> NDArray[np.float64]:
        """Mean losses of the rows that `bind_held_out` named.

        Returns
        -------
        array (a,), float64
            One for each active net, in their order. l2 is not in them.
        """
        plan, nets = self._passes[EVALUATE], np.flatnonzero(self.active)
        values, masses, _ = self._run(plan, nets, -(-plan["ROWS"] // plan["BATCH"]))
        return mean_loss(values, masses)

    def predict(self, X: Any, rows: Any = None) -> NDArray[Any]:
        """Outputs of all active nets.

        Parameters
        ----------
        X : array (m, n) or arrays.Rows
            Samples, in the dtype of the parameters.
        rows : array (r,) of int64, optional
            Numbers of the rows to visit; all of them where it is None.

        Returns
        -------
        array (a, r, n_out)
            Those of each active net, in their order.
        """
        nets, m = np.flatnonzero(self.active), len(X) if rows is None else len(rows)
        plan, n_out = self._pass(PREDICT, self.program.predicting, m), self.program.outputs
        out = np.empty((len(nets), m, n_out), plan.dtype)
        plan.bind_data(X, rows=rows)
        plan.set(OUT=out, OUT_STRIDE=n_out)
        plan.reserve("OUT", out.size)
        places = plan.address("OUT") + m * n_out * plan.dtype.itemsize * np.arange(len(nets))
        self._run(plan, nets, -(-m // plan["BATCH"]), OUT=places)
        out[...] = to_host(plan.memory["OUT"])[: out.size].reshape(out.shape)
        plan.unbind_data()
        return out

    def remember(self, nets: NDArray[np.int64]) -> None:
        """Keep the parameters of some nets as they stand, on the device, for `restore`.

        Parameters
        ----------
        nets : array (a,), int64
            Their numbers.
        """
        self._copy("parameters", "remembered", nets)

    def restore(self, nets: NDArray[np.int64]) -> None:
        """Put back the parameters of some nets that `remember` kept.

        Parameters
        ----------
        nets : array (a,), int64
            Their numbers.
        """
        self._copy("remembered", "parameters", nets)
        self._device_is_newer = True

    def remembered(self) -> NDArray[Any]:
        """What `remember` kept of all nets.

        Returns
        -------
        array (k, program.size)
            A copy; of nets of which nothing was kept, anything.
        """
        return to_host(self.plan.memory["remembered"])[: self.parameters.size].reshape(self.parameters.shape)

    def recall(self, i: int, parameters: NDArray[Any]) -> None:
        """Remember other parameters of a net than those that it has.

        Parameters
        ----------
        i : int
            Its number.
        parameters : array (program.size,)
            What `restore` is to put back.
        """
        size = self.program.size
        copy_into(self.plan.memory["remembered"][i * size : (i + 1) * size], parameters)

    def _copy(self, source, target, nets):
        memory, shape = self.plan.memory, self.parameters.shape
        self.plan.upload("chosen", np.ascontiguousarray(nets, np.int64))
        order = memory["chosen"][: len(nets)]
        copy_rows(memory[source].reshape(shape), order, memory[target].reshape(shape))

    def to_host(self) -> None:
        """Bring parameters and moments of all nets into `parameters` and `moments`."""
        if self._device_is_newer:
            for name, array in self._mirrored.items():
                array[...] = to_host(self.plan.memory[name]).reshape(array.shape)
            self._device_is_newer = False

    def state(self, i: int) -> TrainingState:
        """A net as one that is trained alone goes on from.

        Parameters
        ----------
        i : int
            Its number.

        Returns
        -------
        TrainingState
            With copies of its parameters, moments and counters.
        """
        self.to_host()
        state = TrainingState(self.parameters[i].copy(), int(self.counters[i, State.SEED]))
        state.rule, state.moments = self.rule, tuple(moment[i].copy() for moment in self.moments)
        state.table[:], state.sums[:] = self.counters[i], self.sums[i]
        return state


class Single:
    """One net that is too large for a block, trained by the loop that its size asks for; used as a Group of one.

    Parameters
    ----------
    program, parameters, seeds, batch, rule, precision
        As for Group, with one row of parameters and one seed.
    """

    def __init__(
        self,
        program: Program,
        parameters: NDArray[Any],
        seeds: NDArray[np.int64],
        batch: int,
        rule: Rule,
        precision: str = "float32",
    ) -> None:
        check()
        self.parameters, self.rule = parameters, rule
        self._state = TrainingState(parameters[0], int(seeds[0]))
        self.plan = Plan(program, parameters[0], batch, TRAIN, self._state, precision)
        self.active, self.diverged = np.ones(1, bool), np.zeros(1, bool)
        self._kept, self._held_out = parameters.copy(), ()

    @property
    def counters(self) -> NDArray[np.int64]:
        """Seed, step, epoch and position: array (1, State.SIZE)."""
        return self._state.table[np.newaxis]

    def go_on(self, states: Sequence[TrainingState]) -> None:
        """As Group; before `bind_net`.

        Parameters
        ----------
        states : sequence of TrainingState
            One.
        """
        self._state.copy_from(states[0])

    def bind_data(
        self, X: Any, y: Any, weights: Any = None, labels: bool = False, rows: Any = None, shuffle: bool = False
    ) -> None:
        """As Group.

        Parameters
        ----------
        X, y, weights, labels, rows, shuffle
            As for `kernels.plan.Plan.bind_data`.
        """
        self.plan.bind_data(X, y, weights, labels, rows, shuffle)

    def bind_held_out(self, X: Any, y: Any, weights: Any = None, labels: bool = False, rows: Any = None) -> None:
        """As Group.

        Parameters
        ----------
        X, y, weights, labels, rows
            As for `bind_data`.
        """
        self._held_out = X, y, weights, labels, rows

    def bind_net(self, i: int, settings: Mapping[str, float], *more: Any) -> None:
        """As Group.

        Parameters
        ----------
        i : int
            0.
        settings : mapping
            From each of the rule's settings to a number.
        *more
            What else `kernels.plan.Plan.bind_rule` takes.
        """
        self.plan.bind_rule(self.rule, settings, *more)

    def bind_steps(self, rates: NDArray[np.float64], losses: NDArray[np.float64]) -> None:
        """As Group.

        Parameters
        ----------
        rates : array (1, s), float64
            The learning rate of each step.
        losses : array (1, epochs), float64
            Receives the mean loss of each epoch.
        """
        self.plan.bind_steps(rates[0], losses[0], self._state.epoch)

    def execute(self) -> None:
        """Make the steps that are bound."""
        self.plan.execute()
        if self.plan.diverged:
            self.diverged[0], self.active[0] = True, False

    def _pass(self, command, program, rows):
        plan = Plan(program, self.parameters[0], min(rows, FEW_ROWS), command, precision=self.plan.precision)
        self.to_host()
        return plan

    def evaluate(self) -> NDArray[np.float64]:
        """As Group.

        Returns
        -------
        array (1,), float64
            The loss of the held-out rows.
        """
        X, rows = self._held_out[0], self._held_out[-1]
        plan = self._pass(EVALUATE, self.plan.program.evaluating, len(X) if rows is None else len(rows))
        plan.bind_data(*self._held_out)
        plan.execute()
        return np.array([plan.loss])

    def predict(self, X: Any, rows: Any = None) -> NDArray[Any]:
        """As Group.

        Parameters
        ----------
        X, rows
            As for `bind_data`.

        Returns
        -------
        array (1, r, n_out)
            The outputs.
        """
        m = len(X) if rows is None else len(rows)
        plan = self._pass(PREDICT, self.plan.program.predicting, m)
        out = np.empty((m, self.plan.program.outputs), plan.dtype)
        plan.bind_data(X, rows=rows)
        plan.bind_output(out)
        plan.execute()
        return out[np.newaxis]

    def remember(self, nets: NDArray[np.int64]) -> None:
        """As Group.

        Parameters
        ----------
        nets : array (1,), int64
            Its number.
        """
        self.to_host()
        self._kept[...] = self.parameters

    def remembered(self) -> NDArray[Any]:
        """As Group.

        Returns
        -------
        array (1, program.size)
            A copy.
        """
        return self._kept.copy()

    def recall(self, i: int, parameters: NDArray[Any]) -> None:
        """As Group.

        Parameters
        ----------
        i : int
            0.
        parameters : array (program.size,)
            What is to be remembered.
        """
        self._kept[i] = parameters

    def to_host(self) -> None:
        """Bring parameters and moments into the state."""
        self.plan.to_host()

    def to_device(self) -> None:
        """Nothing: what the host has changed goes to the device with the next run."""

    def state(self, i: int) -> TrainingState:
        """As Group.

        Parameters
        ----------
        i : int
            0.

        Returns
        -------
        TrainingState
            Its own.
        """
        self.to_host()
        return self._state
