"""Hostile and odd calls of everything public, each from a seed: none may crash, hang, or raise what is not documented.

    python fuzz.py FIRST COUNT [KIND...]

The number of a case is printed before it runs, so that the last one is to blame for a crash; what is wrong follows it.
A hang ends the process with the stacks of all threads.
"""

import copy
import decimal
import faulthandler
import math
import os
import pickle
import resource
import sys
import tempfile
import threading
import traceback
import warnings

import numpy as np
from numba import njit

import fastnn
from fastnn.kernels import cpu
from fastnn.kernels.cpu import rng as order
from fastnn.kernels.cpu import vmath

HANGS = 60  # seconds: a case takes milliseconds, the first of a kind some seconds of compilation
MEMORY = 6 << 30  # bytes of address space
ROWS, FEATURES = 12, 3
DOCUMENTED = (TypeError, ValueError, fastnn.NotBuiltError, fastnn.BusyError, fastnn.DivergedError, MemoryError)
FOLDER = tempfile.TemporaryDirectory(prefix="fastnn-fuzz-")


class Own(Exception):
    """What a function of the user's own raises."""


class Hostile:
    """Pretends to be what it is not, and raises when it is looked at."""

    shape, dtype, ndim = (ROWS, FEATURES), np.dtype("f4"), 2

    def _refuse(self, *args):
        raise Own("looked at")

    __array__ = __float__ = __index__ = __len__ = __iter__ = __getitem__ = _refuse


@njit
def cube(z):
    return z * z * z


@njit
def cube_slope(z):
    return 3.0 * z * z


@njit
def raising(z):
    if z > 0.5:
        raise ValueError("too large")
    return z


@njit
def raising_slope(z):
    return 1.0


def numbers(rng):
    """Odd scalars."""
    return [
        None, True, 0, -1, 1, 2, 3, 7, 2**31, 2**63 - 1, 2**63, 2**70, -(2**63), -0.5, 0.3, 1.0, 2.5, 1e-300, 1e300,
        math.nan, math.inf, -math.inf, np.float32(0.5), np.int8(3), np.uint64(2**63), np.bool_(True), np.array(2),
        np.float16(0.1), 1j, decimal.Decimal("0.5"), "3", "", b"x", np.datetime64("2020-01-01"), Hostile(), object,
    ]  # fmt: skip


def matrices(rng):
    """Odd arrays, and what may be taken for one."""
    X = rng.normal(size=(ROWS, FEATURES))
    packed = np.zeros(ROWS, [("x", "f8", FEATURES), ("id", "i4")])
    packed["x"] = X
    between = np.frombuffer(bytes(8 * ROWS * FEATURES + 1), np.uint8)[1:].view("f8").reshape(ROWS, FEATURES)
    return [
        X, X.astype("f4"), X.astype("f2"), X.astype(">f4"), X.astype("i8"), X.astype(bool), X.astype(complex),
        X.astype("g"), X.astype(object), X.astype(str), X[:0], X[:, :0], X[:, :1], X[0], X[0, 0], X[None], X.T, X[::-1],
        X[:, ::-1], X[::2], np.asfortranarray(X), packed["x"], packed, between, np.broadcast_to(X[0], X.shape),
        np.ma.masked_less(X, 0.0), np.matrix(X), X.tolist(), [[1.0], [1.0, 2.0]], [[]], [], (), {}, {1: 2}, set(),
        np.where(X > 1, np.nan, X), np.where(X > 1, np.inf, X), X * 1e300, X * 1e-300, np.full_like(X, 1e38),
        iter(X), range(ROWS), memoryview(X), X.dtype, np.zeros((ROWS, FEATURES), "m8[s]"), "text", Hostile(),
        [Hostile()], (Own for _ in range(3)), np.zeros((2,) * 20), np.lib.stride_tricks.as_strided(X, X.shape, (0, 0)),
    ]  # fmt: skip


def targets(rng):
    """Odd targets, weights and numbers of rows."""
    y = rng.integers(0, 2, ROWS)
    return [
        y, y.astype("f4"), y.astype(bool), y[:, None], np.eye(2)[y], np.eye(3)[y], y[:-1], -y, y + 5, y * 0, y + 0.5,
        y.tolist(), [str(v) for v in y], list("abcdefghijkl"), y.astype(object), np.full(ROWS, np.nan), y[None],
        y[::-1], np.arange(ROWS), np.arange(ROWS)[::-1], np.array([2**63], "u8"), *matrices(rng)[:8], *numbers(rng)[:8],
        np.broadcast_to(1.0, ROWS), Hostile(), np.full(ROWS, 1e300), np.full(ROWS, -1),
    ]  # fmt: skip


def pick(rng, values):
    return values[rng.integers(len(values))]


def mostly(rng, good, odd, share=0.7):
    """A good value, or now and then an odd one."""
    return good if rng.random() < share else pick(rng, odd)


def hostile_callback(rng, X, y):
    """A callback that does something to the net in the middle of its fit."""

    def change(net, history):
        what = rng.integers(14)
        if what == 0:
            raise Own("in a callback")
        acts = {
            1: lambda: net.build(FEATURES + 1),
            2: lambda: net.set_weights([a * 0.5 for a in net.get_weights()]),
            3: lambda: setattr(net, "parameters", net.parameters * 0.5),
            4: lambda: net.fit(X, y, epochs=1),
            5: lambda: net.partial_fit(X, y),
            6: lambda: net.parameters.__setitem__(slice(None), np.nan),
            7: lambda: net.predict(X),
            8: lambda: pickle.loads(pickle.dumps(net)).fit(X, y, epochs=1),
            9: lambda: X.__setitem__(slice(None), np.nan) if isinstance(X, np.ndarray) else None,
            10: lambda: net.apply_gradient(np.ones_like(net.parameters)),
            11: lambda: net.freeze(),
            12: lambda: setattr(net, "device", "cpu"),
            13: lambda: history.loss.__setitem__(0, 5.0),
        }
        if what in acts:
            acts[what]()
        return pick(rng, [None, True, False, 1, "stop", np.array([1, 2])])

    return change


class HostileCallback(fastnn.Callback):
    """Changes the run from each of its hooks."""

    def __init__(self, rng):
        self.rng = rng

    def _act(self, run):
        what = self.rng.integers(12)
        if what == 0:
            raise Own("in a hook")
        if what == 1:
            run.stop = pick(self.rng, [True, None, 5, "x"])
        if what == 2:
            run.net.build(FEATURES)
        if what == 3:
            setattr(run, pick(self.rng, ["net", "history", "epochs", "rate_scale"]), pick(self.rng, numbers(self.rng)))
        if what == 4:
            run.optimizer = fastnn.SGD(0.1)

    begin = chunk = epoch = end = _act

    def state(self):
        return {"x": pick(self.rng, numbers(self.rng))}


def hostile_metric(rng):
    def score(y, outputs):
        what = rng.integers(6)
        if what == 0:
            raise Own("in a metric")
        if what == 1:
            outputs[...] = np.nan
        if what == 2:
            y[...] = 7
        return pick(rng, [1.0, np.float32(2), 3, None, "x", np.array([1.0]), np.zeros(3), math.nan, 1j, True])

    return score


def batches(rng, X, y):
    """An iterable of batches that goes wrong."""
    for i in range(int(rng.integers(1, 4))):
        what = rng.integers(8)
        if what == 0:
            raise Own("in an iterable")
        yield pick(rng, [(X, y), (X, y), (X, y), (X, y, np.ones(ROWS)), (X,), X, None, (X[:0], y[:0]), (X, y[:-1]), i])


def layers(rng):
    hidden = pick(
        rng, ["relu", "tanh", "silu", "elu", "leaky_relu", "linear", (cube, cube_slope), (raising, raising_slope)]
    )
    units = mostly(rng, int(rng.integers(1, 9)), numbers(rng), 0.95)
    last = pick(rng, [(1, "sigmoid"), (2, "softmax"), (1,), (2, "sigmoid"), (3, "tanh")])
    made = [fastnn.Dense(units, hidden), fastnn.Dense(*last)]
    if rng.random() < 0.3:
        made.insert(0, fastnn.Dropout(mostly(rng, 0.2, numbers(rng), 0.8)))
    return made


LOSSES = "mse mae huber quantile poisson gaussian cross_entropy x".split() + [3, (cube, cube_slope), Hostile()]


def net_of(rng):
    """A net, built or not, of odd settings now and then."""
    settings = {
        "loss": mostly(rng, None, LOSSES, 0.93),
        "dtype": mostly(rng, "float32", ["float64", "f2", ">f4", int, None, 3, "x", np.float64], 0.93),
        "seed": mostly(rng, 0, numbers(rng), 0.97),
        "huber_delta": mostly(rng, 1.0, numbers(rng), 0.97),
        "quantile": mostly(rng, 0.5, numbers(rng), 0.97),
        "standardize": mostly(rng, rng.random() < 0.3, numbers(rng), 0.97),
        "device": mostly(rng, "cpu", ["auto", "cuda", "x", None], 0.97),
    }
    net = fastnn.Sequential(
        mostly(rng, layers(rng), [[], None, [1], "x", Hostile(), [fastnn.Dropout(0.1)]], 0.97), **settings
    )
    if rng.random() < 0.8:
        net.build(FEATURES)
    return net


def optimizer_of(rng):
    rate = mostly(
        rng,
        0.01,
        [*numbers(rng), fastnn.StepDecay(0.1, 2, 0.5), fastnn.CosineDecay(0.1, 3), fastnn.WarmUp(0.1, 2)],
        0.7,
    )
    kind = pick(rng, [fastnn.SGD, fastnn.Adam, fastnn.AdamW, fastnn.RMSprop, fastnn.Adagrad])
    more = {"weight_decay": mostly(rng, 0.0, numbers(rng), 0.9), "clip_norm": mostly(rng, None, numbers(rng), 0.8)}
    return kind(rate, **more)


def data_of(rng, net):
    X = rng.normal(size=(ROWS, FEATURES))
    y = rng.integers(0, 2, ROWS) if net.outputs < 3 else rng.normal(size=(ROWS, net.outputs))
    if net.outputs == 2 and net.layers[-1].activation != "softmax":
        y = np.eye(2)[y]
    if net.targets < net.outputs:
        y = rng.normal(size=(ROWS, net.targets))
    return X, y


def use(rng, net):
    """One call of a method with arguments of which some are odd."""
    X, y = data_of(rng, net)
    x, t = mostly(rng, X, matrices(rng), 0.8), mostly(rng, y, targets(rng), 0.8)
    w = mostly(rng, None, targets(rng), 0.85)
    threads = mostly(rng, None, [1, 2, *numbers(rng)], 0.8)
    path = mostly(rng, f"net-{threading.get_ident()}", [*numbers(rng), FOLDER.name, "/nowhere/x", b"x\0"], 0.8)

    def fit():
        given = {
            "optimizer": mostly(rng, None, [optimizer_of(rng), "adam", 3, fastnn.SGD, Hostile()], 0.6),
            "epochs": mostly(rng, 3, [n for n in numbers(rng) if type(n) is not int or n < 9 or n > 2**62], 0.9),
            "batch_size": mostly(rng, 4, numbers(rng), 0.8),
            "shuffle": mostly(rng, True, numbers(rng), 0.9),
            "sample_weight": w,
            "class_weight": mostly(rng, None, ["balanced", {0: 1.0, 1: 2.0}, {"a": 1}, {0: math.nan}, 3, "x"], 0.9),
            "l2": mostly(rng, 0.0, numbers(rng), 0.9),
            "validation_data": mostly(rng, None, [(X, y), (x, t), (X, y, w), 3, (X,), Hostile()], 0.8),
            "validation_split": mostly(rng, None, numbers(rng), 0.9),
            "metrics": mostly(rng, (), [["accuracy"], ["x"], "r2", [hostile_metric(rng)], [3], Hostile()], 0.7),
            "callbacks": mostly(
                rng,
                (),
                [
                    [hostile_callback(rng, X, y)], [HostileCallback(rng)], [fastnn.EarlyStopping(patience=1)], 3,
                    [fastnn.ReduceLROnPlateau(patience=1)], [fastnn.EarlyStopping(monitor="x")], [3], Hostile(),
                ],
                0.4,
            ),
            "threads": threads,
            "rows": mostly(rng, None, targets(rng), 0.9),
        }  # fmt: skip
        if rng.random() < 0.15:
            return net.fit(batches(rng, X, y), epochs=1, callbacks=given["callbacks"], metrics=given["metrics"])
        return net.fit(x, t, **{k: v for k, v in given.items() if rng.random() < 0.7})

    l2 = mostly(rng, 0.1, numbers(rng))
    calls = [
        fit, fit, fit, fit,
        lambda: net.partial_fit(x, t, mostly(rng, None, [optimizer_of(rng), 3], 0.7), w, threads=threads),
        lambda: net.predict(x, threads),
        lambda: net.predict_labels(x, threads),
        lambda: net.evaluate(x, t, w, threads, mostly(rng, (), [["accuracy"], [hostile_metric(rng)], 3], 0.7)),
        lambda: net.loss_and_gradient(x, t, w, threads),
        lambda: net.input_gradient(x, t, w, threads),
        lambda: net.jacobian(x, threads),
        lambda: net.objective(x, t, w, l2, threads)(mostly(rng, net.parameters, matrices(rng))),
        lambda: net.minimize(x, t, pick(rng, ["lbfgs", "newton-cholesky", 3]), w, None, l2, 4, threads=threads),
        lambda: net.apply_gradient(mostly(rng, np.ones(np.shape(net.parameters)), matrices(rng))),
        lambda: net.build(mostly(rng, FEATURES, numbers(rng))),
        lambda: net.set_weights(mostly(rng, net.get_weights(), [*matrices(rng), net.get_weights()[1:]])),
        lambda: setattr(net, "parameters", mostly(rng, net.parameters, matrices(rng))),
        lambda: setattr(net, "standardization", pick(rng, [net.standardization, *numbers(rng), *matrices(rng)])),
        lambda: net.save(path), lambda: fastnn.load(path), lambda: net.to_onnx(path), lambda: net.summary() + repr(net),
        lambda: fastnn.apply(net.freeze(), x, mostly(rng, None, [*matrices(rng), *targets(rng)])),
        lambda: pickle.loads(pickle.dumps(net)).predict(x), lambda: copy.deepcopy(net).partial_fit(x, t),
        lambda: copy.copy(net).partial_fit(x, t), lambda: use_ensemble(rng, net, x, t, w, path, threads),
    ]  # fmt: skip
    return pick(rng, calls)()


def use_ensemble(rng, net, x, t, w, path, threads):
    """Calls on an ensemble of a net and a copy of it."""
    given = mostly(rng, [net, copy.deepcopy(net)], [[net, net], [], [net, 3], net, None, [net_of(rng), net]])
    ensemble = fastnn.Ensemble(given, mostly(rng, [2, 1], [None, *numbers(rng), *matrices(rng)]))
    return pick(
        rng,
        [
            lambda: ensemble.predict(x, threads), lambda: ensemble.predict_labels(x, threads),
            lambda: ensemble.evaluate(x, t, w, threads), lambda: ensemble.summary() + repr(ensemble),
            lambda: fastnn.apply(ensemble.freeze(), x), lambda: pickle.loads(pickle.dumps(ensemble)).predict(x),
            lambda: pickle.loads(pickle.dumps(ensemble.freeze())), lambda: ensemble.save(path),
            lambda: ensemble.to_onnx(path),
        ],
    )()  # fmt: skip


def set_attribute(rng, thing):
    """Assign to, or delete, an attribute of an object."""
    name = pick(rng, [*(name for name in dir(thing) if not name.startswith("_")), "new"])
    try:
        if rng.random() < 0.1:
            delattr(thing, name)
        else:
            setattr(thing, name, pick(rng, [*numbers(rng), *matrices(rng), "sgd", "relu", (cube, cube_slope)]))
    except AttributeError:
        return f"{type(thing).__name__}.{name} refused"
    return f"{type(thing).__name__}.{name}"


def methods(rng):
    """A few calls on one net, with hostile arguments, callbacks, metrics and iterables."""
    net = net_of(rng)
    for _ in range(4):
        try:
            use(rng, net)
        except Exception as error:
            if not expected(error):
                raise
        still_works(net)


def attributes(rng):
    """Attributes set on a net, a layer, an optimizer, a schedule or a history, which are then used."""
    net, optimizer = fastnn.Sequential(layers(rng)).build(FEATURES), fastnn.SGD(fastnn.StepDecay(0.1, 2, 0.5), 0.9)
    X, y = data_of(rng, net)
    history, stopping = net.fit(X, y, epochs=2), fastnn.EarlyStopping(patience=1)
    things = [net, net, net.layers[0], optimizer, optimizer.learning_rate, history, stopping]
    done = set_attribute(rng, pick(rng, things))
    calls = [
        lambda: net.fit(X, y, optimizer, epochs=2, validation_data=(X, y), callbacks=[stopping]),
        lambda: net.predict(X), lambda: net.partial_fit(X, y, optimizer), lambda: net.summary() + repr(net),
        lambda: repr(optimizer) + repr(history) + repr(net.layers), lambda: pickle.loads(pickle.dumps(net)).predict(X),
        lambda: fastnn.apply(net.freeze(), X), lambda: history.to_dataframe(),
    ]  # fmt: skip
    try:
        pick(rng, calls)()
    except (*DOCUMENTED, AttributeError):  # of what is gone, or another thing
        pass
    except Exception as error:
        error.add_note(f"after {done}")
        raise


def constructors(rng):
    """Everything that can be made, from odd arguments."""
    odd = lambda good: mostly(rng, good, numbers(rng), 0.5)  # noqa: E731
    array = lambda good: mostly(rng, good, matrices(rng), 0.5)  # noqa: E731
    made = pick(
        rng,
        [
            lambda: fastnn.Dense(odd(3), odd("relu"), odd(None)),
            lambda: fastnn.Dropout(odd(0.1)),
            lambda: fastnn.SGD(odd(0.1), odd(0.9), odd(True)),
            lambda: fastnn.Adam(odd(0.1), odd(0.9), odd(0.99), odd(1e-8)),
            lambda: fastnn.StepDecay(odd(0.1), odd(3), odd(0.5)).rates(array([1, 2])),
            lambda: fastnn.CosineDecay(odd(0.1), odd(3), odd(0.0)).rates(array([1, 2])),
            lambda: fastnn.InverseTimeDecay(odd(0.1), odd(0.5)).rates(array([1, 2])),
            lambda: fastnn.WarmUp(odd(0.1), odd(3), odd(0.0)).rates(array([1, 2])),
            lambda: fastnn.EarlyStopping(odd("loss"), odd(3), odd(0.0)),
            lambda: fastnn.ReduceLROnPlateau(odd("loss"), odd(0.5), odd(3)),
            lambda: fastnn.Checkpoint(odd("x"), odd(1)),
            lambda: fastnn.logistic_net(odd(2)),
            lambda: fastnn.Standardization(*(array(np.ones(n)) for n in (3, 3, 1, 1))),
            lambda: fastnn.set_num_threads(odd(2)),
            lambda: fastnn.load(odd("x")),
            lambda: fastnn.apply(odd(None), array(np.zeros(3))),
        ],
    )
    try:
        made()
    finally:
        fastnn.set_num_threads(None)


def frozen(rng):
    """`apply` with tuples that freeze did not make."""
    net = fastnn.Sequential([fastnn.Dense(4, "tanh"), fastnn.Dense(FEATURES)]).build(FEATURES)
    good = net.freeze()
    forgeries = [
        good.table[:9], good.table * 0, good.table[::-1], good.table.astype("f8"), good.table[None], None, 3,
        np.zeros(200, "i8"), np.full(200, 2**62), np.repeat(good.table, 2)[::2], rng.integers(0, 40, 99),
    ]  # fmt: skip
    table = mostly(rng, good.table, forgeries)
    alphas = mostly(rng, good.alphas, [good.alphas[:0], good.alphas.astype("f4"), None, "x", *matrices(rng)])
    theta = mostly(rng, good.parameters, [good.parameters[:3], good.parameters.astype("f8"), None, *matrices(rng)])
    X = rng.normal(size=(ROWS, FEATURES)).astype("f4")
    forged = fastnn.Frozen(table, alphas, theta)
    outputs = fastnn.apply(forged, X, mostly(rng, None, [X, X[1:], *matrices(rng)]))
    if forged.table is good.table and theta is good.parameters and alphas is good.alphas:
        assert np.isfinite(outputs).all()
    pickle.loads(pickle.dumps(forged))


KERNELS = [
    getattr(cpu, name)
    for name in cpu.__all__
    if name.split("_")[-1] in ("forward", "backward", "update", "rows", "matmul", "dropout")
]
KERNELS += [order.permutation, vmath.evaluate]


def public_kernels(rng):
    """Kernels with arrays of sizes, dtypes and strides that do not belong together.

    Whatever layout a kernel accepts costs a compilation: of odd ones only outputs that it refuses.
    """
    kernel, sizes, arguments = pick(rng, KERNELS), rng.choice([0, 1, 2, 5, 40], 3), []
    for name, kind in kernel.py_func.__annotations__.items():
        if kind in (int, float, bool):
            arguments.append(mostly(rng, kind(rng.integers(0, 15)), numbers(rng), 0.97))
        elif name != "return":
            dims = 2 if name[0].isupper() or name in ("dA", "dX", "dW", "dZ", "y") else 1
            shape = tuple(sizes[:dims]) if rng.random() < 0.7 else tuple(rng.choice(sizes, dims))
            array = np.zeros(shape, mostly(rng, "f4", ["f8", "i8"], 0.9))
            if name in ("out", "dZ", "theta", "dA", "dW", "work") and rng.random() < 0.3:
                array.flags.writeable = False
                repeated = np.lib.stride_tricks.as_strided(np.zeros(1, "f4"), shape, (0,) * dims)
                array = pick(rng, [array, repeated, np.zeros((50, 50), "f4")[::2, ::3][: shape[0]]])
            odd = [v for v in matrices(rng) if not isinstance(v, np.ndarray) or v.flags.c_contiguous]
            arguments.append(mostly(rng, array, odd, 0.93))
    kernel(*arguments[: mostly(rng, None, [2, 1], 0.95)])


def threads(rng):
    """Two threads with one net."""
    net, found = net_of(rng), []
    seeds = [int(rng.integers(1 << 30)) for _ in range(2)]

    def work(seed):
        own = np.random.default_rng(seed)
        for _ in range(3):
            try:
                use(own, net)
            except Exception as error:
                found.append(error)

    workers = [threading.Thread(target=work, args=(seed,)) for seed in seeds]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for error in found:
        if not expected(error):
            raise error
    still_works(net)


def still_works(net):
    """A net predicts after whatever happened to it, or says that it cannot."""
    features = net.n_features
    if features is None or features > 100:
        return
    try:
        outputs = net.predict(np.ones((2, features)))
    except DOCUMENTED:
        return
    if not np.isfinite(net.parameters).all():
        return  # they can be written to
    assert outputs.shape == (2, net.outputs) and outputs.dtype == net.dtype
    assert np.isfinite(outputs).all() or net.standardization or np.abs(net.parameters).max() > 1e3


def sweeps(rng):
    """A sweep over hostile values, with hostile data, folds and scores."""
    odd = lambda good: mostly(rng, good, [*numbers(rng), *matrices(rng)], 0.93)  # noqa: E731
    values = dict(width=odd([2, 3]), optimizer=odd([fastnn.SGD(0.1), fastnn.Adam()]), batch_size=odd([None, 4]))
    values |= dict(l2=odd(0.0), seed=odd(range(2)))
    sweep = fastnn.Sweep(lambda width: [fastnn.Dense(width, "tanh"), fastnn.Dense(1)], **values)
    X = rng.normal(size=(ROWS, FEATURES)).astype("f4")
    judged = {pick(rng, ["cv", "validation_split", "validation_data"]): odd(None)}
    how = dict(halving=odd(None), sample=odd(None), score=odd(None), early_stopping=odd(None), keep=odd(3), seed=odd(0))
    how |= dict(refit=odd(None), shuffle=odd(True), sample_weight=odd(None), metrics=odd(()), threads=2)
    result = sweep.fit(odd(X), odd(X[:, 0]), epochs=mostly(rng, 2, [0, -1, 1.5, None, "3"], 0.9), **judged, **how)
    assert len(repr(result)) > 0 and len(result.to_dataframe()) == len(result.trials)
    for trial in result.trials:
        assert math.isfinite(trial.score) or trial.diverged or math.isnan(trial.score)
        for net in trial.nets:
            still_works(net)


KINDS = [methods, methods, attributes, constructors, frozen, public_kernels, threads, sweeps]


def expected(error):
    if isinstance(error, (Own, *DOCUMENTED)):
        return True
    no_gpu = isinstance(error, RuntimeError | ImportError) and str(error).startswith("CUDA kernels need")
    fixed = isinstance(error, AttributeError) and str(error).endswith("has no setter")
    return no_gpu or fixed or (isinstance(error, OSError) and error.filename is not None)


def run(number, kinds=KINDS):
    """One case; gives what is wrong with it, or None."""
    rng = np.random.default_rng([20, number])
    kind = pick(rng, kinds)
    try:
        kind(rng)
    except Exception as error:
        if not expected(error):
            return f"{kind.__name__}: {''.join(traceback.format_exception(error, limit=-5))}"
    return None


def main(first, count, names=()):
    kinds = [kind for kind in KINDS if kind.__name__ in names] or KINDS
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    warnings.simplefilter("ignore")
    os.chdir(FOLDER.name)  # some paths are odd
    for number in range(first, first + count):
        print(number, flush=True)
        faulthandler.dump_traceback_later(HANGS, exit=True)
        wrong = run(number, kinds)
        if wrong:
            print(wrong, flush=True)
    faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
