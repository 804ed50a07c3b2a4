"""loss_and_gradient and apply_gradient: a step in two halves, and the plans that are kept for them."""

import copy
import pickle
import re
import threading
import weakref

import numpy as np
import pytest
from nets import OPTIMIZERS, data, pair

import fastnn
from fastnn import backends

X, Y = data()


def state(net):
    """All bits that training goes on from, but the epoch."""
    return net.parameters.tobytes(), [moment.tobytes() for moment in net.state.moments], net.state.step


# with shards, with parts of the parameters, and small
@pytest.mark.parametrize("widths, m", [((5, 7, 6, 3), 40), ((20, 33, 3), 900), ((300, 120, 3), 90)])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_both_halves_are_the_step_of_a_fit(optimizer, widths, m, dtype):
    make, _ = OPTIMIZERS[optimizer]
    activations = ("tanh",) * (len(widths) - 2) + ("softmax",)
    halves, whole = (pair(widths, activations, dtype=dtype)[0] for _ in range(2))
    X, y = data(m, widths[0], dtype=dtype)
    w = np.linspace(0.5, 2.0, m)
    for _ in range(3):
        loss, gradient = halves.loss_and_gradient(X, y, w)
        assert halves.apply_gradient(gradient, make()) is None
        history = whole.fit(X, y, make(), epochs=1, sample_weight=w, batch_size=None)
        assert loss == history.loss[0]
        assert state(halves) == state(whole)
    assert halves.state.epoch == 0
    # one goes on where the other stopped
    halves.fit(X, y, make(), epochs=1, sample_weight=w, batch_size=None)
    assert whole.state.rule.name == make().rule
    whole.apply_gradient(whole.loss_and_gradient(X, y, w)[1], make())
    assert state(halves) == state(whole)


@pytest.mark.parametrize(
    "options", [dict(clip_value=0.01), dict(clip_norm=0.05), dict(clip_norm=0.05, clip_value=0.01)]
)
def test_clipping_and_l2_act_as_in_a_fit(options, dtype):
    halves, whole = pair(dtype=dtype)[0], pair(dtype=dtype)[0]
    for _ in range(3):
        _, gradient = halves.loss_and_gradient(X, Y)
        before = gradient.copy()
        halves.apply_gradient(gradient, fastnn.Adam(0.02, **options), l2=0.1)
        assert np.array_equal(gradient, before)
        whole.fit(X, Y, fastnn.Adam(0.02, **options), epochs=1, l2=0.1, batch_size=None)
    np.testing.assert_allclose(halves.parameters, whole.parameters, rtol=1e-5 if dtype == "float32" else 1e-12)


def test_machines_that_share_the_rows_train_as_one():
    one, other = pair()[0], pair()[0]
    for _ in range(5):
        parts = [one.loss_and_gradient(X[rows], Y[rows])[1] for rows in (slice(0, 10), slice(10, 40))]
        one.apply_gradient(0.25 * parts[0] + 0.75 * parts[1])
        other.fit(X, Y, epochs=1, batch_size=None)
    np.testing.assert_allclose(one.parameters, other.parameters, rtol=1e-10)


def test_a_schedule_gives_its_first_rate_and_lists_are_taken():
    one, other = pair()[0], pair()[0]
    gradient = one.loss_and_gradient(X, Y)[1]
    one.apply_gradient(gradient.tolist(), fastnn.SGD(fastnn.StepDecay(0.3, 1, 0.5)))
    other.parameters -= 0.3 * gradient
    np.testing.assert_allclose(one.parameters, other.parameters, rtol=1e-12)  # the kernel rounds once


def test_an_update_that_diverges_changes_nothing_and_forgets_the_optimizer():
    net, _, _ = pair()
    net.fit(X, Y, epochs=2)
    before = net.parameters.copy()
    with pytest.raises(fastnn.DivergedError, match="a parameter is not finite"):
        net.apply_gradient(np.full_like(before, 1e300), fastnn.SGD(1e300))
    assert np.array_equal(net.parameters, before)
    assert net.state.rule is None and net.state.step == 0
    assert np.isfinite(net.partial_fit(X, Y))


P = pair()[0].parameters.size
BAD = [
    (np.zeros(P - 1), {}, ValueError, "gradient", r"shape \(\d+,\)"),
    (np.zeros((1, P)), {}, ValueError, "gradient", rf"shape \(1, {P}\)"),
    (np.where(np.arange(P) == 7, np.nan, 0.0), {}, ValueError, "gradient", "nan at row 7"),
    ("steep", {}, TypeError, "gradient", "'steep'"),
    (np.zeros(P), dict(optimizer="Adam"), ValueError, "optimizer", "'Adam'"),
    (np.zeros(P), dict(optimizer=fastnn.Adam), TypeError, "optimizer", "<class"),
    (np.zeros(P), dict(l2=-1.0), ValueError, "l2", "-1.0"),
]


@pytest.mark.parametrize("gradient, settings, error, argument, given", BAD, ids=[f"{row[3]}-{row[4]}" for row in BAD])
def test_bad_gradients_are_refused_and_change_nothing(gradient, settings, error, argument, given):
    net, _, _ = pair()
    before = state(net)
    with pytest.raises(error) as caught:
        net.apply_gradient(gradient, **settings)
    assert re.search(f"^{argument} must be .+; got {given}", str(caught.value)), caught.value
    assert state(net) == before
    with pytest.raises(fastnn.NotBuiltError):
        fastnn.Sequential([fastnn.Dense(1)]).apply_gradient([1.0])


@pytest.fixture
def made(monkeypatch):
    """Commands of the plans that are made."""
    commands = []
    make = backends.make_plan

    def watched(device, precision, program, parameters, batch, command, *rest):
        commands.append(command)
        return make(device, precision, program, parameters, batch, command, *rest)

    monkeypatch.setattr(backends, "make_plan", watched)
    return commands


def test_plans_are_kept_from_call_to_call(made):
    net, fresh = pair()[0], pair()[0]
    for i in range(3):
        for rows in (slice(0, 20), slice(20, 40)):
            w = np.linspace(0.5, 2.0, 20) if i == 1 else None  # weights come and go
            loss, gradient = net.loss_and_gradient(X[rows], Y[rows], w)
            right = pair()[0]
            right.parameters = net.parameters
            assert np.array_equal(gradient, right.loss_and_gradient(X[rows], Y[rows], w)[1])
            assert loss == right.loss_and_gradient(X[rows], Y[rows], w)[0]
            net.apply_gradient(gradient, fastnn.SGD(0.1))
    fresh.fit(X[:20], Y[:20], fastnn.SGD(0.1), epochs=1, batch_size=None)
    made.clear()
    for _ in range(4):
        net.loss_and_gradient(X[:20], Y[:20])
        net.apply_gradient(gradient)
        net.partial_fit(X[:20], Y[:20])
        net.input_gradient(X[:20], Y[:20])
    assert sorted(made) == sorted([backends.TRAIN, backends.INPUT_GRADIENT])


def test_what_shapes_a_plan_makes_another(made):
    net, _, _ = pair()
    net.loss_and_gradient(X, Y)
    for change in (
        lambda: net.loss_and_gradient(X[:20], Y[:20]),
        lambda: net.loss_and_gradient(X[:20], Y[:20], threads=fastnn.get_num_threads() + 1),
        lambda: (net.build(5), net.loss_and_gradient(X[:20], Y[:20], threads=fastnn.get_num_threads() + 1)),
        lambda: pickle.loads(pickle.dumps(net)).loss_and_gradient(X, Y),
        lambda: copy.deepcopy(net).loss_and_gradient(X, Y),
    ):
        made.clear()
        change()
        assert made == [backends.GRADIENT]
    # the parameters are read where they stand
    made.clear()
    before = net.loss_and_gradient(X[:20], Y[:20], threads=fastnn.get_num_threads() + 1)
    net.set_weights(pair()[2])
    after = net.loss_and_gradient(X[:20], Y[:20], threads=fastnn.get_num_threads() + 1)
    assert not made and before[0] != after[0]
    assert after[0] == pair()[0].loss_and_gradient(X[:20], Y[:20])[0]


def test_kept_plans_see_a_standardisation_that_was_learned_since():
    net = fastnn.Sequential([fastnn.Dense(3)], dtype="float64", standardize=True).build(5)
    y = data(loss="mse")[1]
    before = net.loss_and_gradient(X, y)[1]
    net.partial_fit(3 * X + 5, y, fastnn.SGD(1e-300))
    assert not np.array_equal(net.loss_and_gradient(X, y)[1], before)


def test_kept_plans_keep_no_rows():
    net, _, _ = pair()
    mine, targets, w = X.copy(), Y.astype(float), np.ones(len(X))
    kept = [weakref.ref(array) for array in (mine, targets, w)]
    net.loss_and_gradient(mine, targets, w)
    net.input_gradient(mine, targets, w)
    net.partial_fit(mine, targets, sample_weight=w)
    del mine, targets, w
    assert [ref() for ref in kept] == [None] * 3


def test_python_threads_that_share_a_net_get_plans_of_their_own():
    net, _, _ = pair((20, 33, 3), ("tanh", "softmax"))
    rows = [data(900, 20), (data(901, 20)[0][:900] + 1, data(901, 20)[1][:900])]
    right = [net.loss_and_gradient(*each) for each in rows]
    wrong = []

    def work(i):
        for _ in range(60):
            loss, gradient = net.loss_and_gradient(*rows[i])
            if loss != right[i][0] or not np.array_equal(gradient, right[i][1]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i % 2,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
