"""What stands at a path: only files are read and replaced, whole, with their permissions, whatever else goes on."""

import os
import socket
import stat
import sys

import numpy as np
import pytest
from forged import signed
from nets import data, pair
from subprocesses import python

import fastnn

pytest.importorskip("safetensors")
unix = pytest.mark.skipif(sys.platform == "win32", reason="no such files and permissions there")
X, Y = data(40)


def calls(net, path):
    """Everything that takes the path of a file, by the name of the argument."""
    return [
        ("path", lambda: fastnn.load(path)),
        ("path", lambda: net.save(path)),
        ("path", lambda: net.to_onnx(path)),
        ("path", lambda: fastnn.Checkpoint(path)),
        ("resume", lambda: net.fit(X, Y, epochs=1, resume=path)),
    ]


@unix
@pytest.mark.parametrize("kind", ["folder", "pipe", "socket", "device"])
def test_only_files_are_read_and_replaced(kind, tmp_path, monkeypatch):
    pytest.importorskip("onnx")
    net, path, server = pair()[0], tmp_path / "it", socket.socket(socket.AF_UNIX)
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        monkeypatch.chdir(tmp_path)  # the name of a socket must be short
        server.bind("it")
    else:
        path.symlink_to(os.devnull)
    server.close()
    before = os.stat(path)
    for name, call in calls(net, path):
        with pytest.raises(ValueError, match=f"^{name} must be that of a file; got a {kind}: .*it"):
            call()
    assert os.stat(path) == before and os.listdir(tmp_path) == ["it"]


@unix
def test_what_takes_the_place_of_a_file_while_a_fit_goes_on_is_left(tmp_path):
    path = tmp_path / "run"

    class Replace(fastnn.Callback):
        last = True

        def epoch(self, run):
            path.unlink()
            os.mkfifo(path)

    with pytest.raises(ValueError, match="path must be that of a file; got a pipe"):
        pair()[0].fit(X, Y, epochs=3, callbacks=[fastnn.Checkpoint(path), Replace()])
    assert stat.S_ISFIFO(os.stat(path).st_mode) and os.listdir(tmp_path) == ["run"]


@unix
@pytest.mark.parametrize("mode", [0o600, 0o644, 0o660])
def test_a_saved_file_keeps_its_permissions(mode, tmp_path):
    net = pair()[0]
    (tmp_path / "old").write_bytes(b"")
    (tmp_path / "old").chmod(mode)
    before = os.umask(0o027)
    try:
        for name in ("old", "new"):
            net.save(tmp_path / name)
    finally:
        os.umask(before)
    assert [stat.S_IMODE(os.stat(tmp_path / name).st_mode) for name in ("old", "new")] == [mode, 0o640]


def test_a_file_that_cannot_be_written_to_is_left(tmp_path, monkeypatch):
    net = pair()[0]
    net.save(tmp_path / "net")
    may = os.access  # by root, everything
    monkeypatch.setattr(os, "access", lambda path, mode: may(path, mode) and not str(path).endswith("net"))
    for call in (net.save, net.to_onnx, fastnn.Checkpoint):
        with pytest.raises(ValueError, match="^path must be that of a file that can be written to; got '.*net'"):
            call(tmp_path / "net")
    assert np.array_equal(fastnn.load(tmp_path / "net").parameters, net.parameters)


@unix
@pytest.mark.parametrize("length", [240, 255])
def test_a_name_as_long_as_the_system_allows(length, tmp_path):
    net, path = pair()[0], tmp_path / ("n" * length)
    for _ in range(2):
        net.save(path)
    assert np.array_equal(fastnn.load(path).parameters, net.parameters)


def test_a_checkpoint_that_can_only_be_read_is_gone_on_from(tmp_path, monkeypatch):
    net, path = pair()[0], tmp_path / "run"
    net.fit(X, Y, epochs=2, callbacks=[fastnn.Checkpoint(path)])
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    other = pair()[0]
    assert other.fit(X, Y, epochs=2, resume=path).epochs == 2
    assert np.array_equal(other.parameters, net.parameters)


@unix
def test_a_hole_is_not_read(tmp_path):
    size, path = 1 << 40, tmp_path / "hole"
    entry = {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}
    header = signed({"__metadata__": {"fastnn": '{"format": 1}'}, "x": entry}, b"")
    with open(path, "wb") as file:
        file.write(header)
        file.truncate(size + len(header))
    with open(path, "rb") as file:
        if os.lseek(file.fileno(), 0, os.SEEK_HOLE) > 1 << 20:
            pytest.skip("no holes here")
    with pytest.raises(ValueError, match=r"got a damaged one: .*hole \(1,099,.* bytes, but next to nothing in them"):
        fastnn.load(path)


@pytest.mark.parametrize("size", [0, 7, 8, 1 << 20, 1 << 32])
def test_what_says_nothing_is_refused_before_it_is_read(size, tmp_path):
    with open(tmp_path / "zeros", "wb") as file:
        file.truncate(size)
    with pytest.raises(ValueError, match="^path must be a whole file that fastnn wrote; got a damaged one: .*zeros"):
        fastnn.load(tmp_path / "zeros")


def test_a_callback_that_keeps_too_much_text_is_refused(tmp_path):
    class Keep(fastnn.Callback):
        def state(self):
            return {"text": "x" * (1 << 24)}

    with pytest.raises(ValueError, match="^all but the arrays of a file must be of at most 16,777,216 bytes"):
        pair()[0].fit(X, Y, epochs=1, callbacks=[Keep(), fastnn.Checkpoint(tmp_path / "run")])
    assert not os.listdir(tmp_path)


# in a process of its own: a fault would end it

BESIDE = """
import os, threading
import numpy as np
import fastnn, nets

X, y = nets.data(400)
net = nets.pair((5, 64, 64, 3), ("tanh", "tanh", "softmax"), dtype="float32")[0]
done = []

def fits():
    while not done:
        net.fit(X, y, fastnn.SGD(0.01), epochs=5, batch_size=8)

def beside(job, times, call):
    done.clear()
    thread = threading.Thread(target=job)
    thread.start()
    try:
        for _ in range(times):
            call()
    finally:
        done.append(True)
        thread.join()

def saved():
    net.save({path!r})
    fastnn.load({path!r})

beside(fits, {times}, saved)

def changed():  # as a fit changes them
    while not done:
        net.state.parameters += np.float32(1e-3)

beside(changed, 1, lambda: net.fit(X, y, epochs={times}, callbacks=[
    fastnn.Checkpoint({path!r}), lambda net, history: fastnn.load({path!r}) and None]))

# overwritten in place, cut short and made long again, while it is read
nets.pair((5, 500, 500, 3), ("tanh", "tanh", "softmax"))[0].save({path!r})
whole = open({path!r}, "rb").read()

def overwritten():
    while not done:
        with open({path!r}, "r+b") as file:
            file.truncate(100)
            file.write(whole)

found = []

def loaded():
    try:
        fastnn.load({path!r})
        found.append(1)
    except ValueError as error:
        assert "damaged one" in str(error), error
        found.append(0)

beside(overwritten, 2 * {times}, loaded)
print(os.path.exists({path!r}))
"""


@unix
@pytest.mark.parametrize("times", [30, pytest.param(400, marks=pytest.mark.slow)])
def test_every_saved_file_can_be_read_whatever_goes_on_beside(times, tmp_path):
    assert python(BESIDE.format(path=str(tmp_path / "net"), times=times)) == "True\n"
