"""A warning after a fit that left a layer of ReLU units all dead: 0 for every row, so that no gradient passes."""

import contextlib
import warnings

import numpy as np

from . import arrays, backends, plans
from .errors import DeadUnitsWarning, users_level

GLANCE = 8  # rows that NumPy looks at after each fit: most often some unit of each layer answers to one of them
ROWS = 256  # that are looked at where it did not see that; all are only where these look dead
BLOCK = 4096  # rows that are looked at together


def warn(net, rows, threads, device):
    """Warn of the first layer whose units are all 0 for all rows.

    Parameters
    ----------
    net : Sequential
        After a fit.
    rows : Data
        That it was trained on.
    threads : int
        Threads that may take part.
    device : str
        Where it was trained: what is needed is compiled there.
    """
    layers, dead = _relu_layers(net, rows), None
    if layers and not _answer(net, layers, rows):
        # the fit is done, and stands: FASTNN_CUDA_LOOP may name a loop that has no room for so many rows
        with contextlib.suppress(MemoryError, ValueError):
            dead = _first_dead(net, layers, rows, threads, device)
    if dead is not None:
        number, layer = dead
        message = (
            f"all units of layer {number}, {layer!r}, are 0 for all rows of the training data, and cannot learn "
            "any more. Try standardize=True, a lower learning_rate, or another activation, such as 'leaky_relu'"
        )
        warnings.warn(message, DeadUnitsWarning, stacklevel=users_level())


def _spread(rows, most):
    """Places of so many rows at most, from the first to the last."""
    return np.linspace(0, len(rows) - 1, min(len(rows), most)).astype(np.int64)


def _in_X(rows, places):
    """Which rows of X stand at some places."""
    return places if rows.rows is None else rows.rows[places]


def _answer(net, layers, rows):
    """Whether a unit of each of these layers is above 0 for one of a few rows, without a kernel; False if not known."""
    places = _in_X(rows, _spread(rows, GLANCE))
    if arrays.on_gpu(rows.X):  # one by one they come without a kernel
        values = np.concatenate([np.asarray(rows.X[i : i + 1]) for i in places.tolist()])
    elif isinstance(rows.X, np.ndarray):
        values = rows.X[places]
    else:
        return False
    values = values.astype(net.dtype)
    weights = iter(net.array_views())
    with np.errstate(all="ignore"):
        for operation in net.program.evaluating.operations[: layers[-1][0]]:
            if operation.name == "standardize":
                values = ((values - operation.shift) * operation.scale + operation.offset).astype(net.dtype)
            elif operation.name == "dense" and operation.activation.name == "relu":
                values = np.maximum(values @ next(weights).T + next(weights), 0)
                if not values.any():
                    return False
            else:
                return False
    return True


def _first_dead(net, layers, rows, threads, device):
    """(number, layer) of the first layer that is 0 everywhere, or None."""
    values = _values(net, layers[-1][0], rows, _spread(rows, ROWS), threads, device)
    if not (values == values[0]).all():  # behind a dead layer all rows look alike
        return None
    for end, number, layer in layers:
        blocks = (np.arange(at, min(at + BLOCK, len(rows))) for at in range(0, len(rows), BLOCK))
        if all(not _values(net, end, rows, block, threads, device).any() for block in blocks):
            return number, layer
    return None


def _relu_layers(net, rows):
    """(operations up to its end, its number, the layer) of each layer of ReLU units that has reason to be above 0."""
    if any(isinstance(layer.activation, tuple) for layer in net.layers):  # functions of the user's own may raise
        return []
    operations = net.program.evaluating.operations
    ends = [i for i, operation in enumerate(operations, 1) if operation.parameters(1)]
    trained = [layer for layer in net.bound_layers if layer.arrays]
    found = [
        (end, number, layer)
        for number, (end, layer) in enumerate(zip(ends, trained, strict=True), 1)
        if layer.activation == "relu"
    ]
    if found and found[-1][2] is trained[-1] and not (rows.targets > 0).any():
        found.pop()
    return found


def _values(net, end, rows, places, threads, device):
    """Outputs of the first `end` operations for the rows at some places."""
    whole = net.program
    program = backends.Program(whole.n_features, whole.evaluating.operations[:end], whole.loss)
    parameters = net.state.parameters[: program.size]
    if program.size > program.dense_size:  # its tables do not stand where those of the whole net do
        parameters = np.zeros(program.size, net.dtype)
        for part, source in zip(program.slices, whole.slices, strict=False):
            parameters[part] = net.state.parameters[source]
    plan = backends.make_plan(device, net.precision, program, parameters, len(places), backends.PREDICT, threads)
    out = np.empty((len(places), program.outputs), net.dtype)
    plan.bind_data(rows.X, rows=_in_X(rows, places))
    plan.bind_output(out)
    plans.run(plan)
    return out
