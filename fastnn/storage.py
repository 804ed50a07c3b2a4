"""Nets in files: what is kept of one, and one that is made of it again."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import backends, files, labels, standardization, validation
from .columns import Columns
from .encoding import Encoding
from .errors import described, must_be
from .files import PathLike
from .layers import KINDS as LAYERS
from .layers import array_names
from .standardization import Standardization

if TYPE_CHECKING:
    from .models import Sequential

_MEMBER = {"net": dict, "feature_names": (list, type(None)), "epoch": int}
_LEARNED = {"encoding": dict, "classes": list}  # that some nets have
_FACTS = _MEMBER | {"format": int}
_ENSEMBLE = {"members": list, "format": int}
KINDS = LAYERS | {"Columns": Columns}
_OF_ENCODING = "encoding "  # what the names of its arrays begin with
_NET = {
    "class": str,
    "n_features": int,
    "layers": list,
    "loss": (str, list),
    "dtype": str,
    "seed": int,
    "huber_delta": float,
    "quantile": float,
    "standardize": bool,
}


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
    # what most nets have is left out, so that earlier versions read their files
    rounds = {} if net.precision == "float32" else {"precision": net.precision}
    return rounds | {
        "class": "Sequential",
        "n_features": net.n_features or n_features,
        "layers": layers,
        "loss": _plain(net.loss),
        "dtype": str(net.dtype),
        "seed": net.seed,
        "huber_delta": net.huber_delta,
        "quantile": net.quantile,
        "standardize": net.standardize,
    }


def check_description(about):
    """Refuse what no `describe` gives; the values are left to the constructors of layers and nets."""
    files.must_have("net", about, _NET | ({"precision": str} if "precision" in about else {}))
    validation.choice("precision", about.get("precision", "float32"), backends.PRECISIONS)
    validation.choice("class", about["class"], ["Sequential"])
    validation.choice("dtype", about["dtype"], ["float32", "float64"])
    validation.size("n_features", about["n_features"])
    for layer in about["layers"]:
        files.must_have("layer", layer, {"kind": str}, others=True)
        validation.choice("kind", layer["kind"], list(KINDS))
        arguments = KINDS[layer["kind"]].argument_names()
        kind = dict if layer["kind"] == "Columns" else files.SETTING  # what the dict holds is left to its class
        files.must_have("layer", layer, {"kind": str, **dict.fromkeys(arguments, kind)})
    for setting in (about["loss"], *(value for layer in about["layers"] for value in layer.values())):
        if isinstance(setting, list):
            files.must_be_names("functions", setting)


def arrays(net):
    """Copies of the arrays that a net's predictions depend on, by name; another thread may train it meanwhile."""
    learned = {} if net.standardization is None else net.standardization._asdict()
    if net.encoding is not None:
        learned |= {_OF_ENCODING + name: array for name, array in net.encoding.arrays().items()}
    live = dict(zip(net.array_names, net.array_views(), strict=True)) | learned
    copies = {name: array.copy() for name, array in live.items()}
    return {name: validation.numeric_array(name, copy, copy.shape, copy.dtype) for name, copy in copies.items()}


def learned_facts(net):
    """What a net learned beside arrays: by the names in which a file keeps it; without what it has not."""
    found = {"feature_names": None if net.columns else net.feature_names}
    if net.encoding is not None:
        found["encoding"] = net.encoding.facts()
    if net.classes is not None:
        found["classes"] = net.classes.tolist()
    return found


def optional(facts):
    """The kinds of those facts that some nets have, as far as they are there."""
    return {name: kind for name, kind in _LEARNED.items() if type(facts) is dict and name in facts}


class Restored(NamedTuple):
    """What `restore` puts into a net.

    Parameters
    ----------
    names : tuple of str or None
        Of the features.
    weights : dict
        From the names of the net's arrays to arrays of its shapes and dtype, all finite.
    learned : Standardization or None
        None where it has learned none.
    encoding : Encoding or None
        Of a net that begins with Columns.
    classes : list of str or None
        What class indices stand for.
    """

    names: tuple[str, ...] | None
    weights: dict[str, Any]
    learned: Standardization | None
    encoding: Any
    classes: Any

    @property
    def arrays(self):
        """Names of the arrays that it is made of."""
        learned = () if self.learned is None else Standardization._fields
        encoding = {} if self.encoding is None else self.encoding.arrays()
        return {*self.weights, *learned, *(_OF_ENCODING + name for name in encoding)}

    @property
    def size(self):
        """Elements of the flat parameters of the net."""
        round_up, align = backends.operations.round_up, backends.operations.ALIGN
        return sum(round_up(array.size, align) for array in self.weights.values())


def suitable(facts, values, net, n_features):
    """A Restored of a file, for a net that need not be built; refuses missing and unsuitable arrays."""
    layers, encoding, classes = net.layers, None, facts.get("classes")
    if classes is not None:
        labels.checked("classes", classes, max(net.outputs, 2))
    if net.columns is None:
        columns = validation.names("feature_names", facts["feature_names"], n_features)
    else:
        own = {name.removeprefix(_OF_ENCODING): values[name] for name in values if name.startswith(_OF_ENCODING)}
        encoding, columns = Encoding.restored(net.columns, facts.get("encoding"), own), None
        if encoding.n_features != n_features:
            raise must_be("n_features", f"the {encoding.n_features} of the encoding", n_features)
        layers = net.layers_with(encoding)
    weights, width, number = {}, n_features, 0
    names = iter(array_names(layers))
    for layer in layers:
        for operation in layer.operations(number):
            for (shape, _), name in zip(operation.parameters(width), names, strict=False):
                files.must_be_array(name, values.get(name), shape, net.dtype)
                weights[name] = validation.numeric_array(name, values[name], shape, net.dtype)
            width = operation.outputs(width)
        number += bool(layer.arrays)
    if not (net.standardize and "mean" in values):
        return Restored(columns, weights, None, encoding, classes)
    for name in Standardization._fields:
        size = net.targets if name.startswith("target") else n_features
        files.must_be_array(name, values.get(name), (size,), np.float64)
    learned = Standardization(*(values[name] for name in Standardization._fields))
    learned = standardization.checked(learned, n_features, net.targets, net.dtype)
    return Restored(columns, weights, learned, encoding, classes)


def restore(net, found):
    """Put a Restored into its net, which has been built."""
    if found.names is not None:
        net.feature_names = found.names
    if found.classes is not None:
        net.classes = found.classes
    if found.learned is not None:
        net.standardization = found.learned
    net.set_weights([found.weights[name] for name in net.array_names])


def _plain(setting):
    """A setting as JSON holds it: functions become a list of their names."""
    if setting is None or isinstance(setting, str | int | float | dict):
        return setting
    return [getattr(function, "__name__", "?") for function in setting]


def save(net, path):
    """Write a net; see `Sequential.save`."""
    files.write(files.check_target("path", path), _facts(net), arrays(net))


def save_ensemble(ensemble, path):
    """Write an ensemble; see `Ensemble.save`."""
    members, values = [], {"weights": ensemble.weights}
    for i, net in enumerate(ensemble.nets):
        members.append(_facts(net))
        values |= {_in_member(i) + name: array for name, array in arrays(net).items()}
    files.write(files.check_target("path", path), {"members": members}, values)


def _facts(net):
    """All that is kept of a net but its arrays."""
    facts = {"net": describe(net), "epoch": net.state.epoch} | learned_facts(net)
    _must_have_names(facts["net"])
    return facts


def _in_member(i):
    """What the names of the arrays of a net begin with in the file of an ensemble."""
    return f"net {i} "


def load(path: PathLike) -> "Sequential | Any":
    """A net or an ensemble from a file of `save`, or a net from one of a Checkpoint (extra `checkpoint`).

    A file may come from anybody: it runs no code, and all of it is checked before a net is made.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    Sequential or Ensemble
        Its predictions are those of what was saved, bit for bit; a checkpoint gives the net as it stood at the end of
        the epoch. The optimizer starts afresh. A `precision` that this CPU lacks becomes "float32".

    Raises
    ------
    FileNotFoundError, OSError
        Where there is no file, or it cannot be read.
    TypeError, ValueError
        For a file that is damaged or not of fastnn, or a net with functions of the user's own.
    ImportError
        Without safetensors.
    """
    facts, values = files.read("path", path)
    text = files.as_text("path", path)
    with files.refusing("path", text):
        several = "members" in facts
        kinds = _ENSEMBLE if several else _FACTS | optional(facts)
        files.must_have("facts", facts, kinds, others="fit" in facts)  # of a Checkpoint
        members = facts["members"] if several else [facts]
        for member in members:
            files.must_have("member", member, _MEMBER | optional(member), others=not several)
            check_description(member["net"])
    for member in members:
        _must_have_names(member["net"])
    with files.refusing("path", text):
        return _ensemble(members, values) if several else _net(facts, values, others="fit" in facts)


def _net(facts, values, others=False):
    """The net of checked facts; `others`: whether there may be arrays of something else."""
    about = facts["net"]
    net, epoch = _made(about), validation.counter("epoch", facts["epoch"])
    found = suitable(facts, values, net, about["n_features"])
    more = values.keys() - found.arrays
    if more and not others:
        raise must_be("arrays", "those of the net alone", described(f"others, too: {', '.join(map(repr, more))}"))
    net.build(about["n_features"] if found.encoding is None else found.encoding)
    restore(net, found)
    net.state.epoch = epoch
    return net


def _ensemble(members, values):
    """The ensemble of checked facts."""
    from .ensembles import Ensemble

    values = dict(values)
    weights = values.pop("weights", None)
    files.must_be_array("weights", weights, (len(members),), np.float64)
    own = [{} for _ in members]
    for name, array in values.items():
        number, _, rest = name.removeprefix("net ").partition(" ")
        if not number.isdecimal() or int(number) >= len(own) or _in_member(int(number)) + rest != name:
            raise must_be("arrays", "those of the nets alone", described(f"another, too: {name!r}"))
        own[int(number)][rest] = array
    return Ensemble([_net(*parts) for parts in zip(members, own, strict=True)], weights)


def _made(about):
    """The net of a description, not built."""
    from .models import Sequential

    layers = [
        KINDS[layer["kind"]](**{name: value for name, value in layer.items() if name != "kind"})
        for layer in about["layers"]
    ]
    settings = {name: about[name] for name in ("dtype", "seed", "standardize")}
    settings |= {name: about[name] for name in ("loss", "huber_delta", "quantile")}
    precision = about.get("precision", "float32")
    net = Sequential(layers, precision=precision if precision in backends.cpu_precisions() else "float32", **settings)
    if describe(net, about["n_features"]) | {"precision": precision} != {"precision": precision} | about:
        raise must_be("net", "a description in full", about)
    return net


def _must_have_names(about):
    settings = [about["loss"], *(layer.get("activation") for layer in about["layers"])]
    own = [setting for setting in settings if isinstance(setting, list)]
    if own:
        given = described(f"the functions {', '.join(own[0])}, which a file cannot hold")
        raise must_be("net", "of activations and losses that have names", given)
