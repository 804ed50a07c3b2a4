"""fit and evaluate on some rows of X, which is shared: the same bits as on a copy of these rows."""

import re

import numpy as np
import pytest
from nets import data, pair

import fastnn
from fastnn import backends

X, Y = data(90)
W = np.linspace(0.5, 2.0, 90)
ROWS = np.random.default_rng(0).permutation(90)[:61]


def bits(net, history):
    recorded = history.loss, history.validation_loss, *history.metrics.values()
    return net.parameters.tobytes(), [values.tolist() for values in recorded]


@pytest.mark.parametrize("batch_size", [None, 7, 61])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        dict(sample_weight=W, class_weight="balanced", l2=0.01, metrics=("accuracy", "f1_macro")),
        dict(validation_split=0.3, sample_weight=W),
        dict(validation_data=(X[:9], Y[:9]), class_weight={1: 3.0}),
    ],
    ids=["plain", "weights", "split", "validation"],
)
def test_it_is_the_fit_on_these_rows_alone(settings, shuffle, batch_size, dtype):
    if settings.get("validation_split") and batch_size == 61:
        batch_size = 43
    found = []
    for alone in (False, True):
        net, _, _ = pair(dtype=dtype)
        X_, y, these = (X[ROWS], Y[ROWS], {}) if alone else (X, Y, {"rows": ROWS})
        own = dict(settings)
        if alone and "sample_weight" in own:
            own["sample_weight"] = W[ROWS]
        history = net.fit(X_, y, epochs=4, batch_size=batch_size, shuffle=shuffle, **these, **own)
        found.append(bits(net, history))
    assert found[0] == found[1]


@pytest.mark.parametrize("kind", [list, "int8", "uint16", "int64"])
def test_rows_come_in_any_form_in_their_order_and_twice(kind):
    rows = [5, 3, 3, 80, 0]
    given = rows if kind is list else np.array(rows, kind)
    one, other = pair()[0], pair()[0]
    one.fit(X, Y, epochs=3, batch_size=2, shuffle=False, rows=given)
    other.fit(X[rows], Y[rows], epochs=3, batch_size=2, shuffle=False)
    assert np.array_equal(one.parameters, other.parameters)
    assert rows == [5, 3, 3, 80, 0]


def test_the_standardisation_is_learned_from_these_rows():
    nets = [fastnn.Sequential([fastnn.Dense(3)], dtype="float64", standardize=True) for _ in range(2)]
    targets = data(90, loss="mse")[1]
    nets[0].fit(X, targets, epochs=3, batch_size=9, rows=ROWS)
    nets[1].fit(X[ROWS], targets[ROWS], epochs=3, batch_size=9)
    assert all(map(np.array_equal, nets[0].standardization, nets[1].standardization))
    assert np.array_equal(nets[0].parameters, nets[1].parameters)


def test_dropout_goes_by_the_place_in_the_epoch():
    one, other = pair(drops=(0.2, 0.5, 0.3))[0], pair(drops=(0.2, 0.5, 0.3))[0]
    one.fit(X, Y, epochs=3, batch_size=16, rows=ROWS)
    other.fit(X[ROWS], Y[ROWS], epochs=3, batch_size=16)
    assert np.array_equal(one.parameters, other.parameters)


@pytest.mark.parametrize("count", [3, 61])
def test_evaluate(count, dtype):
    net, _, _ = pair(dtype=dtype)
    rows = ROWS[:count]
    found = net.evaluate(X, Y, W, metrics=["f1_macro"], rows=rows)
    assert found == net.evaluate(X[rows], Y[rows], W[rows], metrics=["f1_macro"])
    assert found["loss"] != net.evaluate(X, Y, W)["loss"]


def test_a_fold_goes_on_from_its_checkpoint(tmp_path):
    pytest.importorskip("safetensors.numpy")
    path, results = tmp_path / "run", []
    for epochs in ((6,), (2, 6)):
        for last in epochs:
            net, _, _ = pair()
            own = {} if len(epochs) == 1 else dict(callbacks=[fastnn.Checkpoint(path)], resume=path)
            net.fit(X, Y, epochs=last, batch_size=7, rows=ROWS, **own)
        results.append(net.parameters)
    assert np.array_equal(*results)
    with pytest.raises(ValueError, match="the number of rows is 61 and not 90"):
        pair()[0].fit(X, Y, epochs=9, batch_size=7, resume=path)


@pytest.mark.parametrize(
    "settings, copies",
    [
        (dict(rows=ROWS, batch_size=7), 0),
        (dict(rows=ROWS, batch_size=None), 0),
        (dict(validation_split=0.2, batch_size=7), 0),
        (dict(validation_split=0.2, batch_size=None, shuffle=False), 0),
        (dict(validation_split=0.2, batch_size=None), 1),
        (dict(validation_split=0.2), 0),
        (dict(validation_split=0.2, batch_size=72), 1),
    ],
    ids=str,
)
def test_x_is_copied_only_where_each_step_takes_all_rows_of_a_random_choice(settings, copies, monkeypatch):
    shared = []
    make = backends.make_plan

    def watched(*arguments):
        plan = make(*arguments)
        bind = plan.bind_data

        def bind_data(X, *rest, **more):
            shared.append(np.shares_memory(X, given))
            bind(X, *rest, **more)

        plan.bind_data = bind_data
        return plan

    monkeypatch.setattr(backends, "make_plan", watched)
    given = X.copy()
    pair()[0].fit(given, Y, epochs=2, **settings)
    assert shared.count(False) == copies and len(shared) == 1 + ("validation_split" in settings)


BAD = [
    (np.zeros((2, 2), int), ValueError, r"an array of shape \(2, 2\)"),
    ([], ValueError, r"an array of shape \(0,\)"),
    ([0.0, 1.0], TypeError, "an array of dtype float64"),
    (np.ones(90, bool), TypeError, "an array of dtype bool"),
    (["a"], TypeError, r"'a' \(str\) at row 0"),
    (3, TypeError, "3"),
    ([0, 90], ValueError, "90 at place 1"),
    ([-1], ValueError, "-1 at place 0"),
]


@pytest.mark.parametrize("rows, error, given", BAD, ids=[str(row[2]) for row in BAD])
def test_bad_rows_are_refused_and_change_nothing(rows, error, given):
    net = fastnn.Sequential([fastnn.Dense(3, "softmax")])
    built, _, _ = pair()
    for call in (lambda: net.fit(X, Y, rows=rows), lambda: built.evaluate(X, Y, rows=rows)):
        with pytest.raises(error) as caught:
            call()
        assert re.search(f"^rows must be None or a 1-D array .+ from 0 to 89; got {given}", str(caught.value))
    assert net.parameters is None


def test_rows_do_not_go_with_batches_nor_with_weights_that_are_zero_there():
    net = pair()[0]
    with pytest.raises(ValueError, match="rows must be None where X gives batches; got"):
        net.fit([(X, Y)], rows=[1])
    with pytest.raises(ValueError, match="sample_weight must be .+ got zeros only"):
        net.fit(X, Y, rows=[1, 2], sample_weight=np.arange(90) > 5)
    with pytest.raises(ValueError, match="batch_size must be at most the 2 samples, or None for all; got 3"):
        net.fit(X, Y, rows=[1, 2], batch_size=3)
