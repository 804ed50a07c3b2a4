"""What users of other libraries write: a hint in the error, or what they meant."""

import copy
import importlib.util
import inspect
import pickle
import re

import numpy as np
import pytest
from nets import data, pair

import fastnn
from fastnn import backends, habits, initializers, optimizers
from fastnn.callbacks import HOOKS


def known_names():
    """All names that a row of the table may lead to: of the package, of arguments, of attributes, and of choices."""
    names = {"accuracy", "r2", "roc_auc", "cuda", "lbfgs", "newton-cholesky", "validation_loss", *HOOKS}
    names |= {*fastnn.__all__, *backends.ACTIVATIONS, *backends.LOSSES, *initializers.NAMES, *optimizers.NAMES}
    for thing in map(fastnn.__dict__.get, fastnn.__all__):
        if inspect.isclass(thing):
            names |= {name for name in dir(thing) if not name.startswith("_")}
            functions = [function for _, function in inspect.getmembers(thing, inspect.isfunction)]
            names |= {name for function in functions for name in inspect.signature(function).parameters}
    if importlib.util.find_spec("sklearn") is not None:
        from sklearn.metrics import get_scorer_names

        names |= set(get_scorer_names())
    return names


def test_each_row_of_the_table_leads_to_what_there_is():
    known = known_names()
    for given, row in habits.TABLE.items():
        assert row and given == re.sub("[_-]", "", given.lower()), given
        names = row[:-1] if " " in row[-1] else row
        assert all(" " not in name for name in names), given
        unknown = {name for name in names if name not in known and not name.startswith("neg_")}
        assert not unknown, f"{given}: {unknown}"
        for used in re.findall(r"fastnn\.(\w+)", row[-1]):
            assert used in fastnn.__all__ or used == "sklearn", f"{given}: {used}"


def layers():
    return [fastnn.Dense(4, "relu"), fastnn.Dense(1, "sigmoid")]


NET = fastnn.Sequential(layers())
X, Y = np.random.default_rng(0).normal(size=(30, 2)), np.arange(30) % 2


class Keras(fastnn.Callback):
    def on_epoch_end(self, epoch, logs=None):
        raise AssertionError("nobody calls it")


HABITS = [
    (lambda: NET.fit(X, Y, verbose=1), TypeError, "'verbose': fit(..., progress=True) shows a bar"),
    (lambda: NET.fit(X, Y, lr=0.1), TypeError, "'lr': an optimizer takes it: optimizer=fastnn.Adam(learning_rate=...)"),
    (
        lambda: NET.fit(X, Y, n_epochs=3),
        TypeError,
        "Sequential.fit takes no argument 'n_epochs': did you mean 'epochs'?",
    ),
    (lambda: NET.fit(X, Y, batchSize=3), TypeError, "did you mean 'batch_size'?"),
    (lambda: NET.fit(X, Y, loss="mse"), TypeError, "a net takes it: fastnn.Sequential(layers, loss=...)"),
    (lambda: NET.fit(X, Y, sample_weights=Y), TypeError, "did you mean 'sample_weight'?"),
    (lambda: NET.fit(X, Y, nonsense=1), TypeError, "'nonsense': it takes X, y, optimizer, epochs, "),
    (
        lambda: NET.compile("adam"),
        AttributeError,
        "a Sequential has no attribute 'compile': there is nothing to compile",
    ),
    (lambda: NET.score(X, Y), AttributeError, "'score': evaluate(X, y) gives loss and accuracy"),
    (lambda: NET.predict_proba(X), AttributeError, "did you mean 'predict'?"),
    (lambda: fastnn.Sequential(layers(), optimizer="adam"), TypeError, "fit takes it: net.fit(X, y, optimizer=...)"),
    (lambda: fastnn.Adam(lr=0.1), TypeError, "Adam takes no argument 'lr': did you mean 'learning_rate'?"),
    (lambda: fastnn.EarlyStopping(restore_best_weights=True), TypeError, "did you mean 'restore_best'?"),
    (lambda: fastnn.Dense(3, input_shape=(2,)), TypeError, "the first fit finds the number of features"),
    (lambda: fastnn.Dense(3, "ReLU"), ValueError, "got 'ReLU' (did you mean 'relu'?)"),
    (lambda: fastnn.Dense(3, "swish"), ValueError, "did you mean 'silu'?"),
    (lambda: fastnn.Sequential(layers(), loss="categorical_crossentropy"), ValueError, "did you mean 'cross_entropy'?"),
    (lambda: fastnn.Sequential(layers(), device="gpu"), ValueError, "did you mean 'cuda'?"),
    (lambda: NET.fit(X, Y, "Adam"), ValueError, "did you mean 'adam'?"),
    (lambda: NET.fit(X, Y, "lbfgs"), ValueError, "got 'lbfgs' (net.minimize(X, y) trains by L-BFGS)"),
    (
        lambda: NET.fit(X, Y, callbacks=[Keras()]),
        TypeError,
        "got Keras with on_epoch_end, which nobody calls (override",
    ),
    (lambda: NET.fit(X, Y, callbacks=[fastnn.EarlyStopping(monitor="val_loss")]), ValueError, "got 'val_loss'"),
    (lambda: fastnn.Linear, AttributeError, "fastnn has no attribute 'Linear': did you mean 'Dense'?"),
    (lambda: fastnn.History(1).val_loss, AttributeError, "did you mean 'validation_loss'?"),
    (lambda: fastnn.Sweep(layers(), lr=[1.0]).fit(X, Y), ValueError, "got 'lr' (an optimizer takes it"),
    (lambda: fastnn.Sweep(layers(), seed=[0, 1]).fit(X, Y, patience=3), TypeError, "did you mean 'early_stopping'?"),
]


@pytest.mark.parametrize("call, error, hint", HABITS, ids=[hint for *_, hint in HABITS])
def test_a_habit_gets_a_hint(call, error, hint):
    with pytest.raises(error) as caught:
        call()
    assert hint in str(caught.value)


def test_acc_is_accuracy():
    pytest.importorskip("sklearn")
    with pytest.raises(ValueError, match="got 'acc' .did you mean 'accuracy'?"):
        NET.fit(X, Y, metrics=["acc"])


def test_attributes_that_are_not_there_are_not_there():
    for thing in (NET, fastnn.History(1), fastnn):
        assert not hasattr(thing, "compile") and not hasattr(thing, "__array__")
        assert getattr(thing, "nonsense", 3) == 3
    for same in (copy.copy(NET), copy.deepcopy(NET), pickle.loads(pickle.dumps(NET))):
        assert repr(same) == repr(NET)


def test_a_property_that_fails_gives_its_own_error():
    class Own(fastnn.Sequential):
        @property
        def broken(self):
            return self.n_features.nothing

    with pytest.raises(AttributeError, match="'int' object has no attribute 'nothing'"):
        _ = Own(layers()).build(2).broken


def test_hooks_with_other_names_are_refused_and_methods_let_alone():
    class Own(fastnn.Callback):
        def on_time(self):
            return True

    assert pair()[0].fit(*data(), epochs=1, callbacks=[Own()]).epochs == 1


@pytest.mark.parametrize("name", sorted(optimizers.NAMES))
def test_a_name_is_an_optimizer_with_its_defaults(name):
    X, y = data()
    kind = next(kind for kind in vars(fastnn).values() if getattr(kind, "__name__", "").lower() == name)
    nets = [pair()[0] for _ in range(2)]
    for net, optimizer in zip(nets, (name, kind()), strict=True):
        net.fit(X, y, optimizer, epochs=3, batch_size=7)
        net.partial_fit(X, y, optimizer)
        net.apply_gradient(net.loss_and_gradient(X, y)[1], optimizer)
    assert np.array_equal(*(net.parameters for net in nets))


def test_a_sweep_takes_names_of_optimizers():
    X, y = data()
    sweep = fastnn.Sweep([fastnn.Dense(1)], optimizer=["sgd", fastnn.SGD(), "adam"], dtype="float64")
    by_name, same, other = (trial.losses[0] for trial in sweep.fit(X, y, epochs=3).trials)
    assert np.array_equal(by_name, same) and not np.array_equal(by_name, other)


def test_reset_makes_a_new_net_of_it():
    X, y = data()
    net = fastnn.Sequential([fastnn.Dense(4, "tanh"), fastnn.Dense(1)], standardize=True, seed=3)
    first = net.fit(X, y, fastnn.Adam(0.01), epochs=4, batch_size=7)
    weights, standardization = net.parameters.copy(), net.standardization
    again = net.reset().fit(X, y, fastnn.Adam(0.01), epochs=4, batch_size=7)
    assert np.array_equal(first.loss, again.loss) and np.array_equal(weights, net.parameters)
    assert net.reset() is net and net.parameters is None and net.standardization is None and net.n_features is None
    assert net.feature_names is None
    net.fit(X[:, :2], y, epochs=1)
    assert net.n_features == 2 and len(standardization.mean) == X.shape[1]


def test_a_net_is_not_reset_while_it_is_trained():
    net = pair()[0]
    with pytest.raises(fastnn.BusyError):
        net.fit(*data(), epochs=1, callbacks=[lambda net, history: net.reset()])
    assert net.parameters is not None
