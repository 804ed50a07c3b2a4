"""Training batch by batch: partial_fit, iterables of batches, and files mapped into memory."""

import os
import re
import signal
import sys
import weakref

import numpy as np
import pytest
import reference
from nets import CHANGING, OPTIMIZERS, data, flat, pair
from subprocesses import python
from tolerance import assert_close

import fastnn
from fastnn import backends, plans


def cut(X, y, size, *more):
    """The arrays, a batch at a time."""
    return [tuple(a[at : at + size] for a in (X, y, *more)) for at in range(0, len(X), size)]


def state(net):
    """All bits that training goes on from."""
    return net.parameters.tobytes(), [moment.tobytes() for moment in net.state.moments], net.state.step, net.state.epoch


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("weighted", [False, True])
def test_partial_fit_is_a_fit_of_one_step(optimizer, weighted, dtype):
    make, _ = OPTIMIZERS[optimizer]
    one, other = pair(dtype=dtype)[0], pair(dtype=dtype)[0]
    X, y = data(dtype=dtype)
    w = np.linspace(0.5, 2.0, len(X)) if weighted else None
    for rows in (slice(0, 13), slice(13, 40), slice(0, 13)):
        weights = None if w is None else w[rows]
        loss = one.partial_fit(X[rows], y[rows], make(), weights, l2=0.01)
        history = other.fit(X[rows], y[rows], make(), 1, batch_size=len(X[rows]), sample_weight=weights, l2=0.01)
        assert type(loss) is float and loss == history.loss[0]
        assert state(one) == state(other)


def test_partial_fit_takes_up_every_setting_that_has_changed(dtype):
    """What is kept from call to call gives the bits of what is made anew."""
    kept, anew = pair(dtype=dtype)[0], pair(dtype=dtype)[0]
    X, y = data(dtype=dtype)
    for optimizer, l2 in CHANGING:
        anew.kept = {}
        losses = [net.partial_fit(X, y, optimizer, l2=l2) for net in (kept, anew)]
        assert losses[0] == losses[1] and state(kept) == state(anew), optimizer


def test_a_schedule_may_change_the_places_that_it_gets():
    class Own(fastnn.Schedule):
        def rates(self, epochs):
            seen.append(float(epochs[0]))
            epochs += 1.0
            return 0.1 * epochs

    (net, *_), (X, y), seen, optimizer = pair(), data(), [], fastnn.SGD(Own())
    for _ in range(3):
        net.partial_fit(X, y, optimizer)
    assert seen == [0.0, 0.0, 0.0]


def test_partial_fit_takes_up_the_number_of_threads():
    net, X, y = pair((64, 64, 1), ("tanh", "linear"), "mse")[0], np.ones((4096, 64), np.float32), np.ones(4096)
    used = []
    try:
        for n in (1, 2, 1):
            fastnn.set_num_threads(n)
            net.partial_fit(X, y)
            used.append(net.kept[backends.TRAIN][1].threads)
    finally:
        fastnn.set_num_threads(None)
    assert used == [1, 2, 1]


def test_partial_fit_builds_and_learns():
    net = fastnn.Sequential([fastnn.Dense(8, "tanh"), fastnn.Dense(3, "softmax")])
    X, y = data()
    losses = [net.partial_fit(X, y, fastnn.Adam(0.05)) for _ in range(60)]
    assert losses[-1] < 0.5 * losses[0]
    assert net.loss_and_gradient(X, y)[0] < losses[0]


def test_partial_fit_that_diverges_leaves_the_weights_before_the_step():
    net, _, weights = pair((5, 4, 1), ("tanh", "linear"), "mse")
    X, y = data(k=1, loss="mse")
    with pytest.raises(fastnn.DivergedError, match="diverged in epoch 0"):
        net.partial_fit(X, 1e200 * y, fastnn.SGD(1e200))
    assert np.array_equal(flat(net.get_weights()), flat(weights))
    assert np.isfinite(net.partial_fit(X, y))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("size", [7, 40, 13])
@pytest.mark.parametrize("epochs", [1, 4])
def test_batches_in_order_are_the_fit_without_shuffling(size, weighted, epochs, dtype):
    X, y = data(dtype=dtype)
    w = np.linspace(0.5, 2.0, len(X)) if weighted else None
    one, other = pair(dtype=dtype)[0], pair(dtype=dtype)[0]
    settings = dict(optimizer=fastnn.Adam(fastnn.WarmUp(0.05, 2)), epochs=epochs, l2=0.01)
    batches = cut(X, y, size) if w is None else cut(X, y, size, w)
    by_batch = one.fit(batches, **settings)
    whole = other.fit(X, y, batch_size=size, shuffle=False, sample_weight=w, **settings)
    assert state(one) == state(other)
    assert np.array_equal(by_batch.loss, whole.loss)
    assert np.array_equal(by_batch.learning_rate, whole.learning_rate)
    assert (by_batch.epochs, by_batch.steps) == (whole.epochs, whole.steps)
    assert (np.diff(by_batch.elapsed) > 0).all() and by_batch.elapsed[-1] == by_batch.seconds


def test_dropout_and_clipping_in_batches_are_those_of_the_fit(dtype):
    X, y = data(dtype=dtype)
    found = []
    for args, more in (((cut(X, y, 7),), {}), ((X, y), dict(batch_size=7, shuffle=False))):
        layers = [fastnn.Dropout(0.2), fastnn.Dense(9, "relu"), fastnn.Dropout(0.5), fastnn.Dense(3, "softmax")]
        net = fastnn.Sequential(layers, dtype=dtype)
        history = net.fit(*args, optimizer=fastnn.Adam(0.05, clip_norm=0.1), epochs=4, **more)
        found.append((state(net), history.loss.tolist()))
    assert found[0] == found[1]


def test_standardisation_is_learned_from_the_first_batch():
    X, y = data()
    nets = [fastnn.Sequential([fastnn.Dense(3, "softmax")], standardize=True) for _ in range(3)]
    nets[0].fit([(X[:20], y[:20]), (7 * X[20:], y[20:])], epochs=2)
    nets[1].partial_fit(X[:20], y[:20])
    nets[2].fit(X[:20], y[:20], epochs=1, batch_size=None)
    for net in nets[:2]:
        assert all(map(np.array_equal, net.standardization, nets[2].standardization))


def test_many_rows_in_shards_and_threads_give_the_same_bits():
    X, y = data(3001, 20, 3)
    found = []
    for threads in (1, 3):
        for kind in ("arrays", "batches"):
            net, _, _ = pair((20, 33, 3), ("tanh", "softmax"))
            args = (X, y) if kind == "arrays" else (cut(X, y, 1024), None)
            size = dict(batch_size=1024, shuffle=False) if kind == "arrays" else {}
            net.fit(*args, fastnn.Adam(0.01), 3, threads=threads, **size)
            found.append(state(net))
    assert all(one == found[0] for one in found)


def test_rows_taken_as_they_lie_are_cut_into_evenly_many_shards_with_the_same_bits():
    X, y = data(209, 700, 3)
    found = []
    for threads in (1, 2, 3):
        net, twin, weights = pair((700, 50, 3), ("tanh", "softmax"))
        plan = plans.make(net, backends.TRAIN, len(X), threads)
        assert (plan["SHARDS"], plan["BY_ROWS"], plan["BY_PARTS"]) == (4, 1, 1)
        history = net.fit(X, y, fastnn.SGD(0.01), 3, None, threads=threads)
        found.append(state(net))
    assert all(one == found[0] for one in found)
    right, losses = twin.train(weights, X, y, reference.Optimizer("sgd", 0.01), 3)
    assert_close(flat(net.get_weights()), flat(right), "training", "float64")
    assert_close(history.loss, losses, "training", "float64")


def test_each_batch_is_a_partial_fit_whatever_its_size():
    X, y = data(60)
    sizes = [5, 20, 3, 30, 2]
    ends = np.cumsum(sizes)
    batches = [(X[end - size : end], y[end - size : end]) for size, end in zip(sizes, ends, strict=True)]
    one, other = pair()[0], pair()[0]
    one.fit(batches, optimizer=fastnn.Adam(0.02), epochs=2)
    for _ in range(2):
        for batch in batches:
            other.partial_fit(*batch, fastnn.Adam(0.02))
    assert np.array_equal(one.parameters, other.parameters)


def test_an_iterator_is_passed_over_once():
    X, y = data()
    net, again = pair()[0], pair()[0]
    history = net.fit((batch for batch in cut(X, y, 7)), epochs=1)
    again.fit(cut(X, y, 7), epochs=1)
    assert (history.epochs, history.steps) == (1, 6)
    assert np.array_equal(net.parameters, again.parameters)
    untouched, _, weights = pair()
    with pytest.raises(ValueError, match="epochs must be 1 for an iterator, which .+ once only; got 50"):
        untouched.fit(iter(cut(X, y, 7)))
    assert np.array_equal(flat(untouched.get_weights()), flat(weights))


class Endless:
    """Batches of which there is no telling how many."""

    def __init__(self, batches):
        self.batches, self.passes = batches, 0

    def __iter__(self):
        self.passes += 1
        yield from self.batches


def test_an_iterable_without_a_length_is_passed_over_once_an_epoch():
    X, y = data()
    source = Endless(cut(X, y, 10))
    rates = []

    class Asked(fastnn.Constant):
        def rates(self, epochs):
            rates.extend(epochs)
            return super().rates(epochs)

    pair()[0].fit(source, optimizer=fastnn.SGD(Asked(0.1)), epochs=3)
    assert source.passes == 3
    assert rates == [0.0, 1.0, 2.0]


def test_callbacks_validation_and_scores():
    X, y = data()
    settings = dict(optimizer=fastnn.Adam(0.05), epochs=30, validation_data=(X[20:], y[20:]), metrics=["accuracy"])
    found = []
    for args, more in (((cut(X[:20], y[:20], 5),), {}), ((X[:20], y[:20]), dict(batch_size=5, shuffle=False))):
        net, _, _ = pair()
        seen = []
        history = net.fit(
            *args,
            **settings,
            **more,
            callbacks=[fastnn.EarlyStopping(3), lambda net, history, seen=seen: seen.append(history.epochs)],
        )
        assert seen == list(range(1, history.epochs + 1))
        assert history.best_epoch < history.epochs - 1
        found.append((net.parameters.tobytes(), history.validation_loss.tolist(), history.metrics["accuracy"].tolist()))
    assert found[0] == found[1]


class StopAt(fastnn.Callback):
    """Ends the fit after a number of chunks."""

    def __init__(self, chunks):
        self.left = chunks

    def chunk(self, run):
        self.left -= 1
        if not self.left:
            run.stop()


def test_where_passes_are_cut_into_chunks_does_not_show(monkeypatch):
    X, y = data()
    found = []
    for seconds in (100.0, 0.0):
        monkeypatch.setattr(fastnn.fit, "CHUNK_SECONDS", seconds)
        net, _, _ = pair()
        history = net.fit(cut(X, y, 7), optimizer=fastnn.Adam(fastnn.WarmUp(0.1, 3)), epochs=5)
        found.append((state(net), history.loss.tolist(), history.learning_rate.tolist()))
    assert found[0] == found[1]
    net, steps = pair()[0], pair()[0]
    history = net.fit(cut(X, y, 7), epochs=5, callbacks=[StopAt(9)])  # a batch is a chunk; so is the end of a pass
    assert (history.epochs, history.steps) == (1, 8)
    for batch in (cut(X, y, 7) * 2)[:8]:
        steps.partial_fit(*batch)
    assert np.array_equal(net.parameters, steps.parameters)


def test_divergence_in_a_batch_leaves_finite_weights():
    X, y = data(k=1, loss="mse")
    net, _, _ = pair((5, 4, 1), ("tanh", "linear"), "mse")
    with pytest.raises(fastnn.DivergedError) as caught:
        net.fit(cut(X, y, 10), optimizer=fastnn.SGD(2.0), epochs=5000)
    assert caught.value.epoch == len(caught.value.history.loss) > 2
    assert np.isfinite(net.parameters).all() and np.isfinite(caught.value.history.loss).all()
    net.set_weights(pair((5, 4, 1), ("tanh", "linear"), "mse")[2])
    assert np.isfinite(net.fit(cut(X, y, 10), optimizer=fastnn.SGD(0.01), epochs=2).loss).all()


def test_torch_loaders():
    torch = pytest.importorskip("torch")
    X, y = data(dtype="float32")
    dataset = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(y))
    loader = torch.utils.data.DataLoader(dataset, batch_size=7)
    one, other = pair(dtype="float32")[0], pair(dtype="float32")[0]
    one.fit(loader, epochs=3)
    other.fit(X, y, epochs=3, batch_size=7, shuffle=False)
    assert np.array_equal(one.parameters, other.parameters)
    assert np.isfinite(one.partial_fit(torch.from_numpy(X), torch.from_numpy(y)))
    with pytest.raises(TypeError, match=r"^X must be .+ or an iterable of batches .+; got a TensorDataset"):
        other.fit(dataset, epochs=1)


def test_batches_are_not_kept():
    X, y = data(dtype="float32")
    net, _, _ = pair(dtype="float32")
    kept = weakref.ref(X)
    net.fit([(X, y)], epochs=2)
    del X
    assert kept() is None


X, Y = data()
BAD = [
    (lambda net: net.fit([X, Y]), TypeError, "batch 0", r"a ndarray of shape \(40, 5\)"),
    (lambda net: net.fit([(X,)]), TypeError, "batch 0", "a tuple of 1"),
    (lambda net: net.fit([(X, Y, Y, Y)]), TypeError, "batch 0", "a tuple of 4"),
    (lambda net: net.fit([(X, Y[:3])]), ValueError, "batch 0: y", "3 rows"),
    (lambda net: net.fit([(X[0], Y[0])]), ValueError, "batch 0: X", r"an array of shape \(5,\)"),
    (lambda net: net.fit([(X, Y, -np.ones(40))]), ValueError, "batch 0: sample_weight", "-1.0"),
    (lambda net: net.fit([]), ValueError, "X", "one that is empty"),
    (lambda net: net.fit(iter([]), epochs=1), ValueError, "X", "one that is empty"),
    (lambda net: net.fit("abc"), TypeError, "X", "a str"),
    (lambda net: net.fit({1: 2}), TypeError, "X", "a dict"),
    (lambda net: net.fit(7), TypeError, "X", "a int"),
    (lambda net: net.fit(X), TypeError, "y", "None"),
    (lambda net: net.fit([(X, Y)], batch_size=5), ValueError, "batch_size", "5"),
    (lambda net: net.fit([(X, Y)], shuffle=False), ValueError, "shuffle", "False"),
    (lambda net: net.fit([(X, Y)], sample_weight=np.ones(40)), ValueError, "sample_weight", "array"),
    (lambda net: net.fit([(X, Y)], class_weight="balanced"), ValueError, "class_weight", "'balanced'"),
    (lambda net: net.fit([(X, Y)], validation_split=0.2), ValueError, "validation_split", "0.2"),
    (lambda net: net.fit([(X, Y)], metrics=["accuracy"]), ValueError, "metrics", r"\['accuracy'\]"),
    (lambda net: net.partial_fit(X, Y[:3]), ValueError, "y", "3 rows"),
    (lambda net: net.partial_fit(X, Y, "adams"), ValueError, "optimizer", "'adams'"),
    (lambda net: net.partial_fit(X, Y, l2=-1.0), ValueError, "l2", "-1.0"),
    (lambda net: net.partial_fit(X, Y, threads=0), ValueError, "threads", "0"),
    (lambda net: net.partial_fit(X, Y, sample_weight=0 * Y), ValueError, "sample_weight", "zeros only"),
]


@pytest.mark.parametrize("call, error, argument, given", BAD, ids=[f"{row[2]}-{row[3]}" for row in BAD])
def test_bad_batches_are_refused_and_change_nothing(call, error, argument, given):
    net = fastnn.Sequential([fastnn.Dense(3, "softmax")])
    with pytest.raises(error) as caught:
        call(net)
    assert re.search(f"^{argument} must .+; got {given}", str(caught.value)), caught.value
    assert net.parameters is None


def test_a_bad_batch_later_on_leaves_a_completed_step():
    net, again = pair()[0], pair()[0]
    with pytest.raises(ValueError, match="^batch 2: X must be finite; got nan at row 1, column 0"):
        net.fit([(X[:10], Y[:10]), (X[10:20], Y[10:20]), ([[0.0] * 5, [np.nan] * 5], [0, 1])], epochs=3)
    again.fit(X[:20], Y[:20], epochs=1, batch_size=10, shuffle=False)
    assert net.state.step == again.state.step == 2
    assert np.array_equal(net.parameters, again.parameters)


@pytest.mark.parametrize("length", [0, -1, 1, 10**12, 2.5, "many"])
def test_an_iterable_that_lies_about_its_length_is_passed_over_to_its_end(length):
    class Lying(Endless):
        def __len__(self):
            return length

    found = []
    for source in (Lying(cut(X, Y, 10)), cut(X, Y, 10)):
        net, _, _ = pair()
        found.append((net.fit(source, epochs=2).steps, net.parameters.tobytes()))
    assert found[0] == found[1]


class Once:
    """Says that it can be passed over, but can only once."""

    def __init__(self, batches):
        self.left = iter(batches)

    def __iter__(self):
        yield from self.left


def test_an_iterable_that_runs_dry_says_so():
    with pytest.raises(ValueError, match="^X must be .+ in every epoch; got none in epoch 1"):
        pair()[0].fit(Once(cut(X, Y, 10)), epochs=2)


@pytest.mark.skipif(sys.platform == "win32", reason="a process sends itself no SIGINT there")
def test_control_c_leaves_a_completed_step():
    net, again = pair()[0], pair()[0]

    def pressed():
        for i in range(10**6):
            if i == 57:
                os.kill(os.getpid(), signal.SIGINT)
            yield X, Y

    with pytest.raises(KeyboardInterrupt):
        net.fit(pressed(), epochs=1)
    for _ in range(net.state.step):
        again.partial_fit(X, Y)
    assert net.state.step == 57
    assert np.array_equal(net.parameters, again.parameters)
    net.fit(X, Y, epochs=2, batch_size=None)
    again.fit(X, Y, epochs=2, batch_size=None)
    assert np.array_equal(net.parameters, again.parameters)


MAPPED = """
import resource, sys
import numpy as np
import fastnn

rows, features, path = {rows}, {features}, {path!r}
size = 4 * rows * features
with open(path, "wb") as file:
    file.truncate(size)
X = np.memmap(path, np.float32, "r+", shape=(rows, features))
some = np.random.default_rng(0).choice(rows, 1000, replace=False)
X[some, :2] = 1.0
y = np.memmap(path + ".y", np.float32, "w+", shape=rows)
y[some] = 1.0

net = fastnn.Sequential([fastnn.Dense(4, "tanh"), fastnn.Dense(1, "sigmoid")], seed=1)
few = np.zeros((64, features), np.float32)
few[:32, :2] = 1.0
net.fit(few, few[:, 0], epochs=1, batch_size=32, shuffle=True, validation_split=0.5)  # compiles
net.predict(few[:5])
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
limit = used + {spare}  # the mapping is in it already: no room for a copy of a part worth naming
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    np.ones(size, np.uint8)
    raise SystemExit("the limit does not hold")
except MemoryError:
    pass
settings = dict(epochs=1, batch_size={batch}, optimizer=fastnn.Adam(0.01))
history = net.fit(X, y, **settings)
assert np.isfinite(history.loss).all() and history.steps == -(-rows // {batch})
history = net.fit(X, y, shuffle=False, validation_split=0.1, **settings)
assert np.isfinite(history.validation_loss).all()
print(net.predict(X[:5]).shape, history.steps)
"""
LINUX = pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="a limit on addresses that only Linux keeps")


@LINUX
@pytest.mark.parametrize(
    "rows, spare",
    [(1 << 19, 24 << 20), pytest.param(40_000_000, 800 << 20, marks=pytest.mark.slow)],
    ids=["64 MB", "5 GB"],
)
def test_a_mapped_file_larger_than_memory_is_not_copied(rows, spare, tmp_path):
    code = MAPPED.format(rows=rows, features=32, path=str(tmp_path / "X"), spare=spare, batch=4096)
    assert python(code) == f"(5, 1) {-(-(rows - round(0.1 * rows)) // 4096)}\n"
