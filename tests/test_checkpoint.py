"""A fit that was broken off goes on as if it had not been; what does not suit it is refused."""

import math
import os
import signal
import sys

import numpy as np
import pytest
from broken import EPOCHS, Broken, X, Y, fit
from nets import OPTIMIZERS, data, pair
from numba import njit
from subprocesses import python, start

import fastnn

safetensors = pytest.importorskip("safetensors.numpy")


def assert_the_same(broken, whole):
    (net, history), (other, right) = broken, whole
    assert np.array_equal(net.parameters, other.parameters)
    state, expected = net.state, other.state
    assert all(np.array_equal(one, two) for one, two in zip(state.moments, expected.moments, strict=True))
    assert (state.step, state.epoch, state.rule) == (expected.step, expected.epoch, expected.rule)
    for name in ("loss", "validation_loss", "learning_rate"):
        assert np.array_equal(getattr(history, name), getattr(right, name)), name
    assert {name: list(v) for name, v in history.metrics.items()} == {
        name: list(v) for name, v in right.metrics.items()
    }
    assert (history.epochs, history.steps, history.best_epoch) == (right.epochs, right.steps, right.best_epoch)
    assert (np.diff(history.elapsed) >= 0).all() and len(history.elapsed) == history.epochs


def broken_off(path, after, make=dict, **settings):
    """(net, history) of a fit broken off after each of these epochs in turn, and gone on with by a new net."""
    for epoch in after:
        with pytest.raises(Broken):
            fit(path, epoch, **settings, **make())
    return fit(path, **settings, **make())


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_broken_fit_goes_on_with_the_same_bits(optimizer, tmp_path, dtype):
    def make():
        return dict(net=pair(dtype=dtype)[0], optimizer=OPTIMIZERS[optimizer][0]())

    assert_the_same(broken_off(tmp_path / "run", (1, 5, 11, 12), make), fit(**make()))


SCHEDULE = fastnn.WarmUp(fastnn.CosineDecay(0.1, EPOCHS), epochs=3)


@pytest.mark.parametrize(
    "settings",
    [
        dict(optimizer=fastnn.SGD(SCHEDULE, momentum=0.9)),
        dict(shuffle=False),
        dict(batch_size=None),
        dict(validation_split=0.3, metrics=("accuracy", "f1_macro")),
        dict(sample_weight=np.linspace(0.5, 2.0, 60), class_weight="balanced"),
        dict(args=([(X[:30], Y[:30]), (X[30:], Y[30:]), (X, Y)],), batch_size=None, optimizer=fastnn.Adam(SCHEDULE)),
    ],
    ids=["schedule", "in order", "full batch", "validation", "weights", "batches"],
)
def test_settings_of_every_kind_go_on(settings, tmp_path):
    assert_the_same(broken_off(tmp_path / "run", (2, 7), **settings), fit(**settings))


@njit
def wave(z):
    return math.sin(z)


@njit
def wave_slope(z):
    return math.cos(z)


@njit
def steep(prediction, target):
    return abs(prediction - target) ** 1.5


@njit
def steep_slope(prediction, target):
    return 1.5 * math.sqrt(abs(prediction - target)) * (1.0 if prediction > target else -1.0)


def everything():
    """A net with all that a net can have."""
    layers = [fastnn.Dropout(0.1), fastnn.Dense(8, (wave, wave_slope)), fastnn.Dropout(0.4), fastnn.Dense(2)]
    net = fastnn.Sequential(layers, loss=(steep, steep_slope), dtype="float64", standardize=True)
    return dict(
        net=net, optimizer=fastnn.RMSprop(0.02, momentum=0.5, clip_norm=0.3), args=(7 + 3 * X, 5 * X[:, :2] + 9)
    )


def test_dropout_clipping_standardisation_and_functions_go_on(tmp_path):
    assert_the_same(broken_off(tmp_path / "run", (3, 8), everything), fit(**everything()))
    with pytest.raises(ValueError, match="net must be .+ that have names; got the functions steep, steep_slope, which"):
        fastnn.load(tmp_path / "run")


@pytest.mark.parametrize("kind", ["arrays", "batches"])
def test_what_an_earlier_fit_learned_of_the_data_goes_on(kind, tmp_path):
    args, more = (X, Y), {}
    if kind == "batches":
        args, more = ([(X[:20], Y[:20]), (X[20:], Y[20:])],), dict(batch_size=None)

    def make(learned=False):
        layers = [fastnn.Dense(7, "tanh"), fastnn.Dense(3, "softmax")]
        net = fastnn.Sequential(layers, dtype="float64", standardize=True)
        if learned:
            net.fit(3 * X + 5, Y, epochs=2)
        return dict(net=net, args=args, **more)

    with pytest.raises(Broken):
        fit(tmp_path / "run", 4, **make(learned=True))
    assert_the_same(fit(tmp_path / "run", **make()), fit(**make(learned=True)))


@pytest.mark.parametrize("first, second", [(1, 3), (3, 1)])
def test_any_number_of_threads(first, second, tmp_path):
    rows = data(3001, 20, 3)

    def make():
        return dict(net=pair((20, 33, 3), ("tanh", "softmax"))[0], args=rows, batch_size=1024, epochs=4)

    with pytest.raises(Broken):
        fit(tmp_path / "run", 2, threads=first, **make())
    assert_the_same(fit(tmp_path / "run", threads=second, **make()), fit(**make()))


# what the callbacks decide: the rate falls, then the fit ends, in this order
def decisions():
    stopping = fastnn.EarlyStopping(patience=12, monitor="validation_loss")
    plateau = fastnn.ReduceLROnPlateau(0.3, patience=2, threshold=0.01, cooldown=1)
    settings = dict(validation_data=(X[20:], Y[20:]), args=(X[:20], Y[:20]), optimizer=fastnn.Adam(0.05))
    return dict(net=pair((5, 30, 3), ("tanh", "softmax"))[0], callbacks=[stopping, plateau], epochs=300, **settings)


def test_callbacks_decide_as_they_would_have(tmp_path):
    net, right = fit(**decisions())
    assert len(set(right.learning_rate)) > 2 and right.best_epoch + 13 == right.epochs < 300
    for after in ((1,), (2, 3, 4, 5), (right.best_epoch, right.best_epoch + 1), (right.epochs - 1,), (right.epochs,)):
        path = tmp_path / "-".join(map(str, after))
        assert_the_same(broken_off(path, after, decisions), (net, right))
    # one that is stopped stays so
    assert_the_same(fit(path, **decisions()), (net, right))


@pytest.mark.parametrize("first, second", [(True, False), (False, True)])
def test_whether_best_weights_are_put_back_may_change_on_the_way(first, second, tmp_path):
    def make(restore_best):
        return decisions() | dict(callbacks=[fastnn.EarlyStopping(12, restore_best)])

    last = fit(**make(False))
    best = last[1].best_epoch + 1
    with pytest.raises(Broken):  # the best is over: where it was not kept, it cannot come back
        fit(tmp_path / "run", best + 2, **make(first))
    assert_the_same(fit(tmp_path / "run", **make(second)), last)


def test_callbacks_of_the_users_own(tmp_path):
    class Sum(fastnn.Callback):
        def begin(self, run):
            self.total, self.rows = 0.0, np.zeros(0)

        def epoch(self, run):
            self.total += run.history.loss[-1]
            self.rows = np.append(self.rows, run.history.loss[-1])

        def state(self):
            return {"total": self.total, "rows": self.rows}

        def restore(self, state):
            self.total, self.rows = state["total"], state["rows"]

    broken, whole = Sum(), Sum()
    broken_off(tmp_path / "run", (3, 9), lambda: dict(callbacks=[broken]))
    _, history = fit(callbacks=[whole])
    assert (broken.total, broken.rows.tolist()) == (whole.total, whole.rows.tolist())
    assert broken.rows.tolist() == history.loss.tolist()


def test_it_goes_on_to_more_epochs(tmp_path):
    fit(tmp_path / "run", epochs=5)
    assert_the_same(fit(tmp_path / "run", epochs=9), fit(epochs=9))


def test_it_goes_on_whatever_the_net_has_learned_since_and_before(tmp_path):
    net, other = pair()[0], pair()[0]
    for one in (net, other):
        one.fit(X, Y, fastnn.SGD(0.1), epochs=3, batch_size=9)
    with pytest.raises(Broken):
        fit(tmp_path / "run", 6, net=net)
    net.fit(X, Y, fastnn.RMSprop(), epochs=2)
    assert_the_same(fit(tmp_path / "run", net=net), fit(net=other))


def test_every_few_epochs_and_the_last(tmp_path):
    path, seen = tmp_path / "run", []

    class Look(fastnn.Callback):
        last = True

        def epoch(self, run):
            seen.append(fastnn.load(path).state.epoch if path.exists() else 0)

    net = pair()[0]
    net.fit(X, Y, epochs=8, callbacks=[Look(), fastnn.Checkpoint(path, every=3)][::-1])
    assert seen == [0, 0, 3, 3, 3, 6, 6, 8]
    assert os.listdir(tmp_path) == ["run"]


def test_a_checkpoint_does_not_change_the_run(tmp_path):
    assert_the_same(fit(tmp_path / "run"), fit())


def test_a_checkpoint_is_a_net_too(tmp_path):
    net, _ = fit(tmp_path / "run")
    assert np.array_equal(fastnn.load(tmp_path / "run").predict(X), net.predict(X))


# in a process of its own

JOB = """
import time
import fastnn, jobs, nets

X, y = nets.data(400, 5, 3)
path, hangs = {path!r}, {hangs}
net = fastnn.Sequential([fastnn.Dense(12, "tanh"), fastnn.Dense(3, "softmax")], seed=4)
callbacks = [fastnn.EarlyStopping(30), fastnn.ReduceLROnPlateau(0.5, patience=3), fastnn.Checkpoint(path, every=2)]

def hang(net, history):
    seen.append(history.epochs)
    print(seen[0], flush=True)
    if len(seen) == 8:
        time.sleep(300)

seen = []
if hangs:
    callbacks.append(hang)
settings = dict(epochs=60, batch_size=32, validation_split=0.5, callbacks=callbacks, resume=path)
history = net.fit(X, y, fastnn.Adam(fastnn.WarmUp(0.05, epochs=5)), **settings)
print(jobs.digest(net.parameters, history.loss, history.validation_loss, history.learning_rate), history.epochs)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")
def test_a_process_that_was_killed_is_started_again(tmp_path):
    fastnn.warmup()
    right = python(JOB.format(path=str(tmp_path / "whole"), hangs=False))
    begun = []
    for _ in range(3):
        with start(JOB.format(path=str(tmp_path / "broken"), hangs=True)) as child:
            begun += {int(child.stdout.readline()) for _ in range(8)}
            child.kill()
            child.communicate()
        assert child.returncode == -signal.SIGKILL
    assert begun == [1, 7, 13]  # each goes on after the last even epoch before its eighth
    assert python(JOB.format(path=str(tmp_path / "broken"), hangs=False)) == right


FULL = """
import os, resource, sys
import fastnn, nets

X, y = nets.data()
path, folder = {path!r}, os.path.dirname({path!r})
net = nets.pair()[0]
net.fit(X, y, epochs=3, callbacks=[fastnn.Checkpoint(path)])
before = open(path, "rb").read()
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
for job in (
    lambda: net.fit(X, y, epochs=3, callbacks=[fastnn.Checkpoint(path)]),
    lambda: net.save(path),
):
    try:
        job()
    except OSError as error:
        print(error.strerror)
assert net.state.epoch == 4 and open(path, "rb").read() == before and os.listdir(folder) == [os.path.basename(path)]
net.fit(X, y, epochs=1)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files there")
def test_a_full_disk_leaves_the_file_that_was_there(tmp_path):
    assert python(FULL.format(path=str(tmp_path / "run"))) == "File too large\n" * 2


@pytest.mark.parametrize("moment", ["open", "fsync", "replace"])
def test_control_c_while_it_is_written(moment, tmp_path, monkeypatch):
    net, _ = fit(tmp_path / "run", epochs=3)
    before = (tmp_path / "run").read_bytes()

    def pressed(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        if moment == "open":
            patched.setattr("builtins.open", pressed)
        else:
            patched.setattr(os, moment, pressed)
        with pytest.raises(KeyboardInterrupt):
            net.save(tmp_path / "run")
    assert (tmp_path / "run").read_bytes() == before
    assert os.listdir(tmp_path) == ["run"]


def test_divergence_leaves_the_last_good_checkpoint(tmp_path):
    net = pair((5, 4, 1), ("tanh", "linear"), "mse")[0]
    y = data(60, 5, 1, "mse")[1]
    with pytest.raises(fastnn.DivergedError) as caught:
        net.fit(X, y, fastnn.SGD(2.0), epochs=5000, callbacks=[fastnn.Checkpoint(tmp_path / "run")])
    assert fastnn.load(tmp_path / "run").state.epoch == caught.value.epoch
    assert os.listdir(tmp_path) == ["run"]
