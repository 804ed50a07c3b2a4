"""The studies of a first course on neural networks: many fits each, as arrays, a table and a picture.

A net of a study is a list of layers, of which `Sequential` makes a net for each seed, or a function that gives one for
a seed. What else a fit is to be told goes to `Sequential.fit`. A fit that diverges counts with the weights that it
leaves. Layers whose units are all dead are not warned of: scores and losses show them.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import backends, metrics, plot, side_by_side, validation
from .errors import described, must_be
from .history import History, data_frame
from .initializers import DEFAULT
from .layers import Dense, Layer
from .models import Sequential
from .optimizers import SGD, Optimizer

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

__all__ = [
    "CostSurface",
    "DepthStudy",
    "RateStudy",
    "ScaleStudy",
    "UnitsStudy",
    "cost_surface",
    "depth_study",
    "rate_study",
    "scale_study",
    "units_study",
]


def __dir__() -> list[str]:
    return __all__


Net = Sequence[Layer] | Callable[[int], Sequential]
Numbers = NDArray[np.float64]
_SIZES, _LEAST_ROWS = 6, 16  # sizes that are tried where none are named, and rows of the smallest
_FLAT = 1e-9  # curvature below which a surface counts as flat


@dataclass(frozen=True, eq=False)
class ScaleStudy:
    """Scores against the amount of training data; from `scale_study`.

    Parameters
    ----------
    sizes : array (sizes,), int64
        Rows that were trained on.
    seeds : tuple of int
        Of the rows, and of the nets.
    score : str
        "accuracy" or "r2".
    scores : dict
        From the name of each net and rival to an array (sizes, seeds), float64: its score on the test data.
    rivals : tuple of str
        Which of the names are not nets.
    """

    sizes: NDArray[np.int64]
    seeds: tuple[int, ...]
    score: str
    scores: dict[str, Numbers]
    rivals: tuple[str, ...]

    def to_dataframe(self) -> "pandas.DataFrame":
        """The scores as a table (extra `dataframe`).

        Returns
        -------
        pandas.DataFrame
            Columns model, size, seed and the score's name, a row for each fit.
        """
        names = np.array(list(self.scores))
        shape = (len(names), len(self.sizes), len(self.seeds))
        columns = _table(shape, model=(0, names), size=(1, self.sizes), seed=(2, self.seeds))
        return data_frame(columns | {self.score: np.stack(list(self.scores.values())).ravel()})

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Medians over the seeds as curves, from the lowest to the highest score as bands; sizes are logarithmic.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; by default a new figure is made.

        Returns
        -------
        matplotlib Axes
            The Axes.
        """
        ax = plot.own_axes(ax)
        for i, (name, scores) in enumerate(self.scores.items()):
            marker = "s" if name in self.rivals else "o"
            plot.bands(ax, self.sizes, scores, name, plot.COLOURS[i % len(plot.COLOURS)], marker)
        plot.log_places(ax, self.sizes.tolist())
        return _finished(ax, "training samples", f"{self.score} on test data")


def scale_study(
    nets: Mapping[str, Net],
    X: ArrayLike,
    y: ArrayLike,
    test: Sequence[ArrayLike],
    sizes: Sequence[int] | None = None,
    seeds: Sequence[int] = range(5),
    rivals: Mapping[str, Callable[[], Any]] | None = None,
    **settings: Any,
) -> ScaleStudy:
    """Scores of small and large nets, and of other algorithms, against the amount of training data.

    For each seed the rows are put into a random order; a size takes its first ones, so that larger sets hold the
    smaller ones, and all models see the same.

    Parameters
    ----------
    nets : dict
        From a name to a list of layers, or to a function that gives a net for a seed. At least one; all with the same
        kind of targets.
    X : array-like (m, n_features)
        Samples to train on.
    y : array-like (m,) or (m, k)
        Targets, as for `Sequential.fit`.
    test : tuple
        (X, y) to judge by.
    sizes : sequence of int, optional
        Numbers of rows to train on, growing; by default six from 16 to all of them, in equal ratios.
    seeds : sequence of int
        One fit for each.
    rivals : dict, optional
        From a name to a function without arguments, such as a class of scikit-learn, that gives an object with `fit`
        and `predict`, or else `score`. It is trained on labels (m,) where the nets are classifiers.
    **settings
        For `Sequential.fit`: optimizer, epochs, batch_size (at most the size) and others.

    Returns
    -------
    ScaleStudy
        The scores.

    Raises
    ------
    TypeError, ValueError
        For an argument that is not accepted, here or by `fit`.
    """
    seeds, settings = _seeds(seeds), _settings(settings)
    if not isinstance(nets, Mapping) or not nets:
        raise must_be("nets", "a dict of at least one net by name", nets, TypeError)
    rivals = _dict_of_functions("rivals", rivals or {})
    if nets.keys() & rivals.keys():
        raise must_be("rivals", "a dict with other names than nets", list(rivals))
    made = {name: [_made(f"nets[{name!r}]", net, seed) for seed in seeds] for name, net in nets.items()}
    judge = _Judge(next(iter(made.values()))[0], X, y, test)
    sizes = _sizes(sizes, len(judge.X))
    orders = [np.random.default_rng(seed).permutation(len(judge.X)) for seed in seeds]
    parts, shape, scores = [order[:size] for size in sizes for order in orders], (len(sizes), len(seeds)), {}
    own = [_of_rows(settings, rows) for rows in parts]
    for name, first in made.items():
        fresh = [copy.deepcopy(net) for _ in sizes for net in first]
        side_by_side.fits(fresh, judge.X, judge.y, own)
        scores[name] = np.array([judge.of_net(net) for net in fresh]).reshape(shape)
    for name, make in rivals.items():
        scores[name] = np.array([judge.of_rival(name, make(), rows) for rows in parts]).reshape(shape)
    return ScaleStudy(sizes, seeds, judge.score, scores, tuple(rivals))


@dataclass(frozen=True, eq=False)
class RateStudy:
    """Losses by epoch for several learning rates; from `rate_study`.

    Parameters
    ----------
    rates : array (rates,), float64
        The learning rates.
    histories : tuple of History
        Of each fit; one that diverged ends early.
    diverged : array (rates,), bool
        Whether the fit diverged.
    """

    rates: Numbers
    histories: tuple[History, ...]
    diverged: NDArray[np.bool_]

    def to_dataframe(self) -> "pandas.DataFrame":
        """The losses as a table (extra `dataframe`).

        Returns
        -------
        pandas.DataFrame
            Columns learning_rate, epoch (from 0), loss and diverged, a row for each epoch of each fit.
        """
        counts = [history.epochs for history in self.histories]
        return data_frame(
            {
                "learning_rate": np.repeat(self.rates, counts),
                "epoch": np.concatenate([np.arange(count) for count in counts]),
                "loss": np.concatenate([history.loss for history in self.histories]),
                "diverged": np.repeat(self.diverged, counts),
            }
        )

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """A curve for each rate, those that diverged dashed and marked so; none reaches far above the first losses.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; by default a new figure is made.

        Returns
        -------
        matplotlib Axes
            The Axes.
        """
        ax = plot.own_axes(ax)
        first = [h.loss[0] for h, diverged in zip(self.histories, self.diverged, strict=True) if not diverged]
        most = 30 * max(first, default=plot.HUGE / 30)
        for i, (rate, history, diverged) in enumerate(zip(self.rates, self.histories, self.diverged, strict=True)):
            loss = np.where(history.loss < most, history.loss, np.nan)
            label = f"{rate:g}: diverged in epoch {history.epochs}" if diverged else f"{rate:g}"
            style = dict(color=plot.COLOURS[i % len(plot.COLOURS)], linestyle="--" if diverged else "-")
            ax.plot(np.arange(len(loss)), loss, marker="o" if len(loss) == 1 else None, label=label, **style)
        if ax.has_data() and ax.dataLim.minposy > 0 and ax.dataLim.y0 > 0:
            plot.logarithmic(ax)
        plot.finish_epochs(ax, "loss")
        ax.legend(title="learning rate", frameon=False)
        return ax


def rate_study(
    net: Net,
    X: ArrayLike,
    y: ArrayLike,
    rates: Sequence[float],
    optimizer: Callable[[float], Optimizer] = SGD,
    seed: int = 0,
    **settings: Any,
) -> RateStudy:
    """Fits of one net with several learning rates, from the same starting weights.

    Parameters
    ----------
    net : sequence of layers or callable
        A list of layers, or a function that gives a net for a seed.
    X : array-like (m, n_features)
        Samples.
    y : array-like
        Targets, as for `Sequential.fit`.
    rates : sequence of float
        The learning rates.
    optimizer : callable
        Gives an optimizer for a rate; `SGD` by default.
    seed : int
        Of the net.
    **settings
        For `Sequential.fit`: epochs, batch_size and others.

    Returns
    -------
    RateStudy
        The histories.

    Raises
    ------
    TypeError, ValueError
        For an argument that is not accepted, here or by `fit`.
    """
    if not isinstance(rates, list | tuple | np.ndarray) or not len(rates):
        raise must_be("rates", "a sequence of at least one learning rate", rates, TypeError)
    if not callable(optimizer):
        raise must_be("optimizer", "a function that gives an optimizer for a learning rate", optimizer, TypeError)
    rates = np.array([validation.number("rates", rate, above=0.0) for rate in rates])
    nets = [_made("net", net, seed) for _ in rates]
    own = [_settings(settings) | {"optimizer": optimizer(float(rate))} for rate in rates]
    histories, diverged = zip(*side_by_side.fits(nets, X, y, own), strict=True)
    return RateStudy(rates, histories, np.array(diverged))


@dataclass(frozen=True, eq=False)
class UnitsStudy:
    """Scores against the number of hidden units; from `units_study`.

    Parameters
    ----------
    units : array (units,), int64
        Numbers of hidden units.
    seeds : tuple of int
        Of the nets.
    score : str
        "accuracy" or "r2".
    train, test : array (units, seeds), float64
        Scores on the data that were trained on, and on others.
    """

    units: NDArray[np.int64]
    seeds: tuple[int, ...]
    score: str
    train: Numbers
    test: Numbers

    def to_dataframe(self) -> "pandas.DataFrame":
        """The scores as a table (extra `dataframe`).

        Returns
        -------
        pandas.DataFrame
            Columns units, seed, train and test, a row for each fit.
        """
        columns = _table(self.train.shape, units=(0, self.units), seed=(1, self.seeds))
        return data_frame(columns | {"train": self.train.ravel(), "test": self.test.ravel()})

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Medians over the seeds as curves, from the lowest to the highest score as bands; units are logarithmic.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; by default a new figure is made.

        Returns
        -------
        matplotlib Axes
            The Axes.
        """
        ax = plot.own_axes(ax)
        for name, scores, colour in (("training", self.train, 0), ("test", self.test, 1)):
            plot.bands(ax, self.units, scores, f"{name} data", plot.COLOURS[colour])
        plot.log_places(ax, self.units.tolist())
        return _finished(ax, "hidden units", self.score)


def units_study(
    layers: Callable[[int], Sequence[Layer] | Sequential],
    X: ArrayLike,
    y: ArrayLike,
    test: Sequence[ArrayLike],
    units: Sequence[int] = (1, 2, 4, 8, 16, 32),
    seeds: Sequence[int] = range(5),
    **settings: Any,
) -> UnitsStudy:
    """Scores on training and on test data against the number of hidden units.

    Parameters
    ----------
    layers : callable
        Gives the layers of a net for a number of units, such as
        ``lambda units: [Dense(units, "tanh"), Dense(1, "sigmoid")]``.
    X : array-like (m, n_features)
        Samples to train on.
    y : array-like (m,) or (m, k)
        Targets, as for `Sequential.fit`.
    test : tuple
        (X, y) to judge by.
    units : sequence of int
        Numbers of hidden units, growing.
    seeds : sequence of int
        One fit for each.
    **settings
        For `Sequential.fit`: optimizer, epochs, batch_size and others.

    Returns
    -------
    UnitsStudy
        The scores.

    Raises
    ------
    TypeError, ValueError
        For an argument that is not accepted, here or by `fit`.
    """
    units, seeds, settings = _growing("units", units), _seeds(seeds), _settings(settings)
    if not callable(layers):
        raise must_be("layers", "a function that gives the layers of a net for a number of units", layers, TypeError)
    nets = [_made("layers", layers(int(count)), seed) for count in units for seed in seeds]
    judge = _Judge(nets[0], X, y, test)
    side_by_side.fits(nets, judge.X, judge.y, [settings] * len(nets))
    shape = (len(units), len(seeds))
    train = np.array([judge.of_net(net, on_training_data=True) for net in nets]).reshape(shape)
    return UnitsStudy(units, seeds, judge.score, train, np.array([judge.of_net(net) for net in nets]).reshape(shape))


@dataclass(frozen=True, eq=False)
class DepthStudy:
    """Scores against depth, at nearly the same number of parameters; from `depth_study`.

    Parameters
    ----------
    depths : array (depths,), int64
        Numbers of hidden layers.
    widths : array (depths,), int64
        Units of each of them.
    parameters : array (depths,), int64
        Weights and biases of a net.
    seeds : tuple of int
        Of the nets.
    score : str
        "accuracy" or "r2".
    scores : array (depths, seeds), float64
        On the test data.
    nets : tuple of tuple of Sequential
        The nets, in the places of `scores`.
    """

    depths: NDArray[np.int64]
    widths: NDArray[np.int64]
    parameters: NDArray[np.int64]
    seeds: tuple[int, ...]
    score: str
    scores: Numbers
    nets: tuple[tuple[Sequential, ...], ...]

    def to_dataframe(self) -> "pandas.DataFrame":
        """The scores as a table (extra `dataframe`).

        Returns
        -------
        pandas.DataFrame
            Columns depth, width, parameters, seed and the score's name, a row for each fit.
        """
        known = dict(depth=(0, self.depths), width=(0, self.widths), parameters=(0, self.parameters))
        return data_frame(_table(self.scores.shape, **known, seed=(1, self.seeds)) | {self.score: self.scores.ravel()})

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """A box for each depth: median, quartiles, and lines to the lowest and the highest score.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; by default a new figure is made.

        Returns
        -------
        matplotlib Axes
            The Axes.
        """
        ax = plot.own_axes(ax)
        names = [
            f"{depth} x {width}\n({size:,})"
            for depth, width, size in zip(self.depths, self.widths, self.parameters, strict=True)
        ]
        style = dict(facecolor=plot.COLOURS[5], alpha=0.6, edgecolor="black")
        median = dict(color=plot.COLOURS[1], linewidth=2)
        places = np.arange(len(names))
        ax.boxplot(
            list(self.scores), positions=places, widths=0.5, whis=(0, 100), patch_artist=True, boxprops=style,
            medianprops=median,
        )  # fmt: skip
        ax.set_xticks(places, names)
        ax.set(xlabel="hidden layers x units (parameters)", ylabel=f"{self.score} on test data")
        ax.grid(axis="y", alpha=0.25)
        return ax


def depth_study(
    X: ArrayLike,
    y: ArrayLike,
    test: Sequence[ArrayLike],
    parameters: int,
    depths: Sequence[int] = (1, 2, 3, 4, 6, 8),
    activation: str = "relu",
    last: Layer | None = None,
    seeds: Sequence[int] = range(5),
    kernel_initializer: str = DEFAULT,
    **settings: Any,
) -> DepthStudy:
    """Depth against width: scores of nets of the same size, from one wide hidden layer to many narrow ones.

    Parameters
    ----------
    X : array-like (m, n_features)
        Samples to train on.
    y : array-like (m,) or (m, k)
        Targets, as for `Sequential.fit`.
    test : tuple
        (X, y) to judge by.
    parameters : int
        Weights and biases of a net; each depth gets the width that comes nearest.
    depths : sequence of int
        Numbers of hidden layers, growing.
    activation : str
        Of the hidden units.
    last : Dense, optional
        Last layer; by default ``Dense(1, "sigmoid")``.
    seeds : sequence of int
        One fit for each.
    kernel_initializer : str
        How W of the hidden layers starts, as for `Dense`.
    **settings
        For `Sequential.fit`: optimizer, epochs, batch_size and others.

    Returns
    -------
    DepthStudy
        Scores and nets.

    Raises
    ------
    TypeError, ValueError
        For an argument that is not accepted, here or by `fit`.
    """
    depths, seeds, settings = _growing("depths", depths), _seeds(seeds), _settings(settings)
    parameters, last = validation.size("parameters", parameters), Dense(1, "sigmoid") if last is None else last
    features = validation.matrix("X", X, np.dtype(np.float32)).shape[1]
    if not isinstance(last, Dense):
        raise must_be("last", "None or a fastnn.Dense", last, TypeError)
    ends = features, last.units
    widths = np.array([_nearest_width(int(depth), parameters, *ends) for depth in depths])
    hidden = [
        [Dense(int(width), activation, kernel_initializer=kernel_initializer)] * int(depth)
        for depth, width in zip(depths, widths, strict=True)
    ]
    nets = [[_made("last", [*layers, last], seed) for seed in seeds] for layers in hidden]
    flat = [net for row in nets for net in row]
    judge = _Judge(flat[0], X, y, test)
    side_by_side.fits(flat, judge.X, judge.y, [settings] * len(flat))
    sizes = np.array([_size(int(depth), int(width), *ends) for depth, width in zip(depths, widths, strict=True)])
    scores = np.array([judge.of_net(net) for net in flat]).reshape(len(depths), len(seeds))
    return DepthStudy(depths, widths, sizes, seeds, judge.score, scores, tuple(map(tuple, nets)))


def _size(depth, width, n_in, n_out):
    """Weights and biases of a net with hidden layers of one width."""
    return (n_in + 1) * width + (depth - 1) * width * (width + 1) + n_out * (width + 1)


def _nearest_width(depth, parameters, n_in, n_out):
    """The width of hidden layers with which a net comes nearest to a number of parameters."""
    above = next(width for width in range(1, parameters + 1) if _size(depth, width, n_in, n_out) >= parameters)
    return min((max(1, above - 1), above), key=lambda width: abs(_size(depth, width, n_in, n_out) - parameters))


@dataclass(frozen=True, eq=False)
class CostSurface:
    """The cost of one sigmoid neuron over its weight and its bias; from `cost_surface`.

    Parameters
    ----------
    w : array (w,), float64
        Weights.
    b : array (b,), float64
        Biases.
    costs : dict
        From "squared error" and "cross-entropy" to an array (b, w), float64: the mean cost over the samples.
    curvatures : dict
        From the same names to an array (b, w), float64: the smallest eigenvalue of the matrix of second derivatives.
        A cost is convex where it is nowhere below 0.
    """

    w: Numbers
    b: Numbers
    costs: dict[str, Numbers]
    curvatures: dict[str, Numbers]

    def to_dataframe(self) -> "pandas.DataFrame":
        """Costs and curvatures as a table (extra `dataframe`).

        Returns
        -------
        pandas.DataFrame
            Columns w, b, and the cost and the curvature by each name, a row for each point of the grid.
        """
        columns = _table((len(self.b), len(self.w)), w=(1, self.w), b=(0, self.b))
        for name, cost in self.costs.items():
            columns |= {name: cost.ravel(), f"curvature of {name}": self.curvatures[name].ravel()}
        return data_frame(columns)

    def plot(self, ax: "Sequence[Axes] | None" = None) -> "NDArray[Any]":
        """Contours of both costs side by side, hatched where the cost is not convex, with the lowest point.

        Parameters
        ----------
        ax : sequence of matplotlib Axes, optional
            One for each cost; by default a new figure is made.

        Returns
        -------
        array of matplotlib Axes
            One for each cost.
        """
        axes = plot.figure(1, len(self.costs), size=(9.6, 4.4), sharey=True) if ax is None else np.atleast_1d(ax)
        if len(axes) != len(self.costs):
            raise must_be("ax", f"{len(self.costs)} matplotlib Axes, one a cost", described(f"{len(axes)}"))
        for one, (name, cost) in zip(map(plot.own_axes, axes), self.costs.items(), strict=True):
            filled = one.contourf(self.w, self.b, cost, levels=24, cmap="viridis")
            one.contour(self.w, self.b, cost, levels=24, colors="white", linewidths=0.4)
            bent = self.curvatures[name] < -_FLAT
            if bent.any():
                one.contourf(self.w, self.b, bent, levels=[0.5, 1.5], colors="none", hatches=["///"])
            at = np.unravel_index(cost.argmin(), cost.shape)
            one.plot(self.w[at[1]], self.b[at[0]], "*", color=plot.COLOURS[1], markersize=14, markeredgecolor="black")
            one.figure.colorbar(filled, ax=one, label="mean cost")
            verdict = f"not convex in {bent.mean():.0%} of it (hatched)" if bent.any() else "convex"
            one.set(title=f"{name}:\n{verdict}", xlabel="weight", ylabel="bias")
        return axes


def cost_surface(x: ArrayLike, y: ArrayLike, w: ArrayLike | None = None, b: ArrayLike | None = None) -> CostSurface:
    """The cost of one sigmoid neuron of one input, for a grid of weights and biases: why it is the log loss.

    The cross-entropy of a logistic unit is convex in its parameters, the squared error is not: far from the right
    answer it is flat, and gradient descent waits there. With p = sigmoid(w x + b) the second derivative by w x + b of
    -y log p - (1 - y) log(1 - p) is p (1 - p), and that of (p - y)^2 is 2 p (1 - p) (p (1 - p) + (p - y) (1 - 2 p)).

    Parameters
    ----------
    x : array-like (m,)
        The input.
    y : array-like (m,)
        Labels in [0, 1].
    w, b : array-like (n,), optional
        The grid, growing; by default 121 numbers from -10 to 10 each.

    Returns
    -------
    CostSurface
        Costs and curvatures.

    Raises
    ------
    TypeError, ValueError
        For an argument that is not accepted.
    """
    x = validation.matrix("x", np.reshape(validation.numbers_of("x", x), (-1, 1)), np.dtype(np.float64), 1)[:, 0]
    y, _ = validation.targets("y", y, np.dtype(np.float64), len(x), backends.loss("binary_cross_entropy"), 1)
    w, b = (
        np.linspace(-10.0, 10.0, 121) if grid is None else _growing(name, grid, np.float64)
        for name, grid in (("w", w), ("b", b))
    )
    shape, names = (len(b), len(w)), ("squared error", "cross-entropy")
    costs, curvatures = ({name: np.zeros(shape) for name in names} for _ in range(2))
    for i, bias in enumerate(b):  # a row at a time, so that many samples take little memory
        z = np.multiply.outer(w, x) + bias
        p, slope = (part.reshape(z.shape) for part in backends.activation_curve("sigmoid", z.ravel()))
        error = p - y
        costs["squared error"][i] = (error**2).mean(axis=1)
        costs["cross-entropy"][i] = (np.logaddexp(0.0, z) - y * z).mean(axis=1)
        curvatures["squared error"][i] = _curvature(2 * slope * (slope + error * (1 - 2 * p)), x)
        curvatures["cross-entropy"][i] = _curvature(slope, x)
    return CostSurface(w, b, costs, curvatures)


def _curvature(second, x):
    """The smallest eigenvalue of the second derivatives by w and b of means, from those by w x + b (n, m)."""
    by_w, mixed, by_b = ((second * factor).mean(axis=1) for factor in (x * x, x, 1.0))
    return (by_w + by_b) / 2 - np.hypot((by_w - by_b) / 2, mixed)


class _Judge:
    """Data to train and to judge on, checked and converted once, and the scores of models."""

    def __init__(self, net, X, y, test):
        if not isinstance(test, list | tuple) or len(test) != 2:
            raise must_be("test", "(X, y)", test, TypeError)
        loss, dtype = backends.loss(net.loss), net.dtype
        self.kind = loss.targets
        self.score = "r2" if self.kind == "numbers" else "accuracy"
        self.X = validation.matrix("X", X, dtype)
        self.test_X = validation.matrix("test X", test[0], dtype, self.X.shape[1])
        parts = (("y", y, self.X), ("test y", test[1], self.test_X))
        self.y, self.test_y = (
            validation.targets(name, part, dtype, len(rows), loss, net.targets)[0] for name, part, rows in parts
        )
        self.labels = metrics.truth(self.y, self.kind)

    def of_net(self, net, on_training_data=False):
        """The score of a net."""
        return net.evaluate(*((self.X, self.y) if on_training_data else (self.test_X, self.test_y)))[self.score]

    def of_rival(self, name, model, rows):
        """The score of another model, trained on some rows."""
        truth = metrics.truth(self.test_y, self.kind)
        model.fit(self.X[rows], self.labels[rows])
        if not hasattr(model, "predict"):
            return float(model.score(self.test_X, truth))
        answers = np.asarray(model.predict(self.test_X))
        if answers.size != truth.size:
            given = described(f"a predict that gives an array of shape {answers.shape}")
            raise must_be(f"rivals[{name!r}]", f"a model with answers of shape {truth.shape}", given)
        answers = answers.reshape(truth.shape)
        if self.kind == "numbers":
            return metrics.r2(answers.reshape(len(truth), -1), truth)
        return float((answers == truth).reshape(len(truth), -1).all(axis=1).mean())


def _made(name, net, seed):
    """A new net, from a list of layers or from a function of a seed."""
    if isinstance(net, Sequential):
        raise must_be(name, "a list of layers, or a function that gives a net for a seed", net, TypeError)
    made = net(seed) if callable(net) else Sequential(net, seed=seed)
    if not isinstance(made, Sequential):
        raise must_be(name, "a function that gives a fastnn.Sequential", made, TypeError)
    return made


def _settings(settings):
    """Keywords for `fit`, without those that a study gives itself."""
    own = {"rows", "X", "y"} & settings.keys()
    if own:
        raise must_be("settings", "keywords of fit other than rows", described(", ".join(sorted(own))), TypeError)
    return settings


def _of_rows(settings, rows):
    """Settings of a fit on some rows."""
    batch = settings.get("batch_size")
    fits = isinstance(batch, int) and batch > len(rows)
    return settings | {"rows": rows} | ({"batch_size": len(rows)} if fits else {})


def _seeds(seeds):
    if not isinstance(seeds, list | tuple | range | np.ndarray) or not len(seeds):
        raise must_be("seeds", "a sequence of at least one seed", seeds, TypeError)
    return tuple(validation.count("seeds", seed) for seed in seeds)


def _growing(name, values, dtype=np.int64):
    """An array (n,) of positive ints, or of floats, each greater than the one before."""
    accepted = f"a growing sequence of {'positive ints' if dtype is np.int64 else 'at least two numbers'}"
    if not isinstance(values, list | tuple | range | np.ndarray) or np.ndim(values) != 1 or not len(values):
        raise must_be(name, accepted, values, TypeError)
    if dtype is np.int64:
        found = np.array([validation.size(name, value) for value in values], dtype)
    else:
        found = validation.numeric_array(name, values, (len(values),), dtype)
    if (np.diff(found) <= 0).any() or (dtype is not np.int64 and len(found) < 2):
        raise must_be(name, accepted, values)
    return found


def _sizes(sizes, rows):
    """Numbers of rows to train on."""
    if sizes is None:
        return np.unique(np.geomspace(min(_LEAST_ROWS, rows), rows, _SIZES).round().astype(np.int64))
    sizes = _growing("sizes", sizes)
    if sizes[-1] > rows:
        raise must_be("sizes", f"numbers up to the {rows} rows of X", sizes.tolist())
    return sizes


def _dict_of_functions(name, value):
    if not isinstance(value, Mapping) or not all(map(callable, value.values())):
        raise must_be(name, "a dict from names to functions that give a model", value, TypeError)
    return value


def _table(shape, **columns):
    """Columns of a table of all elements of an array: from the name of each to its axis and the values along it."""
    return {name: np.asarray(values)[np.indices(shape)[axis].ravel()] for name, (axis, values) in columns.items()}


def _finished(ax, x, y):
    """Labels, legend and grid."""
    ax.set(xlabel=x, ylabel=y)
    ax.grid(alpha=0.25)
    ax.legend(loc="best", frameon=False)
    return ax
