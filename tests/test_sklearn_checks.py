"""The estimators pass scikit-learn's checks of estimators, and its own tests of its nets with ours in their place."""

import importlib.util
import types
from unittest import mock

import pytest

pytest.importorskip("sklearn")
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastnn.sklearn import LogisticRegression, MLPClassifier, MLPRegressor

# they make too few epochs to converge, of nets so small that all units may die
pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::fastnn.DeadUnitsWarning"),
]


@parametrize_with_checks([LogisticRegression(), MLPClassifier(max_iter=20), MLPRegressor(max_iter=20)])
def test_checks_of_estimators(estimator, check):
    check(estimator)


def with_our_estimators(name):
    """A copy of a test module of scikit-learn's that imports our estimators. The words of errors are ours, too."""
    spec = importlib.util.find_spec(name)
    module = importlib.util.module_from_spec(spec)
    with mock.patch.multiple("sklearn.neural_network", MLPClassifier=MLPClassifier, MLPRegressor=MLPRegressor):
        spec.loader.exec_module(module)
    any_words = types.SimpleNamespace(**vars(pytest))
    any_words.raises = lambda error, match=None: pytest.raises(error)
    module.pytest = any_words
    return module


theirs = with_our_estimators("sklearn.neural_network.tests.test_mlp")
LEFT_OUT = {
    "test_fit": "sets private attributes of an estimator that was never fitted",
    "test_gradient": "calls the private _loss_grad_lbfgs",
    "test_learning_rate_warmstart": "reads the private _optimizer",
    "test_adaptive_learning_rate": "reads the private _optimizer",
    "test_predict_proba_multilabel": "wants log 1 where a probability was rounded to 1; ours are the logs of the exact",
    "test_nonfinite_params": "wants ValueError where DivergedError tells the epoch and has the history",
}
SLOW = {
    "test_lbfgs_regression",
    "test_multilabel_classification",
    "test_multioutput_regression",
    "test_n_iter_no_change_inf",
    "test_warm_start",
}
for name, test in vars(theirs).items():
    if name.startswith("test_") and name not in LEFT_OUT:
        globals()[name] = pytest.mark.slow(test) if name in SLOW else test


def test_what_is_left_out_exists():
    assert LEFT_OUT.keys() | SLOW <= vars(theirs).keys()


@pytest.fixture
def global_random_seed():
    """As scikit-learn's own tests have it."""
    return 42
