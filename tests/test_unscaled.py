"""A warning before a net is to learn from numbers as large as ids."""

import warnings

import numpy as np
import pytest

import fastnn

ROWS = np.random.default_rng(0).normal(size=(40, 3))
y = ROWS[:, 0] > 0


def net(**settings):
    return fastnn.Sequential([fastnn.Dense(4, "tanh"), fastnn.Dense(1, "sigmoid")], **settings)


def test_ids_among_the_features_are_warned_of():
    X = ROWS.copy()
    X[:, 1] = 700_000 + np.arange(40)
    with pytest.warns(fastnn.UnscaledWarning, match="the numbers of feature 1 are large, about 7e") as caught:
        net().fit(X, y, epochs=1)
    assert [one.filename for one in caught] == [__file__]
    pandas = pytest.importorskip("pandas")
    with pytest.warns(fastnn.UnscaledWarning, match="the numbers of column 'ad' are large"):
        net().fit(pandas.DataFrame(X, columns=["a", "ad", "b"]), y, epochs=1, validation_split=0.2)


def test_only_of_a_net_that_was_not_trained_and_scales_nothing():
    X = ROWS * 1e6
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net(standardize=True).fit(X, y, epochs=1)
        net().build(3).fit(X, y, epochs=1)
        net().fit(ROWS * 255, y, epochs=1)
        outlier = ROWS.copy()
        outlier[3] = 1e9
        net().fit(outlier, y, epochs=1)
        columns = fastnn.Columns(a=fastnn.Number(), b=fastnn.Number(), c=fastnn.Number())
        fastnn.Sequential([columns, fastnn.Dense(1, "sigmoid")]).fit(X, y, epochs=1)
