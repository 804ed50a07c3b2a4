"""Nets in files: the same net back, a file that is whole at any moment, and any damage found."""

import os
import re

import numpy as np
import pytest
from nets import data, pair
from numba import njit
from subprocesses import python

import fastnn

safetensors = pytest.importorskip("safetensors.numpy")
X, _ = data(60)


@pytest.mark.parametrize(
    "make",
    [
        lambda dtype: fastnn.Sequential([fastnn.Dense(4, "elu", alpha=0.3), fastnn.Dense(2)], dtype=dtype),
        lambda dtype: fastnn.Sequential(
            [fastnn.Dense(4, "gelu", kernel_initializer="normal", bias_initializer="uniform"), fastnn.Dense(1)],
            loss="huber",
            huber_delta=0.5,
            dtype=dtype,
            seed=2**62,
        ),
        lambda dtype: fastnn.Sequential([fastnn.Dense(3, "sigmoid")], dtype=dtype),
        lambda dtype: fastnn.logistic_net(dtype=dtype, seed=3),
        lambda dtype: fastnn.logistic_net(4, dtype=dtype, standardize=True),
        lambda dtype: fastnn.Sequential(
            [fastnn.Dropout(0.1), fastnn.Dense(6, "relu"), fastnn.Dropout(0.5), fastnn.Dense(2)],
            dtype=dtype,
            standardize=True,
        ),
    ],
)
def test_a_saved_net_predicts_the_same_bits_and_goes_on(make, dtype, tmp_path):
    net = make(dtype)
    k = net.layers[-1].units
    y = data(60, 5, k, net.loss)[1]
    net.fit(X, y, epochs=3, batch_size=7)
    net.save(tmp_path / "net")
    again = fastnn.load(tmp_path / "net")
    assert type(again) is type(net) and repr(again) == repr(net) and again.summary() == net.summary()
    assert np.array_equal(again.parameters, net.parameters)
    assert np.array_equal(again.predict(X), net.predict(X))
    assert again.evaluate(X, y) == net.evaluate(X, y)
    net.state.forget()
    for one in (net, again):
        one.fit(X, y, epochs=2, batch_size=7)
    assert np.array_equal(again.parameters, net.parameters)
    assert [vars(layer) for layer in again.layers] == [vars(layer) for layer in net.layers]


def test_the_names_of_columns_are_kept(tmp_path):
    pandas = pytest.importorskip("pandas")
    table, y = pandas.DataFrame(X, columns=list("abcde")), data(60)[1]
    net, other = pair()[0], pair()[0]
    net.fit(table, y, epochs=2, callbacks=[fastnn.Checkpoint(tmp_path / "run")])
    net.save(tmp_path / "net")
    for name in ("run", "net"):
        again = fastnn.load(tmp_path / name)
        assert again.feature_names == tuple("abcde")
        with pytest.raises(ValueError, match="X must be"):
            again.predict(table[list("edcba")])
    with pytest.raises(ValueError, match=r"the feature_names is \['a', .* and not \['e', "):
        other.fit(table[list("edcba")], y, epochs=3, resume=tmp_path / "run")
    assert other.feature_names is None
    other.fit(X, y, epochs=3, resume=tmp_path / "run")
    assert other.feature_names == tuple("abcde")


@njit
def double(z):
    return 2.0 * z


@njit
def double_slope(z):
    return 2.0


def test_functions_of_the_users_own_cannot_be_saved(tmp_path):
    net = fastnn.Sequential([fastnn.Dense(2, (double, double_slope))]).build(3)
    with pytest.raises(ValueError, match="net must be .+ names; got the functions double, double_slope, which a file"):
        net.save(tmp_path / "net")
    assert not os.listdir(tmp_path)


def test_other_programs_can_read_the_weights(tmp_path):
    net = pair(dtype="float32")[0]
    net.save(str(tmp_path / "net.safetensors"))
    found = safetensors.load_file(tmp_path / "net.safetensors")
    assert list(found) == sorted(found) and set(found) == {"W1", "b1", "W2", "b2", "W3", "b3"}
    for name, weights in zip(("W1", "b1", "W2", "b2", "W3", "b3"), net.get_weights(), strict=True):
        assert np.array_equal(found[name], weights)


def test_any_damage_is_found(tmp_path):
    path, hurt = tmp_path / "net", tmp_path / "hurt"
    net = fastnn.Sequential([fastnn.Dense(1)]).build(2)
    net.save(path)
    whole = path.read_bytes()
    for size in range(0, len(whole), 7):
        hurt.write_bytes(whole[:size])
        with pytest.raises(ValueError, match="^path must be a whole file that fastnn wrote; got .*hurt"):
            fastnn.load(hurt)
    for at in range(len(whole)):
        hurt.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        try:
            found = fastnn.load(hurt)
        except ValueError as error:
            assert re.match("path must be a .*file .*; got .*hurt", str(error)), error
        else:  # in the spaces that fill the header up
            assert np.array_equal(found.parameters, net.parameters)


def test_a_link_stays_one(tmp_path):
    (tmp_path / "there").mkdir()
    net = pair()[0]
    net.save(tmp_path / "there" / "run")
    os.symlink(tmp_path / "there" / "run", tmp_path / "link")
    net.parameters[:] = 1.0
    net.save(tmp_path / "link")
    assert os.path.islink(tmp_path / "link")
    assert (fastnn.load(tmp_path / "there" / "run").get_weights()[0] == 1.0).all()


KILLED = """
import os, random, signal, time
import numpy as np
import fastnn

net = fastnn.Sequential([fastnn.Dense({units}), fastnn.Dense(1)]).build(100)
path, delays, seen = {path!r}, random.Random(0), []

def write():
    number = fastnn.load(path).parameters[0] if os.path.exists(path) else 0.0
    while True:
        number += 1.0
        net.parameters[:] = number
        net.save(path)

net.save(path)
begin = time.perf_counter()
for _ in range(3):
    fastnn.load(path)
    net.save(path)
seconds = (time.perf_counter() - begin) / 3
os.unlink(path)
for _ in range({times}):
    child = os.fork()
    if child == 0:
        write()
    time.sleep(delays.uniform(0.0, 6 * seconds))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if os.path.exists(path):
        found = fastnn.load(path)
        values = np.concatenate([array.ravel() for array in found.get_weights()])
        assert (values == values[0]).all()
        seen.append(int(values[0]))
assert seen == sorted(seen) and len(set(seen)) > 3, seen
left = [name for name in os.listdir(os.path.dirname(path)) if name != os.path.basename(path)]
assert all(name.endswith(".tmp") for name in left), left
print("whole")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("times", [20, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.parametrize("units", [10, 10_000])
def test_a_kill_at_any_moment_leaves_a_whole_file(times, units, tmp_path):
    assert python(KILLED.format(path=str(tmp_path / "net"), times=times, units=units)) == "whole\n"
