"""How a net becomes plans of the kernels, which of them are kept, and how rows are bound to them."""

import numpy as np

from . import arrays, backends, devices, inference, standardization

LONG_STEP_SECONDS = 0.2  # of work beyond which Ctrl-C does not wait for its end
MANY_VISITS = 32  # of rows, from which a copy that is faster to read pays (an estimate)
# A second, by device, before anything was measured: low, so that the first chunk of a fit is short (estimates)
GUESSED_FLOPS = {"cpu": 5e9, "cuda": 2e11}
GPU_STEP_SECONDS = 1e-5  # that the smallest step may take on a GPU


def guessed_seconds(plan, rows):
    """What a plan may take for so many rows, before anything was measured."""
    seconds = rows * plan.program.flops_per_sample / GUESSED_FLOPS[plan.device]
    return max(seconds, GPU_STEP_SECONDS) if plan.device == "cuda" else seconds


def make(net, command, batch, threads, on_gpu=False, parameters=None):
    """A plan for a net.

    Parameters
    ----------
    net : Sequential
        Built.
    command : int
        One of `kernels.tables`, such as TRAIN.
    batch : int
        Most rows in one step.
    threads : int
        Threads that may take part.
    on_gpu : bool
        Whether the rows are on the GPU already.
    parameters : array (p,), optional
        Used instead of the net's, which TRAIN and APPLY change; float32 or float64.

    Returns
    -------
    Plan
        Without rows.
    """
    program, state, device = net.program, net.state, _device(net, command, batch, on_gpu)
    parameters = state.parameters if parameters is None else parameters
    precision = net.precision if parameters.dtype == net.dtype else "float32"  # rounds no operands
    if command in (backends.PREDICT, backends.JACOBIAN):
        program = program.predicting
    elif command not in (backends.TRAIN, backends.APPLY):
        program = program.evaluating
    owner = state if command in (backends.TRAIN, backends.APPLY) else None
    return backends.make_plan(device, precision, program, parameters, batch, command, threads, owner)


def _device(net, command, batch, on_gpu):
    if command == backends.JACOBIAN:
        return "cpu"
    if command == backends.APPLY:  # a gradient is on the host, where it takes one pass
        return "cuda" if net.device == "cuda" else "cpu"
    kind = "step" if command == backends.TRAIN else "prediction"
    return devices.chosen(net.device, batch * net.program.flops_per_sample, kind, net.dtype, on_gpu)


class kept:
    """Context: the plan that `make` gives, kept for the next call of the same shape; nobody else has it meanwhile.

    After an error it is not kept. A net keeps the last one of each command, until its program or device changes. A
    class, for a step of a few rows: `contextmanager` takes a microsecond more.
    """

    def __init__(self, net, command, batch, threads, on_gpu=False):
        self._given = net, command, batch, threads, on_gpu

    def __enter__(self):
        net, command, batch, threads, on_gpu = self._given
        self._store, self._key = net.kept, (batch, threads, _device(net, command, batch, on_gpu))
        known, self._plan = self._store.pop(command, (None, None))
        if known != self._key:
            self._plan = make(*self._given)
        if self._plan.device == "cuda":
            self._plan.mark = net.weights_mark
        return self._plan

    def __exit__(self, error, *_):
        if error is None:
            self._plan.unbind_data()
            self._store[self._given[1]] = self._key, self._plan


def bind(net, plan, data, shuffle=False, visits=1):
    """Name the rows of a plan with a loss; `shuffle`: in a new order each epoch; `visits`: how often they are read."""
    X, *others = _arrays(net, plan, data)
    if plan.device == "cpu" and visits >= MANY_VISITS and data.rows is None and not shuffle:
        X = backends.rows_on_lines(X)
    plan.bind_data(X, *others, rows=data.rows, shuffle=shuffle)


def bind_batch(net, plan, data, seen):
    """Name rows that are one batch of an epoch, after `seen` others."""
    plan.bind_batch(*_arrays(net, plan, data), seen)


def _arrays(net, plan, data):
    """(X, y, weights, labels) as the plan reads them."""
    y, learned = data.y, net.standardization
    if learned is not None and net.scales_targets:
        y = standardization.scaled_targets(learned, y)
    # a batch on the GPU may come after others on the host, where the net may choose
    return np.asarray(data.X) if plan.device == "cpu" else data.X, y, data.weights, data.labels


def run(plan):
    """Carry out one pass over the rows."""
    seconds = guessed_seconds(plan, plan["ROWS"])
    (plan.execute_interruptibly if seconds > LONG_STEP_SECONDS else plan.execute)()


def loss_of(plan):
    """Mean loss of the rows of a plan."""
    run(plan)
    return plan.loss


def loss_plan(net, data, threads):
    """A plan for the loss of these rows, whatever the parameters are when it is carried out."""
    plan = make(net, backends.EVALUATE, len(data), threads, arrays.on_gpu(data.X))
    bind(net, plan, data)
    return plan


def outputs(net, X, out, threads, rows=None):
    """Outputs for checked samples, or for some `rows` of them, written to `out` and returned."""
    count = len(X) if rows is None else len(rows)
    if count <= inference.FEW_ROWS and type(X) is np.ndarray:
        inference.run(inference.frozen(net), X if rows is None else X[rows], out)
        return out
    with kept(net, backends.PREDICT, count, threads, arrays.on_gpu(X)) as plan:
        plan.bind_data(X, rows=rows)
        plan.bind_output(out)
        run(plan)
    return out


def host_outputs(net, data, threads):
    """Outputs for the rows that count, on the host."""
    return outputs(net, data.X, np.empty((len(data), net.outputs), net.dtype), threads, data.rows)
