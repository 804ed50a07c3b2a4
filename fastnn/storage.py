"""Nets in files of the safetensors format, written whole or not at all."""

import contextlib
import hashlib
import json
import os
from typing import TYPE_CHECKING

import numpy as np

from .errors import described, must_be
from .layers import KINDS
from .standardization import Standardization

if TYPE_CHECKING:
    from .models import Sequential

PathLike = str | bytes | os.PathLike[str] | os.PathLike[bytes]

_FORMAT = 1


def describe(net, n_features=None):
    """All that a net is, but its arrays.

    Parameters
    ----------
    net : Sequential
        Built, or to be built with `n_features`.
    n_features : int, optional
        Inputs of a net that has not been built.

    Returns
    -------
    dict
        What JSON can hold; a function of the user's is there by its name.
    """
    layers = [
        {"kind": type(layer).__name__} | {name: _plain(value) for name, value in layer.arguments().items()}
        for layer in net.layers
    ]
    return {
        "class": "LogisticRegression" if hasattr(net, "n_classes") else "Sequential",
        "n_features": net.n_features or n_features,
        "layers": layers,
        "loss": _plain(net.loss),
        "dtype": str(net.dtype),
        "seed": net.seed,
        "huber_delta": net.huber_delta,
        "standardize": net.standardize,
    }


def arrays(net):
    """The arrays that a net's predictions depend on, by name."""
    learned = {} if net.standardization is None else net.standardization._asdict()
    return dict(zip(net.array_names, net.arrays, strict=True)) | learned


def restore(net, values):
    """Put arrays of a file into a net that has been built."""
    if "mean" in values:
        net.standardization = Standardization(**{name: values[name] for name in Standardization._fields})
    net.set_weights([values[name] for name in net.array_names])


def _plain(setting):
    """A setting as JSON holds it: functions become a list of their names."""
    if setting is None or isinstance(setting, str | int | float):
        return setting
    return [getattr(function, "__name__", "?") for function in setting]


def save(net, path):
    """Write a net; see `Sequential.save`."""
    facts = {"net": describe(net), "epoch": net.state.epoch}
    _must_have_names(facts["net"])
    write(check_target("path", path), facts, arrays(net))


def load(path: PathLike) -> "Sequential":
    """A net from a file of `net.save` or of a Checkpoint (extra `checkpoint`).

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    Sequential or LogisticRegression
        Its predictions are those of the net that was saved, bit for bit; a checkpoint gives the net as it stood at
        the end of the epoch. The optimizer starts afresh.

    Raises
    ------
    FileNotFoundError, OSError
        Where there is no file, or it cannot be read.
    TypeError, ValueError
        For a file that is damaged or not of fastnn, or a net with functions of the user's own.
    ImportError
        Without safetensors.
    """
    from .logistic import LogisticRegression
    from .models import Sequential

    facts, values = read("path", path)
    about = facts["net"]
    _must_have_names(about)
    if about["class"] == "LogisticRegression":
        classes = max(2, about["layers"][-1]["units"])
        net = LogisticRegression(classes, dtype=about["dtype"], seed=about["seed"], standardize=about["standardize"])
    else:
        layers = [
            KINDS[arguments["kind"]](**{name: value for name, value in arguments.items() if name != "kind"})
            for arguments in about["layers"]
        ]
        others = {name: about[name] for name in ("loss", "dtype", "seed", "huber_delta", "standardize")}
        net = Sequential(layers, **others)
    net.build(about["n_features"])
    restore(net, values)
    net.state.epoch = facts["epoch"]
    return net


def _must_have_names(about):
    settings = [about["loss"], *(layer.get("activation") for layer in about["layers"])]
    own = [setting for setting in settings if isinstance(setting, list)]
    if own:
        given = described(f"the functions {', '.join(own[0])}, which a file cannot hold")
        raise must_be("net", "of activations and losses that have names", given)


def library(wanted_by):
    """The package safetensors."""
    try:
        import safetensors.numpy
    except ImportError:
        raise ImportError(f"{wanted_by} needs safetensors: pip install 'fastnn[checkpoint]'") from None
    return safetensors


def check_target(name, path):
    """A path, as str, at which a file can be written."""
    accepted = "a path in a folder that exists and can be written to"
    try:
        text = os.fsdecode(path)
    except TypeError:
        raise must_be(name, accepted, path, TypeError) from None
    folder = os.path.dirname(os.path.realpath(text))
    if os.path.isdir(text) or not (os.path.isdir(folder) and os.access(folder, os.W_OK)):
        raise must_be(name, accepted, text)
    return text


def write(path, facts, arrays):
    """Put facts and arrays into a file by `replace`.

    Parameters
    ----------
    path : str
        From `check_target`.
    facts : dict
        For JSON.
    arrays : dict
        From str to arrays.
    """
    safetensors = library("a file")
    text = json.dumps(facts | {"format": _FORMAT})
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    data = safetensors.numpy.save(arrays, {"fastnn": text, "sha256": _digest(text, arrays)})
    replace(path, data)


def replace(path, data):
    """Make `data` the content of the file at `path`, which is at any moment the old one or the new one, whole."""
    path = os.path.realpath(path)  # a link stays one
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.{os.getpid()}-{os.urandom(4).hex()}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    if os.name != "nt":  # the new name must be on the disk, too
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def read(name, path):
    """Facts and arrays of a file.

    Parameters
    ----------
    name : str
        The argument that gave the path.
    path : path-like
        The file.

    Returns
    -------
    facts, arrays : dict
        As they were written.
    """
    safetensors = library("a file")
    try:
        text = os.fsdecode(path)
    except TypeError:
        raise must_be(name, "a path", path, TypeError) from None
    with open(text, "rb"):  # the errors of Python for what is not there or not ours to read
        pass
    whole = "a whole file that fastnn wrote"
    try:
        with safetensors.safe_open(text, framework="numpy") as file:
            about = file.metadata() or {}
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except safetensors.SafetensorError as error:
        raise must_be(name, whole, described(f"a damaged one: {text} ({error})")) from None
    if "fastnn" not in about:
        raise must_be(name, whole, described(f"one of another program: {text}"))
    if about.get("sha256") != _digest(about["fastnn"], arrays):
        raise must_be(name, whole, described(f"a damaged one: {text}"))
    facts = json.loads(about["fastnn"])
    if facts["format"] != _FORMAT:
        raise must_be(name, f"a file of format {_FORMAT}", described(f"format {facts['format']}: {text}"))
    return facts, arrays


def _digest(text, arrays):
    """Fingerprint of a file's content."""
    found = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        found.update(f"{name} {arrays[name].dtype} {arrays[name].shape} ".encode())
        found.update(np.ascontiguousarray(arrays[name]).reshape(-1).view(np.uint8))
    return found.hexdigest()
