"""Pictures of fits and nets, by matplotlib (extra `plot`).

Every function draws into the Axes that it is given, or into a new figure, and gives the Axes back; none shows or saves.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from . import backends, data, validation
from .errors import described, must_be, unknown_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from .ensembles import Ensemble
    from .history import History
    from .models import Sequential
    from .sweep_result import SweepResult

__all__ = ["activations", "decision_boundary", "history", "metrics", "sweep", "weights"]


def __dir__() -> list[str]:
    return __all__


# Okabe and Ito's colours, told apart by colour-blind readers: jfly.uni-koeln.de/color
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
MARKERS = "osD^vP*X"
DASHES = "-", "--", ":", "-."  # of curves, which also tell the colours of more than eight apart
SHADE = 0.4  # how much of a class's colour its surest places get: points of that colour still stand out
FINE = 12  # size of points (in points^2) up to which an edge would hide them
GAP = "0.75"  # grey between images, which zero, white, would not show
MOST_IMAGES = 100  # units drawn where none are named
MOST_COLUMNS = 5  # of panels of activations
HUGE = 1e100  # losses of a diverging fit above it are not drawn: the limits of a log axis would overflow
# what a log axis labels in each decade, by the ratio of its largest value to the smallest
LABELLED = ((6, (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)), (100, (1.0, 2.0, 5.0)), (math.inf, (1.0,)))


def figure(rows=1, columns=1, size=(6.4, 4.4), **options):
    """New Axes, in a figure that notebooks and `plt.show()` know of."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        raise ImportError(f"plots need matplotlib: {backends.pip_install('plot')}") from None
    return plt.subplots(rows, columns, figsize=size, layout="constrained", **options)[1]


def own_axes(ax):
    """Given Axes, or new ones."""
    if ax is None:
        return figure()
    if not _are_axes(ax):
        raise must_be("ax", "None or matplotlib Axes", ax, TypeError)
    return ax


def _are_axes(ax):
    return callable(getattr(ax, "plot", None)) and callable(getattr(ax, "imshow", None))


def _curve(ax, values, **style):
    """Values by epoch; a single one as a point, which a line would not show."""
    values = np.where(np.abs(values) < HUGE, values, np.nan)
    return ax.plot(np.arange(len(values)), values, marker="o" if len(values) == 1 else None, **style)[0]


def finish_epochs(ax, label):
    """Labels, legend and grid of Axes with curves by epoch."""
    ax.set(xlabel="epoch", ylabel=label)
    if ax.get_xscale() == "linear":
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.ticklabel_format(axis="x", style="plain")
    ax.grid(alpha=0.25)
    ax.legend(loc="best", frameon=False)


def history(record: "History", ax: "Axes | None" = None, log: bool = True, label: str | None = None) -> "Axes":
    """Training and validation loss by epoch, the best epoch marked; the metrics below, if there are any.

    Parameters
    ----------
    record : History
        What `fit` gave, or the history of a DivergedError.
    ax : matplotlib Axes, optional
        Receives the losses alone; by default a new figure is made, with a second panel for metrics. Curves that are
        drawn there already keep their colours and names, and the new ones get others.
    log : bool
        Logarithmic losses, where all are positive.
    label : str, optional
        Name of the fit in the legend; by default fits in the same Axes are numbered.

    Returns
    -------
    matplotlib Axes
        That of the losses.

    Raises
    ------
    ImportError
        Without matplotlib.
    TypeError, ValueError
        For an argument that is not accepted, and for a history without a completed epoch.
    """
    log = validation.flag("log", log)
    _check_epochs(record)
    below = None
    if ax is None and record.metrics:
        ax, below = figure(2, 1, size=(6.4, 6.4), sharex=True)
        metrics(record, below)
    ax = own_axes(ax)
    curves = {"training": record.loss}
    if len(record.validation_loss):
        curves["validation"] = record.validation_loss
    before, prefix = sum(line.get_linestyle() != "None" for line in ax.lines), _fit_name(ax, label)
    for i, (name, values) in enumerate(curves.items(), before):
        name = label if label is not None and len(curves) == 1 else prefix + name
        turn, colour = divmod(i, len(COLOURS))
        _curve(ax, values, color=COLOURS[colour], linestyle=DASHES[turn % len(DASHES)], label=name)
    if record.best_epoch is not None:
        best = curves.get("validation", record.loss)[record.best_epoch]
        name = f"{prefix}best epoch {record.best_epoch}: {best:.4g}"
        ax.plot([record.best_epoch], [best], "o", color=ax.lines[-1].get_color(), fillstyle="none", label=name)
    shown = np.concatenate(list(curves.values()))
    shown = shown[np.abs(shown) < HUGE]
    if log and shown.size and shown.min() > 0:
        logarithmic(ax)
    finish_epochs(ax, "loss")
    if below is not None:
        ax.set_xlabel("")
    return ax


def _fit_name(ax, label):
    """What the names of the curves of a fit begin with, so that they are told from those that stand there already."""
    if label is not None:
        return f"{label}: "
    fits = sum(line.get_label().endswith("training") for line in ax.lines)
    return f"fit {fits + 1}: " if fits else ""


def _check_epochs(record):
    if not hasattr(record, "validation_loss"):
        raise must_be("record", "a fastnn.History", record, TypeError)
    if not record.epochs:
        raise must_be("record", "a history of at least one completed epoch", record)


def logarithmic(ax):
    """A log axis for all that is drawn so far, with labels that are neither few nor many."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    ax.set_yscale("log")
    ratio = ax.dataLim.y1 / ax.dataLim.minposy
    ax.yaxis.set_major_locator(LogLocator(subs=next(subs for most, subs in LABELLED if ratio <= most)))
    ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())


def sweep(result: "SweepResult", by: str = "learning_rate", ax: "Axes | None" = None, log: bool = True) -> "Axes":
    """The training loss of every net of a sweep by epoch, in a colour for each value of one name.

    Parameters
    ----------
    result : SweepResult
        What `Sweep.fit` gave.
    by : str
        Name of a value, or "learning_rate".
    ax : matplotlib Axes, optional
        Receives the curves; by default a new figure is made.
    log : bool
        Logarithmic losses, where all are positive.

    Returns
    -------
    matplotlib Axes
        With the curves; those of nets that diverged are dashed and end in a cross.

    Raises
    ------
    ImportError
        Without matplotlib.
    TypeError, ValueError
        For an argument that is not accepted, and for a result without a trained net.
    """
    log = validation.flag("log", log)
    groups: dict[str, list[Any]] = {}
    for trial in result.trials:
        if trial.rounds:
            groups.setdefault(_value_text(trial.value(by)), []).append(trial)
    if not groups:
        raise must_be("result", "one with a net that was trained", described("none"))
    names, ax, lowest = sorted(groups, key=_by_number), own_axes(ax), math.inf
    colours = COLOURS[:-1] if len(names) < len(COLOURS) else _shades(len(names))
    for colour, name in zip(colours, names, strict=False):
        label, nets = name, [(trial, losses) for trial in groups[name] for losses in trial.losses]
        diverged = sum(trial.diverged for trial in groups[name])
        label += f" ({diverged} of {len(groups[name])} diverged)" if diverged else ""
        for trial, losses in nets:
            style = {"color": colour, "alpha": max(0.15, min(1.0, 3 / len(nets)) ** 0.5), "label": label}
            label = None
            _curve(ax, losses, linestyle="--" if trial.diverged else "-", linewidth=1.2, **style)
            shown = losses[np.abs(losses) < HUGE]
            lowest = min(lowest, shown.min()) if len(shown) else lowest
            if trial.diverged:
                at = max(len(shown) - 1, 0)
                ax.plot([at], [shown[at] if len(shown) else math.nan], "x", color=colour)
    if log and 0 < lowest < math.inf:
        logarithmic(ax)
    finish_epochs(ax, "training loss")
    legend = ax.legend(title=by.replace("_", " "), loc="best", frameon=False, ncols=1 + (len(names) > 8))
    for line in legend.get_lines():
        line.set_alpha(1.0)
    return ax


def _shades(count):
    """Colours for values in an order."""
    import matplotlib

    return [matplotlib.colormaps["viridis"](i / (count - 1)) for i in range(count)]


def _value_text(value):
    """A value of a sweep as a legend shows it."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _by_number(text):
    try:
        return 0, float(text), text
    except ValueError:
        return 1, 0.0, text


def bands(ax, x, values, label, colour, marker="o"):
    """The median of values (places, repetitions) over x, and a band from the lowest to the highest."""
    ax.plot(x, np.median(values, axis=1), marker=marker, markersize=4, color=colour, label=label)
    ax.fill_between(x, values.min(axis=1), values.max(axis=1), color=colour, alpha=0.15, linewidth=0)


def log_places(ax, places):
    """A log x axis that labels places which are some numbers, as many of them as there is room for."""
    from matplotlib.ticker import NullFormatter, NullLocator

    ax.set_xscale("log")
    apart = [places[-1]]
    for place in places[-2::-1]:
        if apart[-1] >= 1.35 * place:
            apart.append(place)
    ax.set_xticks(apart, [f"{place:,}" for place in apart])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_minor_formatter(NullFormatter())


def metrics(record: "History", ax: "Axes | None" = None) -> "Axes":
    """Metrics by epoch: of the validation data where there were any, else of the training data.

    Parameters
    ----------
    record : History
        What `fit` gave, with metrics.
    ax : matplotlib Axes, optional
        Where to draw; by default a new figure is made.

    Returns
    -------
    matplotlib Axes
        The Axes.

    Raises
    ------
    ImportError
        Without matplotlib.
    TypeError, ValueError
        For an argument that is not accepted, and for a history without metrics.
    """
    _check_epochs(record)
    if not record.metrics:
        raise must_be("record", "a history with metrics, from fit(metrics=...)", record)
    ax = own_axes(ax)
    for i, (name, values) in enumerate(record.metrics.items()):
        _curve(ax, values, color=COLOURS[i % len(COLOURS)], label=name)
    finish_epochs(ax, "metric")
    return ax


def decision_boundary(
    net: "Sequential | Ensemble",
    X: ArrayLike | None = None,
    y: ArrayLike | None = None,
    ax: "Axes | None" = None,
    resolution: int = 300,
    limits: Sequence[float] | None = None,
) -> "Axes":
    """What a net answers over the plane: its classes, where it changes its mind and how sure it is, or its numbers.

    Parameters
    ----------
    net : Sequential or Ensemble
        Fitted, of two features: one output, or softmax.
    X : array-like (m, 2), optional
        Samples, drawn as points.
    y : array-like (m,) or (m, k), optional
        Their targets, as `fit` takes them; with X, and not without it.
    ax : matplotlib Axes, optional
        Where to draw; by default a new figure is made.
    resolution : int
        Points across and up at which the net predicts, at least 2.
    limits : sequence of float, optional
        (lowest x1, highest x1, lowest x2, highest x2) of the picture; by default those of X with a margin.

    Returns
    -------
    matplotlib Axes
        For classes an image of shades, contours at 0.5 of the share of a class among itself and the likeliest other
        (for two classes its probability), and a set of points for each class; for numbers an image and contours of
        them, with points in the colours of their targets.

    Raises
    ------
    ImportError
        Without matplotlib.
    NotBuiltError
        For a net that was not built.
    TypeError, ValueError
        For an argument that is not accepted.
    """
    kind = _check_plane(net)
    resolution = validation.size("resolution", resolution)
    if resolution < 2:
        raise must_be("resolution", "an int of at least 2", resolution)
    if (X is None) != (y is None) or (X is None and limits is None):
        raise must_be("X and y", "both given, or both None where limits are given", described("others"))
    low, high = (None, None) if limits is None else _corners(limits)
    rows = None if X is None else data.check(net, X, y)
    ax = own_axes(ax)
    if low is None:
        low, high = rows.X.min(axis=0).astype(float), rows.X.max(axis=0).astype(float)
        margin = np.where(high > low, 0.08 * (high - low), 0.5)
        low, high = low - margin, high + margin
    x1, x2 = (np.linspace(low[i], high[i], resolution) for i in range(2))
    outputs = net.predict(np.stack(np.meshgrid(x1, x2), axis=-1).reshape(-1, 2)).astype(float)
    if kind == "numbers":
        _levels(ax, x1, x2, outputs, rows)
    else:
        _classes(ax, x1, x2, outputs, rows)
    names = net.feature_names or ("$x_1$", "$x_2$")
    ax.set(xlabel=names[0], ylabel=names[1], xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    return ax


def _check_plane(net):
    """The kind of the targets of a net that can be drawn over the plane."""
    if not hasattr(type(net), "nets"):  # of an ensemble, whose nets were built
        _check_net(net)
    kind = backends.loss(net.loss).targets
    if kind != "classes" and net.outputs > 1:
        raise must_be("net", "a net with one output or softmax", net)
    if net.n_features != 2:
        raise must_be("net", "a net of 2 features", described(f"one of {net.n_features}"))
    return kind


def _corners(limits):
    """(lowest, highest) of both features."""
    x1_low, x1_high, x2_low, x2_high = given = validation.numeric_array("limits", limits, (4,), np.float64)
    if not (x1_low < x1_high and x2_low < x2_high):
        raise must_be("limits", "(lowest x1, highest x1, lowest x2, highest x2)", given.tolist())
    return given[::2], given[1::2]


def _classes(ax, x1, x2, outputs, rows):
    """Regions of the classes, and the samples."""
    P = np.hstack([1 - outputs, outputs]) if outputs.shape[1] == 1 else outputs
    _regions(ax, x1, x2, P)
    X, classes = np.zeros((0, 2)), np.zeros(0, int)
    if rows is not None:
        X, y = rows.X, rows.y
        classes = y.argmax(axis=1) if y.ndim == 2 else (y if outputs.shape[1] > 1 else y > 0.5).astype(int)
    _points(ax, X, classes, P.shape[1])
    legend = ax.legend(title="class", loc="upper left", bbox_to_anchor=(1, 1), frameon=False, handletextpad=0.1)
    for handle in legend.legend_handles:
        handle.set_sizes([30])


def _levels(ax, x1, x2, outputs, rows):
    """The numbers of a regression as colours and contours, and the targets of the samples in the same colours."""
    values = outputs.reshape(len(x2), len(x1))
    shown = values if rows is None else np.concatenate([values.ravel(), rows.y.ravel()])
    style = dict(cmap="viridis", vmin=shown.min(), vmax=shown.max())
    extent = (x1[0], x1[-1], x2[0], x2[-1])
    image = ax.imshow(values, extent=extent, origin="lower", aspect="auto", interpolation="bilinear", **style)
    if values.min() < values.max():
        ax.contour(x1, x2, values, levels=8, colors="white", linewidths=0.6)
    if rows is not None:
        ax.scatter(*rows.X.T, c=rows.y.ravel(), s=_point_size(rows.X), edgecolors="black", linewidths=0.4, **style)
    ax.figure.colorbar(image, ax=ax, label="output")


def _regions(ax, x1, x2, P):
    """Shades of probabilities P (points, classes) on a grid, and the lines between the classes."""
    shape, count = (len(x2), len(x1)), P.shape[1]
    extent = (x1[0], x1[-1], x2[0], x2[-1])
    ax.imshow(_shades(P).reshape(*shape, 3), extent=extent, origin="lower", aspect="auto", interpolation="bilinear")
    for k in range(1 if count == 2 else 0, count):
        rival = np.delete(P, k, axis=1).max(axis=1)
        share = (P[:, k] / np.maximum(P[:, k] + rival, np.finfo(float).tiny)).reshape(shape)
        if share.min() < 0.5 < share.max():
            ax.contour(x1, x2, share, levels=[0.5], colors="black", linewidths=1.2)


def _points(ax, X, classes, count):
    """The samples of each class, in its colour, with markers that also tell the colours of more than eight apart."""
    size = _point_size(X)
    style = dict(s=size, edgecolors="black", linewidths=0.3 if size > FINE else 0.0, zorder=3)
    for k in range(count):
        turn, colour = divmod(k, len(COLOURS))
        marker = MARKERS[(colour + turn) % len(MARKERS)]
        ax.scatter(*X[classes == k].T, color=COLOURS[colour], marker=marker, label=str(k), **style)


def _point_size(X):
    """Area of a point, in points^2: less for many."""
    return float(np.clip(10_000 / max(1, len(X)), 4, 36))


def _shades(P):
    """Colours (n, 3) of probabilities (n, k): that of the likeliest class, paler the less it leads an even guess."""
    from matplotlib.colors import to_rgb

    count = P.shape[1]
    colours = np.array([to_rgb(COLOURS[k % len(COLOURS)]) for k in range(count)])
    lead = (P.max(axis=1, keepdims=True) - 1 / count) / (1 - 1 / count)
    return 1 - SHADE * np.clip(lead, 0, 1) * (1 - colours[P.argmax(axis=1)])


def _check_net(net):
    if not hasattr(type(net), "program"):
        raise must_be("net", "a fastnn net", net, TypeError)
    return net.state  # which a net has that was built


def weights(
    net: "Sequential",
    shape: tuple[int, ...] | None = None,
    ax: "Axes | None" = None,
    units: Sequence[int] | None = None,
) -> "Axes":
    """First-layer weights, an image for each unit, side by side on one scale.

    Parameters
    ----------
    net : Sequential
        A net that was built.
    shape : tuple, optional
        (h, w) or (h, w, 3), as the features were laid out before they were made flat; a square image, grey or in
        colour, where it is None. Grey weights are red above zero and blue below; zero is white, or grey in colour.
    ax : matplotlib Axes, optional
        Where to draw; by default a new figure is made.
    units : sequence of int, optional
        Units to draw, in this order; by default all, at most the first 100.

    Returns
    -------
    matplotlib Axes
        The Axes, with one image of all tiles, row by row, a line between them.

    Raises
    ------
    ImportError
        Without matplotlib.
    NotBuiltError
        For a net that was not built.
    TypeError, ValueError
        For an argument that is not accepted.
    """
    _check_net(net)
    W = net.get_weights()[0]
    shape = _image_shape(shape, W.shape[1])
    units = range(min(len(W), MOST_IMAGES)) if units is None else units
    if not isinstance(units, list | tuple | range | np.ndarray) or not len(units):
        raise must_be("units", f"a sequence of ints below {len(W)}", units, TypeError)
    for unit in units:
        if isinstance(unit, bool) or not isinstance(unit, int | np.integer) or not 0 <= unit < len(W):
            raise must_be("units", f"a sequence of ints below {len(W)}", unit)
    images = W[list(units)].reshape(-1, *shape).astype(float)
    scale = float(np.abs(images).max()) or 1.0

    height, width = shape[:2]
    columns = math.ceil(math.sqrt(len(images) * height / width))
    rows = math.ceil(len(images) / columns)
    gap = max(1, min(height, width) // 16)
    colour = len(shape) == 3
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, *shape[2:]), np.nan)
    for i, image in enumerate(images):
        top, left = i // columns * (height + gap), i % columns * (width + gap)
        sheet[top : top + height, left : left + width] = image
    if ax is None:
        ax = figure(size=(6.4, float(np.clip(6.0 * sheet.shape[0] / sheet.shape[1], 1.6, 8.0))))
    ax = own_axes(ax)
    if colour:
        ax.imshow(np.where(np.isnan(sheet), 1.0, 0.5 + sheet / (2 * scale)), interpolation="nearest")
    else:
        from matplotlib import colormaps

        shades = colormaps["RdBu_r"].with_extremes(bad=GAP)
        drawn = ax.imshow(sheet, cmap=shades, vmin=-scale, vmax=scale, interpolation="nearest")
        ax.figure.colorbar(drawn, ax=ax, label="weight", shrink=0.8)
    ax.set_axis_off()
    return ax


def _image_shape(shape, features):
    accepted = f"(h, w) or (h, w, 3) of positive ints with a product of {features}"
    if shape is None:
        for channels in (1, 3):
            side = math.isqrt(features // channels)
            if side * side * channels == features:
                return (side, side) if channels == 1 else (side, side, 3)
        raise must_be("shape", f"{accepted}, as no square image has so many", shape)
    if not isinstance(shape, list | tuple) or not all(isinstance(n, int) and not isinstance(n, bool) for n in shape):
        raise must_be("shape", accepted, shape, TypeError)
    right = len(shape) == 2 or len(shape) == 3 and shape[2] == 3
    if not right or min(shape) < 1 or math.prod(shape) != features:
        raise must_be("shape", accepted, shape)
    return tuple(shape)


def activations(names: str | Sequence[str] | None = None, axes: "Sequence[Axes] | None" = None) -> "NDArray[Any]":
    """Each activation and its derivative from -4 to 4, as the kernels compute them, a panel each on one scale.

    Parameters
    ----------
    names : str or sequence of str, optional
        Names as `Dense` takes them, without softmax, which looks at a whole row; by default all others.
    axes : sequence of matplotlib Axes, optional
        One for each name; by default a new figure is made.

    Returns
    -------
    array of matplotlib Axes
        One for each name.

    Raises
    ------
    ImportError
        Without matplotlib.
    TypeError, ValueError
        For an argument that is not accepted.
    """
    known = [name for name, record in backends.ACTIVATIONS.items() if not backends.by_row(record)]
    names = known if names is None else [names] if isinstance(names, str) else names
    if not isinstance(names, list | tuple) or not names:
        raise must_be("names", "a name or a sequence of at least one", names, TypeError)
    for name in names:
        if name not in known:
            raise unknown_name("names", name, known)
    if axes is None:
        columns = min(len(names), MOST_COLUMNS)
        rows = math.ceil(len(names) / columns)
        size = (max(3.6, 2.2 * columns), max(3.0, 2.3 * rows + 0.3))
        grid = figure(rows, columns, size=size, sharex=True, sharey=True, squeeze=False)
        for extra in grid.flat[len(names) :]:
            extra.set_axis_off()
        axes = grid.flat[: len(names)]
    axes = np.atleast_1d(np.asarray(axes, dtype=object)).ravel()
    if len(axes) != len(names):
        raise must_be("axes", f"{len(names)} matplotlib Axes, one a name", described(f"{len(axes)}"))
    for ax in axes:
        if not _are_axes(ax):
            raise must_be("axes", "None or matplotlib Axes", ax, TypeError)
    z = np.linspace(-4.0, 4.0, 801)
    for ax, name in zip(axes, names, strict=True):
        value, slope = backends.activation_curve(name, z)
        ax.plot(z, value, color=COLOURS[0], label="$g(z)$")
        ax.plot(z, slope, color=COLOURS[1], linestyle="--", label="$g'(z)$")
        ax.set(title=name, xlim=(-4, 4), ylim=(-1.6, 4))
        ax.axhline(0, color="black", linewidth=0.5, zorder=1)
        ax.axvline(0, color="black", linewidth=0.5, zorder=1)
        ax.grid(alpha=0.25)
    for ax in axes[-min(len(axes), MOST_COLUMNS) :]:
        ax.set_xlabel("$z$")
    axes[0].legend(loc="upper left", frameon=False)
    return axes
