"""Learning rates by epoch and by step, and what a fit records of them."""

import numpy as np
import pytest
from nets import data, pair

import fastnn


class Asked(fastnn.Constant):
    """A schedule that remembers at which places it was asked."""

    def __init__(self):
        super().__init__(0.01)
        self.places = []

    def rates(self, epochs):
        self.places += list(epochs)
        return super().rates(epochs)


@pytest.mark.parametrize("look", [(), [lambda net, history: None]])
def test_a_schedule_is_asked_at_each_step_where_the_fit_stands(look):
    net, _, _ = pair()
    X, y = data(10)
    asked = Asked()
    net.fit(X, y, fastnn.SGD(asked), epochs=3, batch_size=4, callbacks=look)
    assert asked.places == [(epoch * 3 + step) / 3 for epoch in range(3) for step in range(3)]


SCHEDULES = [
    fastnn.Constant(0.3),
    fastnn.StepDecay(0.3, 2, 0.5),
    fastnn.CosineDecay(0.3, 5, 0.01),
    fastnn.InverseTimeDecay(0.3, 0.7),
]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_schedules_change_from_epoch_to_epoch(schedule):
    whole = schedule.rates(np.arange(8))
    for share in (0.0, 0.25, 0.999):
        assert np.array_equal(schedule.rates(np.arange(8) + share), whole)


@pytest.mark.parametrize("rate", [0.3, *SCHEDULES], ids=str)
def test_a_warm_up_is_a_line_to_what_the_schedule_gives_at_its_end(rate):
    warm = fastnn.WarmUp(rate, epochs=4, start=0.1)
    after = fastnn.Constant(rate) if isinstance(rate, float) else rate
    end = after.rates(np.array([4]))[0]
    places = np.array([0.0, 0.5, 1.0, 3.9, 4.0, 4.5, 7.0])
    line = 0.1 + (end - 0.1) * places / 4
    np.testing.assert_allclose(warm.rates(places), np.where(places < 4, line, after.rates(places)), rtol=1e-14)
    assert np.array_equal(warm.rates(places[4:]), after.rates(places[4:]))


def test_a_warm_up_is_that_of_torch():
    """LinearLR counts the steps of five epochs of three steps."""
    torch = pytest.importorskip("torch")
    theta = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([theta], lr=0.3)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.1, end_factor=1.0, total_iters=15)
    right = []
    for _ in range(24):
        right.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    found = fastnn.WarmUp(0.3, epochs=5, start=0.03).rates(np.arange(24) / 3)
    np.testing.assert_allclose(found, right, rtol=1e-12)


def test_the_rate_of_a_warm_up_reaches_the_weights():
    X, y = data(10)
    net, _, _ = pair()
    steps, _, _ = pair()
    net.fit(X, y, fastnn.SGD(fastnn.WarmUp(0.5, epochs=2)), epochs=2, shuffle=False, batch_size=5)
    for i, rate in enumerate((0.0, 0.125, 0.25, 0.375)):
        rows = slice(0, 5) if i % 2 == 0 else slice(5, 10)
        steps.fit(X[rows], y[rows], fastnn.SGD(rate), epochs=1)
    assert np.array_equal(net.parameters, steps.parameters)


@pytest.mark.parametrize("look", [(), [lambda net, history: None]])
def test_history_has_the_rate_of_the_last_step_of_each_epoch(look):
    net, _, _ = pair()
    X, y = data(10)
    warm = fastnn.WarmUp(fastnn.StepDecay(0.4, 3, 0.5), epochs=2)
    history = net.fit(X, y, fastnn.SGD(warm), epochs=7, batch_size=4, callbacks=look)
    last = (np.arange(7) * 3 + 2) / 3
    assert np.array_equal(history.learning_rate, warm.rates(last))


@pytest.mark.parametrize("look", [(), [lambda net, history: None]])
def test_history_has_the_seconds_until_the_end_of_each_epoch(look):
    net, _, _ = pair()
    X, y = data()
    history = net.fit(X, y, epochs=300, callbacks=look)
    assert history.elapsed.shape == (300,)
    assert history.elapsed[0] > 0 and (np.diff(history.elapsed) > 0).all()
    assert history.elapsed[-1] == history.seconds


@pytest.mark.parametrize("mode", ["loss", "score"])
@pytest.mark.parametrize(
    "settings",
    [
        dict(),
        dict(factor=0.5, patience=2),
        dict(factor=0.5, patience=0, threshold=0.05),
        dict(factor=0.3, patience=1, cooldown=3, threshold=0.02),
        dict(factor=0.3, patience=1, min_rate=0.01),
        dict(factor=0.1, patience=0, threshold=0.5),
    ],
    ids=str,
)
def test_a_plateau_lowers_the_rate_as_torch_does(settings, mode):
    torch = pytest.importorskip("torch")
    values = 2.0 + np.cos(np.arange(40) / 3) * np.exp(-np.arange(40) / 10) + 0.01 * np.sin(7.0 * np.arange(40))
    values[5] = np.nan
    left = iter(values)

    def score(y_true, outputs):
        return next(left)

    score.greater_is_better = mode == "score"
    net, _, _ = pair()
    X, y = data()
    plateau = fastnn.ReduceLROnPlateau(**settings, monitor="score")
    history = net.fit(X, y, fastnn.SGD(0.2), epochs=40, metrics=[score], callbacks=[plateau])

    theirs = {name.replace("min_rate", "min_lr"): value for name, value in settings.items()}
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.2)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode="max" if mode == "score" else "min", **theirs
    )
    right = []
    for value in values:
        right.append(optimizer.param_groups[0]["lr"])
        scheduler.step(value)
    if settings:
        assert len(set(right)) > 1
    np.testing.assert_allclose(history.learning_rate, right, rtol=1e-12)


@pytest.mark.parametrize("greater", [True, False])
def test_a_plateau_below_zero_is_one(greater):
    def score(y_true, outputs):
        return -1.0

    score.greater_is_better = greater
    net, _, _ = pair()
    plateau = fastnn.ReduceLROnPlateau(0.5, patience=1, monitor="score")
    history = net.fit(*data(), fastnn.SGD(0.2), epochs=6, metrics=[score], callbacks=[plateau])
    assert history.learning_rate.tolist() == [0.2, 0.2, 0.2, 0.1, 0.1, 0.05]


def test_a_plateau_lowers_what_a_schedule_gives():
    net, _, _ = pair()
    schedule = fastnn.StepDecay(0.2, 3, 0.5)
    never_better = fastnn.ReduceLROnPlateau(0.1, patience=1, threshold=0.9)
    history = net.fit(*data(), fastnn.SGD(schedule), epochs=8, callbacks=[never_better])
    share = [1, 1, 1, 0.1, 0.1, 0.01, 0.01, 1e-3]
    np.testing.assert_allclose(history.learning_rate, share * schedule.rates(np.arange(8)))


@pytest.mark.parametrize("places", [-1.0, [-1.0], ["one"], [1j], None, [[1.0, 2.0], [3.0]], [np.nan]])
@pytest.mark.parametrize("schedule", [fastnn.InverseTimeDecay(0.1, 0.5), fastnn.WarmUp(0.1, 2)], ids=str)
def test_places_that_are_none_are_refused(schedule, places):
    with pytest.raises((TypeError, ValueError), match="epochs must be an array of"):
        schedule.rates(places)
