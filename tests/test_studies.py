"""The studies: what they train and judge is what they say, their tables and pictures, and what they refuse."""

import io

import numpy as np
import pytest
from nets import data

import fastnn
from fastnn import studies

X, Y = data(60, loss="cross_entropy")
TEST = data(90)
TEST = TEST[0][60:], TEST[1][60:]
LAYERS = [fastnn.Dense(6, "tanh"), fastnn.Dense(3, "softmax")]
FIT = dict(optimizer=fastnn.Adam(0.05), epochs=3, batch_size=20)


class Majority:
    """Answers with the class that is most frequent."""

    def fit(self, X, y):
        self.rows, self.answer = len(X), np.bincount(y).argmax()

    def predict(self, X):
        return np.full(len(X), self.answer)


class Scored:
    """Knows its score alone."""

    def fit(self, X, y):
        self.seen = len(X)

    def score(self, X, y):
        return self.seen / 100


def scale(**more):
    nets = {"wide": LAYERS, "linear": lambda seed: fastnn.logistic_net(3, seed=seed)}
    rivals = {"majority": Majority, "scored": Scored}
    return fastnn.scale_study(nets, X, Y, TEST, sizes=[10, 30, 60], seeds=(4, 7), rivals=rivals, **FIT, **more)


def test_scale_is_a_fit_on_the_first_rows_of_an_order_for_each_seed():
    study = scale()
    assert (study.sizes.tolist(), study.seeds, study.score) == ([10, 30, 60], (4, 7), "accuracy")
    assert list(study.scores) == ["wide", "linear", "majority", "scored"] and study.rivals == ("majority", "scored")
    for j, seed in enumerate(study.seeds):
        order = np.random.default_rng(seed).permutation(60)
        for i, size in enumerate(study.sizes):
            net = fastnn.Sequential(LAYERS, seed=seed)
            net.fit(X, Y, rows=order[:size], **FIT | {"batch_size": min(20, size)})
            assert study.scores["wide"][i, j] == net.evaluate(*TEST)["accuracy"]
            answer = np.bincount(Y[order[:size]]).argmax()
            assert study.scores["majority"][i, j] == (TEST[1] == answer).mean()
    assert study.scores["scored"].tolist() == [[0.1, 0.1], [0.3, 0.3], [0.6, 0.6]]


def test_the_default_sizes_reach_all_rows_in_equal_ratios():
    sizes = fastnn.scale_study({"net": LAYERS}, X, Y, TEST, seeds=[0], epochs=1).sizes
    assert (sizes[0], sizes[-1], len(sizes)) == (16, 60, 6)
    ratios = sizes[1:] / sizes[:-1]
    assert ratios.max() / ratios.min() < 1.1


def test_scale_of_a_regression():
    targets = np.tanh(X[:, 0])

    class Mean(Majority):
        def fit(self, X, y):
            self.answer = y.mean()

    net = [fastnn.Dense(1)]
    study = fastnn.scale_study(
        {"net": net}, X, targets, (X, targets), sizes=[60], seeds=[1], rivals={"mean": Mean}, epochs=2
    )
    twin = fastnn.Sequential(net, seed=1)
    twin.fit(X, targets, epochs=2, rows=np.random.default_rng(1).permutation(60))
    assert study.score == "r2" and study.scores["net"][0, 0] == twin.evaluate(X, targets)["r2"]
    assert study.scores["mean"][0, 0] == pytest.approx(0.0, abs=1e-6)


def test_rates_are_fits_from_the_same_weights_and_those_that_diverge_are_marked():
    targets = X[:, 0]
    study = fastnn.rate_study([fastnn.Dense(1)], X, targets, (0.01, 0.1, 5.0), seed=3, epochs=200, batch_size=None)
    assert study.diverged.tolist() == [False, False, True]
    net = fastnn.Sequential([fastnn.Dense(1)], seed=3)
    expected = net.fit(X, targets, optimizer=fastnn.SGD(0.1), epochs=200, batch_size=None).loss
    assert np.array_equal(study.histories[1].loss, expected)
    assert study.histories[2].epochs < 200


def test_units_are_scored_on_both_data():
    study = fastnn.units_study(
        lambda units: [fastnn.Dense(units, "tanh"), fastnn.Dense(3, "softmax")], X, Y, TEST, (1, 4), (0, 2), **FIT
    )
    net = fastnn.Sequential([fastnn.Dense(4, "tanh"), fastnn.Dense(3, "softmax")], seed=2)
    net.fit(X, Y, **FIT)
    assert study.train[1, 1] == net.evaluate(X, Y)["accuracy"]
    assert study.test[1, 1] == net.evaluate(*TEST)["accuracy"]


def depth(parameters=100, **more):
    last = fastnn.Dense(3, "softmax")
    return fastnn.depth_study(X, Y, TEST, parameters, depths=(1, 2, 4), last=last, seeds=(0, 1), **FIT, **more)


def test_depths_have_the_nearest_number_of_parameters():
    study = depth(activation="tanh", kernel_initializer="lecun_uniform")
    for i, (count, width) in enumerate(zip(study.depths, study.widths, strict=True)):
        for net, score in zip(study.nets[i], study.scores[i], strict=True):
            assert [layer.units for layer in net.layers] == [width] * count + [3]
            assert {layer.kernel_initializer for layer in net.layers[:-1]} == {"lecun_uniform"}
            assert sum(array.size for array in net.arrays) == study.parameters[i]
            assert net.evaluate(*TEST)["accuracy"] == score
        sizes = []
        for other in (width - 1, width + 1):
            layers = [fastnn.Dense(int(other)) for _ in range(count)] + [fastnn.Dense(3)]
            sizes.append(sum(array.size for array in fastnn.Sequential(layers).build(5).arrays))
        assert all(abs(size - 100) >= abs(study.parameters[i] - 100) for size in sizes)
    assert depth(1, activation="tanh").widths.tolist() == [1, 1, 1]


def test_layers_that_die_are_not_warned_of():
    study = fastnn.depth_study(X, Y > 0, (X, Y > 0), 30, (6,), seeds=range(4), optimizer=fastnn.SGD(50.0), epochs=5)
    dead = [np.ptp(net.predict(X)) == 0 for net in study.nets[0]]
    assert any(dead)


def cost_of(net, w, b, labels, x):
    """That of a net of one neuron."""
    net.set_weights([[[w]], [b]])
    return net.evaluate(x[:, np.newaxis], labels)["loss"]


def test_the_cost_of_a_neuron_is_that_of_a_net_and_its_curvature_that_of_differences():
    x, labels = np.array([-1.5, 0.2, 0.9, 3.0]), np.array([0.0, 1.0, 0.0, 1.0])
    surface = fastnn.cost_surface(x, labels, w=[-3.0, 0.5, 4.0], b=[-2.0, 1.0])
    step, names = 1e-3, {"squared error": "mse", "cross-entropy": "binary_cross_entropy"}
    for name, loss in names.items():
        net = fastnn.Sequential([fastnn.Dense(1, "sigmoid")], loss=loss, dtype="float64").build(1)
        assert surface.costs[name].shape == (2, 3)
        for i, b in enumerate(surface.b):
            for j, w in enumerate(surface.w):
                near = [[cost_of(net, w + s * step, b + t * step, labels, x) for s in (-1, 0, 1)] for t in (-1, 0, 1)]
                assert surface.costs[name][i, j] == pytest.approx(near[1][1], rel=1e-12)
                (a, d, c), (e, middle, f), (g, h, k) = near
                mixed = (k - g - c + a) / 4
                hessian = np.array([[e + f - 2 * middle, mixed], [mixed, d + h - 2 * middle]]) / step**2
                assert surface.curvatures[name][i, j] == pytest.approx(np.linalg.eigvalsh(hessian)[0], abs=1e-5)


def test_the_log_loss_is_convex_and_the_squared_error_is_not():
    surface = fastnn.cost_surface([-1.0, 0.0, 1.0, 2.0], [0, 1, 0, 1])
    assert surface.costs["cross-entropy"].shape == (121, 121)
    assert surface.curvatures["cross-entropy"].min() > -1e-12
    assert surface.curvatures["squared error"].min() < -0.1


STUDIES = {
    "scale": (scale, ["model", "size", "seed", "accuracy"], 24),
    "rates": (
        lambda: fastnn.rate_study([fastnn.Dense(1)], X, X[:, 0], (0.01, 5.0), epochs=200, batch_size=None),
        ["learning_rate", "epoch", "loss", "diverged"],
        None,
    ),
    "units": (
        lambda: fastnn.units_study(lambda units: [fastnn.Dense(3, "softmax")], X, Y, TEST, (1, 300), (0,), epochs=1),
        ["units", "seed", "train", "test"],
        2,
    ),
    "depth": (depth, ["depth", "width", "parameters", "seed", "accuracy"], 6),
    "surface": (
        lambda: fastnn.cost_surface(X[:, 0], Y > 0, [-1.0, 0.0, 2.0], [0.0, 1.0]),
        ["w", "b", "squared error", "curvature of squared error", "cross-entropy", "curvature of cross-entropy"],
        6,
    ),
}


@pytest.mark.parametrize("name", STUDIES)
def test_tables_and_pictures(name):
    pytest.importorskip("pandas")
    matplotlib, plt = pytest.importorskip("matplotlib"), pytest.importorskip("matplotlib.pyplot")
    make, columns, rows = STUDIES[name]
    study = make()
    table = study.to_dataframe()
    assert list(table.columns) == columns and len(table) == (rows or len(table)) and not table.isna().any(axis=None)
    mine = matplotlib.figure.Figure().subplots(1, 2)
    drawn = np.atleast_1d(study.plot(mine if name == "surface" else mine[0]))
    assert list(drawn) == list(mine[: len(drawn)]) and not plt.get_fignums()
    own = np.atleast_1d(study.plot())
    for ax in (*drawn, *own):
        assert ax.get_xlabel() and ax.get_ylabel()
        ax.figure.savefig(io.BytesIO())
    plt.close("all")


def test_the_table_of_scale_has_the_scores_in_their_places():
    pytest.importorskip("pandas")
    study = scale()
    table = study.to_dataframe().set_index(["model", "size", "seed"])["accuracy"]
    for name, scores in study.scores.items():
        for i, size in enumerate(study.sizes):
            for j, seed in enumerate(study.seeds):
                assert table[name, size, seed] == scores[i, j]


def test_curves_are_medians_with_bands_and_names():
    pytest.importorskip("matplotlib")
    study = scale()
    ax = study.plot()
    for line, (name, scores) in zip(ax.lines, study.scores.items(), strict=True):
        assert line.get_label() == name
        assert np.array_equal(line.get_ydata(), np.median(scores, axis=1))
    assert ax.get_xscale() == "log" and len(ax.collections) == 4
    rates = STUDIES["rates"][0]()
    labels = [text.get_text() for text in rates.plot().get_legend().get_texts()]
    assert labels == ["0.01", f"5: diverged in epoch {rates.histories[1].epochs}"]


ONE = {"net": LAYERS}
REFUSED = [
    (lambda: fastnn.scale_study({}, X, Y, TEST), "nets must be a dict of at least one net by name; got {}"),
    (lambda: fastnn.scale_study({"a": 3}, X, Y, TEST), "layers must be"),
    (lambda: fastnn.scale_study({"a": fastnn.Sequential(LAYERS)}, X, Y, TEST), r"nets\['a'\] must be a list of layers"),
    (lambda: fastnn.scale_study({"a": lambda seed: 3}, X, Y, TEST), "function that gives a fastnn.Sequential; got 3"),
    (lambda: fastnn.scale_study(ONE, X, Y, X), r"test must be \(X, y\)"),
    (lambda: fastnn.scale_study(ONE, X, Y, (X[:, :2], Y)), "test X must be an array of 5 features"),
    (lambda: fastnn.scale_study(ONE, X, Y, (X, Y[:3])), "test y must be an array of 60 rows"),
    (lambda: fastnn.scale_study(ONE, X, Y, TEST, sizes=[30, 10]), "sizes must be a growing sequence of positive ints"),
    (lambda: fastnn.scale_study(ONE, X, Y, TEST, sizes=[61]), "sizes must be numbers up to the 60 rows of X"),
    (lambda: fastnn.scale_study(ONE, X, Y, TEST, seeds=3), "seeds must be a sequence of at least one seed; got 3"),
    (lambda: fastnn.scale_study(ONE, X, Y, TEST, rivals={"a": 3}), "rivals must be a dict from names to functions"),
    (lambda: fastnn.scale_study(ONE, X, Y, TEST, rivals={"net": Majority}), "rivals must be a dict with other names"),
    (lambda: fastnn.scale_study(ONE, X, Y, TEST, rows=[1]), "settings must be keywords of fit other than rows"),
    (lambda: fastnn.scale_study(ONE, X, Y, TEST, epochs=0), "epochs must be a positive int; got 0"),
    (lambda: fastnn.rate_study(LAYERS, X, Y, []), "rates must be a sequence of at least one learning rate"),
    (lambda: fastnn.rate_study(LAYERS, X, Y, [0.1, -1.0]), "rates must be a finite float > 0; got -1"),
    (lambda: fastnn.rate_study(LAYERS, X, Y, [0.1], fastnn.SGD(0.1)), "optimizer must be a function that gives"),
    (lambda: fastnn.units_study(LAYERS, X, Y, TEST), "layers must be a function that gives the layers"),
    (lambda: fastnn.units_study(lambda k: LAYERS, X, Y, TEST, (2, 2)), "units must be a growing sequence"),
    (lambda: fastnn.depth_study(X, Y, TEST, 0), "parameters must be a positive int; got 0"),
    (lambda: fastnn.depth_study(X, Y, TEST, 9, last=fastnn.Dropout(0.5)), "last must be None or a fastnn.Dense"),
    (lambda: fastnn.cost_surface([1.0, 2.0], [0, 2]), r"y must be labels in \[0, 1\]"),
    (lambda: fastnn.cost_surface([1.0, 2.0], [0, 1], w=[1.0]), "w must be a growing sequence of at least two numbers"),
    (lambda: scale().plot(3), "ax must be None or matplotlib Axes; got 3"),
]


@pytest.mark.parametrize("call, message", REFUSED)
def test_what_they_refuse(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()


def test_everything_public_is_named():
    own = {name for name, thing in vars(studies).items() if getattr(thing, "__module__", "") == studies.__name__}
    assert {name for name in own if not name.startswith("_")} == set(studies.__all__)


def test_fits_side_by_side_have_the_bits_of_fits_alone():
    X, y = np.random.default_rng(0).normal(size=(90, 3)).astype("float32"), np.arange(90) % 2
    own = [
        dict(epochs=3, batch_size=16, rows=np.arange(0, 90, 2), optimizer=fastnn.SGD(0.1, momentum=0.9)),
        dict(epochs=4, l2=0.1, class_weight={1: 2.0}, optimizer=fastnn.Adam(fastnn.CosineDecay(0.1, epochs=4))),
        dict(epochs=40, batch_size=16, optimizer=fastnn.SGD(1.0, weight_decay=1e30)),
    ]
    nets, alone = (
        [fastnn.Sequential([fastnn.Dense(5, "tanh"), fastnn.Dense(1, "sigmoid")], seed=i) for i in range(3)]
        for _ in range(2)
    )
    start = alone[2].build(3).parameters.copy()
    for twice in (False, True):
        found = fastnn.studies.side_by_side.fits(nets[: 2 if twice else 3], X, y, own[: 2 if twice else 3])
        assert [diverged for _, diverged in found] == ([False] * 2 if twice else [False, False, True])
        for i in range(2):
            history = alone[i].fit(X, y, **own[i])
            assert np.array_equal(found[i][0].loss, history.loss) and found[i][0].steps == history.steps
            assert np.array_equal(found[i][0].learning_rate, history.learning_rate)
            assert np.array_equal(nets[i].parameters, alone[i].parameters)
    assert np.array_equal(nets[2].parameters, start) and len(nets[2].state.moments) == 0
