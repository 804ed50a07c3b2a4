"""What tests of fastnn.mpi have done by the ranks that mpiexec starts."""

import os
import signal
import sys
import threading
import time

import numpy as np
from jobs import digest
from mpi4py import MPI

import fastnn
from fastnn import Dense, mpi, ranks

WORLD = MPI.COMM_WORLD
ROWS, FEATURES = 203, 7


def data(dtype="float32", kind="classes", seed=0):
    """(X, y, weights) of all ranks."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(ROWS, FEATURES)).astype(dtype)
    classes = (X[:, 0] > 0.4).astype(int) + (X[:, 1] > 0)
    y = {"classes": classes, "numbers": X[:, 0] * 9 + 4, "text": np.array(["a", "b", "c"])[classes]}[kind]
    return X, y, rng.uniform(0.1, 2.0, ROWS)


def part(comm, *arrays):
    """The uneven part of a rank, the first ranks having fewer rows."""
    ends = np.cumsum([0, *np.arange(comm.size) + 1]) * ROWS // (comm.size * (comm.size + 1) // 2)
    return [array[ends[comm.rank] : ends[comm.rank + 1]] for array in arrays]


def net(kind="classes", **settings):
    """A net for the data."""
    last = Dense(1) if kind == "numbers" else Dense(3, "softmax")
    return fastnn.Sequential([Dense(20, "relu"), fastnn.Dropout(0.2), last], seed=3, **settings)


# name: (kind of the targets, dtype, whether weighted, settings of the net, of the fit)
CASES = {
    "shuffled, with dropout": ("classes", "float32", False, {}, dict(batch_size=32)),
    "uneven batches, weights, l2": ("classes", "float32", True, {}, dict(batch_size=30, l2=0.01)),
    "clipped by norm": (
        "classes",
        "float32",
        True,
        {},
        dict(batch_size=50, l2=0.01, optimizer=fastnn.Adam(0.01, clip_norm=0.3, clip_value=0.05)),
    ),
    "clipped by value, in order": (
        "classes",
        "float32",
        False,
        {},
        dict(batch_size=64, shuffle=False, l2=0.01, optimizer=fastnn.SGD(fastnn.CosineDecay(0.1, 3), clip_value=0.01)),
    ),
    "balanced, full batch": (
        "classes",
        "float64",
        True,
        dict(dtype="float64"),
        dict(batch_size=None, class_weight="balanced", shards=8),
    ),
    "batches without weight": ("classes", "float32", True, {}, dict(batch_size=10, shuffle=False)),
    "standardized": ("numbers", "float64", True, dict(standardize=True), dict(batch_size=16)),
    "text, early stopping": ("text", "float32", False, {}, dict(callbacks=[fastnn.EarlyStopping(1)])),
}


def fitted(comm, case):
    """(net, history) of one of the cases by the ranks of a communicator."""
    kind, dtype, weighted, of_net, settings = CASES[case]
    X, y, w = data(dtype, kind)
    if case == "batches without weight":
        w[20:90] = 0.0
    X, y, w = part(comm, X, y, w)
    held_out = part(comm, *data(dtype, kind, seed=1))[: 3 if weighted else 2]
    made = net(kind, **of_net)
    weights = w if weighted else None
    history = mpi.fit(made, X, y, epochs=2, sample_weight=weights, validation_data=held_out, **settings)
    return made, history


def bits(*sizes):
    """Each case by communicators of these sizes, all with the same bits; those of the first are on rank 0."""
    right = {}
    for size in sizes:
        comm = WORLD.Split(0 if WORLD.rank < size else MPI.UNDEFINED)
        if comm == MPI.COMM_NULL:
            continue
        for case in CASES:
            made, history = with_comm(comm, case)
            record = history.loss, history.validation_loss, history.learning_rate, [history.epochs, history.steps]
            found = comm.allgather(digest(made.parameters, *made.state.moments, *record))
            assert set(found) == {right.setdefault(case, found[0])}, (case, size, WORLD.rank)
        comm.Free()


def with_comm(comm, case):
    """`fitted`, where the communicator is another than that of all."""
    settings = CASES[case][-1]
    settings["comm"] = comm
    try:
        return fitted(comm, case)
    finally:
        del settings["comm"]


def messages(*sizes):
    """`bits` as on several machines, which share no memory."""
    kept, ranks.SharedMemory = ranks.SharedMemory, ranks.Messages
    bits(*sizes)
    ranks.SharedMemory = kept


def as_one_process():
    """With one shard the fit of one rank is that of `Sequential.fit`; with more, in order, all but the rounding is."""
    X, y, w = data("float64")
    settings = dict(optimizer=fastnn.Adam(0.01, weight_decay=0.01), epochs=3, batch_size=30, validation_data=(X, y))
    one, other = net(dtype="float64"), net(dtype="float64")
    right = one.fit(X, y, **settings)
    found = mpi.fit(other, X, y, shards=1, comm=MPI.COMM_SELF, **settings)
    assert digest(one.parameters, right.loss) == digest(other.parameters, found.loss)
    np.testing.assert_allclose(found.validation_loss, right.validation_loss, rtol=1e-13)
    layers = [Dense(9, "tanh"), Dense(3, "softmax")]
    one, other = (fastnn.Sequential(layers, dtype="float64", standardize=True) for _ in range(2))
    settings |= dict(shuffle=False, l2=0.1, class_weight="balanced", validation_data=None)
    settings["optimizer"] = fastnn.SGD(0.1, momentum=0.9, clip_norm=0.1)
    right = one.fit(X, y, sample_weight=w, **settings)
    X, y, w = part(WORLD, X, y, w)
    found = mpi.fit(other, X, y, sample_weight=w, **settings)
    np.testing.assert_allclose(found.loss, right.loss, rtol=1e-9)
    np.testing.assert_allclose(other.parameters, one.parameters, rtol=1e-9, atol=1e-12)


class Fail(fastnn.Callback):
    """A callback that raises."""

    def epoch(self, run):
        raise LookupError("no more")


class Interrupt(fastnn.Callback):
    """A callback during which Ctrl-C comes."""

    def epoch(self, run):
        os.kill(os.getpid(), signal.SIGINT)


def refused(error, text, changed_on, net_settings=None, **changes):
    """Every rank raises an error that names `text` where some pass something else; no rank waits for ever."""
    X, y, _ = part(WORLD, *data())
    settings = dict(X=X, y=y, epochs=2)
    changed = WORLD.rank in np.atleast_1d(changed_on)
    if changed:
        settings |= changes
    made = net(**(net_settings or {}) if changed else {})
    try:
        mpi.fit(made, **settings)
    except error as raised:
        assert text in str(raised), raised
        return raised
    raise AssertionError(f"no {error.__name__}: {text}")


def errors():
    """An error on one rank ends all ranks with it."""
    X, y, w = part(WORLD, *data())
    bad = X.copy()
    bad[-1, 2] = np.nan
    last = WORLD.size - 1
    raised = refused(ValueError, "X must be finite; got nan at row", last, X=bad)
    assert WORLD.rank == last or raised.__notes__ == [f"raised on rank {last} of {WORLD.size}"]
    refused(TypeError, "y must be", last, y=["x", *y[1:]])
    refused(ValueError, "X must be the same on all ranks; got '7 features' on rank 0", last, X=X[:, :3])
    refused(ValueError, "sample_weight must be the same on all ranks", 0, sample_weight=w)
    refused(ValueError, "epochs must be the same on all ranks; got 2 on rank 0 and 3 on rank", last, epochs=3)
    refused(ValueError, "optimizer must be the same on all ranks", last, optimizer=fastnn.SGD(0.2))
    refused(ValueError, "net must be the same on all ranks", last, net_settings=dict(standardize=True))
    refused(ValueError, "shards must be a power of two", last, shards=3)
    refused(ValueError, "shards must be the same", last, shards=8)
    every = range(WORLD.size)
    refused(ValueError, f"batch_size must be at most the {ROWS} samples", every, batch_size=ROWS + 1)
    if WORLD.size == 2:
        few = dict(X=X[:1], y=y[:1])
        refused(ValueError, "X must be an array of at least one row for each of the 4 shards; got 2 rows", every, **few)
    nothing = dict(sample_weight=np.zeros(len(X)))
    refused(ValueError, "sample_weight must be numbers, whose sum is positive", every, **nothing)
    refused(LookupError, "no more", 0, callbacks=[Fail()])
    refused(KeyboardInterrupt, "", 0, callbacks=[Interrupt()])
    on_gpu = dict(device="cuda")
    refused(ValueError, "device must be 'cpu' or 'auto' for fastnn.mpi; got 'cuda'", last, net_settings=on_gpu)


def interrupted_elsewhere():
    """Ctrl-C on the last rank ends a long fit of all, at a completed step, and the nets are the same."""
    X, y, _ = part(WORLD, *data())
    made = net()

    def interrupt():
        while not (made.parameters is not None and made.state.step):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    if WORLD.rank == WORLD.size - 1:
        threading.Thread(target=interrupt).start()
    try:
        mpi.fit(made, X, y, epochs=10**6, batch_size=8)
    except KeyboardInterrupt:
        assert len(set(WORLD.allgather((digest(made.parameters, *made.state.moments), made.state.step)))) == 1
        assert np.isfinite(mpi.fit(made, X, y, epochs=1).loss[0])
        return
    raise AssertionError("no interrupt")


def diverged():
    """Divergence is raised by all ranks, with the same weights."""
    X, y, _ = part(WORLD, *data())
    made = net()
    try:
        mpi.fit(made, X, y, epochs=50, optimizer=fastnn.SGD(1e30), batch_size=None)
    except fastnn.DivergedError:
        assert len(set(WORLD.allgather(digest(made.parameters)))) == 1 and np.isfinite(made.parameters).all()
        return
    raise AssertionError("no DivergedError")


class Stop(fastnn.Callback):
    """A callback that ends the fit by an error after some epochs."""

    def __init__(self, epochs):
        self.epochs = epochs

    def epoch(self, run):
        if run.history.epochs == self.epochs:
            raise LookupError("stopped")


def checkpoints(folder, *sizes):
    """A fit that all ranks were stopped in goes on by so many, with the bits of one that was not."""
    settings = dict(epochs=4, batch_size=60)

    def result(comm, epochs, **more):
        X, y, _ = part(comm, *data())
        held_out = part(comm, *data(seed=1)[:2])
        hooks = [fastnn.EarlyStopping(9), fastnn.Checkpoint(os.path.join(folder, "fit"))]
        if epochs is not None:
            hooks.append(Stop(epochs))
        made = net()
        history = mpi.fit(made, X, y, callbacks=hooks, validation_data=held_out, comm=comm, **settings, **more)
        return digest(made.parameters, history.loss, history.validation_loss), history.best_epoch

    right = result(WORLD, None)
    path = os.path.join(folder, "fit")
    for size in sizes:
        try:
            result(WORLD, 2)
        except LookupError:
            pass
        WORLD.Barrier()
        comm = WORLD.Split(0 if WORLD.rank < size else MPI.UNDEFINED)
        if comm != MPI.COMM_NULL:
            assert result(comm, None, resume=path) == right, size
            comm.Free()
        WORLD.Barrier()


def steers():
    """What callbacks of rank 0 do to the rate and to the weights all ranks follow; a fit goes on from rank 0's net."""
    X, y, _ = part(WORLD, *data())
    made = net()

    def halve(net, history):
        net.parameters = net.parameters / 2

    class Slower(fastnn.Callback):
        def epoch(self, run):
            run.rate_scale *= 0.5

    history = mpi.fit(made, X, y, epochs=3, callbacks=[halve, Slower()] if WORLD.rank == 0 else [])
    assert history.learning_rate.tolist() == [0.001, 0.0005, 0.00025]
    if WORLD.rank > 0:
        made.set_weights([array + 1 for array in made.get_weights()])
    history = mpi.fit(made, X, y, epochs=1)
    assert len(set(WORLD.allgather((digest(made.parameters, *made.state.moments), history.loss[0])))) == 1


def fail_unseen():
    """An error in the middle of a step, which no rank tells the others of, ends the program."""

    def broken(self, rate):
        raise LookupError("broken")

    if WORLD.rank == 1:
        mpi.RanksPlan.update_share = broken
    mpi.fit(net(), *part(WORLD, *data())[:2])


def die():
    """A rank that is killed in a fit."""
    if WORLD.rank == 1:
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGKILL)).start()
    mpi.fit(net(), *part(WORLD, *data())[:2], epochs=10**6)


def tell(text):
    """Print on rank 0, after all."""
    WORLD.Barrier()
    if WORLD.rank == 0:
        print(text)
        sys.stdout.flush()
