"""Validation data cut from the training data."""

import numpy as np
import pytest
from nets import data, pair

import fastnn


def counted(m, share, shuffle, seed=0, **settings):
    """(rows trained on, held-out rows) of a fit: with all weights zero and inputs one-hot, W_i moves if i is seen."""
    net = fastnn.Sequential([fastnn.Dense(1)], loss="mse", dtype="float64", seed=seed).build(m)
    net.set_weights([np.zeros((1, m)), np.zeros(1)])
    seen = []

    def rows(y_true, outputs):
        seen.append(y_true.astype(int))
        return 0.0

    y = np.arange(1.0, m + 1)
    net.fit(np.eye(m), y, fastnn.SGD(1e-6), 1, validation_split=share, shuffle=shuffle, metrics=[rows], **settings)
    return np.flatnonzero(net.get_weights()[0][0]), seen[-1] - 1


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("m, share, held", [(10, 0.2, 2), (9, 0.01, 1), (2, 0.5, 1), (101, 0.333, 34), (50, 0.98, 49)])
def test_the_parts_are_all_rows_once(m, share, held, shuffle):
    used, kept = counted(m, share, shuffle)
    assert len(kept) == held
    assert sorted([*used, *kept]) == list(range(m))
    if not shuffle:
        assert kept.tolist() == list(range(m - held, m))


def test_the_seed_chooses_and_every_fit_holds_out_the_same():
    chosen = {tuple(counted(50, 0.2, True, seed)[1]) for seed in (0, 0, 1, 2)}
    assert len(chosen) == 3
    assert tuple(counted(50, 0.2, True, 0, batch_size=7)[1]) in chosen
    assert tuple(range(40, 50)) not in chosen


def test_it_is_the_fit_on_the_parts_with_their_weights():
    X, y = data(60)
    w = np.linspace(0.5, 2.0, 60)
    class_weight = {0: 2.0, 2: 0.5}
    by_class = w * np.array([2.0, 1.0, 0.5])[y]
    split, _, _ = pair()
    apart, _, _ = pair()
    settings = dict(epochs=4, batch_size=7, shuffle=False)
    one = split.fit(X, y, validation_split=0.25, sample_weight=w, class_weight=class_weight, **settings)
    held_out = (X[45:], y[45:], w[45:])
    other = apart.fit(X[:45], y[:45], sample_weight=by_class[:45], validation_data=held_out, **settings)
    assert np.array_equal(split.parameters, apart.parameters)
    assert np.array_equal(one.loss, other.loss)
    assert np.array_equal(one.validation_loss, other.validation_loss)


@pytest.mark.parametrize("shuffle, batch_size", [(True, None), (False, None), (False, 7), (True, 7)])
def test_a_standardisation_is_learned_from_the_rows_to_train_on(shuffle, batch_size):
    X, y = data(60)
    X = 1000 + X.astype(np.float64)
    net = fastnn.Sequential([fastnn.Dense(3, "softmax")], standardize=True, seed=0)
    net.fit(X, y, epochs=1, validation_split=0.25, shuffle=shuffle, batch_size=batch_size)
    of_rows = X[np.isin(np.arange(60), counted(60, 0.25, shuffle)[0])] if shuffle else X[:45]
    assert np.allclose(net.standardization.mean, of_rows.mean(axis=0), rtol=1e-7, atol=0.0)


X, Y = data()
BAD = [
    (dict(validation_split=0.0), ValueError, "validation_split", "0.0"),
    (dict(validation_split=1.0), ValueError, "validation_split", "1.0"),
    (dict(validation_split=True), TypeError, "validation_split", "True"),
    (dict(validation_split="0.2"), TypeError, "validation_split", "'0.2'"),
    (dict(validation_split=0.99), ValueError, "validation_split", "0.99 of 40 rows"),
    (dict(validation_split=0.2, validation_data=(X, Y)), ValueError, "validation_split", "0.2"),
    (dict(validation_split=0.2, batch_size=33), ValueError, "batch_size", "33"),
    (dict(validation_split=0.5, shuffle=False, sample_weight=np.arange(40) < 20), ValueError, "sample_weight", "a v"),
    (dict(validation_split=0.5, shuffle=False, sample_weight=np.arange(40) > 20), ValueError, "sample_weight", "a v"),
]


@pytest.mark.parametrize("settings, error, argument, given", BAD, ids=[f"{row[2]}-{row[3]}" for row in BAD])
def test_bad_splits_are_refused(settings, error, argument, given):
    net = fastnn.Sequential([fastnn.Dense(3, "softmax")])
    with pytest.raises(error, match=f"^{argument} must be .+; got {given}"):
        net.fit(X, Y, epochs=1, **settings)
    assert net.parameters is None
