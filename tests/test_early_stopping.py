"""The best weights are put back, as they were, and the fit ends when it should."""

import numpy as np
import pytest
from nets import data, pair

import fastnn


def overfitting():
    """Few rows, many weights: the validation loss falls, then rises."""
    X, y = data(120)
    return (X[:30], y[:30]), (X[30:], y[30:])


def trained(epochs, callbacks=(), dtype="float64", **settings):
    net, _, _ = pair((5, 30, 3), ("tanh", "softmax"), dtype=dtype)
    rows, held_out = overfitting()
    settings = dict(batch_size=10, validation_data=held_out) | settings
    history = net.fit(*rows, fastnn.Adam(0.02), epochs=epochs, callbacks=callbacks, **settings)
    return net, history


@pytest.mark.parametrize("how", ["stopped", "at the last epoch"])
def test_the_weights_of_the_best_epoch_are_put_back(how, dtype):
    stopping = fastnn.EarlyStopping(patience=8 if how == "stopped" else 10_000)
    net, history = trained(500 if how == "stopped" else 60, [stopping], dtype)
    best = int(np.argmin(history.validation_loss))
    assert history.best_epoch == best
    assert history.epochs == (best + 9 if how == "stopped" else 60)
    assert 5 < best < history.epochs - 1
    until_then, _ = trained(best + 1, dtype=dtype)
    assert np.array_equal(net.parameters, until_then.parameters)
    rows, held_out = overfitting()
    assert net.evaluate(*held_out)["loss"] == history.validation_loss[best]
    # the optimizer starts afresh
    again, _, _ = pair((5, 30, 3), ("tanh", "softmax"), dtype=dtype)
    again.set_weights(until_then.get_weights())
    for one in (net, again):
        one.fit(*rows, fastnn.Adam(0.02), epochs=2, batch_size=None)
    assert np.array_equal(net.parameters, again.parameters)


def test_the_last_weights_stay_where_the_user_wants_them():
    net, history = trained(500, [fastnn.EarlyStopping(patience=8, restore_best=False)])
    whole, _ = trained(history.epochs)
    assert history.best_epoch == history.epochs - 9
    assert np.array_equal(net.parameters, whole.parameters)


def test_where_the_last_epoch_is_the_best_the_optimizer_goes_on():
    net, history = trained(4, [fastnn.EarlyStopping()])
    assert history.best_epoch == 3
    again, _ = trained(4)
    rows, _ = overfitting()
    for one in (net, again):
        one.fit(*rows, fastnn.Adam(0.02), epochs=2, batch_size=10)
    assert np.array_equal(net.parameters, again.parameters)


def told(values, greater=False, **settings):
    """History of a fit whose score takes these values."""
    left = iter(values)

    def score(y_true, outputs):
        return next(left)

    score.greater_is_better = greater
    stopping = fastnn.EarlyStopping(monitor="score", **settings)
    net, _, _ = pair()
    return net.fit(*data(), epochs=len(values), metrics=[score], callbacks=[stopping])


@pytest.mark.parametrize("greater", [False, True])
def test_when_it_stops(greater):
    sign = -1 if greater else 1
    for values, settings, epochs, best in [
        ([3, 2, 2, 2, 1, 0], dict(patience=2), 4, 1),
        ([3, 2, 2, 1, 1, 1, 1], dict(patience=2), 6, 3),
        ([3, 2, 2.5, 1, 2, 2], dict(patience=3), 6, 3),
        ([3, 2.9, 2.8, 2.7, 2.6], dict(patience=2, min_delta=0.15), 5, 4),
        ([3, 2.9, 2.8, 2.7, 2.6], dict(patience=2, min_delta=0.25), 3, 0),
        ([np.nan, 3, np.nan, np.nan, 0], dict(patience=2), 4, 1),
        ([np.nan, np.nan, 1, 1], dict(patience=2), 2, None),
    ]:
        history = told([sign * value for value in values], greater, **settings)
        assert (history.epochs, history.best_epoch) == (epochs, best), (values, settings)


def test_what_is_watched():
    stopping = fastnn.EarlyStopping(patience=10_000)
    for settings, name in (
        (dict(validation_data=None), "loss"),
        (dict(), "validation_loss"),
    ):
        _, history = trained(40, [stopping], **settings)
        assert history.best_epoch == int(np.argmin(getattr(history, name)))
    _, history = trained(40, [fastnn.EarlyStopping(100, monitor="loss")])
    assert history.best_epoch == int(np.argmin(history.loss)) != int(np.argmin(history.validation_loss))
    _, history = trained(40, [fastnn.EarlyStopping(100, monitor="accuracy")], metrics=["accuracy"])
    assert history.best_epoch == int(np.argmax(history.metrics["accuracy"]))


def test_the_same_object_serves_many_fits():
    stopping = fastnn.EarlyStopping(patience=8)
    first, second = (trained(500, [stopping])[1] for _ in range(2))
    assert first.best_epoch == second.best_epoch and first.epochs == second.epochs


def test_it_does_not_change_the_run():
    _, watched = trained(30, [fastnn.EarlyStopping(100), fastnn.ReduceLROnPlateau(patience=100)])
    _, alone = trained(30)
    assert np.array_equal(watched.loss, alone.loss)


def nameless(y_true, outputs):
    return 0.0


@pytest.mark.parametrize("kind", [fastnn.EarlyStopping, fastnn.ReduceLROnPlateau])
@pytest.mark.parametrize(
    "monitor, settings, given",
    [
        ("validation_loss", dict(validation_data=None), "'validation_loss'"),
        ("acuracy", dict(metrics=["accuracy"]), r"'acuracy' \(did you mean 'accuracy'\?\)"),
        ("nameless", dict(metrics=[nameless]), "'nameless'"),
    ],
)
def test_what_cannot_be_watched_is_refused_before_anything_changes(kind, monitor, settings, given):
    net = fastnn.Sequential([fastnn.Dense(3, "softmax")])
    rows, held_out = overfitting()
    settings = dict(validation_data=held_out) | settings
    with pytest.raises(ValueError, match=f"monitor must be .+; got {given}"):
        net.fit(*rows, epochs=3, callbacks=[kind(monitor=monitor)], **settings)
    assert net.parameters is None


BAD = [
    (lambda: fastnn.EarlyStopping(patience=0), ValueError, "patience", "0"),
    (lambda: fastnn.EarlyStopping(patience=2.0), TypeError, "patience", "2.0"),
    (lambda: fastnn.EarlyStopping(restore_best="yes"), TypeError, "restore_best", "'yes'"),
    (lambda: fastnn.EarlyStopping(min_delta=-1.0), ValueError, "min_delta", "-1.0"),
    (lambda: fastnn.EarlyStopping(min_delta=np.nan), ValueError, "min_delta", "nan"),
    (lambda: fastnn.EarlyStopping(monitor=3), TypeError, "monitor", "3"),
    (lambda: fastnn.ReduceLROnPlateau(factor=1.0), ValueError, "factor", "1.0"),
    (lambda: fastnn.ReduceLROnPlateau(factor=0.0), ValueError, "factor", "0.0"),
    (lambda: fastnn.ReduceLROnPlateau(factor="x"), TypeError, "factor", "'x'"),
    (lambda: fastnn.ReduceLROnPlateau(patience=-1), ValueError, "patience", "-1"),
    (lambda: fastnn.ReduceLROnPlateau(patience=True), TypeError, "patience", "True"),
    (lambda: fastnn.ReduceLROnPlateau(threshold=1.0), ValueError, "threshold", "1.0"),
    (lambda: fastnn.ReduceLROnPlateau(cooldown=1.5), TypeError, "cooldown", "1.5"),
    (lambda: fastnn.ReduceLROnPlateau(min_rate=-0.1), ValueError, "min_rate", "-0.1"),
    (lambda: fastnn.ReduceLROnPlateau(monitor=["loss"]), TypeError, "monitor", r"\['loss'\]"),
    (lambda: fastnn.WarmUp(0.1, 0), ValueError, "epochs", "0"),
    (lambda: fastnn.WarmUp(0.1, 3, start=-1.0), ValueError, "start", "-1.0"),
    (lambda: fastnn.WarmUp("fast", 3), TypeError, "rate", "'fast'"),
    (lambda: fastnn.WarmUp(-0.5, 3), ValueError, "rate", "-0.5"),
]


@pytest.mark.parametrize("make, error, argument, given", BAD, ids=[f"{row[2]}-{row[3]}" for row in BAD])
def test_bad_settings_are_refused(make, error, argument, given):
    with pytest.raises(error, match=f"^{argument} must be .+; got {given}$"):
        make()
