"""Scores by name: those of scikit-learn for the same outputs, on the right data, in fit and in evaluate."""

import re
import sys
import tracemalloc

import numpy as np
import pytest
from nets import data, pair

import fastnn

sklearn_metrics = pytest.importorskip("sklearn.metrics")

OUTPUT = {"binary_cross_entropy": "sigmoid", "cross_entropy": "softmax", "mse": "linear"}


def fitted(loss, k, m=60, dtype="float64"):
    """A net that has learned a little, and its data."""
    net, _, _ = pair((5, 4, k), ("tanh", OUTPUT[loss]), loss, dtype=dtype)
    X, y = data(m, 5, k, loss, dtype)
    net.fit(X, y, fastnn.Adam(0.05), epochs=5)
    return net, X, y


def binary(y, p, w):
    right, p = y[:, 0], p[:, 0]
    chosen = (p > 0.5).astype(int)
    m = sklearn_metrics
    return {
        "f1": m.f1_score(right, chosen, sample_weight=w),
        "precision": m.precision_score(right, chosen, sample_weight=w),
        "balanced_accuracy": m.balanced_accuracy_score(right, chosen, sample_weight=w),
        "matthews_corrcoef": m.matthews_corrcoef(right, chosen, sample_weight=w),
        "roc_auc": m.roc_auc_score(right, p, sample_weight=w),
        "average_precision": m.average_precision_score(right, p, sample_weight=w),
        "neg_log_loss": -m.log_loss(right, p, sample_weight=w),
        "neg_brier_score": -m.brier_score_loss(right, p, sample_weight=w),
        "accuracy": m.accuracy_score(right, chosen, sample_weight=w),
    }


def several_classes(y, p, w):
    m = sklearn_metrics
    return {
        "f1_macro": m.f1_score(y, p.argmax(axis=1), average="macro", sample_weight=w),
        "recall_weighted": m.recall_score(y, p.argmax(axis=1), average="weighted", sample_weight=w),
        "roc_auc_ovr": m.roc_auc_score(y, p, multi_class="ovr", sample_weight=w),
        "neg_log_loss": -m.log_loss(y, p, sample_weight=w),
        "accuracy": m.accuracy_score(y, p.argmax(axis=1), sample_weight=w),
    }


def several_labels(y, p, w):
    m, chosen = sklearn_metrics, (p > 0.5).astype(int)
    return {
        "accuracy": m.accuracy_score(y, chosen, sample_weight=w),
        "f1_weighted": m.f1_score(y, chosen, average="weighted", sample_weight=w),
        "f1_micro": m.f1_score(y, chosen, average="micro", sample_weight=w),
        "jaccard_macro": m.jaccard_score(y, chosen, average="macro", sample_weight=w),
        "roc_auc": m.roc_auc_score(y, p, sample_weight=w),
        "average_precision": m.average_precision_score(y, p, sample_weight=w),
    }


def numbers(y, p, w):
    m = sklearn_metrics
    return {
        "neg_mean_absolute_error": -m.mean_absolute_error(y, p, sample_weight=w),
        "neg_root_mean_squared_error": -m.root_mean_squared_error(y, p, sample_weight=w),
        "explained_variance": m.explained_variance_score(y, p, sample_weight=w),
        "r2": m.r2_score(y, p, sample_weight=w),
    }


KINDS = {
    "two classes": ("binary_cross_entropy", 1, binary),
    "three classes": ("cross_entropy", 3, several_classes),
    "two labels": ("binary_cross_entropy", 2, several_labels),
    "four labels": ("binary_cross_entropy", 4, several_labels),
    "one number": ("mse", 1, numbers),
    "three numbers": ("mse", 3, numbers),
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_scikit_learn(kind, weighted, dtype):
    loss, k, right = KINDS[kind]
    net, X, y = fitted(loss, k, dtype=dtype)
    w = np.linspace(0.1, 2.0, len(X)) if weighted else None
    expected = right(y, net.predict(X), w)
    found = net.evaluate(X, y, w, metrics=list(expected))
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-6), name


def test_one_hot_targets_are_classes_to_a_score():
    net, X, y = fitted("cross_entropy", 3)
    names = ["accuracy", "f1_macro", "roc_auc_ovo"]
    assert net.evaluate(X, np.eye(3)[y], metrics=names) == pytest.approx(net.evaluate(X, y, metrics=names))


@pytest.mark.parametrize("held_out", [False, True])
def test_fit_records_what_evaluate_gives_after_each_epoch(held_out):
    net, X, y = fitted("binary_cross_entropy", 1)
    rest, seen = (X[40:], y[40:]), []
    w = np.linspace(1, 2, 20)
    on = (*rest, w) if held_out else (X[:40], y[:40])
    names = ("roc_auc", "accuracy")

    def look(net, history):
        seen.append(net.evaluate(*on, metrics=names))

    history = net.fit(
        X[:40], y[:40], epochs=4, metrics=names, callbacks=[look], validation_data=(*rest, w) if held_out else None
    )
    assert list(history.metrics) == list(names)
    for name in names:
        assert history.metrics[name].tolist() == [scores[name] for scores in seen]
    if held_out:
        assert history.validation_loss.tolist() == [scores["loss"] for scores in seen]


def test_functions_that_take_weights_get_them():
    net, X, y = fitted("binary_cross_entropy", 1)
    w = np.linspace(0.0, 2.0, 60)

    def labelled(y_true, outputs, sample_weight=None):
        return sklearn_metrics.f1_score(y_true, outputs > 0.5, sample_weight=sample_weight)

    def plain(y_true, outputs):
        return len(y_true)

    for weights in (None, w):
        found = net.evaluate(X, y, weights, metrics=[labelled, plain, "f1"])
        assert found["labelled"] == found["f1"]
        assert found["plain"] == (60 if weights is None else 59)


@pytest.mark.parametrize("loss, k", [("binary_cross_entropy", 1), ("cross_entropy", 3), ("mse", 2)])
def test_a_score_cannot_change_what_is_trained_on(loss, k):
    def spoil(y_true, outputs, sample_weight):
        for array in (y_true, outputs, sample_weight):
            with pytest.raises(ValueError, match="read-only"):
                array[...] = 0
        return 0.0

    net, X, y = fitted(loss, k)
    w = np.linspace(1.0, 2.0, 60)
    kept = y.copy(), w.copy()
    net.fit(X, y, epochs=2, sample_weight=w, metrics=[spoil])
    net.evaluate(X, y, w, metrics=[spoil])
    assert np.array_equal(y, kept[0]) and np.array_equal(w, kept[1])


@pytest.mark.parametrize("value", [0.1, 1e9 + 0.1, -3.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_r2_of_constant_targets_is_nan(value, weighted, dtype):
    net, X, _ = fitted("mse", 1, dtype=dtype)
    y, w = np.full(60, value), None
    if weighted:
        y[:2], w = 7.0, np.r_[0.0, 0.0, np.linspace(0.1, 2.0, 58)]
    assert np.isnan(net.evaluate(X, y, w)["r2"])
    y[-1] *= 2.0
    assert np.isfinite(net.evaluate(X, y, w)["r2"])


def test_many_classes_and_few_rows_need_little_memory():
    X, y = data(20)
    net = fastnn.Sequential([fastnn.Dense(20_000, "softmax")]).build(5)
    net.evaluate(X, y)  # compiles
    tracemalloc.start()
    net.evaluate(X, 6000 * y, metrics=["f1_macro"])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50 << 20  # an identity matrix would be 3.2 GB


def test_functions_get_labels_and_outputs():
    for loss, k, shape in (("binary_cross_entropy", 1, (60,)), ("cross_entropy", 3, (60, 3)), ("mse", 2, (60, 2))):
        net, X, y = fitted(loss, k)
        seen = []

        def mine(y_true, outputs, seen=seen):
            seen.append((y_true, outputs))
            return np.float32(2.5)

        history = net.fit(X, y, epochs=2, metrics=[mine])
        assert history.metrics["mine"].tolist() == [2.5, 2.5]
        y_true, outputs = seen[-1]
        assert outputs.shape == shape
        assert np.array_equal(outputs, net.predict(X).reshape(shape))
        assert np.array_equal(y_true, y.reshape(y_true.shape))
        assert y_true.dtype == (np.int64 if loss in ("binary_cross_entropy", "cross_entropy") else np.float64)


def test_soft_labels_are_split_at_a_half():
    net, X, _ = fitted("binary_cross_entropy", 1)
    p = net.predict(X)[:, 0]
    soft = np.where(p > 0.5, 0.8, 0.3)
    assert net.evaluate(X, soft, metrics=["f1"])["f1"] == 1.0


def test_scores_do_not_change_the_run():
    weights = []
    for names in ((), ("f1_macro", "roc_auc_ovr")):
        net, _, _ = pair()
        X, y = data()
        net.fit(X, y, epochs=5, batch_size=7, metrics=names)
        weights.append(net.parameters.tobytes())
    assert weights[0] == weights[1]


def not_a_number(y_true, outputs):
    return "much"


def loss(y_true, outputs):
    return 0.0


BAD = [
    ("cross_entropy", "accuracy", TypeError, "'accuracy'"),
    ("cross_entropy", [3], TypeError, "3"),
    ("cross_entropy", [dict], TypeError, "<class 'dict'>"),
    ("cross_entropy", ["f1_marco"], ValueError, r"'f1_marco' \(did you mean 'f1_macro'\?\)"),
    ("cross_entropy", ["accuracy", "accuracy"], ValueError, "'accuracy'"),
    ("cross_entropy", [loss], ValueError, "'loss'"),
    ("cross_entropy", ["r2"], ValueError, "'r2'"),
    ("mse", ["accuracy"], ValueError, "'accuracy'"),
    ("cross_entropy", ["f1"], ValueError, "'f1': .*multiclass"),
    ("mse", ["f1_macro"], ValueError, "'f1_macro': .*"),
    ("cross_entropy", [not_a_number], TypeError, "'much'"),
]


@pytest.mark.parametrize("loss, metrics, error, given", BAD)
def test_bad_scores_are_refused_by_name_before_anything_changes_where_that_can_be_known(loss, metrics, error, given):
    net = fastnn.Sequential([fastnn.Dense(3, OUTPUT[loss])])
    X, y = data(loss=loss)
    with pytest.raises(error) as caught:
        net.fit(X, y, epochs=1, metrics=metrics)
    assert re.search(rf"(?s)^metrics must be .+; got {given}", str(caught.value)), caught.value
    assert (net.parameters is None) == (metrics != [not_a_number])


def test_a_score_that_takes_no_weights_says_so_where_there_are_some():
    net, X, y = fitted("cross_entropy", 3)
    name = "adjusted_rand_score"
    right = sklearn_metrics.adjusted_rand_score(y, net.predict_labels(X))
    assert net.evaluate(X, y, metrics=[name])[name] == right
    with pytest.raises(ValueError, match=f"'{name}': .*sample_weight"):
        net.evaluate(X, y, np.ones(len(X)), metrics=[name])


def test_without_scikit_learn_the_error_names_the_extra(monkeypatch):
    net, X, y = fitted("cross_entropy", 3)
    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    assert list(net.evaluate(X, y, metrics=["accuracy"])) == ["loss", "accuracy"]
    with pytest.raises(ImportError, match=r"'f1_macro' needs .*pip install 'fastnn-numba\[metrics\]'"):
        net.fit(X, y, epochs=1, metrics=["f1_macro"])
