"""Runs a plan on a GPU: a chunk of steps is one launch, or replays of a graph.

Only tables, rates and losses, which are small, move around it.
"""

import math
import signal
import threading
from contextlib import contextmanager, nullcontext

import numpy as np

from .. import plan as _plan
from ..annotations import Floats
from ..formulas import ADAM
from . import graph
from .arrays import on_device
from .launch import Recording, run, to_host
from .plans import Plan
from .toolchain import check
from .training import FACTORS, run_of
from .updates import adam_factors

FEW_ROWS = 1 << 16  # that a pass without a gradient takes at a time


def make_plan(
    layout: _plan.Layout,
    theta: Floats,
    batch: int,
    threads: int,
    gradient: bool = False,
    drops: bool = False,
    precision: str = "float32",
) -> Plan:
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
    precision : str
        "float32", "tf32" or "bf16", for the products of large nets, as `matmul` says.

    Returns
    -------
    Plan
        The tables; name the rows with `data`, the task with `set`.
    """
    check()
    return Plan(layout, theta, batch if gradient else min(batch, FEW_ROWS), gradient, drops, precision)


def execute(plan: Plan) -> None:
    """Carry out a plan; its status and counters then stand in its table, its results in the arrays of the host.

    Parameters
    ----------
    plan : Plan
        From `make_plan`.
    """
    trains = plan["COMMAND"] == _plan.TRAIN and plan["STEPS"] > 0
    with _uninterrupted() if trains else nullcontext():
        _carry_out(plan)


@contextmanager
def _uninterrupted():
    """Ctrl-C waits: what the device has done must be counted, or brought to the host, before anyone asks."""
    handler, caught = signal.getsignal(signal.SIGINT), []
    if not callable(handler) or threading.current_thread() is not threading.main_thread():
        yield  # nothing interrupts here
        return
    signal.signal(signal.SIGINT, lambda *given: caught.append(given))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if caught:
            handler(*caught[-1])


def _carry_out(plan):
    """`execute`, once it is settled who may interrupt it."""
    train, real = plan["COMMAND"] == _plan.TRAIN, plan.dtype.type
    steps = plan["STEPS"] if train else -(-plan["ROWS"] // plan["BATCH"])
    table = plan.table.copy()
    plan.push()
    for name in plan.kept:
        if name == "OUT":
            plan._new.discard(name)
            plan.device(name, math.prod(plan.kept[name].shape))
            table[_plan.OUT] = plan.address(name)
        elif name not in ("RATES", "LOSSES"):
            plan.device(name)
            table[getattr(_plan, name)] = plan.address(name)
    table[_plan.X_STRIDE], table[_plan.STEPS] = plan.stride, steps
    table[[_plan.STATUS, _plan.FINISHED]] = 0
    if not train:
        table[[_plan.EPOCH, _plan.POSITION, _plan.SHUFFLE]] = 0
    if plan.loop != "block":
        plan.device("room", plan.size)
        table[_plan.SCRATCH] = plan.address("room")
    plan.device("results", 2 * max(steps, 1))
    plan.upload("factors", _factors(plan, steps if train else 0).ravel())
    table[_plan.RATES], table[_plan.LOSSES] = plan.address("factors"), plan.address("results")
    plan.upload("reals", plan.reals.astype(real))
    plan.upload("table", table)
    if plan.loop == "graph":
        _queue_steps(plan, steps, train)
    else:
        _queue_loop(plan, real)
    made = int(to_host(plan.device("table", 1))[_plan.FINISHED])  # waits for the run
    plan.set(STATUS=_plan.FINE)
    values = masses = np.zeros(0)
    if plan["FLAGS"] & _plan.WITH_LOSS:
        values, masses = to_host(plan.device("results", 1))[: 2 * steps].astype(np.float64).reshape(-1, 2).T
    if train:
        plan.ahead = plan.ahead or steps > 0
        _settle(plan, made, values, masses)
        return
    counted = masses > 0
    plan.reals[_plan.BATCH_WEIGHT] = masses.sum()
    with np.errstate(invalid="ignore", divide="ignore"):
        plan.reals[_plan.LAST_LOSS] = (values[counted] * masses[counted]).sum() / masses.sum()
    for name in ("OUT", "GRADIENTS"):
        if name in plan.kept and not on_device(plan.kept[name]):
            kept = plan.kept[name]
            kept[...] = to_host(plan.device(name))[: kept.size].reshape(kept.shape)


def _queue_loop(plan, real):
    """Queue all steps as one launch."""
    plan.upload("counter", np.zeros(1, np.uint32))
    places = plan.theta_at, plan.grad_at, plan.parts, plan.sums_at
    names = "table", "reals", "theta", "factors", "results", "counter"
    table, reals, theta, *ends = (plan.address(name) for name in names)
    shared = plan.size * plan.dtype.itemsize if plan.loop == "block" else 0
    kernel = run_of(real, plan.loop == "grid", plan.own, plan.own_loss)
    run(kernel, plan.shape, 0, table, reals, theta, *places, *ends, shared=shared)


def _queue_steps(plan, steps, train):
    """Queue steps as rows of launches: those of training from a recording, which is made anew if it has changed."""
    if not train:
        for step in range(steps):
            graph.queue_step(plan, 0, step * plan["BATCH"])
        return
    launches = []
    graph.queue_step(plan, launches)
    if plan.recording is None or plan.recording.launches != launches:
        plan.recording = Recording(launches)
        plan.recording.compile()
    plan.recording.queue(steps)


execute_interruptibly = execute  # nothing interrupts a launch


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


def _settle(plan, made, values, masses):
    """Bring losses and counters of the host to where the device stands after `made` steps."""
    if made < plan["STEPS"] or not plan.finite():
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
