"""Who may write to a net: it trains in memory of its own, and nobody changes it while it is trained."""

import copy
import pickle
import threading

import joblib
import numpy as np
import pytest
from nets import data

import fastnn


def trained(dtype="float32", **settings):
    X, y = data(60, 4, 1, "mse", dtype)
    net = fastnn.Sequential([fastnn.Dense(8, "tanh"), fastnn.Dense(1)], dtype=dtype, seed=2, **settings)
    net.fit(X, y, epochs=3, batch_size=20)
    return net, X, y


def from_buffers(net, made):
    """The net over buffers of a kind, as Ray and Dask unpickle, and what gives the content of all of them."""
    buffers = []
    content = pickle.dumps(net, protocol=5, buffer_callback=buffers.append)
    kept = [made(bytes(each.raw())) for each in buffers]
    return pickle.loads(content, buffers=kept), lambda: b"".join(map(bytes, kept))


def from_file(net, folder, mode):
    """The net over a file that is mapped, as workers of joblib get it, and what gives the content of the file."""
    joblib.dump(net, folder / "net")
    return joblib.load(folder / "net", mmap_mode=mode), (folder / "net").read_bytes


def without_leave(net, folder):
    other = copy.deepcopy(net)
    for array in (other.state.parameters, *other.state.moments):
        array.flags.writeable = False
    return other, other.state.parameters.tobytes


WAYS = {
    "immutable bytes": lambda net, folder: from_buffers(net, bytes),
    "shared bytes": lambda net, folder: from_buffers(net, bytearray),
    "odd addresses": lambda net, folder: from_buffers(net, lambda content: memoryview(b"x" + content)[1:]),
    "mapped file": lambda net, folder: from_file(net, folder, "r"),
    "shared file": lambda net, folder: from_file(net, folder, "r+"),
    "read-only": without_leave,
}
CHANGES = {
    "fit": lambda net, X, y: net.fit(X, y, epochs=2, batch_size=20),
    "partial_fit": lambda net, X, y: net.partial_fit(X, y),
    "apply_gradient": lambda net, X, y: net.apply_gradient(net.loss_and_gradient(X, y)[1]),
    "set_weights": lambda net, X, y: net.set_weights([2 * each for each in net.get_weights()]),
    "parameters": lambda net, X, y: setattr(net, "parameters", 2 * net.parameters),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("way", WAYS)
def test_a_net_trains_wherever_it_was_unpickled_and_writes_to_nothing_of_others(way, change, tmp_path):
    net, X, y = trained()
    other, memory = WAYS[way](net, tmp_path)
    before = memory()
    for _ in range(2):
        for rows in (1, 60):  # what was kept for predictions sees the change, too
            assert np.array_equal(other.predict(X[:rows]), net.predict(X[:rows]))
        CHANGES[change](other, X, y)
        CHANGES[change](net, X, y)
        assert memory() == before and np.array_equal(other.parameters, net.parameters)


@pytest.mark.parametrize("way", [way for way in WAYS if way != "read-only"])
def test_a_frozen_net_answers_wherever_it_was_unpickled(way, tmp_path):
    net, X, _ = trained(standardize=True)
    frozen = net.freeze()
    other, memory = WAYS[way](frozen, tmp_path)
    before = memory()
    assert np.array_equal(fastnn.apply(other, X), fastnn.apply(frozen, X)) and memory() == before
    with pytest.raises(ValueError, match="read-only"):
        other.parameters[0] = 0.0


def test_a_copy_is_a_net_of_its_own():
    net, X, y = trained()
    before = net.predict(X)
    for other in (copy.copy(net), copy.deepcopy(net)):
        other.fit(X, y, epochs=1)
        assert np.array_equal(net.predict(X), before) and not np.array_equal(other.predict(X), before)


REFUSED = {
    "build": lambda net, X, y: net.build(4),
    "fit": lambda net, X, y: net.fit(X, y, epochs=1),
    "partial_fit": lambda net, X, y: net.partial_fit(X, y),
    "apply_gradient": lambda net, X, y: net.apply_gradient(np.ones(net.parameters.shape)),
    "standardization": lambda net, X, y: setattr(net, "standardization", net.standardization),
}


@pytest.mark.parametrize("where", ["callback", "metric", "thread"])
@pytest.mark.parametrize("change", REFUSED)
def test_nobody_else_trains_a_net_or_changes_what_it_is_meanwhile(change, where):
    net, X, y = trained(standardize=True)
    right, found = copy.deepcopy(net), []
    right.fit(X, y, epochs=2)

    def intrude(*_):
        try:
            REFUSED[change](net, X, y)
        except fastnn.BusyError as error:
            found.append(str(error))
        return 0.0

    def intrude_from_a_thread(*_):
        thread = threading.Thread(target=intrude)
        thread.start()
        thread.join()

    looks = {
        "callback": {"callbacks": [lambda *_: bool(intrude())]},
        "metric": {"metrics": [intrude]},
        "thread": {"callbacks": [intrude_from_a_thread]},
    }[where]
    net.fit(X, y, epochs=2, **looks)
    assert len(found) == 2 and all(error.startswith("the net is being trained: ") for error in found)
    assert np.array_equal(net.parameters, right.parameters)
    REFUSED[change](net, X, y)  # afterwards it may


def test_a_net_can_be_asked_saved_and_copied_while_it_trains(tmp_path):
    net, X, y = trained()
    copies, stop = [], threading.Event()

    def ask():
        while not stop.is_set():
            assert np.isfinite(net.predict(X)).all() and np.isfinite(net.predict(X[:1])).all()
            net.evaluate(X, y)
            net.save(tmp_path / "net")
            copies.append(copy.deepcopy(net))
            fastnn.load(tmp_path / "net").fit(X, y, epochs=1)

    failures = []
    thread = threading.Thread(target=lambda: failures.extend(caught(ask)))
    thread.start()
    net.fit(X, y, epochs=30_000, batch_size=20)
    stop.set()
    thread.join()
    assert not failures and copies
    copies[-1].fit(X, y, epochs=1)


def caught(function):
    try:
        function()
    except BaseException as error:  # noqa: BLE001
        return [error]
    return []


def test_what_a_run_shows_is_checked():
    net, X, y = trained()

    class Meddler(fastnn.Callback):
        def __init__(self, change):
            self.change = change

        def epoch(self, run):
            self.change(run)

    for change, error, text in (
        (lambda run: setattr(run, "rate_scale", float("nan")), ValueError, "rate_scale must be a finite float >= 0"),
        (lambda run: setattr(run, "rate_scale", np.ones(3)), TypeError, "rate_scale must be a finite float >= 0"),
        (lambda run: setattr(run, "epochs", 10**6), AttributeError, "epochs"),
        (lambda run: setattr(run, "net", None), AttributeError, "net"),
        (lambda run: setattr(run.history, "epochs", -5), ValueError, "epochs must be an array of non-negative numbers"),
        (lambda run: setattr(run.history.buffers, "loss", np.zeros(0)), ValueError, "finished must leave a place"),
        (lambda run: setattr(run.history.buffers, "loss", None), ValueError, "finished must leave a place"),
    ):
        with pytest.raises(error, match=text):
            net.fit(X, y, epochs=5, callbacks=[Meddler(change)])
        assert np.isfinite(net.predict(X)).all()
        net.fit(X, y, epochs=1)
    with pytest.raises(AttributeError, match="beta1 of an optimizer cannot be changed: make a new Adam"):
        fastnn.Adam().beta1 = float("nan")
