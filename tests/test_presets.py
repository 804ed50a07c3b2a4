"""The preset for tables: from a table to an ensemble in one call."""

import numpy as np
import pytest

import fastnn
from fastnn import Code, Columns, Number

SMALL = {"hidden": [8], "epochs": 12, "batch_size": 32, "learning_rate": 0.01}


def houses(rows=240, seed=0):
    """A table with gaps and text, and prices."""
    rng = np.random.default_rng(seed)
    size, town = rng.uniform(40, 200, rows), rng.choice(["Graz", "Linz", "Wien"], rows)
    price = 1e5 + 2e3 * size * (1 + (town == "Wien")) + rng.normal(0, 1e4, rows)
    size[::19] = np.nan
    return {"size": size, "town": town, "rooms": rng.integers(1, 6, rows)}, price


def test_a_regression():
    table, price = houses()
    found = fastnn.preset("table", **SMALL | {"epochs": 40}).fit(table, price)
    assert isinstance(found, fastnn.Ensemble) and len(found) in (4, 8, 12)
    new, expected = houses(seed=1)
    known = ~np.isnan(new["size"])
    assert np.corrcoef(found.predict(new)[known, 0], expected[known])[0, 1] > 0.95
    assert found.columns == Columns.infer(table)
    np.testing.assert_allclose(fastnn.apply(found.freeze(), found.encode(new)), found.predict(new), rtol=1e-5)


@pytest.mark.parametrize("kind", ["text", "booleans", "numbers", "several"])
def test_classes(kind):
    table, price = houses()
    bands = np.digitize(price, [3e5, 4e5])
    y = {"booleans": bands > 0, "numbers": (bands > 0) * 1.0, "text": np.array(["low", "middle", "high"])[bands]}
    y["several"], task = bands, "classification" if kind == "several" else None
    columns = Columns(size=Number(bins=8), town=Code())
    found = fastnn.preset(folds=2, size=2, **SMALL).fit(table, y[kind], columns, task, class_weight="balanced")
    assert found.outputs == (3 if kind in ("text", "several") else 1)
    assert found.evaluate(table, y[kind])["accuracy"] > 0.7
    labels = found.predict_labels(table)
    assert set(labels.tolist()) <= set(np.unique(y[kind]).tolist())


def test_the_seed_and_nothing_else_chooses():
    table, price = houses(80)
    small = fastnn.preset(folds=2, size=2, **SMALL)
    one, two, other = (
        small.fit(table, price, seed=seed, threads=threads) for seed, threads in ((1, 1), (1, 3), (2, 1))
    )
    np.testing.assert_array_equal(one.predict(table), two.predict(table))
    assert (one.predict(table) != other.predict(table)).any()


@pytest.mark.parametrize(
    "call, error, match",
    [
        (lambda X, y: fastnn.preset("tables"), ValueError, "name must be one of 'table'"),
        (lambda X, y: fastnn.preset(epoch=3), ValueError, "setting must be one of .*did you mean 'epochs'"),
        (lambda X, y: fastnn.preset(folds=1), ValueError, "folds must be an int of at least 2; got 1"),
        (lambda X, y: fastnn.preset(hidden=3), TypeError, "hidden must be a sequence"),
        (lambda X, y: fastnn.preset(weight_decays=()), TypeError, "weight_decays must be a sequence of at least one"),
        (lambda X, y: fastnn.preset(dropout=1.0), ValueError, "rate must be"),
        (lambda X, y: fastnn.preset(epochs=0), ValueError, "epochs must be a positive int"),
        (lambda X, y: fastnn.preset().fit(X, ["a"] * len(y), task="regression"), TypeError, "y must be numbers"),
        (lambda X, y: fastnn.preset().fit(X, y, ["size"]), TypeError, "columns must be None or fastnn.Columns"),
        (lambda X, y: fastnn.preset().fit(X, y, task="ranking"), ValueError, "task must be one of"),
        (lambda X, y: fastnn.preset().fit(X, y[1:]), ValueError, "y must be an array of 240 rows, as X"),
    ],
)
def test_what_is_refused(call, error, match):
    with pytest.raises(error, match=match):
        call(*houses())
