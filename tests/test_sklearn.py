"""The estimators for scikit-learn: its numbers, what they have beyond its own, and its tools."""

import importlib
import inspect
import math
import pickle
import sys

import numpy as np
import pytest

import fastnn

pytest.importorskip("sklearn")
import joblib
import sklearn
from numba import njit
from scipy import sparse
from sklearn import linear_model, neural_network
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_digits, load_iris, make_multilabel_classification
from sklearn.ensemble import AdaBoostClassifier
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils import estimator_html_repr

from fastnn.sklearn import LogisticRegression, MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, species = load_iris(return_X_y=True)
X = (X - X.mean(axis=0)) / X.std(axis=0)
X, species = X[::2].copy(), species[::2].copy()
names = np.array(["setosa", "versicolor", "virginica"], object)[species]
several = np.column_stack([X[:, 0] * X[:, 1], X[:, 2] ** 2])
above = (several > 0.3).astype(int)
weight = np.random.default_rng(0).integers(0, 3, len(X)).astype(float)
small = {"hidden_layer_sizes": (6, 5), "random_state": 3, "max_iter": 30}
quick = small | {"learning_rate_init": 0.05}
THEIRS = {
    MLPClassifier: neural_network.MLPClassifier,
    MLPRegressor: neural_network.MLPRegressor,
    LogisticRegression: linear_model.LogisticRegression,
}


@pytest.mark.parametrize("ours", THEIRS)
def test_what_scikit_learn_has_has_its_default(ours):
    theirs = inspect.signature(THEIRS[ours]).parameters
    shared = {name: parameter for name, parameter in inspect.signature(ours).parameters.items() if name in theirs}
    different = {name for name, parameter in shared.items() if parameter.default != theirs[name].default}
    assert different <= {"penalty"}  # "l2" was its default before it said "deprecated"
    missing = {"l1_ratio", "dual", "intercept_scaling", "n_jobs", "multi_class"}
    assert theirs.keys() - shared.keys() <= (missing if ours is LogisticRegression else set())
    assert list(shared) == [name for name in theirs if name in shared]


@pytest.mark.parametrize(
    "more, weighted",
    [
        ({}, False),
        ({}, True),
        ({"solver": "sgd"}, True),
        # unweighted: scikit-learn divides the penalty of a batch by its own weight, we by the mean weight of batches
        ({"solver": "sgd", "shuffle": False, "batch_size": 25}, False),
    ],
    ids=["adam", "adam, weights", "sgd, weights", "sgd, batches"],
)
@pytest.mark.parametrize(
    "ours, y, activation",
    [
        (MLPClassifier, names, "relu"),
        (MLPClassifier, species > 0, "logistic"),
        (MLPClassifier, above, "tanh"),
        (MLPRegressor, several[:, 0], "relu"),
    ],
    ids=["classes", "two classes", "several labels", "numbers"],
)
def test_losses_and_weights_are_scikit_learns(ours, y, activation, more, weighted):
    # it adds epsilon before the correction of bias, as we do not
    settings = small | {"activation": activation, "alpha": 0.5, "epsilon": 1e-30, "learning_rate_init": 0.01} | more
    given = {"sample_weight": weight + 0.5} if weighted else {}
    one, other = (kind(**settings).fit(X, y, **given) for kind in (ours, THEIRS[ours]))
    np.testing.assert_allclose(one.loss_curve_, other.loss_curve_, rtol=1e-12)
    for W, theirs in zip(one.coefs_ + one.intercepts_, other.coefs_ + other.intercepts_, strict=True):
        np.testing.assert_allclose(W, theirs, rtol=1e-9, atol=1e-12)
    for name in ("n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_"):
        assert getattr(one, name) == getattr(other, name)
    assert one.best_loss_ == pytest.approx(other.best_loss_, rel=1e-12)
    assert one.score(X, y) == pytest.approx(other.score(X, y), rel=1e-9)


def test_the_penalty_of_several_outputs_is_scikit_learns():
    """Its steps are those for the sum of the losses of the outputs, though its loss_ is their mean."""
    settings = small | {"alpha": 0.5, "solver": "sgd", "learning_rate_init": 0.01}
    one, other = (kind(**settings).fit(X, several) for kind in (MLPRegressor, neural_network.MLPRegressor))
    for W, theirs in zip(one.coefs_, other.coefs_, strict=True):
        np.testing.assert_allclose(W, theirs, rtol=1e-9, atol=1e-12)


def test_early_stopping_is_scikit_learns():
    settings = small | {"early_stopping": True, "solver": "sgd", "n_iter_no_change": 3, "max_iter": 200}
    settings |= {"validation_fraction": 0.3, "learning_rate_init": 0.05}
    one, other = (kind(**settings).fit(X, species > 0) for kind in (MLPClassifier, neural_network.MLPClassifier))
    assert one.validation_scores_ == other.validation_scores_
    assert one.best_validation_score_ == other.best_validation_score_ == max(one.validation_scores_)
    assert one.n_iter_ == other.n_iter_ < 200
    np.testing.assert_allclose(one.coefs_[0], other.coefs_[0], rtol=1e-12)


@pytest.mark.parametrize("solver", ["lbfgs", "newton-cholesky"])
@pytest.mark.parametrize("y", [names, species > 0], ids=["classes", "two classes"])
@pytest.mark.parametrize(
    "more",
    [{}, {"class_weight": "balanced", "C": 0.2}, {"C": 20.0, "class_weight": "by name"}, {"fit_intercept": False}],
    ids=["plain", "balanced", "by name", "no intercept"],
)
def test_coefficients_are_scikit_learns(solver, y, more, dtype):
    if more.get("class_weight") == "by name":
        more = more | {"class_weight": {y[0]: 3.0}}
    settings = {"tol": 1e-9, "solver": solver} | more
    given = weight if "C" in more else None
    one = LogisticRegression(dtype=dtype, **settings)
    if solver == "newton-cholesky" and "fit_intercept" in more:
        with pytest.raises(ValueError, match="solver must be 'lbfgs' where fit_intercept is False"):
            one.fit(X, y)
        return
    one.fit(X, y, given)
    other = linear_model.LogisticRegression(max_iter=1000, **settings).fit(X, y, given)
    tolerance = {"rtol": 1e-5, "atol": 1e-6}  # where their line searches end, and float32 rounds the results
    np.testing.assert_allclose(one.coef_, other.coef_, **tolerance)
    np.testing.assert_allclose(one.intercept_, other.intercept_, **tolerance)
    np.testing.assert_allclose(one.predict_proba(X), other.predict_proba(X), **tolerance)
    np.testing.assert_allclose(one.decision_function(X), other.decision_function(X), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(one.predict(X), other.predict(X))
    assert one.coef_.dtype == dtype and one.n_iter_.shape == (1,)


def test_logistic_regression_without_a_penalty_and_from_where_it_was():
    rng = np.random.default_rng(1)
    y = rng.random(len(X)) < 1 / (1 + np.exp(-X[:, 0]))
    for settings in ({"penalty": None}, {"C": math.inf}):
        one = LogisticRegression(tol=1e-9, warm_start=True, **settings).fit(X, y)
        other = linear_model.LogisticRegression(tol=1e-9, C=1e12).fit(X, y)
        np.testing.assert_allclose(one.coef_, other.coef_, rtol=1e-4)
    assert one.fit(X, y).n_iter_ == [0]
    assert one.set_params(fit_intercept=False).fit(X, y).intercept_ == [0.0]
    with pytest.raises(ValueError, match="at least two classes"):
        one.fit(X, np.ones(len(X)))


def test_labels_of_each_kind():
    model = MLPClassifier(**quick).fit(X, names)
    assert list(model.classes_) == ["setosa", "versicolor", "virginica"]
    assert model.score(X, names) > 0.9
    logits, proba = model.decision_function(X), model.predict_proba(X)
    assert logits.shape == proba.shape == (len(X), 3)
    np.testing.assert_allclose(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), proba, rtol=1e-12)
    np.testing.assert_allclose(model.predict_log_proba(X), np.log(proba), rtol=1e-9)
    two = MLPClassifier(**quick).fit(X, names == "setosa")
    assert two.predict(X).dtype == bool and two.predict_proba(X).shape == (len(X), 2)
    np.testing.assert_array_equal(two.decision_function(X) > 0, two.predict(X))
    np.testing.assert_allclose(two.predict_log_proba(X), np.log(two.predict_proba(X)), rtol=1e-9, atol=1e-15)
    far = two.predict_log_proba(1000 * X)
    assert np.isfinite(far).all() and far.min() < -750  # whose probabilities are 0


def test_labels_that_do_not_exclude_each_other():
    A, Y = make_multilabel_classification(60, 5, n_classes=3, random_state=0)
    settings = {"hidden_layer_sizes": 8, "random_state": 0, "learning_rate_init": 0.05}
    dense, scarce = (MLPClassifier(**settings).fit(A, labels) for labels in (Y, sparse.csr_matrix(Y)))
    assert dense.predict_proba(A).shape == dense.decision_function(A).shape == (60, 3)
    assert sparse.issparse(scarce.predict(A))
    np.testing.assert_array_equal(dense.predict(A), scarce.predict(A).toarray())
    with pytest.raises(ValueError, match="class_weight must be None for labels that do not exclude"):
        MLPClassifier(class_weight="balanced").fit(A, Y)
    with pytest.raises(ValueError, match="y must be labels"):
        MLPClassifier().fit(A, Y * 2 + np.arange(3))


def test_layers_of_different_kinds():
    settings = small | {"activation": ["tanh", "silu"], "dropout": [0.0, 0.25], "dtype": "float32"}
    model = MLPClassifier(**settings).fit(X, names)
    layers = [fastnn.Dense(6, "tanh"), fastnn.Dense(5, "silu"), fastnn.Dropout(0.25), fastnn.Dense(3, "softmax")]
    assert repr(model.net_.layers) == repr(layers)
    assert model.net_.dtype == "float32" and model.predict_proba(X).dtype == np.float32
    again = MLPClassifier(**settings).fit(X, names)
    np.testing.assert_array_equal(model.coefs_[0], again.coefs_[0])
    assert model.fit(X, names).loss_curve_ == again.loss_curve_  # each fit starts anew
    assert repr(MLPRegressor(hidden_layer_sizes=(), max_iter=2).fit(X, several).net_.layers) == "[Dense(2, 'linear')]"


@pytest.mark.parametrize("loss, ours", [("absolute_error", "mae"), ("huber", "huber"), ("quantile", "quantile")])
def test_losses_of_a_regressor(loss, ours):
    model = MLPRegressor(loss, quantile=0.8, **small).fit(X, several[:, 0])
    assert (model.net_.loss, model.net_.quantile) == (ours, 0.8)
    assert model.loss_curve_[-1] < model.loss_curve_[0]
    with pytest.raises(ValueError, match="return_std must be False for a loss other than gaussian"):
        model.predict(X, return_std=True)


def test_means_with_their_standard_deviations():
    model = MLPRegressor("gaussian", **quick).fit(X, several)
    mean, deviation = model.predict(X, return_std=True)
    assert mean.shape == deviation.shape == several.shape and (deviation > 0).all()
    np.testing.assert_array_equal(model.predict(X), mean)
    density = ((several - mean) / deviation) ** 2 / 2 + np.log(deviation)
    assert 2 * model.net_.evaluate(X, several)["loss"] == pytest.approx(density.mean(axis=0).sum(), rel=1e-12)


def test_class_weights_are_sample_weights():
    by_name = {"setosa": 3.0, "versicolor": 0.5}
    rows = np.array([by_name.get(name, 1.0) for name in names])
    one = MLPClassifier(class_weight=by_name, **small).fit(X, names, weight)
    other = MLPClassifier(**small).fit(X, names, weight * rows)
    np.testing.assert_allclose(one.loss_curve_, other.loss_curve_, rtol=1e-12)
    with pytest.raises(ValueError, match="class_weight must be a dict with keys among"):
        MLPClassifier(class_weight={"rose": 2.0}).fit(X, names)


def test_validation_data_and_callbacks():
    seen = []
    stop = fastnn.EarlyStopping(patience=5, monitor="validation_loss")
    settings = small | {"callbacks": [stop, lambda net, history: seen.append(history.epochs)], "max_iter": 400}
    settings |= {"learning_rate_init": 0.1}
    model = MLPClassifier(**settings).fit(X[::2], names[::2], validation_data=(X[1::2], names[1::2], weight[1::2]))
    assert len(seen) == model.n_iter_ == len(model.validation_scores_) < 400
    assert model.history_.best_epoch == model.n_iter_ - 6
    assert max(model.validation_scores_) == model.best_validation_score_
    assert model.score(X[1::2], names[1::2], weight[1::2]) in model.validation_scores_
    judged = MLPRegressor(early_stopping=True, **small).fit(
        X[::2], several[::2], validation_data=(X[1::2], several[1::2])
    )
    assert judged.t_ == judged.n_iter_ * len(X[::2])  # no row was held out
    assert judged.score(X[1::2], several[1::2]) == pytest.approx(judged.best_validation_score_, rel=1e-12)


def test_rates_of_sgd():
    settings = small | {"solver": "sgd", "warm_start": True, "learning_rate_init": 0.5}
    falling = MLPClassifier(learning_rate="invscaling", power_t=0.25, **settings | {"max_iter": 3})
    rates = [falling.fit(X, names).history_.learning_rate for _ in range(2)]
    m = len(X)
    expected = [0.5, *(0.5 / (k * m + 1) ** 0.25 for k in (1, 2))], [0.5, *(0.5 / (k * m + 1) ** 0.25 for k in (4, 5))]
    np.testing.assert_allclose(rates, expected, rtol=1e-12)
    falling.partial_fit(X, names)
    np.testing.assert_allclose(falling.history_.learning_rate, [0.5 / (6 * m + 1) ** 0.25], rtol=1e-12)
    settings |= {"learning_rate": "adaptive", "max_iter": 60}
    adaptive = MLPClassifier(tol=10.0, n_iter_no_change=2, **settings).fit(X, names)
    np.testing.assert_allclose(adaptive.history_.learning_rate[[3, 4, 6, 7]], [0.5, 0.1, 0.1, 0.02], rtol=1e-12)
    assert adaptive.history_.learning_rate[-1] == pytest.approx(0.5 / 5**9, rel=1e-9) and adaptive.n_iter_ < 60


def test_partial_fit_makes_an_epoch():
    parts = MLPClassifier(hidden_layer_sizes=6, random_state=0, learning_rate_init=0.05)
    with pytest.raises(ValueError, match="classes must be all labels in the first call"):
        parts.partial_fit(X, names)
    for start in range(30):
        parts.partial_fit(X[start % 3 :: 3], names[start % 3 :: 3], classes=list(np.unique(names)))
    assert parts.score(X, names) > 0.9
    assert len(parts.loss_curve_) == 30 and parts.n_iter_ == 1 and parts.t_ == 10 * len(X)
    with pytest.raises(ValueError, match="classes must be None, or those of the first call"):
        parts.partial_fit(X, names, classes=["setosa"])
    with pytest.raises(ValueError, match=r"y must be of the classes .*; got \['rose'\]"):
        parts.partial_fit(X[:1], ["rose"])
    with pytest.raises(ValueError, match="class_weight must be None or a dict for partial_fit"):
        MLPClassifier(class_weight="balanced").partial_fit(X, names, classes=np.unique(names))


def test_warm_start_goes_on():
    model = MLPRegressor(warm_start=True, **small).fit(X, several)
    before = model.loss_
    model.fit(X, several)
    assert model.loss_ < before and len(model.loss_curve_) == 60 and model.n_iter_ == 30
    with pytest.raises(ValueError, match="y must be"):
        model.fit(X, several[:, 0])


def test_sparse_samples_are_made_dense_where_memory_is_for_it():
    dense = np.where(abs(X) > 1, X, 0.0)
    scarce = sparse.csr_array(dense)
    for model in (MLPClassifier(**small), LogisticRegression()):
        expected = clone(model).fit(dense, names).predict_proba(dense)
        model.fit(scarce, names)
        np.testing.assert_array_equal(model.predict_proba(scarce), expected)
        with sklearn.config_context(working_memory=7 * X.shape[1] * 8 / 2**20):  # seven rows at a time
            np.testing.assert_allclose(model.predict_proba(scarce), expected, rtol=1e-12)
            with pytest.raises(ValueError, match=f"X must be .* dense {dense.nbytes:,} bytes"):
                model.fit(scarce, names)


def test_solvers_take_turns_and_a_refused_fit_leaves_nothing():
    model = MLPClassifier(warm_start=True, solver="lbfgs", **small | {"max_iter": 3}).fit(X, names)
    assert len(model.loss_curve_) == model.n_iter_ == 3 and model.loss_ == model.best_loss_ == model.loss_curve_[-1]
    model.set_params(solver="adam").fit(X, names)
    assert len(model.loss_curve_) == 6
    model.set_params(early_stopping=True).fit(X, names)
    assert len(model.validation_scores_) == len(model.loss_curve_) == 3 and model.best_loss_ is None
    for refitted in (model.set_params(warm_start=False), LogisticRegression().fit(X, names)):
        with pytest.raises(ValueError, match="sample_weight must be"):
            refitted.fit(X, names, -weight)
        refitted.predict(X)  # nothing was changed
        with pytest.raises(ValueError, match="class_weight must be"):
            refitted.set_params(class_weight={"rose": 1.0}).fit(X, names)
        with pytest.raises(NotFittedError):
            refitted.predict(X)


def test_functions_of_the_users_own():
    softsign = njit(lambda z: z / (1 + abs(z))), njit(lambda z: 1 / (1 + abs(z)) ** 2)
    model = clone(MLPClassifier(activation=softsign, **quick)).fit(X, names)
    assert model.score(X, names) > 0.9


def test_ctrl_c_leaves_an_estimator_that_can_be_used():
    def press(net, history):
        if history.epochs == 4:
            raise KeyboardInterrupt

    model = MLPClassifier(callbacks=[press], **small)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, names)
    assert model.predict(X).shape == names.shape and model.history_.epochs == 4


def test_divergence():
    settings = {"hidden_layer_sizes": 50, "activation": "identity", "solver": "sgd", "learning_rate_init": 1.0}
    with pytest.raises(fastnn.DivergedError):
        MLPRegressor(random_state=0, **settings).fit(X, several)
    with pytest.warns(ConvergenceWarning, match="diverged"):
        model = MLPRegressor(random_state=0, early_stopping=True, **settings).fit(X, several)
    assert np.isfinite(model.predict(X)).all() and math.isnan(model.validation_scores_[-1])


@pytest.mark.parametrize(
    "name, value",
    [
        ("hidden_layer_sizes", (4, 0)),
        ("hidden_layer_sizes", "4"),
        ("activation", "sinus"),
        ("activation", ["relu"]),
        ("solver", "adamw"),
        ("alpha", -1.0),
        ("batch_size", 0),
        ("learning_rate", 0.1),
        ("learning_rate_init", 0.0),
        ("power_t", "a"),
        ("max_iter", 0),
        ("shuffle", 1),
        ("tol", -1e-3),
        ("verbose", "yes"),
        ("warm_start", None),
        ("momentum", 1.0),
        ("beta_2", 1.0),
        ("epsilon", 0.0),
        ("n_iter_no_change", 0),
        ("max_fun", 1.5),
        ("dropout", [0.5]),
        ("dropout", 1.0),
        ("callbacks", 3),
        ("device", "tpu"),
        ("dtype", "float16"),
    ],
)
def test_what_is_refused_is_named(name, value):
    with pytest.raises((TypeError, ValueError), match=f"^{name}.* must be "):
        MLPClassifier(**{"hidden_layer_sizes": (4, 4), name: value}).fit(X, names)


@pytest.mark.parametrize(
    "name, value",
    [("C", 0.0), ("penalty", "l1"), ("solver", "saga"), ("fit_intercept", 1), ("max_iter", -1), ("tol", "a")],
)
def test_what_logistic_regression_refuses_is_named(name, value):
    with pytest.raises((TypeError, ValueError), match=f"^{name}.* must be "):
        LogisticRegression(**{name: value}).fit(X, names)


def test_lbfgs_refuses_what_it_does_not_take():
    for given, settings in (({"validation_data": (X, names)}, {}), ({}, {"dropout": 0.5})):
        with pytest.raises(ValueError, match="^(validation_data|dropout) must be .* for solver='lbfgs'"):
            MLPClassifier(solver="lbfgs", **settings).fit(X, names, **given)
    assert not hasattr(MLPClassifier(solver="lbfgs"), "partial_fit")


def test_it_tells_how_far_it_is(capsys):
    MLPClassifier(verbose=True, **small | {"max_iter": 2, "early_stopping": True}).fit(X, names)
    LogisticRegression(verbose=1, max_iter=1).fit(X, names)
    printed = capsys.readouterr().out
    assert printed.count("Iteration 1, loss ") == 2 and "Iteration 2" in printed and "validation score" in printed


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("fastnn.sklearn")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match=r"pip install 'fastnn-numba\[sklearn\]'"):
        importlib.import_module("fastnn.sklearn")


ALL = [MLPClassifier(**small), LogisticRegression(), MLPRegressor(**small)]


@pytest.fixture(params=ALL, ids=[type(model).__name__ for model in ALL])
def fitted(request):
    """(an estimator, its targets)."""
    y = several if isinstance(request.param, MLPRegressor) else names
    return clone(request.param).fit(X, y), y


def test_clone_and_not_fitted(fitted):
    fresh = clone(fitted[0])
    assert fresh.get_params() == fitted[0].get_params() and not hasattr(fresh, "net_")
    with pytest.raises(NotFittedError):
        fresh.predict(X)


def test_pickle_and_memory_maps(fitted, tmp_path):
    model, y = fitted
    expected = model.predict(X)
    joblib.dump(model, tmp_path / "model.joblib")
    for same in (pickle.loads(pickle.dumps(model)), joblib.load(tmp_path / "model.joblib", mmap_mode="r")):
        np.testing.assert_array_equal(same.predict(X), expected)
        np.testing.assert_array_equal(same.fit(X, y).predict(X), expected)
    joblib.dump(X, tmp_path / "X.joblib")
    mapped = joblib.load(tmp_path / "X.joblib", mmap_mode="r")
    np.testing.assert_array_equal(clone(model).fit(mapped, y).predict(mapped), expected)


def test_html(fitted):
    assert type(fitted[0]).__name__ in estimator_html_repr(fitted[0])


def frame():
    """(a table of numbers and categories with gaps in neither, labels)."""
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(X, columns=["a", "b", "c", "d"])
    table["place"] = np.array(["here", "there"])[(X[:, 0] > 0).astype(int)]
    return table, names


def columns(**more):
    return ColumnTransformer([("numbers", StandardScaler(), list("abcd")), ("names", OneHotEncoder(**more), ["place"])])


def test_pipelines_of_columns_and_their_names():
    table, y = frame()
    sparse_codes = make_pipeline(columns(), MLPClassifier(**quick)).fit(table, y)
    assert sparse_codes.score(table, y) > 0.5
    named = make_pipeline(columns(sparse_output=False), LogisticRegression()).set_output(transform="pandas")
    named.fit(table, y)
    expected = [*(f"numbers__{name}" for name in "abcd"), "names__place_here", "names__place_there"]
    assert list(named[-1].feature_names_in_) == list(named[-1].net_.feature_names) == expected
    assert named.score(table, y) > 0.9
    with pytest.raises(ValueError, match="feature names"):
        named[-1].predict(named[0].transform(table).iloc[:, ::-1])


def test_search_and_folds_in_this_process():
    model = MLPClassifier(**small | {"batch_size": "auto", "learning_rate_init": 0.05})
    search = GridSearchCV(model, {"hidden_layer_sizes": [(2,), (8,)], "alpha": [1e-4, 1e3]}, cv=3).fit(X, names)
    assert search.best_params_["alpha"] == 1e-4 and search.best_score_ > 0.9
    assert cross_val_score(MLPRegressor(**small), X, several, cv=3).shape == (3,)


@pytest.mark.slow
def test_search_and_folds_in_two_processes():
    model = MLPClassifier(**small | {"batch_size": "auto", "learning_rate_init": 0.05})
    grid = {"hidden_layer_sizes": [(2,), (8,)]}
    one, two = (GridSearchCV(model, grid, cv=3, n_jobs=jobs).fit(X, names) for jobs in (None, 2))
    np.testing.assert_array_equal(one.cv_results_["mean_test_score"], two.cv_results_["mean_test_score"])
    one, two = (cross_val_score(LogisticRegression(), X, names, cv=3, n_jobs=jobs) for jobs in (None, 2))
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("model", [MLPClassifier(**quick), LogisticRegression()], ids=["mlp", "logistic"])
def test_calibration(model):
    calibrated = CalibratedClassifierCV(model, cv=2).fit(X, names)
    np.testing.assert_allclose(calibrated.predict_proba(X).sum(axis=1), 1.0)
    assert calibrated.score(X, names) > 0.8


@pytest.mark.parametrize("model", [MLPClassifier(**quick), LogisticRegression()], ids=["mlp", "logistic"])
def test_boosting(model):
    boosted = AdaBoostClassifier(model, n_estimators=2, random_state=0).fit(X, names)
    assert boosted.score(X, names) > 0.8


def test_metadata_routing():
    with sklearn.config_context(enable_metadata_routing=True):
        model = LogisticRegression().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        scores = cross_validate(model, X, names, cv=3, params={"sample_weight": weight})["test_score"]
        judged = MLPClassifier(**small).set_fit_request(sample_weight=True, validation_data=True)
        pipeline = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), judged).fit(
            X, names, sample_weight=weight, validation_data=(X, names)
        )
    assert len(pipeline[-1].validation_scores_) == pipeline[-1].n_iter_
    unweighted = cross_validate(LogisticRegression(), X, names, cv=3)["test_score"]
    assert not np.array_equal(scores, unweighted)


def test_the_net_goes_where_nets_go(fitted, tmp_path):
    model, _ = fitted
    model.net_.save(tmp_path / "net.safetensors")
    np.testing.assert_array_equal(fastnn.load(tmp_path / "net.safetensors").predict(X), model.net_.predict(X))
    few = fastnn.apply(model.net_.freeze(), X[:4].astype(model.net_.dtype))
    np.testing.assert_allclose(few, model.net_.predict(X)[:4], rtol=1e-12)


def test_grid_search_and_a_sweep_find_the_same_best():
    X, y = load_digits(return_X_y=True)
    X, y = X[:600] / 16, y[:600]
    folds = [(np.flatnonzero(np.arange(600) % 3 != i), np.flatnonzero(np.arange(600) % 3 == i)) for i in range(3)]
    rates, widths = [1e-4, 1e-2], [2, 48]
    net = MLPClassifier(batch_size=32, max_iter=12, tol=0.0, n_iter_no_change=12, alpha=0.0, random_state=0)
    grid = dict(learning_rate_init=rates, hidden_layer_sizes=[(width,) for width in widths])
    search = GridSearchCV(net, grid, cv=folds, refit=False).fit(X, y)
    sweep = fastnn.Sweep(
        lambda width: [fastnn.Dense(width, "relu"), fastnn.Dense(10, "softmax")],
        width=widths,
        optimizer=fastnn.Adam,
        learning_rate=rates,
        batch_size=32,
    )
    best = sweep.fit(X, y, epochs=12, cv=folds, refit=False).best
    assert best.values["learning_rate"] == search.best_params_["learning_rate_init"] == 1e-2
    assert best.values["width"] == search.best_params_["hidden_layer_sizes"][0] == 48
    assert abs(best.score - search.best_score_) < 0.03  # other starting weights


def bike_table(rows=240):
    """A frame with text, gaps and a number that matters, and labels as text."""
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("narwhals")
    rng = np.random.default_rng(3)
    frame = pandas.DataFrame({"warm": rng.normal(size=rows), "weather": rng.choice(["sun", "rain", "fog"], rows)})
    busy = (frame["weather"] == "sun") + frame["warm"] + rng.normal(0, 0.2, rows) > 0.5
    frame.loc[::9, "warm"] = np.nan
    frame.loc[4::11, "weather"] = None
    return frame, np.where(busy, "busy", "quiet")


@pytest.mark.parametrize("columns", ["infer", fastnn.Columns(warm=fastnn.Number(bins=4), weather=fastnn.Code())])
def test_columns_let_tables_in(columns):
    frame, labels = bike_table()
    net = MLPClassifier(
        (8,), columns=columns, random_state=0, max_iter=20, learning_rate_init=0.02, n_iter_no_change=50
    )
    assert cross_val_score(net, frame, labels, cv=3).mean() > 0.8
    search = GridSearchCV(net, {"hidden_layer_sizes": [(4,), (8,)]}, cv=2).fit(frame, labels)
    net = clone(net).set_params(early_stopping=True).fit(frame, labels)
    assert search.best_score_ > 0.75
    assert net.columns_.names == ("warm", "weather") and net.feature_names_in_.tolist() == ["warm", "weather"]
    assert set(net.predict(frame[["weather", "warm"]])) == {"busy", "quiet"}
    np.testing.assert_allclose(net.predict_proba(frame).sum(axis=1), 1.0, rtol=1e-6)
    assert ((net.decision_function(frame) > 0) == (net.predict(frame) == net.classes_[1])).all()
    assert [W.shape[1] for W in net.coefs_] == [8, 1] and [len(b) for b in net.intercepts_] == [8, 1]
    assert net.__sklearn_tags__().input_tags.string and not MLPClassifier().__sklearn_tags__().input_tags.string
    with pytest.raises(ValueError, match="column 'weather'"):
        net.predict(frame[["warm"]])
    with pytest.raises(ValueError, match="columns must be None, 'infer' or fastnn.Columns"):
        MLPClassifier(columns="guess").fit(frame, labels)


def test_logistic_regression_on_a_table_is_that_on_one_hot_codes():
    frame, labels = bike_table()
    columns = fastnn.Columns(weather=fastnn.Code())
    ours = LogisticRegression(columns=columns, tol=1e-8).fit(frame, labels)
    hot = np.stack(
        [(frame["weather"] == level).to_numpy() for level in ("fog", "rain", "sun")] + [frame["weather"].isna()]
    )
    theirs = linear_model.LogisticRegression(tol=1e-8).fit(hot.T.astype(float), labels)
    np.testing.assert_allclose(ours.predict_proba(frame), theirs.predict_proba(hot.T.astype(float)), atol=1e-5)
    with pytest.raises(ValueError, match="solver must be 'lbfgs'"):
        LogisticRegression(columns=columns, solver="newton-cholesky").fit(frame, labels)


def test_regression_and_partial_fits_on_a_table():
    frame, labels = bike_table()
    y = (labels == "busy") + frame["warm"].fillna(0.0).to_numpy()
    settings = {"hidden_layer_sizes": (8,), "columns": "infer", "random_state": 0}
    net = MLPRegressor(**settings, learning_rate_init=0.02, max_iter=30).fit(frame, y)
    assert net.score(frame, y) > 0.7
    parts = MLPRegressor(**settings)
    for part in (slice(0, 120), slice(120, 240)):
        parts.partial_fit(frame[part], y[part])
    assert parts.predict(frame).shape == (240,)


def test_a_warning_names_the_line_of_the_user():
    X, y = np.random.default_rng(0).normal(size=(60, 3)), np.arange(60) % 2
    for fit in (
        lambda: MLPClassifier(max_iter=2, random_state=0).fit(X, y),
        lambda: MLPClassifier(max_iter=1, solver="lbfgs", random_state=0).fit(X, y),
        lambda: LogisticRegression(max_iter=1).fit(X, y),
        lambda: MLPClassifier(batch_size=100, random_state=0).partial_fit(X, y, classes=[0, 1]),
    ):
        with pytest.warns(UserWarning) as caught:
            fit()
        assert [warning.filename for warning in caught] == [__file__]
