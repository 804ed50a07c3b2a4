"""Files of somebody who can make any fingerprint: refused by errors that name what is wrong, or a net that can be used.

`forged.trials(range(seed, seed + 1))` runs a case that failed again.
"""

import json
import re

import numpy as np
import pytest
from forged import FITS, X, forge, parts, real, signed
from subprocesses import python

import fastnn

pytest.importorskip("safetensors")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with real files, by the names of their fits."""
    folder = tmp_path_factory.mktemp("real")
    real(str(folder))
    return folder


def put(place, value):
    """A change: a value at a place such as "net layers 0 units", or None for none."""

    def change(facts, arrays):
        *way, last = [int(key) if key.isdigit() else key for key in place.split()]
        for key in way:
            facts = facts[key]
        if value is None:
            del facts[last]
        else:
            facts[last] = value

    return change


def array(name, make):
    """A change: an array as a function of what stood there, or None for none."""

    def change(facts, arrays):
        value = make(arrays.pop(name, None))
        if value is not None:
            arrays[name] = value

    return change


def nan_at_the_end(values):
    return np.append(values.ravel()[:-1], np.nan).reshape(values.shape)


ANY = [  # what load and resume refuse alike
    ("standardised", put("net layers 0 units", None), "layer must be a dict with kind, units"),
    ("standardised", put("net layers 0 more", 3), "layer must be a dict with kind, units"),
    ("standardised", put("net layers 0 kind", "Sequential"), "kind must be one of 'Dense', 'Dropout'"),
    ("standardised", put("net huber_delta", 10**400), "huber_delta must be float"),
    ("standardised", put("net quantile", 1), "quantile must be float"),
    ("standardised", put("net dtype", "(1,2"), "dtype must be one of"),
    ("standardised", put("net", None), "must be a dict with net"),
    ("standardised", put("epoch", -20_000_000), "epoch must be a non-negative int"),
    ("standardised", put("epoch", 1 << 60), "epoch must be a non-negative int below 2**53"),
    (
        "standardised",
        put("feature_names", ["a", "b"]),
        "feature_names must be None or a sequence of 5 str",
    ),
    ("standardised", put("feature_names", [[1]] * 5), "names must be"),
    ("standardised", put("format", None), "facts must be a dict with format"),
    ("standardised", put("format", 0), "fingerprint"),
    (
        "standardised",
        array("W1", lambda W: W[:1, :1]),
        "W1 must be an array of float64 (6, 5); got one of float64 (1, 1)",
    ),
    (
        "standardised",
        array("W1", lambda W: W.astype("float32")),
        "W1 must be an array of float64 (6, 5); got one of fl",
    ),
    ("standardised", array("b2", nan_at_the_end), "b2 must be finite; got nan at row 1"),
    ("standardised", array("b2", lambda b: None), "b2 must be an array of float64 (2,); got None"),
    (
        "standardised",
        array("mean", lambda mean: mean[:1]),
        "mean must be an array of float64 (5,); got one of float64 (1,)",
    ),
    ("standardised", array("std", np.zeros_like), "standardization.std must be positive"),
    ("standardised", array("std", lambda std: 1e-320 * std), "standardization.std must be"),
    ("standardised", array("target_std", lambda std: None), "target_std must be an array"),
]
NET = [
    ("standardised", put("net n_features", 10**8), "W1 must be an array of float64 (6, 100000000)"),
    ("standardised", put("net layers 0 units", 10**18), "W1 must be"),
    ("standardised", put("net layers 0 units", 10**30), "units must be"),
    ("standardised", put("net layers 0 units", True), "units must be a positive int; got True"),
    ("standardised", put("net layers", []), "layers must be a list of"),
    ("standardised", put("net seed", -1), "seed must be"),
    ("watched net", array("extra", lambda none: np.zeros(3)), "arrays must be those of the net alone; got others, too"),
    ("watched net", array("mean", lambda none: np.zeros(5)), "arrays must be those of the net alone; got others, too"),
    ("watched net", put("more", 3), "facts must be a dict with net, feature_names, epoch, format alone"),
    ("ensemble", put("members", []), "weights must be an array of float64 (0,); got one of float64 (2,)"),
    ("ensemble", put("members", 3), "members must be list; got 3"),
    ("ensemble", put("members 1", 3), "member must be a dict; got 3"),
    ("ensemble", put("members 1 more", 3), "member must be a dict with net, feature_names, epoch alone"),
    ("ensemble", put("net", {}), "facts must be a dict with members, format alone"),
    ("ensemble", put("members 1 net layers 0 units", 10**18), "W1 must be"),
    ("ensemble", put("members 0 epoch", -1), "epoch must be a non-negative int; got -1"),
    ("ensemble", lambda facts, arrays: facts["members"].reverse(), "W1 must be an array of float64"),
    ("ensemble", array("weights", lambda weights: None), "weights must be an array of float64 (2,); got None"),
    ("ensemble", array("weights", lambda weights: -weights), "weights must be numbers that are not negative"),
    ("ensemble", array("weights", nan_at_the_end), "weights must be finite; got nan"),
    ("ensemble", array("net 2 W1", lambda none: np.zeros(3)), "arrays must be those of the nets alone; got another"),
    ("ensemble", array("net 01 W1", lambda none: np.zeros(3)), "arrays must be those of the nets alone; got another"),
    ("ensemble", array("net 1 W9", lambda none: np.zeros(3)), "arrays must be those of the net alone; got others"),
    ("ensemble", array("net 1 b1", nan_at_the_end), "b1 must be finite; got nan"),
    ("watched net", put("net layers 0 activation", "elu"), "net must be a description in full"),
]
RESUMED = [
    ("watched", put("epochs", -20_000_000), "epochs must be a positive int; got -20000000"),
    ("watched", put("step", -1), "step must be a non-negative int; got -1"),
    ("watched", put("steps", 1.5), "steps must be int; got 1.5"),
    ("watched", put("batch", 8), "batch must be below 2**31, and batch_size where there is one; got 8"),
    ("batches", put("batch", 1 << 40), "batch must be below 2**31"),
    ("watched", put("rate_scale", float("nan")), "rate_scale must be a finite float >= 0; got nan"),
    ("watched", put("stopped", 1), "stopped must be bool; got 1"),
    ("watched", put("best_epoch", 3), "best_epoch must be None or one of the epochs; got 3"),
    ("watched", put("metrics", []), "metrics must be those of the record; got []"),
    ("watched", put("callbacks", []), "callbacks must be a dict for each"),
    ("watched", put("callbacks 0 best", "x"), "best must be float; got 'x'"),
    ("watched", put("callbacks 0 best", float("nan")), "best must be a number; got nan"),
    ("watched", put("callbacks 0 wait", -1), "wait must be a non-negative int; got -1"),
    ("watched", put("callbacks 0 best_epoch", 7), "best_epoch must be None or one of the epochs; got 7"),
    ("watched", put("callbacks 1 resting", None), "state of ReduceLROnPlateau must be a dict with best, wait, resting"),
    ("watched", array("callback 0 weights", lambda w: w[:1]), "weights must be an array of float64 (112,); got one of"),
    ("watched", array("callback 0 weights", nan_at_the_end), "weights must be finite; got nan"),
    ("watched", array("callback 7 weights", lambda none: np.zeros(3)), "callback 7 weights must be of one of the 2"),
    ("watched", array("history loss", lambda loss: loss[:1]), "history loss must be an array of float64 (3,)"),
    ("watched", array("metric accuracy", lambda values: None), "metric accuracy must be an array of float64 (3,)"),
    ("watched", array("state 0", lambda moment: moment[:7]), "state 0 must be an array of float64 (112,)"),
    ("watched", array("state 1", nan_at_the_end), "state 1 must be an array without NaN"),
    ("watched", array("state 2", lambda none: np.zeros(112)), "arrays must be those of a checkpoint alone"),
    (
        "standardised",
        lambda facts, arrays: [arrays.pop(n) for n in ("mean", "std", "target_mean", "target_std")],
        "mean",
    ),
]
CASES = [(*case, "load") for case in ANY + NET] + [(*case, "resume") for case in ANY + RESUMED]


@pytest.mark.parametrize("name, change, message, way", CASES)
def test_what_a_forged_file_says_is_checked_before_anything_is_made(name, change, message, way, folder, tmp_path):
    facts, arrays = parts(folder / name)
    change(facts, arrays)
    forge(tmp_path / "forged", facts, arrays)
    if way == "load":
        argument, net, call = "path", None, lambda: fastnn.load(tmp_path / "forged")
    else:
        make, rows, settings = FITS[name]
        argument, net = "resume", make()
        call = lambda: net.fit(*rows, epochs=4, resume=tmp_path / "forged", **settings())  # noqa: E731
    begin = f"{argument} must be a whole file that fastnn wrote; got a damaged one: {tmp_path / 'forged'} ("
    with pytest.raises(ValueError, match=f"(?s)^{re.escape(begin)}.*{re.escape(message)}"):
        call()
    assert net is None or net.parameters is None


@pytest.mark.parametrize("way", ["load", "resume"])
@pytest.mark.parametrize("where", ["facts", "header", "long"])
def test_json_that_is_deep_or_long_is_refused(where, way, folder, tmp_path):
    facts, arrays = parts(folder / "batches")
    deep = "[" * 100_000 + "]" * 100_000
    forge(tmp_path / "forged", json.dumps(facts)[:-1] + f', "more": {deep if where == "facts" else 1}}}', arrays)
    if where != "facts":
        whole = (tmp_path / "forged").read_bytes()
        length = {"header": len(deep), "long": 1 << 62}[where]
        (tmp_path / "forged").write_bytes(length.to_bytes(8, "little") + deep.encode() + whole[8:])
    make, rows, _ = FITS["batches"]
    with pytest.raises(ValueError, match="got a damaged one"):
        if way == "load":
            fastnn.load(tmp_path / "forged")
        else:
            make().fit(*rows, epochs=4, resume=tmp_path / "forged")


ENTRIES = [
    {"data_offsets": [0, 1 << 63]},
    {"data_offsets": [8, 0]},
    {"data_offsets": [0, 48]},
    {"shape": [1 << 62, 4]},
    {"shape": [1 << 62, 0]},
    {"shape": [1] * 70},
    {"shape": None},
    {"dtype": "F8_E4M3"},
    {"dtype": "float64"},
]


@pytest.mark.parametrize("entry", ENTRIES, ids=str)
def test_headers_that_lie_are_refused(entry, folder, tmp_path):
    whole = (folder / "batches net").read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    header["b1"] |= entry
    (tmp_path / "forged").write_bytes(signed(header, whole[8 + length :]))
    with pytest.raises(ValueError, match="got a damaged one"):
        fastnn.load(tmp_path / "forged")


def test_a_large_batch_takes_no_memory(folder, tmp_path):
    facts, arrays = parts(folder / "batches")
    facts["batch"] = (1 << 31) - 1
    forge(tmp_path / "forged", facts, arrays)
    make, rows, settings = FITS["batches"]
    net = make()
    assert net.fit(*rows, epochs=4, resume=tmp_path / "forged").epochs == 4
    assert np.isfinite(net.predict(X)).all()


def test_weights_that_are_not_finite_are_not_written(tmp_path):
    net = FITS["batches"][0]().build(5)
    net.parameters[1] = np.nan
    with pytest.raises(ValueError, match="^W1 must be finite; got nan at row 0, column 1"):
        net.save(tmp_path / "net")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("seeds", ["range(150)", pytest.param("range(300, 15_000)", marks=pytest.mark.slow)])
def test_forged_files_are_refused_or_give_a_net_that_can_be_used(seeds):
    refused, loaded = python(f"import forged; forged.trials({seeds})").split()
    assert int(refused) > int(loaded) > 0
