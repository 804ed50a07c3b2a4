"""Whole runs drawn at random, with everything at once, against the reference."""

import numpy as np
import recipes
import reference
import reference_random
from arrays import normal
from hypothesis import example, given, settings
from hypothesis import strategies as st
from nets import OPTIMIZERS, flat, pair
from tolerance import assert_close

WIDTH = st.one_of(st.integers(1, 40), st.sampled_from([15, 16, 17, 31, 32, 33, 48, 64, 65]))
# rmsprop divides small gradients by themselves: rounding in them, not the run, would be compared
STEADY = [name for name in OPTIMIZERS if not name.startswith("rmsprop")]


@st.composite
def runs(draw):
    loss = draw(st.sampled_from([name for name in reference.LOSSES if name != "poisson"]))  # whose exp runs away
    smooth = [name for name in reference.ACTIVATIONS if name not in ("relu", "leaky_relu", "exp")]
    hidden = draw(st.lists(st.tuples(WIDTH, st.sampled_from(smooth)), max_size=4))
    last = reference.FUSED.get(loss) or draw(st.sampled_from(["linear", "tanh", "softplus"]))
    rows = draw(st.one_of(st.integers(1, 100), st.integers(500, 2500)))
    return dict(
        features=draw(WIDTH),
        hidden=hidden,
        outputs=draw(st.integers(2 if loss == "cross_entropy" else 1, 12)),
        last=last,
        loss=loss,
        rows=rows,
        batch_size=draw(st.one_of(st.none(), st.integers(max(1, rows // 20), rows))),
        shuffle=draw(st.booleans()),
        weighted=draw(st.booleans()),
        l2=draw(st.sampled_from([0.0, 0.05])),
        optimizer=draw(st.sampled_from(STEADY)),
        threads=draw(st.integers(1, 4)),
        seed=draw(st.integers(0, 2**63 - 1)),
        epochs=draw(st.integers(1, 3)),
    )


def batches_of(run):
    """Rows of every batch of every epoch."""
    m, size = run["rows"], run["batch_size"] or run["rows"]
    shuffled = run["shuffle"] and size < m
    orders = [
        reference_random.permutation(run["seed"], e, m) if shuffled else np.arange(m) for e in range(run["epochs"])
    ]
    return [[order[rows] for rows in reference.in_order(m, size)] for order in orders]


DEEP = dict(
    features=3,
    hidden=[(4, "tanh")] * 30,
    outputs=2,
    last="linear",
    loss="mse",
    rows=50,
    batch_size=20,
    shuffle=True,
    weighted=False,
    l2=0.0,
    optimizer="adam",
    threads=1,
    seed=1,
    epochs=3,
)
WIDE = DEEP | dict(features=700, hidden=[(130, "gelu")], outputs=11, rows=2100, batch_size=None, threads=3)


@given(runs())
@example(DEEP)
@example(WIDE)
@settings(max_examples=60)
def test_any_run(run):
    widths = (run["features"], *(units for units, _ in run["hidden"]), run["outputs"])
    activations = (*(name for _, name in run["hidden"]), run["last"])
    weights = recipes.random_weights(widths, 1)
    net, twin, weights = pair(widths, activations, run["loss"], seed=run["seed"], l2=run["l2"], weights=weights)
    X = normal(2, run["rows"], run["features"])
    y = normal(3, run["rows"], run["outputs"])
    if run["loss"] == "cross_entropy":
        y = y.argmax(axis=1)
    elif run["loss"] == "binary_cross_entropy":
        y = reference.sigmoid(y)
    w = np.random.RandomState(4).uniform(0.1, 2.0, run["rows"]) if run["weighted"] else None
    make, options = OPTIMIZERS[run["optimizer"]]
    right, losses = twin.train(weights, X, y, reference.Optimizer(**options), run["epochs"], batches_of(run), w)
    history = net.fit(
        X,
        y,
        optimizer=make(),
        epochs=run["epochs"],
        batch_size=run["batch_size"],
        shuffle=run["shuffle"],
        sample_weight=w,
        l2=run["l2"],
        threads=run["threads"],
    )
    assert_close(history.loss, losses, "training")
    assert_close(flat(net.get_weights()), flat(right), "training")
    assert_close(net.predict(X), twin.predict(right, X), "training")
