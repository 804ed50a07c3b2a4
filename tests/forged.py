"""Files that somebody forged: real ones, changed, with a fingerprint that is right again.

python -c "import forged; forged.trials(range(1234, 1235))"        # a failing case again, with tests on the path
"""

import faulthandler
import json
import os
import random
import tempfile

import numpy as np
from nets import data

import fastnn
from fastnn import files

REFUSED = (ValueError, TypeError, OSError)
SPARE = 4 << 30  # bytes of address space that a trial may take


def parts(path):
    """(facts, arrays) of a file."""
    return files.read("path", path)


def forge(path, facts, arrays):
    """A file of them with a right fingerprint, however wrong they are."""
    from safetensors.numpy import save

    text = facts if isinstance(facts, str) else json.dumps(facts)
    arrays = {name: np.array(array, order="C") for name, array in arrays.items()}
    with open(path, "wb") as file:
        file.write(save(arrays, {"fastnn": text, "sha256": files.fingerprint(text, arrays)}))


def signed(header, body):
    """The bytes of a file with this header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


# real files

X, Y = data(40)


def deep():
    layers = [fastnn.Dense(7, "tanh"), fastnn.Dropout(0.2), fastnn.Dense(3, "softmax")]
    return fastnn.Sequential(layers, dtype="float64")


def scaled():
    return fastnn.Sequential([fastnn.Dense(6, "tanh"), fastnn.Dense(2)], dtype="float64", standardize=True, seed=3)


def logistic():
    return fastnn.logistic_net(3, dtype="float64")


def watched(path=None):
    """Settings of a fit with all that a checkpoint keeps."""
    hooks = [fastnn.EarlyStopping(30), fastnn.ReduceLROnPlateau(0.5, patience=1)]
    hooks += [] if path is None else [fastnn.Checkpoint(path)]
    return dict(batch_size=7, validation_data=(X, Y), metrics=["accuracy"], callbacks=hooks)


# name: (net, data, settings of its fit)
FITS = {
    "watched": (deep, (X, Y), watched),
    "standardised": (scaled, (3 * X + 1, 5 * X[:, :2]), lambda path=None: plain(path) | {"batch_size": 11}),
    "batches": (logistic, ([(X[:9], Y[:9]), (X[9:], Y[9:])],), lambda path=None: plain(path)),
}


def plain(path=None):
    return dict(callbacks=[] if path is None else [fastnn.Checkpoint(path)])


def real(folder):
    """(path, kind of fit or None for a net) of real files."""
    found = []
    for name, (make, rows, settings) in FITS.items():
        net, path = make(), os.path.join(folder, name)
        net.fit(*rows, epochs=3, **settings(path))
        net.save(path + " net")
        found += [(path, name), (path, None), (path + " net", None)]
    nets = [FITS[name][0]() for name in ("watched", "batches")]
    for net in nets:
        net.fit(X, Y, epochs=1)
    path = os.path.join(folder, "ensemble")
    fastnn.Ensemble(nets, [3.0, 1.0]).save(path)
    return [*found, (path, None), (path, None)]


# changes

INTERESTING = [
    *(None, True, False, 0, 1, -1, 2, 3, 7, -20_000_000, 10**8, 1 << 31, 1 << 53, (1 << 63) - 1, 1 << 63, 1 << 64),
    *(-(1 << 63), 10**400, 0.0, 1.0, -1.0, 0.5, 1e-320, 1e308, float("inf"), -float("inf"), float("nan"), "", "x"),
    *("float32", "float16", "relu", "softmax", "mse", "cross_entropy", "\ud800", [], {}, [1], ["x"], {"kind": "Dense"}),
    *([[[[]]]], {"kind": "Dropout", "rate": 0.5}, "a" * 3000),
]
NUMBERS = [np.nan, np.inf, -np.inf, 0.0, -1.0, 1e-320, 1e30, 1e308]
DTYPES = ["float32", "float64", "float16", "int8", "int64", "uint8", "bool", "complex64"]


def places(value, found=None):
    """(container, key) of everything in a JSON value."""
    found = [] if found is None else found
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        found.append((value, key))
        if isinstance(value[key], dict | list):
            places(value[key], found)
    return found


def change_facts(rng, facts):
    """One change of a JSON value, in place."""
    container, key = rng.choice(places(facts))
    value, kind = container[key], rng.randrange(7)
    if kind == 0:
        del container[key]
    elif kind == 1 and isinstance(container, dict):
        container[rng.choice(["extra", "kind", "weights", "units", key + " "])] = rng.choice(INTERESTING)
    elif kind == 2 and isinstance(value, list) and value:
        container[key] = value * rng.choice([2, 3]) if rng.random() < 0.5 else value[1:]
    elif kind == 3 and isinstance(value, int | float):
        container[key] = rng.choice([-value, value + 1, value - 1, value * 1000, 2.5])
    elif kind == 4 and isinstance(value, float) and abs(value) < 1e9:
        container[key] = int(value)
    else:
        container[key] = json.loads(json.dumps(rng.choice(INTERESTING)))


def change_arrays(rng, arrays):
    """One change of the arrays, in place."""
    name = rng.choice(sorted(arrays))
    array, kind = np.atleast_1d(arrays[name]), rng.randrange(9)
    if kind == 0:
        del arrays[name]
    elif kind == 1:
        arrays[rng.choice(["extra", "mean", "state 0", "state 7", "callback 0 weights", "callback 9 x"])] = array
    elif kind == 2:
        with np.errstate(all="ignore"):
            arrays[name] = array.real.astype(rng.choice(DTYPES))
    elif kind == 3:
        arrays[name] = array.reshape(rng.choice([(-1,), (1, -1), (-1, 1), array.shape[::-1]]))
    elif kind == 4:
        arrays[name] = rng.choice([array[:1], array[..., :1], array[1:]])
    elif kind == 5:
        arrays[name] = np.zeros(rng.choice([(), (0,), (1,), (1, 1), (0, 5), (1000,)]), array.dtype)
    elif kind == 6:
        other = rng.choice(sorted(arrays))
        arrays[name], arrays[other] = arrays[other], arrays[name]
    elif kind == 7:
        arrays[name] = np.concatenate([array, array])
    elif array.size and array.dtype == np.float64:
        array, at = array.copy(), rng.randrange(array.size)
        array.flat[at : None if rng.random() < 0.3 else at + 1] = rng.choice(NUMBERS)
        arrays[name] = array


def change_bytes(rng, whole):
    """The bytes of a file with one change of header or body."""
    length = int.from_bytes(whole[:8], "little")
    header, body, kind = json.loads(whole[8 : 8 + length]), whole[8 + length :], rng.randrange(8)
    entry = header[rng.choice([name for name in header if name != "__metadata__"])]
    if kind == 0:
        entry["data_offsets"] = [rng.choice([*entry["data_offsets"], -1, 0, 8, 1 << 40, 1 << 63]) for _ in range(2)]
    elif kind == 1:
        entry["shape"] = rng.choice([[], [0], [1 << 62, 4], [-1], [1] * 70, [1 << 62, 0], ["3"], None, [2.5]])
    elif kind == 2:
        entry["dtype"] = rng.choice(["F8_E4M3", "BF16", "I64", "F32", "x", None, 3])
    elif kind == 3:
        return rng.choice([0, 1, length - 1, length + 8, 10**8, 1 << 40, 1 << 63]).to_bytes(8, "little") + whole[8:]
    elif kind == 4:
        return whole[: rng.randrange(len(whole))]
    elif kind == 5:
        at = rng.randrange(len(whole))
        return whole[:at] + bytes([rng.randrange(256)]) + whole[at + 1 :]
    elif kind == 6:
        return signed(rng.choice([b"[" * 200_000, b"{" * 9, b"[]", b"{}", b"1", b'{"__metadata__": 3}', b"\xff"]), body)
    else:
        change_facts(rng, header)
    return signed(header, body)


def forged(rng, source, path):
    """Write a file that is `source`, changed."""
    facts, arrays = parts(source)
    kind = rng.random()
    if kind < 0.2:
        with open(source, "rb") as file:
            whole = change_bytes(rng, file.read())
        with open(path, "wb") as file:
            file.write(whole)
        return
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        if facts and rng.random() < 0.6:
            change_facts(rng, facts)
        elif arrays:
            change_arrays(rng, arrays)
    text = json.dumps(facts)
    if rng.random() < 0.03:
        text = text[:-1] + ', "deep": ' + "[" * 100_000 + "]" * 100_000 + "}"
    try:
        forge(path, text, arrays)
    except UnicodeEncodeError:  # a surrogate cannot stand in a file
        forge(path, json.dumps(facts).replace("\\ud8", "\\\\ud8"), arrays)


# trials


def used(net):
    """Whether a net of any kind, or an ensemble, can be used."""
    rows = np.linspace(-1, 1, 12 * net.n_features).reshape(12, -1)
    targets = np.zeros((12, net.outputs)) if net.loss != "cross_entropy" else np.zeros(12, int)
    assert net.predict(rows).shape == (12, net.outputs)
    if isinstance(net, fastnn.Ensemble):
        assert fastnn.apply(net.freeze(), rows).shape == (12, net.outputs)
    for one in net.nets if isinstance(net, fastnn.Ensemble) else [net]:
        one.fit(rows, targets, epochs=1, batch_size=5)


def trial(seed, sources, path):
    """One forged file, read: what refused it, or None where nothing did."""
    rng = random.Random(seed)
    source, kind = rng.choice(sources)
    forged(rng, source, path)
    net = None
    try:
        if kind is None:
            net = fastnn.load(path)
        else:
            make, rows, settings = FITS[kind]
            net = make()
            net.fit(*rows, epochs=4, resume=path, **settings())
            assert net.predict(X).shape == (len(X), net.outputs)
    except REFUSED as error:
        assert net is None or net.parameters is None, f"refused by {error!r} when the net was changed"
        return error
    except fastnn.DivergedError:
        return None
    try:
        used(net)
    except fastnn.DivergedError:  # of numbers that are finite and huge
        pass
    return None


def trials(seeds):
    """Forged files with these seeds; prints how many were refused, and how many not."""
    faulthandler.enable()
    with tempfile.TemporaryDirectory() as folder:
        sources, path, refused = real(folder), os.path.join(folder, "forged"), 0
        limit_memory()
        for seed in seeds:
            try:
                refused += trial(seed, sources, path) is not None
            except BaseException:
                print(f"seed {seed}", flush=True)
                raise
        print(refused, len(seeds) - refused)


def limit_memory():
    """Let memory that no file justifies be an error, where the system tells how much there is already."""
    try:
        import resource

        with open("/proc/self/statm") as file:
            now = int(file.read().split()[0]) * resource.getpagesize()
    except (ImportError, FileNotFoundError):
        return
    resource.setrlimit(resource.RLIMIT_AS, (now + SPARE, now + SPARE))
