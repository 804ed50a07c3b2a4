"""What plots draw, asked from matplotlib's objects, and what they refuse."""

import io
import sys

import numpy as np
import pytest
from nets import pair
from reference import ACTIVATIONS, activation, activation_backward
from subprocesses import python

import fastnn
from fastnn import backends, plot

matplotlib = pytest.importorskip("matplotlib")
plt = pytest.importorskip("matplotlib.pyplot")

LOSS, VALIDATION = np.array([1.0, 0.5, 0.1, 0.02]), np.array([1.1, 0.4, 0.3, 0.6])


@pytest.fixture(autouse=True)
def drawn():
    """Each test's figures are drawn at its end, where some mistakes come out, and closed."""
    yield
    for number in plt.get_fignums():
        plt.figure(number).savefig(io.BytesIO())
    plt.close("all")


def recorded(loss=LOSS, validation=(), metrics=None, best=None):
    history = fastnn.History(len(loss) + 1)
    history.buffers.loss[: len(loss)] = loss
    history.epochs = len(loss)
    history.buffers.validation = list(validation)
    history.buffers.metrics = {name: list(values) for name, values in (metrics or {}).items()}
    history.best_epoch = best
    return history


def lines(ax):
    return {line.get_label(): line.get_xydata() for line in ax.lines}


def by_epoch(values):
    return np.column_stack([np.arange(len(values)), values])


def test_a_history_is_drawn_by_epoch_with_its_best_epoch():
    ax = recorded(validation=VALIDATION, best=2).plot()
    drawn = lines(ax)
    assert np.array_equal(drawn["training"], by_epoch(LOSS))
    assert np.array_equal(drawn["validation"], by_epoch(VALIDATION))
    assert np.array_equal(drawn["best epoch 2: 0.3"], [[2, 0.3]])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list(drawn)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("epoch", "loss")
    assert len(ax.figure.axes) == 1


def test_several_fits_in_the_same_axes_are_told_apart():
    ax = recorded().plot()
    recorded(validation=VALIDATION).plot(ax)
    recorded().plot(ax, label="slow")
    recorded(validation=VALIDATION, best=1).plot(ax, label="fast")
    names = ["training", "fit 2: training", "fit 2: validation", "slow", "fast: training", "fast: validation"]
    assert list(lines(ax)) == [*names, "fast: best epoch 1: 0.4"]
    assert len({line.get_color() for line in ax.lines}) == 6
    assert ax.lines[-1].get_color() == ax.lines[-2].get_color()  # of the best epoch and its curve
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list(lines(ax))


def test_many_fits_in_the_same_axes_are_told_apart():
    ax = None
    for _ in range(6):
        ax = recorded(validation=VALIDATION, best=1).plot(ax)
    curves = [line for line in ax.lines if "best" not in line.get_label()]
    assert len({(line.get_color(), line.get_linestyle()) for line in curves}) == 12
    assert {line.get_linestyle() for line in curves[:8]} == {"-"}


def test_without_validation_data_the_best_epoch_is_one_of_training():
    drawn = lines(recorded(best=1).plot())
    assert list(drawn) == ["training", "best epoch 1: 0.5"]
    assert np.array_equal(drawn["best epoch 1: 0.5"], [[1, 0.5]])


@pytest.mark.parametrize(
    "loss, log, scale",
    [
        (LOSS, True, "log"),
        (LOSS, False, "linear"),
        ([0.5, 0.0], True, "linear"),
        ([0.5, -1.0], True, "linear"),
        ([0.5, 3.0, np.inf, np.nan], True, "log"),
        ([np.nan], True, "linear"),
    ],
)
def test_losses_are_logarithmic_where_all_are_positive(loss, log, scale):
    assert recorded(loss).plot(log=log).get_yscale() == scale


@pytest.mark.parametrize(
    "loss, least", [([0.66, 0.693], 3), ([0.2, 0.9], 3), ([1e-9, 3.0], 4), ([1e-3, 9e-2], 3), ([0.5, 0.5], 1)]
)
def test_a_log_axis_has_labels_that_can_be_read(loss, least):
    ax = recorded(loss).plot()
    ax.figure.draw_without_rendering()
    low, high = ax.get_ylim()
    shown = [tick.label1 for tick in ax.yaxis.get_major_ticks() if low <= tick.get_loc() <= high]
    assert least <= len(shown) <= 12
    assert all(0 < float(label.get_text().replace("−", "-")) < 10 for label in shown)
    boxes = sorted((label.get_window_extent() for label in shown), key=lambda box: box.y0)
    assert all(lower.y1 <= upper.y0 for lower, upper in zip(boxes, boxes[1:], strict=False))


def test_a_log_axis_is_labelled_for_all_that_is_drawn():
    ax = recorded([1e-4, 3.0]).plot()
    wide = len(ax.get_yticks())
    recorded([0.5, 0.7]).plot(ax)
    assert len(ax.get_yticks()) == wide


def test_epochs_may_be_logarithmic():
    ax = plt.figure().subplots()
    ax.set_xscale("log")
    assert recorded().plot(ax).get_xscale() == "log"


def test_one_epoch_is_a_point():
    (line,) = recorded([0.5]).plot().lines
    assert line.get_marker() == "o"
    assert recorded().plot().lines[0].get_marker() in (None, "None")


def test_metrics_have_a_panel_of_their_own():
    metrics = {"accuracy": LOSS / 2, "f1": LOSS / 4}
    history = recorded(metrics=metrics)
    ax = history.plot()
    losses, below = ax.figure.axes
    assert losses is ax
    assert list(lines(ax)) == ["training"]
    assert list(lines(below)) == ["accuracy", "f1"]
    for line, values in zip(below.lines, metrics.values(), strict=True):
        assert np.array_equal(line.get_xydata(), by_epoch(values))
    assert len({line.get_color() for line in below.lines}) == 2
    assert ax.get_shared_x_axes().joined(ax, below)

    mine = plt.figure().subplots()
    assert history.plot(mine) is mine
    assert list(lines(mine)) == ["training"]
    assert plot.metrics(history, mine) is mine
    assert list(lines(mine)) == ["training", "accuracy", "f1"]


def test_the_history_of_a_diverged_fit_can_be_drawn():
    net, _, _ = pair(activations=("relu", "relu", "linear"), loss="mse")
    X, y = 10 * np.ones((8, 5)), np.ones((8, 3))
    with pytest.raises(fastnn.DivergedError) as caught:
        net.fit(X, y, optimizer=fastnn.SGD(1e3), epochs=50)
    history = caught.value.history
    assert history.epochs and history.loss.max() > 1e100
    ax = history.plot()
    drawn, reached = lines(ax)["training"][:, 1], history.loss < 1e100
    assert np.array_equal(drawn[reached], history.loss[reached])
    assert np.isnan(drawn[~reached]).all()
    assert ax.get_yscale() == "log"


def net_of(W, b, activation="sigmoid"):
    W = np.atleast_2d(W)
    net = fastnn.Sequential([fastnn.Dense(len(W), activation)], dtype="float64").build(W.shape[1])
    net.set_weights([W, np.atleast_1d(b)])
    return net


def test_a_decision_boundary_is_where_the_probability_is_one_half():
    net = net_of([2.0, 1.0], -1.0)
    X = np.array([[-1.0, 0.0], [2.0, 3.0], [0.5, -2.0], [1.0, 1.0]])
    y = np.array([0, 1, 0, 1])
    ax = plot.decision_boundary(net, X, y, resolution=50)
    image, contour, *points = ax.images[0], *ax.collections
    assert image.get_array().shape == (50, 50, 3)
    assert list(contour.levels) == [0.5]
    np.testing.assert_allclose(contour.get_paths()[0].vertices @ [2.0, 1.0], 1.0, atol=0.01)
    assert [np.asarray(group.get_offsets()).tolist() for group in points] == [X[y == 0].tolist(), X[y == 1].tolist()]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["0", "1"]
    inside = (X > [ax.get_xlim()[0], ax.get_ylim()[0]]) & (X < [ax.get_xlim()[1], ax.get_ylim()[1]])
    assert inside.all()


def test_shades_are_of_the_likeliest_class_and_pale_where_it_is_unsure():
    net = net_of([3.0, 0.0], 0.0)
    ax = plot.decision_boundary(net, [[-1.0, -1.0], [1.0, 1.0]], [0, 1], resolution=41)
    row = np.asarray(ax.images[0].get_array())[20]
    paleness = row.min(axis=1)
    assert paleness[20] == pytest.approx(1.0, abs=1e-6)
    assert (np.diff(paleness[:21]) > 0).all() and (np.diff(paleness[20:]) < 0).all()
    blue, vermillion = row[0], row[-1]
    assert blue[2] > blue[0] and vermillion[0] > vermillion[2]


@pytest.mark.parametrize("one_hot", [False, True])
def test_a_boundary_of_three_classes(one_hot):
    angles = np.arange(3) * 2 * np.pi / 3
    W = np.column_stack([np.cos(angles), np.sin(angles)])
    X, y = np.vstack([W, 2 * W]), np.array([0, 1, 2, 0, 1, 2])
    net = net_of(4 * W, np.zeros(3), "softmax")
    ax = plot.decision_boundary(net, X, np.eye(3)[y] if one_hot else y)
    contours, points = ax.collections[:3], ax.collections[3:]
    for k, contour in enumerate(contours):
        assert list(contour.levels) == [0.5]
        for path in contour.get_paths():
            scores = np.sort(path.vertices @ W.T, axis=1)
            np.testing.assert_allclose(scores[:, 2], scores[:, 1], atol=0.05)
            np.testing.assert_allclose((path.vertices @ W.T)[:, k], scores[:, 2], atol=0.05)
    assert [len(group.get_offsets()) for group in points] == [2, 2, 2]
    assert len({tuple(group.get_facecolor()[0]) for group in points}) == 3


def test_a_boundary_without_data():
    ax = plot.decision_boundary(net_of([2.0, 1.0], -1.0), limits=(-3, 1, 0, 2), resolution=50)
    (contour, *points) = ax.collections
    np.testing.assert_allclose(contour.get_paths()[0].vertices @ [2.0, 1.0], 1.0, atol=0.01)
    assert [len(group.get_offsets()) for group in points] == [0, 0]
    assert (ax.get_xlim(), ax.get_ylim()) == ((-3, 1), (0, 2))
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["0", "1"]


def test_a_regression_over_the_plane():
    X, y = np.array([[0.0, 0.0], [1.0, 2.0], [3.0, 1.0]]), np.array([-1.0, 9.0, 2.0])
    net = net_of([2.0, 1.0], -1.0, "linear")
    ax = plot.decision_boundary(net, X, y, limits=(0, 4, 0, 2), resolution=5)
    (image,), (points,) = ax.images, ax.collections[1:]
    x1, x2 = np.meshgrid(np.linspace(0, 4, 5), np.linspace(0, 2, 5))
    np.testing.assert_allclose(image.get_array(), 2 * x1 + x2 - 1, atol=1e-6)
    assert np.array_equal(points.get_array(), y) and image.get_clim() == points.get_clim() == (-1, 9)
    assert len(ax.figure.axes) == 2  # with the scale


def test_a_boundary_of_an_ensemble():
    nets = [net_of([2.0, 1.0], -1.0), net_of([1.0, 2.0], -1.0)]
    ax = plot.decision_boundary(fastnn.Ensemble(nets), limits=(-1, 1, -1, 1), resolution=101)
    np.testing.assert_allclose(ax.collections[0].get_paths()[0].vertices @ [3.0, 3.0], 2.0, atol=0.05)


def test_twenty_classes_can_be_told_apart():
    angles = np.arange(20) * 2 * np.pi / 20
    X = np.column_stack([np.cos(angles), np.sin(angles)])
    ax = plot.decision_boundary(net_of(8 * X, np.zeros(20), "softmax"), X, np.arange(20), resolution=40)
    groups = ax.collections[-20:]
    assert [np.asarray(group.get_offsets()).tolist() for group in groups] == [[list(x)] for x in X]
    looks = {(*group.get_facecolor()[0], group.get_paths()[0].vertices.tobytes()) for group in groups}
    assert len(looks) == 20


def test_a_net_of_one_mind_has_no_boundary():
    ax = plot.decision_boundary(net_of([0.0, 0.0], 5.0), [[0.0, 1.0], [0.0, 1.0]], [0, 1])
    assert len(ax.collections) == 2
    assert ax.get_xlim()[0] < 0 < ax.get_xlim()[1]


def test_grey_weights_are_tiles_on_a_symmetric_scale():
    W = np.arange(3 * 12, dtype=float).reshape(3, 12) - 20
    ax = plot.weights(net_of(W, np.zeros(3)), shape=(3, 4))
    (image,) = ax.images
    sheet = np.ma.filled(image.get_array(), np.nan)
    assert image.get_clim() == (-20, 20)
    assert sheet.shape == (3 * 2 + 1, 4 * 2 + 1)
    assert np.array_equal(sheet[:3, :4].ravel(), W[0])
    assert np.array_equal(sheet[:3, 5:].ravel(), W[1])
    assert np.array_equal(sheet[4:, :4].ravel(), W[2])
    assert np.isnan(sheet[3]).all() and np.isnan(sheet[:, 4]).all() and np.isnan(sheet[4:, 5:]).all()
    assert len(ax.figure.axes) == 2  # with the scale


def test_weights_in_colour():
    W = np.random.default_rng(0).normal(size=(2, 27))
    ax = plot.weights(net_of(W, np.zeros(2)), units=[1])
    (image,) = ax.images
    expected = 0.5 + W[1].reshape(3, 3, 3) / (2 * abs(W[1]).max())
    np.testing.assert_allclose(image.get_array(), expected)
    assert len(ax.figure.axes) == 1


def test_the_shape_of_square_images_is_found():
    assert plot._image_shape(None, 784) == (28, 28)
    assert plot._image_shape(None, 12288) == (64, 64, 3)
    with pytest.raises(ValueError, match=r"shape must be \(h, w\) .* product of 10, .* got None"):
        plot._image_shape(None, 10)


def test_many_units_are_cut_and_can_be_chosen():
    net = net_of(np.ones((150, 4)), np.zeros(150))
    rows, columns = plot.weights(net).images[0].get_array().shape
    assert (rows, columns) == (29, 29)  # 10 x 10 tiles of 2 x 2, with lines between
    assert plot.weights(net, units=range(140, 150)).images[0].get_array().shape == (8, 11)


def test_zero_weights_are_white():
    (image,) = plot.weights(net_of(np.zeros((1, 4)), 0.0)).images
    assert image.get_clim() == (-1, 1)


def test_activations_and_their_derivatives_are_those_of_the_reference():
    axes = plot.activations()
    assert [ax.get_title() for ax in axes] == [name for name in backends.ACTIVATIONS if name != "softmax"]
    assert set(ACTIVATIONS) == {ax.get_title() for ax in axes}
    for ax in axes:
        (z, value), (same, slope) = (line.get_data() for line in ax.lines[:2])
        param = backends.ACTIVATIONS[ax.get_title()].alpha or 0.0
        assert np.array_equal(z, same) and (z[0], z[-1]) == (-4, 4)
        np.testing.assert_allclose(value, activation(ax.get_title(), z, param), atol=1e-12)
        expected = activation_backward(ax.get_title(), np.ones_like(z), z, param)
        np.testing.assert_allclose(slope, expected, atol=1e-12)


def test_activations_into_given_axes():
    mine = plt.figure().subplots(1, 2)
    assert list(plot.activations(["tanh", "gelu"], mine)) == list(mine)
    one = plt.figure().subplots()
    assert list(plot.activations("relu", one)) == [one]


def test_every_plot_draws_into_the_axes_that_it_is_given():
    net = net_of([1.0, 1.0], 0.0)
    X, y = [[0.0, 1.0], [1.0, 0.0]], [0, 1]
    for draw in (
        lambda ax: recorded().plot(ax),
        lambda ax: plot.metrics(recorded(metrics={"f1": LOSS}), ax),
        lambda ax: plot.decision_boundary(net, X, y, ax),
        lambda ax: plot.weights(net, (1, 2), ax),
    ):
        ax = matplotlib.figure.Figure().subplots()
        assert draw(ax) is ax
        assert ax.has_data()
    assert not plt.get_fignums()


NET = net_of([1.0, 1.0], 0.0)
POINTS = [[0.0, 1.0], [1.0, 0.0]]
REFUSED = [
    (lambda: recorded([]).plot(), ValueError, r"record must be .* completed epoch; got History\(epochs=0"),
    (lambda: plot.history([1.0]), TypeError, r"record must be a fastnn.History; got \[1.0\]"),
    (lambda: recorded().plot(log="yes"), TypeError, "log must be a bool; got 'yes'"),
    (lambda: recorded().plot(ax=3), TypeError, "ax must be None or matplotlib Axes; got 3"),
    (lambda: plot.metrics(recorded()), ValueError, "record must be a history with metrics"),
    (lambda: plot.decision_boundary(3, POINTS, [0, 1]), TypeError, "net must be a fastnn net; got 3"),
    (
        lambda: plot.decision_boundary(net_of(np.ones((1, 3)), 0.0), np.ones((2, 3)), [0, 1]),
        ValueError,
        "net must be a net of 2 features; got one of 3",
    ),
    (
        lambda: plot.decision_boundary(net_of(np.ones((2, 2)), np.ones(2)), POINTS, np.eye(2)),
        ValueError,
        "net must be a net with one output or softmax; got Sequential",
    ),
    (lambda: plot.decision_boundary(NET), ValueError, "X and y must be both given, or both None where limits are"),
    (lambda: plot.decision_boundary(NET, POINTS), ValueError, "X and y must be both given"),
    (lambda: plot.decision_boundary(NET, limits=(0, 1, 2)), ValueError, r"limits must be an array of shape \(4,\)"),
    (lambda: plot.decision_boundary(NET, limits=(0, 1, 2, 2)), ValueError, "limits must be .lowest x1, highest x1"),
    (lambda: plot.decision_boundary(NET, POINTS, [0, 2]), ValueError, "y must be labels in .*; got 2 at row 1"),
    (lambda: plot.decision_boundary(NET, POINTS, [0, 1], resolution=1), ValueError, "resolution must be .* got 1"),
    (lambda: plot.decision_boundary(NET, POINTS, [0, 1], resolution=0.5), TypeError, "resolution must be .* got 0.5"),
    (lambda: plot.weights(None), TypeError, "net must be a fastnn net; got None"),
    (lambda: plot.weights(fastnn.logistic_net()), fastnn.NotBuiltError, "no parameters yet"),
    (lambda: plot.weights(NET, shape=(2, 2)), ValueError, r"shape must be .* product of 2; got \(2, 2\)"),
    (lambda: plot.weights(NET, shape=(-1, -2)), ValueError, "shape must be .* got"),
    (lambda: plot.weights(NET, shape=(2,)), ValueError, "shape must be .* got"),
    (lambda: plot.weights(NET, shape=2), TypeError, "shape must be .* got 2"),
    (lambda: plot.weights(NET, shape=(1.0, 2)), TypeError, "shape must be .* got"),
    (lambda: plot.weights(NET, shape=(1, 2), units=[1]), ValueError, "units must be .* below 1; got 1"),
    (lambda: plot.weights(NET, shape=(1, 2), units=[True]), ValueError, "units must be .* got True"),
    (lambda: plot.weights(NET, shape=(1, 2), units=[]), TypeError, r"units must be .* got \[\]"),
    (lambda: plot.weights(NET, shape=(1, 2), units=0), TypeError, "units must be .* got 0"),
    (lambda: plot.activations("rely"), ValueError, r"names must be one of .*; got 'rely' \(did you mean 'relu'"),
    (lambda: plot.activations(["softmax"]), ValueError, "names must be one of .* got 'softmax'"),
    (lambda: plot.activations([]), TypeError, r"names must be .* got \[\]"),
    (lambda: plot.activations(["relu", "tanh"], [None]), ValueError, "axes must be 2 matplotlib Axes.*; got 1"),
    (lambda: plot.activations("relu", "a"), TypeError, "axes must be None or matplotlib Axes; got 'a'"),
    (lambda: plot.activations("relu", [None]), TypeError, "axes must be None or matplotlib Axes; got None"),
]


@pytest.mark.parametrize("call, error, message", REFUSED)
def test_bad_input_is_refused_before_a_figure_is_made(call, error, message):
    with pytest.raises(error, match=message):
        call()
    assert not plt.get_fignums()


def test_without_matplotlib_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"pip install 'fastnn-numba\[plot\]'"):
        recorded().plot()


def test_a_history_as_a_table():
    pandas = pytest.importorskip("pandas")
    table = recorded().to_dataframe()
    assert isinstance(table, pandas.DataFrame)
    assert list(table.columns) == ["epoch", "loss", "elapsed", "learning_rate"]
    history = recorded(validation=VALIDATION[:3], metrics={"f1": LOSS / 4})
    history.buffers.elapsed[:4], history.buffers.rates[:4] = np.arange(4) / 8, 0.01
    table = history.to_dataframe()
    assert list(table.columns) == ["epoch", "loss", "validation_loss", "f1", "elapsed", "learning_rate"]
    assert table["epoch"].tolist() == [0, 1, 2, 3]
    assert np.array_equal(table["loss"], LOSS)
    assert np.array_equal(
        table["validation_loss"], [*VALIDATION[:3], np.nan], equal_nan=True
    )  # its end was not reached
    assert np.array_equal(table["f1"], LOSS / 4)
    assert np.array_equal(table["elapsed"], history.elapsed)
    assert recorded([]).to_dataframe().shape == (0, 2)


def test_without_pandas_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"pip install 'fastnn-numba\[dataframe\]'"):
        recorded().to_dataframe()


def test_import_of_fastnn_leaves_matplotlib_alone():
    code = "import sys, fastnn; fastnn.plot.weights; print({'matplotlib', 'pandas'} & set(sys.modules))"
    assert python(code) == "set()\n"
