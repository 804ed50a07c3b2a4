"""What tables.py compares: each method takes a DataFrame as a user has it, with the preparation that it needs.

A method has `fit(frame, y, classes, seed)` and `predict(frame)`: probabilities of class 1 (m,), or numbers (m,). It is
made anew for each split, on the cores of its process, and keeps its defaults.
"""

import os
import time
import warnings

import numpy as np
import pandas as pd
import table_data
from workers import need

SAMPLE = 300  # rows of the fit that comes first: it compiles and imports what the method takes
MOST_LEVELS = 254  # of a column that HistGradientBoosting takes as codes
LEAST_COUNT = 5  # rows that a level needs for a column of its own in the pipeline of scikit-learn's MLP


def is_text(column):
    return not pd.api.types.is_numeric_dtype(column)


class Categories:
    """Text as categories of pandas, by the levels of the rows that it has learned from; others are missing."""

    def __init__(self, frame, most=None):
        counts = {name: frame[name].value_counts() for name in frame if is_text(frame[name])}
        self.levels = {name: count.index[:most] for name, count in counts.items()}

    def __call__(self, frame):
        known = {name: frame[name].where(frame[name].isin(levels)) for name, levels in self.levels.items()}
        return frame.assign(**{name: pd.Categorical(known[name], self.levels[name]) for name in known})


class Fastnn:
    """The preset for tables, which reads the frame as it is."""

    def __init__(self):
        self.library = need("fastnn")

    def fit(self, frame, y, classes, seed):
        threads = len(os.sched_getaffinity(0))
        task = "classification" if classes else "regression"
        self.model = self.library.preset("table").fit(frame, y, task=task, seed=seed, threads=threads)

    def predict(self, frame):
        return self.model.predict(frame)


class LightGBM:
    def __init__(self):
        self.library = need("lightgbm")

    def fit(self, frame, y, classes, seed):
        self.prepare, self.classes = Categories(frame), classes
        kind = self.library.LGBMClassifier if classes else self.library.LGBMRegressor
        self.model = kind(random_state=seed, n_jobs=len(os.sched_getaffinity(0)), verbose=-1)
        self.model.fit(self.prepare(frame), y)

    def predict(self, frame):
        frame = self.prepare(frame)
        return self.model.predict_proba(frame)[:, 1] if self.classes else self.model.predict(frame)


class HistGradientBoosting(LightGBM):
    def __init__(self):
        self.library = need("sklearn.ensemble")

    def fit(self, frame, y, classes, seed):
        self.prepare, self.classes = Categories(frame, MOST_LEVELS), classes
        library = self.library
        kind = library.HistGradientBoostingClassifier if classes else library.HistGradientBoostingRegressor
        self.model = kind(random_state=seed).fit(self.prepare(frame), y)


class ScikitMLP(LightGBM):
    """Numbers standardised, gaps at the median with a flag, codes one-hot; stopped early."""

    def __init__(self):
        self.library = need("sklearn")

    def fit(self, frame, y, classes, seed):
        from sklearn.compose import TransformedTargetRegressor, make_column_transformer
        from sklearn.impute import SimpleImputer
        from sklearn.neural_network import MLPClassifier, MLPRegressor
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import OneHotEncoder, StandardScaler

        text = [name for name in frame if is_text(frame[name])]
        self.prepare = lambda frame: frame.astype(dict.fromkeys(text, object))
        self.classes = classes
        one_hot = OneHotEncoder(min_frequency=LEAST_COUNT, handle_unknown="infrequent_if_exist")
        numbers = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler())
        columns = make_column_transformer((one_hot, text), remainder=numbers)
        settings = {"early_stopping": True, "random_state": seed}
        if classes:
            net = MLPClassifier(**settings)
        else:
            net = TransformedTargetRegressor(MLPRegressor(**settings), transformer=StandardScaler())
        self.model = make_pipeline(columns, net).fit(self.prepare(frame), y)


class RealMLP(LightGBM):
    """RealMLP-TD of pytabkit. It takes no gaps in numbers: they are at the median, with a flag."""

    def __init__(self):
        self.library = need("pytabkit")

    def fit(self, frame, y, classes, seed):
        categories, medians = Categories(frame), frame.median(numeric_only=True)
        gaps = [name for name in medians.index if frame[name].isna().any()]

        def prepare(frame):
            flags = {f"{name} is missing": frame[name].isna().astype("float32") for name in gaps}
            return categories(frame).fillna(medians).assign(**flags)

        self.prepare, self.classes = prepare, classes
        kind = self.library.RealMLP_TD_Classifier if classes else self.library.RealMLP_TD_Regressor
        self.model = kind(device="cpu", random_state=seed, n_threads=len(os.sched_getaffinity(0)), verbosity=0)
        self.model.fit(prepare(frame), y)


class Runner:
    """A method in a process of its own; `score` is what tables.py calls."""

    def __init__(self, method):
        warnings.simplefilter("ignore")  # of the peers: of versions to come, of iterations, of names
        self.method, self.warm = METHODS[method], set()
        self.method()  # LeftOut where its library is missing

    def score(self, name, split):
        """{measure: value} of one split, CPU seconds of this process included."""
        table = table_data.load(name)
        train, test = table.rows(split)
        frame, y = table.frame.iloc[train].reset_index(drop=True), table.y[train]
        seed = split if isinstance(split, int) else 0
        if table.classes not in self.warm:
            sample = np.r_[np.flatnonzero(y == y[0])[: SAMPLE // 2], np.flatnonzero(y != y[0])[: SAMPLE // 2]]
            self.timed(frame.iloc[sample].reset_index(drop=True), y[sample], frame.iloc[:SAMPLE], table.classes, seed)
            self.warm.add(table.classes)
        outputs, seconds = self.timed(frame, y, table.frame.iloc[test].reset_index(drop=True), table.classes, seed)
        return measures(outputs, table.y[test], table.classes) | seconds

    def timed(self, frame, y, asked, classes, seed):
        start, model = time.process_time(), self.method()
        model.fit(frame, y, classes, seed)
        fitted = time.process_time()
        outputs = np.asarray(model.predict(asked), np.float64).ravel()
        return outputs, {"fit_seconds": fitted - start, "predict_seconds": time.process_time() - fitted}


def measures(outputs, y, classes):
    """Scores of probabilities or numbers (m,)."""
    from sklearn import metrics

    if not classes:
        return {"rmse": float(np.sqrt(np.mean((outputs - y) ** 2))), "r2": metrics.r2_score(y, outputs)}
    kept = np.clip(outputs, 1e-7, 1 - 1e-7)
    return {
        "auc": metrics.roc_auc_score(y, outputs),
        "accuracy": metrics.accuracy_score(y, outputs > 0.5),
        "log_loss": metrics.log_loss(y, kept),
    }


METHODS = {
    "fastnn": Fastnn,
    "LightGBM": LightGBM,
    "HistGradientBoosting": HistGradientBoosting,
    "scikit-learn MLP": ScikitMLP,
    "RealMLP": RealMLP,
}
