"""Runs a plan on a GPU: what moves there when, and which form of the loop takes it.

The rows move to the device once for a plan. A chunk of steps is one launch; around it the tables, which are small, and
the parameters and the optimizer's state go to and fro, so that the arrays of the model layer are true between chunks.
"""

import os

import numpy as np

from .. import plan as _plan
from ..formulas import ADAM, CUSTOM, NEEDS_INPUT
from .launch import copied, room_for, run, to_host
from .toolchain import SIMULATED, check, cuda
from .training import FACTORS, SUMS, THREADS, run_of
from .updates import adam_factors

SHARED_BYTES = 48 << 10  # that a block gets without asking for more
# Estimated, not yet measured: the work of a step up to which one block beats the meetings of a grid
BLOCK_FLOPS = 1 << 21
FEW_ROWS = 1 << 16  # that a pass without a gradient takes at a time
MOST_PARTS = 32  # of the gradient of a long batch
LOOPS = ("block", "grid")


class Plan(_plan.Plan):
    """The tables of a run on a GPU; arguments and use are those of `kernels.plan.Plan`, arrays stay the host's.

    `loop` is "block" or "grid", by size, or by the environment variable FASTNN_CUDA_LOOP.
    """

    def __init__(self, layout, theta, batch, gradient, drops):
        if any(record[_plan.ACTIVATION] == CUSTOM for record in layout.records):
            raise ValueError("activation must be one of fastnn's own on a GPU; got functions of your own")
        self.layout, self.theta, self.dtype = layout, theta, theta.dtype
        self.threads, self.kept, self._new, self._there = 1, {}, set(), {}
        self.table = np.zeros(_plan.HEADER + layout.records.size, np.int64)
        self.reals = np.zeros(_plan.ALPHAS + len(layout.units))
        self.reals[_plan.ALPHAS :] = layout.alphas
        self.clip()
        ld = _plan.round_up(batch, 32) + 4  # neighbouring features begin in different banks
        self.set(
            LAYERS=len(layout.units),
            FEATURES=layout.n_features,
            OUTPUTS=layout.units[-1],
            PARAMETERS=layout.size,
            LAYERS_AT=_plan.HEADER,
            BATCH=batch,
            LD=ld,
        )
        self.gradients = self.allocate(layout.size).reshape(1, -1)
        if gradient:
            self.set(GRADIENTS=self.gradients)
        groups = -(-batch // 4)
        widths = (layout.n_features, *layout.units)
        work = max(groups * -(-max(widths) // 4), *(-(-a // 4) * -(-b // 4) for a, b in layout.sizes))
        self.shape = 1, int(min(THREADS, _plan.round_up(work, 32)))
        size = self._place(layout, ld, drops, gradient, batch)
        small = batch * layout.flops_per_sample() <= BLOCK_FLOPS and size * theta.itemsize <= SHARED_BYTES
        self.loop = os.environ.get("FASTNN_CUDA_LOOP") or ("block" if small else "grid")
        if self.loop not in LOOPS:
            raise ValueError(f"FASTNN_CUDA_LOOP must be {' or '.join(LOOPS)}; got {self.loop!r}")
        if self.loop == "block" and size * theta.itemsize > SHARED_BYTES:
            raise ValueError(f"FASTNN_CUDA_LOOP must be 'grid' for a net and batch of {size:,} numbers; got 'block'")
        if self.loop == "grid":
            blocks = min(_multiprocessors(), -(-work // THREADS))
            self.shape = blocks, THREADS
            size = self._place(layout, ld, drops, gradient, batch)
        self.size = size

    def _place(self, layout, ld, drops, gradient, batch):
        """Offsets of every buffer in the working space; gives its size."""
        end, threads = 0, self.shape[0] * self.shape[1]

        def place(elements):
            nonlocal end
            start, end = end, end + _plan.round_up(elements, 4)
            return start

        self.theta_at, self.sums_at = place(layout.size), place(SUMS * -(-threads // 32))
        records = self.table[_plan.HEADER :].reshape(layout.records.shape)
        records[:] = layout.records
        inputs = place(layout.n_features * ld)
        for i, record in enumerate(records):
            n_in, n_out = int(record[_plan.N_IN]), int(record[_plan.N_OUT])
            if not drops:
                record[_plan.DROPS] = 0
            record[_plan.X_AT] = place(n_in * ld) if i > 0 and record[_plan.DROPS] else inputs
            record[_plan.A_AT] = inputs = place(n_out * ld)
            record[_plan.Z_AT] = place(n_out * ld) if record[_plan.ACTIVATION] in NEEDS_INPUT else inputs
            record[_plan.DELTA_AT] = place(n_out * ld) if gradient else 0
        self.set(INPUT_DELTA_AT=place(layout.n_features * ld) if gradient and not drops else 0)
        tiles = sum(-(-b // 4) * (-(-a // 4) + 1) for a, b in layout.sizes)
        self.parts = int(max(1, min(threads // tiles, batch // 16, MOST_PARTS)))
        self.grad_at = place(self.parts * layout.size if gradient else 0)
        return end

    def set(self, **fields):
        """Write fields of the integer table; an array is kept, and copied to the device before the next run."""
        for name, value in fields.items():
            if isinstance(value, np.ndarray):
                self.kept[name] = value
                self._new.add(name)
                value = 1  # there is one
            self.table[getattr(_plan, name)] = value

    def device(self, name, size=None, dtype=None):
        """The device's copy of a kept array, or room for `size` numbers."""
        if size is None and name in self._new:
            self._new.discard(name)
            self._there[name] = copied(np.ascontiguousarray(self.kept[name]), name)
        elif size is not None and (name not in self._there or self._there[name].size < size):
            self._there[name] = room_for(size, dtype or self.dtype, name)
        return self._there[name]


def _multiprocessors():
    # the simulator runs blocks one after another: they cannot meet
    return 1 if SIMULATED else cuda.get_current_device().MULTIPROCESSOR_COUNT


def make_plan(layout, theta, batch, threads, gradient=False, drops=False):
    """A plan for rows of `batch` at a time on the current GPU.

    Parameters
    ----------
    layout : plan.Layout
        The net.
    theta : array (layout.size,), float32 or float64
        The flat parameters, on the host.
    batch : int
        Most rows in one step.
    threads : int
        Not used: a GPU has its own.
    gradient : bool
        Whether gradients are wanted.
    drops : bool
        Whether the inputs of layers are dropped as the layout says.

    Returns
    -------
    Plan
        The tables; name the rows with `data`, the task with `set`.
    """
    check()
    return Plan(layout, theta, batch if gradient else min(batch, FEW_ROWS), gradient, drops)


def execute(plan):
    """Carry out a plan; its status and counters then stand in its table, its results in the arrays of the host.

    Parameters
    ----------
    plan : Plan
        From `make_plan`.
    """
    train, real = plan["COMMAND"] == _plan.TRAIN, plan.dtype.type
    if plan["LOSS"] == CUSTOM:
        raise ValueError("loss must be one of fastnn's own on a GPU; got functions of your own")
    steps = plan["STEPS"] if train else -(-plan["ROWS"] // plan["BATCH"])
    table = plan.table.copy()
    for name in plan.kept:
        if name == "OUT":
            plan._new.discard(name)
            table[_plan.OUT] = _address(plan.device(name, plan.kept[name].size))
        elif name not in ("RATES", "LOSSES"):
            table[getattr(_plan, name)] = _address(plan.device(name))
    table[_plan.X_STRIDE], table[_plan.STEPS] = plan["FEATURES"], steps
    if not train:
        table[[_plan.EPOCH, _plan.POSITION, _plan.SHUFFLE]] = 0
    table[_plan.SCRATCH] = _address(plan.device("room", plan.size)) if plan.loop == "grid" else 0
    reals, theta = copied(plan.reals.astype(real)), copied(plan.theta)
    factors, table = copied(_factors(plan, steps if train else 0)), copied(table)
    results, counter = plan.device("results", 2 * max(steps, 1)), copied(np.zeros(1, np.uint32))
    places = plan.theta_at, plan.grad_at, plan.parts, plan.sums_at
    ends = _address(factors), _address(results), _address(counter)
    shared = plan.size * plan.dtype.itemsize if plan.loop == "block" else 0
    kernel = run_of(real, plan.loop == "grid")
    run(kernel, plan.shape, 0, _address(table), _address(reals), _address(theta), *places, *ends, shared=shared)
    made = int(to_host(table)[_plan.FINISHED])  # waits for the run
    values, masses = to_host(results)[: 2 * max(steps, 1)].astype(np.float64).reshape(-1, 2).T
    plan.set(STATUS=_plan.FINE)
    if train:
        _settle(plan, made, values, masses, to_host(theta))
        return
    counted = masses > 0
    plan.reals[_plan.BATCH_WEIGHT] = masses.sum()
    with np.errstate(invalid="ignore", divide="ignore"):
        plan.reals[_plan.LAST_LOSS] = (values[counted] * masses[counted]).sum() / masses.sum()
    for name in ("OUT", "GRADIENTS"):
        if name in plan.kept:
            kept = plan.kept[name]
            kept[...] = to_host(plan.device(name))[: kept.size].reshape(kept.shape)


execute_interruptibly = execute  # a chunk of a tenth of a second is one launch, which nothing interrupts


def _address(array):
    facts = getattr(array, "__cuda_array_interface__", None) or array.__array_interface__
    return int(facts["data"][0])


def _factors(plan, steps):
    """Rate, shrink and root correction of each step, in the run's dtype."""
    factors = np.ones((max(steps, 1), FACTORS))
    if steps:
        rates = plan.kept["RATES"][:: plan["RATES_STRIDE"] or 1][:steps]
        if plan["RATES_STRIDE"] == 0:
            rates = np.full(steps, plan.kept["RATES"][0])
        factors[:, 0] = rates
        if plan["OPTIMIZER"] == ADAM:
            beta1, beta2, decoupled = (plan.reals[i] for i in (_plan.BETA1, _plan.BETA2, _plan.DECOUPLED))
            numbers = plan["STEP"] + 1 + np.arange(steps)
            columns = adam_factors(plan.dtype.type, rates, beta1, beta2, decoupled, numbers)
            factors[:] = np.stack(columns, axis=1)
    return factors.astype(plan.dtype)


def _settle(plan, made, values, masses, theta):
    """Bring parameters, state, losses and counters of the host to where the device stands after `made` steps."""
    plan.theta[...] = theta
    for name in ("STATE_1", "STATE_2"):
        plan.kept[name][...] = to_host(plan.device(name))
    if made < plan["STEPS"] or not np.isfinite(theta).all():
        plan.set(STATUS=_plan.DIVERGED)
    if made == 0:
        return
    per_epoch = -(-plan["ROWS"] // plan["BATCH"])
    masses = masses[:made]
    sums = np.where(masses > 0, values[:made] * masses, 0.0)
    epochs = (plan["POSITION"] + np.arange(made)) // per_epoch
    sums, masses = np.bincount(epochs, sums), np.bincount(epochs, masses)
    sums[0] += plan.reals[_plan.EPOCH_LOSS]
    masses[0] += plan.reals[_plan.EPOCH_WEIGHT]
    position, done = plan["POSITION"] + made, (plan["POSITION"] + made) // per_epoch
    finished = plan["FINISHED"]
    if done:
        plan.kept["LOSSES"][finished : finished + done] = sums[:done] / masses[:done]
    open_epoch = position % per_epoch != 0
    plan.reals[_plan.EPOCH_LOSS] = sums[-1] if open_epoch else 0.0
    plan.reals[_plan.EPOCH_WEIGHT] = masses[-1] if open_epoch else 0.0
    plan.set(
        STEP=plan["STEP"] + made,
        POSITION=position % per_epoch,
        EPOCH=plan["EPOCH"] + done,
        FINISHED=finished + done,
    )
