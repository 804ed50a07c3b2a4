"""Values that no argument expects, in every argument: each is used, or refused by an error that names the argument."""

import datetime
import decimal
import fractions
import re
import warnings

import numpy as np
import pytest
from nets import data, pair

import fastnn
from fastnn import errors


class Broken:
    """An object of which everything fails that Python or NumPy may ask for."""

    def __getattr__(self, name):
        raise RuntimeError("no attribute")

    def _fail(self, *arguments, **keywords):
        raise RuntimeError("nothing works")

    __repr__ = __str__ = __len__ = __iter__ = __getitem__ = __float__ = __int__ = __index__ = __bool__ = _fail
    __array__ = __eq__ = __lt__ = _fail
    __hash__ = object.__hash__


class Shy:
    """An object whose repr alone fails."""

    def __repr__(self):
        raise ValueError("no words")


class Liar(list):
    """A list that says it is longer than it is."""

    def __len__(self):
        return 1 << 40


class Real(float):
    """A number that cannot be read."""

    def __float__(self):
        raise OSError("no number")


def recursive():
    value = []
    value.append(value)
    return value


def masked(value):
    return np.ma.masked_array(value, np.arange(np.size(value)).reshape(np.shape(value)) == 1)


X, Y = data()
X32 = X.astype(np.float32)
VALUES = {
    "10**400": 10**400,
    "-10**5000": -(10**5000),
    "2**63": 1 << 63,
    "2**70": 1 << 70,
    "2**46": 1 << 46,  # as the size of an array beyond the addresses of a process
    "2**62": 1 << 62,
    "list of 10**400": [10**400] * 40,
    "nan": float("nan"),
    "-inf": -np.inf,
    "-1": -1,
    "1e308": 1e308,
    "1j": 1j,
    "complex": np.ones((40, 5), complex),
    "text": "1_000",
    "np.str_": np.str_("3"),
    "bytes": b"12",
    "texts": ["1"] * 40,
    "bytes array": np.array([[b"1"] * 5] * 40),
    "text array": np.array([["1"] * 5] * 40),
    "text objects": np.array([["1_000"] * 5] * 40, object),
    "numbers and text": [[1.0, "2"]] * 40,
    "None": None,
    "Nones": [None] * 40,
    "recursive": recursive(),
    "ragged": [[1.0], [1.0, 2.0]],
    "many": [0] * 100_000,
    "dict": {"a": 1.0},
    "empty dict": {},
    "odd dict": {10**400: 1.0, Shy(): 2.0},
    "huge weights": {0: 10**400},
    "set": {1, 2},
    "generator": (i for i in range(40)),
    "lambda": lambda *arguments: 1.0,
    "class": dict,
    "slice": slice(3),
    "empty": [],
    "empty array": np.zeros((0, 5)),
    "no columns": np.zeros((40, 0)),
    "0-d": np.array(2.0),
    "0-d object": np.array(Shy(), object),
    "dates": np.array(["2020-01-01"] * 40, "M8[ns]"),
    "spans": np.ones((40, 5), "m8[s]"),
    "span": np.timedelta64(5, "s"),
    "date": datetime.date(2020, 1, 1),
    "structured": np.zeros(40, [("a", float), ("b", int)]),
    "void": np.zeros(40, "V8"),
    "masked matrix": masked(X),
    "masked labels": masked(Y),
    "list of masked": [masked(row) for row in X],
    "masked": np.ma.masked,
    "endless stretch": np.broadcast_to(1.0, (1 << 45, 5)),
    "long column": np.broadcast_to(1, 1 << 45),
    "longdouble": X.astype(np.longdouble) * np.longdouble(10) ** 400,
    "big ints": np.array([[10**400] * 5] * 40, object),
    "objects": np.array([[Shy()] * 5] * 40, object),
    "lists in objects": np.array([[1], [1, 2]], object),
    "bools": np.ones(40, bool),
    "fraction": fractions.Fraction(10**400),
    "decimal": decimal.Decimal("sNaN"),
    "broken": Broken(),
    "shy": Shy(),
    "liar": Liar([1, 2]),
    "real": Real(1.0),
    "two": (Broken(), Shy()),
    "list of broken": [Broken()],
}


def frames():
    """Tables of pandas with what is no number."""
    pd = pytest.importorskip("pandas")
    whole = pd.DataFrame(X, columns=list("abcde"))
    return {
        "NA": pd.NA,
        "NaT": pd.NaT,
        "frame of text": whole.assign(c="1"),
        "frame of NA": whole.assign(c=pd.array([pd.NA] + [1] * 39, "Int64")),
        "frame of boolean NA": whole.assign(c=pd.array([pd.NA] + [True] * 39, "boolean")),
        "frame of dates": whole.assign(c=pd.Timestamp("2020-01-01")),
        "frame of spans": whole.assign(c=pd.Timedelta("1s")),
        "frame of categories": whole.assign(c=pd.Categorical(["x", "y"] * 20)),
        "series of NA": pd.Series([pd.NA] + [1] * 39, dtype="Int64"),
        "series of text": pd.Series(["0", "1"] * 20),
        "index": pd.Index(list("ab")),
    }


def tensors():
    """Tensors of torch, and sparse matrices, that NumPy cannot read."""
    torch, sparse = pytest.importorskip("torch"), pytest.importorskip("scipy.sparse")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compressed = torch.from_numpy(X).to_sparse_csr()
    return {
        "tensor with gradient": torch.from_numpy(X).requires_grad_(),
        "bfloat16": torch.zeros(40, 5, dtype=torch.bfloat16),
        "meta": torch.zeros(40, 5, device="meta"),
        "sparse tensor": torch.from_numpy(X).to_sparse(),
        "sparse rows": compressed,
        "one of a gradient": torch.ones(1, requires_grad=True),
        "sparse matrix": sparse.csr_matrix(X),
        "sparse array": sparse.coo_array(X),
        "list of tensors": [torch.ones(5, requires_grad=True)] * 40,
    }


class Given(fastnn.Schedule):
    """A schedule that gives one thing always."""

    def __init__(self, value):
        self.value = value

    def rates(self, epochs):
        return self.value


def fit(net, **changes):
    arguments = dict(X=X, y=Y, epochs=1) | changes
    net.fit(**arguments)


FIT = "X y sample_weight class_weight rows epochs batch_size l2 threads metrics callbacks validation_split optimizer "
FIT += "validation_data shuffle progress resume"
ARGUMENTS = {f"fit {name}": (name, lambda net, v, name=name: fit(net, **{name: v})) for name in FIT.split()}
ARGUMENTS["fit validation_data"] = "validation_data|validation X", ARGUMENTS["fit validation_data"][1]
ARGUMENTS |= {
    "fit validation X": ("validation (X|y)", lambda net, v: fit(net, validation_data=(v, Y))),
    "fit validation y": ("validation y", lambda net, v: fit(net, validation_data=(X, v))),
    "fit validation weights": ("validation sample_weight", lambda net, v: fit(net, validation_data=(X, Y, v))),
    "fit batches": ("batch 0|X", lambda net, v: net.fit([v], epochs=1)),
    "fit batch X": ("batch 0: X", lambda net, v: net.fit([(v, Y)], epochs=1)),
    "fit batch y": ("batch 0: y", lambda net, v: net.fit([(X, v)], epochs=1)),
    "fit one metric": ("metrics|the metric", lambda net, v: fit(net, metrics=[v])),
    "fit one callback": ("callbacks", lambda net, v: fit(net, callbacks=[v])),
    "fit class weight": (r"class_weight(\[0\])?", lambda net, v: fit(net, class_weight={0: v})),
    "a schedule": ("learning_rate", lambda net, v: fit(net, optimizer=fastnn.SGD(Given(v)))),
    "a score": ("metrics", lambda net, v: fit(net, optimizer=fastnn.SGD(0.0), metrics=[lambda *arguments: v])),
    "partial_fit X": ("X", lambda net, v: net.partial_fit(v, Y)),
    "partial_fit sample_weight": ("sample_weight", lambda net, v: net.partial_fit(X, Y, sample_weight=v)),
    "predict X": ("X", lambda net, v: net.predict(v)),
    "predict threads": ("threads", lambda net, v: net.predict(X, threads=v)),
    "predict_labels X": ("X", lambda net, v: net.predict_labels(v)),
    "evaluate X": ("X", lambda net, v: net.evaluate(v, Y)),
    "evaluate y": ("y", lambda net, v: net.evaluate(X, v)),
    "evaluate rows": ("rows", lambda net, v: net.evaluate(X, Y, rows=v)),
    "gradient y": ("y", lambda net, v: net.loss_and_gradient(X, v)),
    "input_gradient X": ("X", lambda net, v: net.input_gradient(v, Y)),
    "apply_gradient": ("gradient", lambda net, v: net.apply_gradient(v)),
    "set_weights": ("weights", lambda net, v: net.set_weights(v)),
    "parameters": ("parameters", lambda net, v: setattr(net, "parameters", v)),
    "feature_names": ("feature_names", lambda net, v: setattr(net, "feature_names", v)),
    "device": ("device", lambda net, v: setattr(net, "device", v)),
}
SETTINGS = {
    fastnn.Dense: ("units activation alpha kernel_initializer bias_initializer", dict(units=3, activation="elu")),
    fastnn.Dropout: ("rate", {}),
    fastnn.Sequential: (
        "layers loss dtype device seed huber_delta standardize precision quantile",
        dict(layers=[fastnn.Dense(3)]),
    ),
    fastnn.logistic_net: ("n_classes", {}),
    fastnn.SGD: ("learning_rate momentum nesterov weight_decay clip_norm clip_value", {}),
    fastnn.RMSprop: ("rho eps", {}),
    fastnn.Adagrad: ("rate_decay eps", {}),
    fastnn.AdamW: ("beta1 beta2 weight_decay", {}),
    fastnn.StepDecay: ("rate every factor", dict(rate=0.1, every=2, factor=0.5)),
    fastnn.CosineDecay: ("epochs floor", dict(rate=0.1, epochs=2)),
    fastnn.InverseTimeDecay: ("decay", dict(rate=0.1)),
    fastnn.WarmUp: ("epochs start", dict(rate=0.1, epochs=2)),
    fastnn.EarlyStopping: ("patience restore_best min_delta monitor", {}),
    fastnn.ReduceLROnPlateau: ("factor patience threshold cooldown min_rate", {}),
}
ARGUMENTS |= {
    f"{kind.__name__} {name}": (name, lambda net, v, kind=kind, name=name, rest=rest: kind(**rest | {name: v}))
    for kind, (names, rest) in SETTINGS.items()
    for name in names.split()
}
ARGUMENTS["build n_features"] = "n_features( and units)?", lambda net, v: fastnn.Sequential([fastnn.Dense(1)]).build(v)
ARGUMENTS["build units"] = "units|n_features and units", lambda net, v: fastnn.Sequential([fastnn.Dense(v)]).build(5)


def sides(values, argument):
    """Give each value to an argument; the calls that neither worked nor named it, with what they did."""
    named, call = ARGUMENTS[argument]
    net, wrong = pair()[0], []
    before = net.parameters.tobytes()
    for name, value in values.items():
        try:
            call(net, value)
            net = pair()[0]  # where the value was used, the net may have changed
        except fastnn.DivergedError:
            assert net.parameters.tobytes() == before
        except (TypeError, ValueError, MemoryError) as error:
            message = str(error)
            if not re.match(rf"({named})\b", message) or len(message) > 600:
                wrong.append((name, repr(error)[:300]))
            if net.parameters.tobytes() != before:
                wrong.append((name, "changed the net"))
        except BaseException as error:
            wrong.append((name, repr(error)[:300]))
    return wrong


@pytest.mark.parametrize("argument", ARGUMENTS)
def test_each_value_is_used_or_refused_by_name(argument):
    assert not sides(VALUES, argument)


@pytest.mark.parametrize("name", [*VALUES, "a long text", "long bytes", "a large array", "named by another"])
def test_errors_quote_in_short(name):
    more = {
        "a long text": "x" * 10_000_000,
        "long bytes": bytes(10_000_000),
        "a large array": np.ones((1000, 1000)),
        "named by another": Liar(range(100_000)),
    }
    assert 0 < len(errors.quoted((VALUES | more)[name])) <= 200


@pytest.mark.parametrize("kind", [list, tuple, Liar])
def test_errors_read_the_beginning_of_what_they_quote(kind):
    read = []

    class Counted:
        def __repr__(self):
            read.append(self)
            return "counted"

    assert errors.quoted(kind(Counted() for _ in range(10_000))).startswith(("[counted, ", "(counted, "))
    assert len(read) < 100


@pytest.mark.parametrize("make", [frames, tensors])
def test_tables_and_tensors_are_used_or_refused_by_name(make):
    values = make()
    assert not {argument: wrong for argument in ARGUMENTS if (wrong := sides(values, argument))}
