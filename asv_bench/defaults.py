"""What to start from and how to fit where nobody says it: held-out scores of many choices on many tables.

    python asv_bench/defaults.py starts --json starts.json      # starting values
    python asv_bench/defaults.py fits --json fits.json          # learning rate, batch size, epochs
    python asv_bench/defaults.py starts --only digits ames --seeds 1

It takes minutes on one thread, reads the tables from the folder FASTNN_DATA, and needs the extra `metrics`. A score is
the accuracy on rows that were held out, the area under the ROC curve where one class is rare, or R2. docs/defaults.md
says what was chosen by it.
"""

import argparse
import itertools
import json
import os
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from report import between, number, table
from sklearn.datasets import load_digits, make_friedman1, make_regression

import fastnn
from fastnn.__main__ import planar_flower
from fastnn.initializers import NAMES, initialize

TESTED = 3000  # rows held out, at most; a fifth of small tables


@dataclass
class Table:
    """Columns of numbers (m, n), which are standardised, or images of pixels in [0, 1]; codes (m, c); targets (m,)."""

    y: Any
    numbers: Any = None
    pixels: Any = None
    codes: Any = None
    score: str = "accuracy"

    def split(self, rows, seed):
        """(X, y) of at most so many rows to train on, (X, y) to judge by."""
        order = np.random.default_rng(seed).permutation(len(self.y))
        held = min(TESTED, len(order) // 5)
        test, train = order[:held], order[held:][:rows]
        parts = [] if self.pixels is None else [self.pixels]
        y = self.y
        if self.numbers is not None:
            parts.append(np.nan_to_num(_standardised(self.numbers, train)))
        if self.codes is not None:
            parts.extend(_one_hot(column, train) for column in self.codes.T)
        if self.score == "r2":
            y = _standardised(y, train)
        X = np.concatenate(parts, axis=1).astype(np.float32)
        return (X[train], y[train]), (X[test], y[test])

    def layers(self, hidden, activation="relu"):
        """Those of a net for it."""
        outputs = int(self.y.max()) + 1 if self.score == "accuracy" else 1
        if self.score == "r2":
            last = fastnn.Dense(1)
        else:
            last = fastnn.Dense(1, "sigmoid") if outputs <= 2 else fastnn.Dense(outputs, "softmax")
        return [*(fastnn.Dense(units, activation) for units in hidden), last]


def _standardised(values, train):
    spread = np.nanstd(values[train], axis=0)
    return (values - np.nanmean(values[train], axis=0)) / np.where(spread > 0, spread, 1.0)


def _one_hot(column, train, least=20):
    """A column of 0 and 1 for each level that the rows to train on have often enough."""
    levels, counts = np.unique(column[train], return_counts=True)
    return column[:, np.newaxis] == levels[counts >= min(least, len(train) // 100)]


def _stored(name):
    return np.load(Path(os.environ.get("FASTNN_DATA", ".")) / f"{name}.npz")


def california():
    data = _stored("california_housing")
    return Table(data["y"], data["X"], codes=data["ocean_proximity"][:, np.newaxis], score="r2")


def ames():
    data = _stored("ames_housing")
    return Table(np.log(data["y"]), data["X_num"], codes=data["X_cat"], score="r2")


def adult():
    data = _stored("adult_income")
    return Table(data["y_train"], data["X_num_train"], codes=data["X_cat_train"], score="roc_auc")


def criteo():
    data = _stored("criteo_indexed_20k")
    return Table(data["y_train"], codes=data["X_train"], score="roc_auc")


def facebook():
    data = _stored("facebook_ads_1143")
    codes = np.stack([data[name] for name in ("xyz_campaign_id", "age", "gender", "interest")], axis=1)
    return Table(data["clicks"] > 0, np.log1p(data["impressions"])[:, np.newaxis], codes=codes, score="roc_auc")


def _images(name, step):
    data = _stored(name)
    images, y = data["X_train"][:20_000, ::step, ::step], data["y_train"][:20_000]
    return Table(y.astype(int), pixels=images.reshape(len(images), -1) / 255)


def digits():
    X, y = load_digits(return_X_y=True)
    return Table(y, pixels=X / 16)


def flower():
    X, y = planar_flower()
    return Table(y, pixels=X)


def friedman():
    X, y = make_friedman1(5000, noise=1.0, random_state=0)
    return Table(y, X, score="r2")


def linear():
    X, y = make_regression(1000, 50, n_informative=10, noise=50.0, random_state=0)
    return Table(y, X, score="r2")


TABLES = {
    "california": california,
    "ames": ames,
    "adult": adult,
    "criteo": criteo,
    "facebook": facebook,
    "digits": digits,
    "mnist, every other pixel": lambda: _images("mnist", 2),
    "fashion, every other pixel": lambda: _images("fashion_mnist", 2),
    "cats, every fourth pixel": lambda: _images("cat_vs_noncat", 4),
    "flower": flower,
    "friedman": friedman,
    "linear": linear,
}

# From a name to the distributions of W before relu, of W of the last layer, of b: those of fastnn, or "torch", which is
# uniform within 1 / sqrt(n_in). torch draws both so, scikit-learn both as glorot_uniform.
STARTS = {
    **{name: (name, "glorot_uniform", "zeros") for name in NAMES if "_" in name},
    "as scikit-learn": ("glorot_uniform", "glorot_uniform", "glorot_uniform"),
    "as torch": ("torch", "torch", "torch"),
    "torch, b zeros": ("torch", "torch", "zeros"),
    "he_uniform, last and b torch": ("he_uniform", "torch", "torch"),
    "he_normal, last zeros": ("he_normal", "zeros", "zeros"),
    "glorot_uniform, last zeros": ("glorot_uniform", "zeros", "zeros"),
    "torch, last zeros": ("torch", "zeros", "torch"),
}


def _drawn(name, n_in, n_out, shape, rng):
    if name == "torch":
        return rng.uniform(-1, 1, shape) / np.sqrt(n_in)
    return initialize(name, n_in, n_out, shape, rng)


def start(net, names, seed):
    """Set the weights of a built net."""
    rng, weights = np.random.default_rng(seed), net.get_weights()
    for i in range(0, len(weights), 2):
        n_out, n_in = weights[i].shape
        hidden, last, bias = names
        weights[i] = _drawn(last if i == len(weights) - 2 else hidden, n_in, n_out, (n_out, n_in), rng)
        weights[i + 1] = _drawn(bias, n_in, n_out, n_out, rng)
    net.set_weights(weights)


def curve(table, net, split, optimizer, batch, marks):
    """[(epochs, score, held-out loss, seconds of processor time)] at some numbers of epochs."""
    (X, y), (test_X, test_y) = split
    found, seconds = [], 0.0
    for before, mark in itertools.pairwise((0, *marks)):
        begin = time.process_time()
        try:
            net.fit(X, y, optimizer, epochs=mark - before, batch_size=batch, threads=1)
        except fastnn.DivergedError:
            return found + [(left, 0.0, float("inf"), seconds) for left in marks[len(found) :]]
        seconds += time.process_time() - begin
        scores = net.evaluate(test_X, test_y, threads=1, metrics=[table.score])
        found.append((mark, scores[table.score], scores["loss"], seconds))
    return found


NETS = {"64": (64,), "256": (256,), "64, 64, 64": (64, 64, 64), "6 x 32": (32,) * 6, "12 x 32": (32,) * 12}
OPTIMIZERS = {
    "Adam(0.001)": fastnn.Adam(0.001),
    "Adam(0.005)": fastnn.Adam(0.005),
    "SGD(0.05, momentum=0.9)": fastnn.SGD(0.05, momentum=0.9),
}


SIZES, BATCHES, MARKS = (100, 400, 1500, 6000, 20_000), (8, 16, 32, 64, 128, 256, 512, None), (5, 10, 20, 50, 100, 200)


def starts(names, seeds, activation):
    """Yield a record for each fit of the experiment on starting values."""
    for seed, name in itertools.product(range(seeds), names):
        table = TABLES[name]()
        split = table.split(1500, seed)
        choices = itertools.product(NETS.items(), OPTIMIZERS.items(), STARTS.items())
        for (shape, hidden), (rule, optimizer), (way, parts) in choices:
            net = fastnn.Sequential(table.layers(hidden, activation), seed=seed).build(split[0][0].shape[1])
            start(net, parts, seed)
            batch = min(64, len(split[0][0]))
            found = curve(table, net, split, optimizer, batch, (5, 10, 20, 40))
            yield dict(table=name, seed=seed, net=shape, optimizer=rule, start=way, curve=found)


def fits(names, seeds, activation):
    """Yield a record for each fit of the experiment on the defaults of `fit`."""
    for rows, seed, name in itertools.product(SIZES, range(seeds), names):
        table = TABLES[name]()
        split = table.split(rows, seed)
        count = len(split[0][0])
        if count < 0.7 * rows or seed and rows > 1000:
            continue
        marks, rates = (MARKS, (1e-3, 3e-3)) if rows < 2000 else (MARKS[:4], (1e-3,))
        for rate, batch in itertools.product(rates, BATCHES):
            if batch is not None and not count / 400 <= batch <= count / 2:
                continue
            net = fastnn.Sequential(table.layers((64, 64), activation), seed=seed).build(split[0][0].shape[1])
            start(net, STARTS["glorot_uniform"], seed)
            found = curve(table, net, split, fastnn.Adam(rate), batch, marks)
            yield dict(table=name, rows=count, seed=seed, rate=rate, batch=batch, curve=found)


def _mean(records, mark=-1):
    """Mean score, in points, of some fits at one of their marks; an R2 below 0 counts as 0."""
    return 100 * float(np.mean([max(0.0, record["curve"][mark][1]) for record in records]))


def _signed(value):
    return f"{value:+.1f}"


def starts_table(records):
    """Points that each start wins over he_normal."""

    def gain(way, wanted):
        ours, theirs = (
            _mean([r for r in records if r["start"] == start and wanted(r)]) for start in (way, "he_normal")
        )
        return ours - theirs

    names, lines = list(dict.fromkeys(r["table"] for r in records)), []
    deep = list(NETS)[-1]
    for way in [way for way in STARTS if way != "he_normal"]:
        line = [gain(way, lambda r, rule=rule: r["optimizer"] == rule and r["net"] != deep) for rule in OPTIMIZERS]
        line.append(gain(way, lambda r: r["net"] == deep))
        by_table = {name: gain(way, lambda r, name=name: r["table"] == name) for name in names}
        worst = min(by_table, key=by_table.get)
        better = f"{sum(value > 0 for value in by_table.values())} of {len(names)}"
        lines.append([way, *map(_signed, line), better, f"{_signed(by_table[worst])} {worst}"])
    return table(["start", *OPTIMIZERS, f"{deep}, all", "tables it wins", "its worst table"], lines)


def fits_table(records):
    """Scores of every batch size after the default number of epochs, then of the default one by epochs."""
    records = [r for r in records if r["rate"] == 1e-3]
    sizes = {size: [r for r in records if abs(np.log(r["rows"] / size)) < 0.5] for size in SIZES}
    by_batch, by_epochs = [], []
    for size, found in sizes.items():
        if not found:
            continue
        usual = [r for r in found if r["batch"] == fastnn.fit.Steps().batch(size)]
        marks = [mark for mark, *_ in usual[0]["curve"]]
        at = marks.index(fastnn.fit.EPOCHS)
        cells = [[r for r in found if r["batch"] == batch] for batch in BATCHES]
        by_batch.append([f"{size:,}", *(number(_mean(c, at)) if c else "" for c in cells)])
        scores = {mark: number(_mean(usual, i)) for i, mark in enumerate(marks)}
        seconds = np.mean([r["curve"][at][3] for r in usual])
        by_epochs.append([f"{size:,}", str(usual[0]["batch"]), *(scores.get(m, "") for m in MARKS), number(seconds, 2)])
    heads = (
        ["rows", *(str(b or "all rows") for b in BATCHES)],
        ["rows", "batch", *map(str, MARKS), f"seconds of {fastnn.fit.EPOCHS}"],
    )
    return table(heads[0], by_batch) + "\n\n" + table(heads[1], by_epochs)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", choices=("starts", "fits"))
    parser.add_argument("--only", nargs="+", default=list(TABLES), choices=TABLES, metavar="TABLE")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--activation", default="relu", help="of the hidden layers")
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="to write a line for each fit to")
    parser.add_argument("--report", action="store_true", help="only read FILE, and write its table to docs/defaults.md")
    given = parser.parse_args()
    if not given.report:
        warnings.simplefilter("ignore", fastnn.DeadUnitsWarning)
        experiment = {"starts": starts, "fits": fits}[given.experiment]
        with given.json.open("w") as file:
            for record in experiment(given.only, given.seeds, given.activation):
                file.write(json.dumps(record) + "\n")
                file.flush()
    text = {"starts": starts_table, "fits": fits_table}[given.experiment](
        [json.loads(line) for line in given.json.read_text().splitlines()]
    )
    print(text)
    if given.report:
        between(Path(__file__).parents[1] / "docs" / "defaults.md", text, given.experiment)


if __name__ == "__main__":
    main()
