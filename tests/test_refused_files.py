"""Checkpoints and nets that do not suit, and places where no file can be: refused, with nothing changed."""

import os
import re
import sys

import numpy as np
import pytest
from broken import X, Y, fit
from nets import pair

import fastnn

safetensors = pytest.importorskip("safetensors.numpy")


def test_a_damaged_checkpoint_changes_nothing(tmp_path):
    fit(tmp_path / "run", epochs=3)
    text = bytearray((tmp_path / "run").read_bytes())
    text[-1] ^= 1
    (tmp_path / "run").write_bytes(text)
    net = fastnn.Sequential([fastnn.Dense(7, "tanh"), fastnn.Dense(6, "softplus"), fastnn.Dense(3, "softmax")])
    with pytest.raises(ValueError, match="^resume must be a whole file that fastnn wrote; got a damaged one: .*run"):
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
    (dict(optimizer=fastnn.SGD(0.1)), r"the optimizer is 'Adam \(adam\)' and not 'SGD \(sgd\)'"),
    (dict(optimizer=fastnn.AdamW(0.1)), r"the optimizer is 'Adam \(adam\)' and not 'AdamW \(adam\)'"),
    (dict(callbacks=[fastnn.EarlyStopping()]), r"the callbacks is \[\] and not \['EarlyStopping'\]"),
    (dict(validation_data=(X, Y)), r"the record is \['loss'\] and not \['loss', 'validation_loss'\]"),
    (dict(metrics=["accuracy"]), r"the record is \['loss'\] and not \['loss', 'accuracy'\]"),
    (dict(args=(X[:50], Y[:50])), "the number of rows is 60 and not 50"),
    (dict(batch_size=8), "the batch_size is 7 and not 8"),
    (dict(args=([(X, Y)],), batch_size=None), "the number of rows is 60 and not None"),
]


@pytest.mark.parametrize("settings, given", OTHERS, ids=[row[1] for row in OTHERS])
def test_a_checkpoint_of_something_else_is_refused_and_changes_nothing(settings, given, tmp_path):
    fit(tmp_path / "run", epochs=3)
    net = settings.get("net") or sequential()
    with pytest.raises(ValueError) as caught:
        fit(tmp_path / "run", **settings | {"net": net})
    pattern = f"(?s)^resume must be a checkpoint of this net and this fit; got one where {given}: .*run"
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
        (lambda: fastnn.Checkpoint(3), TypeError, "path must be a path; got 3"),
        (lambda: fastnn.Checkpoint(folder), ValueError, f"path must be that of a file; got a folder: {folder}"),
        (
            lambda: fastnn.Checkpoint(folder / "no" / "run"),
            ValueError,
            f"path must be {accepted}; got '{folder}/no/run'",
        ),
        (lambda: fastnn.Checkpoint(folder / "run", every=0), ValueError, "every must be a positive int; got 0"),
        (lambda: net.fit(X, Y, callbacks=[late]), ValueError, f"path must be {accepted}; got '{folder}/gone/run'"),
        (lambda: net.fit(X, Y, resume=3), TypeError, "resume must be a path; got 3"),
        (lambda: net.fit(X, Y, resume=folder / "no" / "run"), ValueError, f"resume must be {accepted}; got"),
        (lambda: net.fit(X, Y, epochs=4, resume=folder / "run"), ValueError, "epochs must be at least the 5 that"),
        (
            lambda: net.fit(X, Y, resume=saved(folder)),
            ValueError,
            "resume must be a file of a Checkpoint; got a net alone: .*net",
        ),
        (lambda: net.save(None), TypeError, "path must be a path; got None"),
        (lambda: net.save(folder), ValueError, f"path must be that of a file; got a folder: {folder}"),
        (lambda: sequential().save(folder / "net"), fastnn.NotBuiltError, "no parameters yet"),
        (lambda: fastnn.load(3), TypeError, "path must be a path; got 3"),
        (lambda: fastnn.load(folder / "missing"), FileNotFoundError, "missing"),
        (lambda: fastnn.load(folder), ValueError, f"path must be that of a file; got a folder: {folder}"),
        (
            lambda: fastnn.load(of_another_program(folder)),
            ValueError,
            "path must be a whole .*; got one of another program: .*x",
        ),
    ]


def test_a_file_of_a_later_version_is_refused(tmp_path, monkeypatch):
    with monkeypatch.context() as later:
        later.setattr(fastnn.files, "FORMAT", 2)
        pair()[0].save(tmp_path / "net")
    with pytest.raises(
        ValueError, match="path must be a file of format 1; got format 2, which a later version of fastnn wrote: .*net"
    ):
        fastnn.load(tmp_path / "net")


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
        with pytest.raises(ImportError, match=r"needs safetensors: pip install 'fastnn-numba\[checkpoint\]'"):
            call()
