"""A fit that was broken off goes on as if it had not been; what does not suit it is refused."""

import os
import re
import signal
import sys

import numpy as np
import pytest
from nets import OPTIMIZERS, data, pair
from subprocesses import python, start

import fastnn

safetensors = pytest.importorskip("safetensors.numpy")

EPOCHS = 12


class Broken(Exception):
    """What breaks a fit off."""


class Break(fastnn.Callback):
    """Breaks the fit off after an epoch, when the checkpoint has been written."""

    last = True

    def __init__(self, after):
        self.after = after

    def epoch(self, run):
        if run.history.epochs == self.after:
            raise Broken


X, Y = data(60)


def fit(path=None, broken_after=None, epochs=EPOCHS, net=None, callbacks=(), every=1, **changes):
    """(net, history) of a fit that begins, or goes on from the file."""
    net = net or pair()[0]
    callbacks = list(callbacks)
    if path is not None:
        callbacks += [fastnn.Checkpoint(path, every), Break(broken_after)]
    settings = dict(optimizer=fastnn.Adam(0.02), batch_size=7, l2=1e-3, resume=path) | changes
    args = settings.pop("args", (X, Y))
    return net, net.fit(*args, epochs=epochs, callbacks=callbacks, **settings)


def assert_the_same(broken, whole):
    (net, history), (other, right) = broken, whole
    assert np.array_equal(net.parameters, other.parameters)
    if other._state is None:
        assert net._state is None
    else:
        assert all(np.array_equal(one, two) for one, two in zip(net._state, other._state, strict=True))
    assert (net._step, net._epoch, net._rule) == (other._step, other._epoch, other._rule)
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
            seen.append(fastnn.load(path)._epoch if path.exists() else 0)

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
path, slow = {path!r}, {slow}
net = fastnn.Sequential([fastnn.Dense(12, "tanh"), fastnn.Dense(3, "softmax")], seed=4)
callbacks = [fastnn.EarlyStopping(30), fastnn.ReduceLROnPlateau(0.5, patience=3), fastnn.Checkpoint(path, every=2)]

def slowly(net, history):
    print(history.epochs, flush=True)
    time.sleep(0.01)

if slow:
    callbacks.append(slowly)
settings = dict(epochs=60, batch_size=32, validation_split=0.5, callbacks=callbacks, resume=path)
history = net.fit(X, y, fastnn.Adam(fastnn.WarmUp(0.05, epochs=5)), **settings)
print(jobs.digest(net.parameters, history.loss, history.validation_loss, history.learning_rate), history.epochs)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")
def test_a_process_that_was_killed_is_started_again(tmp_path):
    fastnn.warmup()
    right = python(JOB.format(path=str(tmp_path / "whole"), slow=False))
    begun = []
    for _ in range(3):
        with start(JOB.format(path=str(tmp_path / "broken"), slow=True)) as child:
            begun.append(int(child.stdout.readline()))
            for _ in range(7):
                child.stdout.readline()
            child.kill()
            child.communicate()
        assert child.returncode == -signal.SIGKILL
    assert begun[0] == 1 and 6 <= begun[1] and begun[1] + 6 <= begun[2]
    assert python(JOB.format(path=str(tmp_path / "broken"), slow=False)) == right


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
assert net._epoch == 4 and open(path, "rb").read() == before and os.listdir(folder) == [os.path.basename(path)]
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


def test_a_damaged_checkpoint_changes_nothing(tmp_path):
    fit(tmp_path / "run", epochs=3)
    text = bytearray((tmp_path / "run").read_bytes())
    text[-1] ^= 1
    (tmp_path / "run").write_bytes(text)
    net = fastnn.Sequential([fastnn.Dense(7, "tanh"), fastnn.Dense(6, "softplus"), fastnn.Dense(3, "softmax")])
    with pytest.raises(ValueError, match="^resume must be a whole file that fastnn wrote; got .*run, which is damaged"):
        fit(tmp_path / "run", net=net)
    assert net.parameters is None


def sequential(last=3, hidden="softplus", **options):
    layers = [fastnn.Dense(7, "tanh"), fastnn.Dense(6, hidden), fastnn.Dense(last, "softmax")]
    return fastnn.Sequential(layers, **{"dtype": "float64", **options})


OTHERS = [
    (dict(net=sequential(4)), "the units of layer 3 is 3 and not 4"),
    (dict(net=sequential(hidden="relu")), "the activation of layer 2 is 'softplus' and not 'relu'"),
    (dict(net=fastnn.Sequential(sequential().layers[1:], dtype="float64")), "the number of layers is 3 and not 2"),
    (dict(net=sequential(dtype="float32")), "the net's dtype is 'float64' and not 'float32'"),
    (dict(net=sequential(seed=1)), "the net's seed is 0 and not 1"),
    (dict(args=(X[:, :4], Y)), "the net's n_features is 5 and not 4"),
    (dict(optimizer=fastnn.SGD(0.1)), r"optimizer is 'Adam \(adam\)' and not 'SGD \(sgd\)'"),
    (dict(optimizer=fastnn.AdamW(0.1)), r"optimizer is 'Adam \(adam\)' and not 'AdamW \(adam\)'"),
    (dict(callbacks=[fastnn.EarlyStopping()]), r"callbacks is \[\] and not \['EarlyStopping'\]"),
    (dict(validation_split=0.3), "the use of validation data is False and not True"),
    (dict(metrics=["accuracy"]), r"the metrics is \[\] and not \['accuracy'\]"),
]


@pytest.mark.parametrize("settings, given", OTHERS, ids=[row[1] for row in OTHERS])
def test_a_checkpoint_of_something_else_is_refused_and_changes_nothing(settings, given, tmp_path):
    fit(tmp_path / "run", epochs=3)
    net = settings.get("net") or sequential()
    with pytest.raises(ValueError) as caught:
        fit(tmp_path / "run", **settings | {"net": net})
    pattern = f"(?s)^resume must be a checkpoint of this net and this fit; got .*run, where {given}"
    assert re.search(pattern, str(caught.value)), caught.value
    assert net.parameters is None


def saved(folder):
    pair()[0].save(folder / "net")
    return folder / "net"


def of_another_program(folder):
    safetensors.save_file({"x": np.zeros(3)}, folder / "x")
    return folder / "x"


def refused(folder):
    """Calls, the error, and what its message must hold."""
    net, made = pair()[0], fastnn.Checkpoint(folder / "run")
    os.mkdir(folder / "gone")
    late = fastnn.Checkpoint(folder / "gone" / "run")
    os.rmdir(folder / "gone")
    net.fit(X, Y, epochs=5, callbacks=[made])
    accepted = "a path in a folder that exists and can be written to"
    return [
        (lambda: fastnn.Checkpoint(3), TypeError, f"path must be {accepted}; got 3"),
        (lambda: fastnn.Checkpoint(folder), ValueError, f"path must be {accepted}; got '{folder}'"),
        (
            lambda: fastnn.Checkpoint(folder / "no" / "run"),
            ValueError,
            f"path must be {accepted}; got '{folder}/no/run'",
        ),
        (lambda: fastnn.Checkpoint(folder / "run", every=0), ValueError, "every must be a positive int; got 0"),
        (lambda: net.fit(X, Y, callbacks=[late]), ValueError, f"path must be {accepted}; got '{folder}/gone/run'"),
        (lambda: net.fit(X, Y, resume=3), TypeError, f"resume must be {accepted}; got 3"),
        (lambda: net.fit(X, Y, resume=folder / "no" / "run"), ValueError, f"resume must be {accepted}; got"),
        (lambda: net.fit(X, Y, epochs=4, resume=folder / "run"), ValueError, "epochs must be at least the 5 that"),
        (lambda: net.fit(X, Y, resume=saved(folder)), ValueError, "resume must be a file of a Checkpoint; got .*alone"),
        (lambda: net.save(None), TypeError, f"path must be {accepted}; got None"),
        (lambda: net.save(folder), ValueError, f"path must be {accepted}; got '{folder}'"),
        (lambda: sequential().save(folder / "net"), fastnn.NotBuiltError, "no parameters yet"),
        (lambda: fastnn.load(3), TypeError, "path must be a path; got 3"),
        (lambda: fastnn.load(folder / "missing"), FileNotFoundError, "missing"),
        (lambda: fastnn.load(folder), IsADirectoryError, str(folder)),
        (lambda: fastnn.load(of_another_program(folder)), ValueError, "path must be a whole .*; got .*another program"),
    ]


@pytest.mark.skipif(sys.platform == "win32", reason="paths and errors of another form")
@pytest.mark.parametrize("number", range(16))
def test_bad_paths_and_files_are_refused(number, tmp_path):
    calls = refused(tmp_path)
    assert len(calls) == 16
    call, error, message = calls[number]
    before = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}
    with pytest.raises(error, match=message):
        call()
    assert before.items() <= {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}.items()


def test_without_safetensors_the_error_names_the_extra(tmp_path, monkeypatch):
    net = pair()[0]
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    for call in (
        lambda: fastnn.Checkpoint(tmp_path / "run"),
        lambda: net.save(tmp_path / "run"),
        lambda: fastnn.load(tmp_path / "run"),
        lambda: net.fit(X, Y, epochs=1, resume=tmp_path / "run"),
    ):
        with pytest.raises(ImportError, match=r"needs safetensors: pip install 'fastnn\[checkpoint\]'"):
            call()


def test_divergence_leaves_the_last_good_checkpoint(tmp_path):
    net = pair((5, 4, 1), ("tanh", "linear"), "mse")[0]
    y = data(60, 5, 1, "mse")[1]
    with pytest.raises(fastnn.DivergedError) as caught:
        net.fit(X, y, fastnn.SGD(2.0), epochs=5000, callbacks=[fastnn.Checkpoint(tmp_path / "run")])
    assert fastnn.load(tmp_path / "run")._epoch == caught.value.epoch
    assert os.listdir(tmp_path) == ["run"]
