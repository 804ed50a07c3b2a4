"""Sweeps: each net has the bits of its fit alone; choice, halving, errors, interrupts."""

import _thread
import gc
import pickle
import threading
import time

import numpy as np
import pytest
from numba import njit

import fastnn
from fastnn.kernels.state import TrainingState

RNG = np.random.default_rng(0)
X = RNG.normal(size=(150, 5)).astype("float32")
LABELS = (X[:, 0] * X[:, 1] > 0) + (X[:, 2] > 0.5).astype(int)  # 0, 1 or 2
NUMBERS = 50 + 10 * X[:, 0] * X[:, 1]
WEIGHTS = RNG.integers(1, 4, 150).astype("float32")


def classifier(width, depth=1, act="tanh", rate=0.0):
    dropout = [fastnn.Dropout(rate)] if rate else []
    return [*[fastnn.Dense(width, act) for _ in range(depth)], *dropout, fastnn.Dense(3, "softmax")]


OPTIMIZERS = [
    fastnn.SGD(0.1, momentum=0.9, nesterov=True, clip_norm=0.5),
    fastnn.Adam(fastnn.WarmUp(fastnn.CosineDecay(0.02, epochs=4), epochs=2)),
    fastnn.RMSprop(0.01, clip_value=0.1),
    fastnn.AdamW(0.01, weight_decay=0.1),
    fastnn.Adagrad(0.05),
]
MIXED = dict(
    width=[3, 17],
    depth=[1, 2],
    act=["tanh", "relu"],
    rate=[0.0, 0.3],
    optimizer=OPTIMIZERS,
    batch_size=[None, 32],
    l2=[0.0, 0.01],
    seed=[3, 4],
)


def alone(trial, X, y, epochs, layers=classifier, dtype="float32", standardize=False, **how):
    """The net of a trial, trained by a fit of its own."""
    values = dict(trial.values)
    own = {"optimizer": None, "batch_size": None, "l2": 0.0, "seed": 0}
    own |= {name: values.pop(name) for name in list(values) if name in own}
    net = fastnn.Sequential(layers(**values), seed=own.pop("seed"), dtype=dtype, standardize=standardize)
    return net, net.fit(X, y, epochs=epochs, **own, **how)


def same_state(one, other):
    assert np.array_equal(one.parameters, other.parameters)
    assert np.array_equal(one.state.table, other.state.table)
    assert len(one.state.moments) == len(other.state.moments)
    for left, right in zip(one.state.moments, other.state.moments, strict=True):
        assert np.array_equal(left, right)


@pytest.mark.parametrize(("threads", "dtype"), [(1, "float32"), (3, "float64")])
def test_each_net_has_the_bits_of_its_fit_alone(threads, dtype):
    sweep = fastnn.Sweep(classifier, dtype=dtype, **MIXED)
    held = X[120:], LABELS[120:]
    result = sweep.fit(
        X[:120],
        LABELS[:120],
        epochs=4,
        sample=20,
        sample_weight=WEIGHTS[:120],
        class_weight="balanced",
        validation_data=held,
        threads=threads,
        keep=20,
        seed=threads,
    )
    assert len(result.trials) == 20
    for trial in result.trials:
        how = dict(sample_weight=WEIGHTS[:120], class_weight="balanced", dtype=dtype)
        net, history = alone(trial, X[:120], LABELS[:120], 4, **how)
        assert np.array_equal(trial.losses[0], history.loss)
        same_state(trial.nets[0], net)
        found = net.evaluate(*held)
        assert trial.score == trial.scores["accuracy"][0] == found["accuracy"]
        assert trial.scores["loss"][0] == found["loss"]
    assert result.best.score == max(trial.score for trial in result.trials)
    assert result.net is result.best.nets[0]


def test_folds_standardisation_and_the_bits_of_a_fit_on_rows():
    def layers(width):
        return [fastnn.Dense(width, "relu"), fastnn.Dense(1)]

    sweep = fastnn.Sweep(layers, width=[4, 8], optimizer=fastnn.Adam(0.01), batch_size=[16, None], standardize=True)
    parts = np.array_split(np.random.default_rng(1).permutation(150), 3)
    folds = [(np.sort(np.concatenate(parts[:i] + parts[i + 1 :])), np.sort(parts[i])) for i in range(3)]
    result = sweep.fit(X, NUMBERS, epochs=3, cv=folds, threads=2, score="loss", metrics=["r2"])
    for trial in result.trials:
        for fold, (rows, held) in enumerate(folds):
            net, history = alone(trial, X, NUMBERS, 3, layers, standardize=True, rows=rows)
            assert np.array_equal(trial.losses[fold], history.loss)
            same_state(trial.nets[fold], net)
            assert np.array_equal(trial.nets[fold].predict(X), net.predict(X))
            found = net.evaluate(X, NUMBERS, rows=held)
            assert (trial.scores["loss"][fold], trial.scores["r2"][fold]) == (found["loss"], found["r2"])
        assert trial.score == pytest.approx(trial.scores["loss"].mean(), rel=1e-15)
    assert result.best.score == min(trial.score for trial in result.trials)
    refitted, _ = alone(result.best, X, NUMBERS, 3, layers, standardize=True)
    same_state(result.net, refitted)


@pytest.mark.parametrize("monitor", [None, "loss"])
def test_early_stopping_is_that_of_the_callback(monitor):
    stops = dict(patience=2, min_delta=0.002, monitor=monitor)
    sweep = fastnn.Sweep(classifier, width=[3, 9], optimizer=[fastnn.SGD(1.0), fastnn.Adam(0.05)], batch_size=8)
    held = X[100:], LABELS[100:]
    early = fastnn.EarlyStopping(**stops)
    result = sweep.fit(X[:100], LABELS[:100], epochs=40, validation_data=held, early_stopping=early, threads=2)
    lengths = set()
    for trial in result.trials:
        how = dict(validation_data=held, callbacks=[fastnn.EarlyStopping(**stops)])
        net, history = alone(trial, X[:100], LABELS[:100], 40, **how)
        assert trial.epochs == history.epochs and trial.best_epochs == [history.best_epoch]
        assert np.array_equal(trial.losses[0], history.loss)
        if monitor is None:
            assert np.array_equal(trial.validation_losses[0], history.validation_loss)
        same_state(trial.nets[0], net)
        lengths.add(trial.epochs)
    assert len(lengths) > 1


def test_halving_goes_on_where_a_net_stopped():
    sweep = fastnn.Sweep(classifier, width=[2, 12], optimizer=OPTIMIZERS[:2], batch_size=16, seed=range(5))
    result = sweep.fit(X, LABELS, epochs=9, halving=3, cv=3, threads=2)
    rounds = sorted(trial.rounds for trial in result.trials)
    assert rounds == [1] * 14 + [2] * 4 + [3] * 2
    assert sorted(trial.epochs for trial in result.trials) == [1] * 14 + [3] * 4 + [9] * 2
    assert result.best.epochs == 9 and result.best.rounds == 3
    for trial in result.trials:
        assert len(trial.nets) == (3 if trial.rounds == 3 else 0)
        net, history = alone(trial, X, LABELS, trial.epochs)
        whole = fastnn.Sweep(classifier, **{name: [value] for name, value in trial.values.items()})
        if trial.rounds == 3:
            for one, other in zip(trial.nets, whole.fit(X, LABELS, epochs=9, cv=3).best.nets, strict=True):
                same_state(one, other)
    first = sweep.fit(X, LABELS, epochs=1, cv=3).trials  # what the first round saw
    went_on = {trial.number for trial in result.trials if trial.rounds > 1}
    assert went_on == {trial.number for trial in sorted(first, key=lambda trial: -trial.score)[:6]}
    same_state(result.net, alone(result.best, X, LABELS, 9)[0])


def test_halving_keeps_what_waits_for_a_later_wave_and_what_stopped_early(monkeypatch):
    monkeypatch.setitem(fastnn.search._WAVE_NETS, "cpu", 2)
    sweep = fastnn.Sweep(classifier, width=[2, 12], optimizer=OPTIMIZERS[:3], batch_size=16, seed=range(3))
    early = fastnn.EarlyStopping(patience=1, min_delta=0.3)
    how = dict(epochs=18, halving=3, early_stopping=early, keep=18)
    result = sweep.fit(X, LABELS, **how, threads=2)
    assert sorted(trial.rounds for trial in result.trials) == [1] * 12 + [2] * 4 + [3] * 2
    assert all(trial.epochs < 18 for trial in result.trials)  # all stopped early
    monkeypatch.undo()
    again = sweep.fit(X, LABELS, **how, threads=1)
    for one, other in zip(result.trials, again.trials, strict=True):
        assert (one.score, one.epochs, one.rounds) == (other.score, other.epochs, other.rounds)
        assert len(one.nets) == len(other.nets)
        for left, right in zip(one.nets, other.nets, strict=True):
            same_state(left, right)


def test_a_net_that_diverges_is_marked_and_the_others_go_on():
    sweep = fastnn.Sweep([fastnn.Dense(8, "relu"), fastnn.Dense(1)], optimizer=[fastnn.SGD(r) for r in (1e-4, 1e9)])
    result = sweep.fit(X, NUMBERS, epochs=30, threads=2)
    assert [trial.diverged for trial in result.trials] == [False, True]
    assert np.isnan(result.trials[1].score) and not result.trials[1].nets
    assert len(result.trials[1].losses[0]) < 30
    assert result.best is result.trials[0]
    assert "1 diverged" in repr(result)
    bad = fastnn.Sweep([fastnn.Dense(8, "relu"), fastnn.Dense(1)], optimizer=fastnn.SGD(1e9))
    result = bad.fit(X, NUMBERS, epochs=30, cv=2)
    assert result.trials[0].diverged
    with pytest.raises(ValueError, match="a candidate has a score; got 1 that diverged"):
        _ = result.net


def test_nets_are_freed_but_for_those_that_are_kept():
    seen = []

    def count(result):
        gc.collect()
        seen.append(sum(type(each) is TrainingState for each in gc.get_objects()))

    before = sum(type(each) is TrainingState for each in gc.get_objects())
    sweep = fastnn.Sweep(classifier, width=[2], optimizer=fastnn.SGD(0.1), seed=range(1300))
    result = sweep.fit(X, LABELS, epochs=1, callbacks=[count], keep=5, threads=1)
    assert len(seen) == 6 and max(seen) - before < 600
    assert sum(bool(trial.nets) for trial in result.trials) == 5
    worst = min(trial.score for trial in result.trials if trial.nets)
    assert all(trial.score <= worst for trial in result.trials if not trial.nets)


def test_the_table_the_best_and_the_pickle():
    sweep = fastnn.Sweep(classifier, width=[3, 9], optimizer=fastnn.Adam, learning_rate=[0.01, 0.1], batch_size=16)
    result = sweep.fit(X, LABELS, epochs=3, cv=2, metrics=["balanced_accuracy"])
    table = result.to_dataframe()
    assert list(table["accuracy"]) == sorted(table["accuracy"], reverse=True)
    assert {"width", "learning_rate", "accuracy_std", "balanced_accuracy", "validation_loss", "loss"} <= set(table)
    assert table.index[0] == result.trials.index(result.best)
    assert result.best.value("learning_rate") in (0.01, 0.1)
    again = pickle.loads(pickle.dumps(result))
    assert again.best.score == result.best.score and np.array_equal(again.net.predict(X), result.net.predict(X))


@pytest.mark.parametrize("score", ["accuracy", "loss"])
def test_an_ensemble_is_chosen_by_the_score_of_the_average(score):
    sweep = fastnn.Sweep(classifier, width=[8, 9], optimizer=fastnn.Adam(0.05), batch_size=16, seed=range(6))
    result = sweep.fit(X, LABELS, epochs=30, cv=2, score=score)
    ensemble = result.ensemble(5)
    kept = sorted((t for t in result.trials if t.nets), key=lambda t: t.score * (-1 if result.greater else 1))
    members = {id(net): weight for net, weight in ensemble.pairs()}
    rows = fastnn.data.check(kept[0].nets[0], X, LABELS)
    truths = [LABELS[held] for _, held in fastnn.folds.make(2, rows, X, LABELS, "classes", True, 0)]
    sums, counts = [np.zeros((len(y), 3)) for y in truths], dict.fromkeys(range(len(kept)), 0)
    for step in range(1, 6):
        values = []
        for trial in kept:
            pairs = zip([(s + o) / step for s, o in zip(sums, trial.outputs, strict=True)], truths, strict=True)
            if score == "accuracy":
                values.append(np.mean([(P.argmax(axis=1) == y).mean() for P, y in pairs]))
            else:
                values.append(np.mean([np.log(P[np.arange(len(y)), y]).mean() for P, y in pairs]))
        best = int(np.argmax(values))
        counts[best] += 1
        sums = [s + o for s, o in zip(sums, kept[best].outputs, strict=True)]
    for i, trial in enumerate(kept):
        assert [members.get(id(net), 0) for net in trial.nets] == [counts[i]] * 2
    assert counts[0] > 0 and len(members) > 2  # the first choice is the best, and others joined it


def test_a_sample_is_a_function_of_the_seed():
    scipy = pytest.importorskip("scipy.stats")
    free = dict(
        width=fastnn.Range(2, 9),
        optimizer=fastnn.SGD,
        learning_rate=fastnn.Range(1e-4, 1.0, log=True),
        momentum=scipy.uniform(0.1, 0.5),
        l2=[0.0, 0.1],
    )

    def tried(seed):
        result = fastnn.Sweep(lambda width: classifier(width), **free).fit(X, LABELS, epochs=1, sample=60, seed=seed)
        return [trial.values for trial in result.trials]

    one = tried(1)
    assert one == tried(1) != tried(2)
    assert {values["width"] for values in one} == set(range(2, 10))
    rates = np.array([values["learning_rate"] for values in one])
    assert 1e-4 <= rates.min() < 1e-3 and 0.1 < rates.max() <= 1.0
    assert all(0.1 <= values["momentum"] <= 0.6 for values in one)
    few = fastnn.Sweep(classifier, width=[2, 3], l2=[0.0, 0.1]).fit(X, LABELS, epochs=1, sample=10)
    assert len(few.trials) == 4


def test_a_sampler_learns_from_scores():
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = dict(width=[2, 16], optimizer=fastnn.Adam, learning_rate=fastnn.Range(1e-5, 0.1, log=True))
    sweep = fastnn.Sweep(lambda width: classifier(width), batch_size=16, **space)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0), direction="maximize")
    result = sweep.fit(X, LABELS, epochs=8, sample=70, sampler=study)
    assert len(result.trials) == len(study.trials) == 70
    assert study.best_value == result.best.score
    early, late = (np.median([t.score for t in part]) for part in (result.trials[:32], result.trials[32:]))
    assert late > early
    with pytest.raises(ValueError, match="sample must be a number"):
        sweep.fit(X, LABELS, sampler=study)
    with pytest.raises(TypeError, match="sampler must be None, an optuna sampler"):
        sweep.fit(X, LABELS, sample=3, sampler="tpe")
    with pytest.raises(ValueError, match="direction='minimize', as of the score; got 'maximize'"):
        sweep.fit(X, LABELS, sample=3, sampler=study, score="loss")
    with pytest.raises(ValueError, match="direction='maximize', as of the score; got 'maximize, minimize'"):
        sweep.fit(X, LABELS, sample=3, sampler=optuna.create_study(directions=["maximize", "minimize"]))


def refused(match, sweep, *data, kind=ValueError, **how):
    data = data or (X, LABELS)
    with pytest.raises(kind, match=match):
        sweep().fit(*data, **({"epochs": 1} | how)) if callable(sweep) else sweep.fit(*data, **({"epochs": 1} | how))


def test_bad_sweeps_are_refused_before_anything_is_trained():
    plain = fastnn.Sweep(classifier, width=[2, 3])
    refused("widht.*did you mean 'width'", lambda: fastnn.Sweep(classifier, widht=[2]))
    refused("width must be given", lambda: fastnn.Sweep(classifier), kind=TypeError)
    refused(r"width must be at least one value; got \[\]", lambda: fastnn.Sweep(classifier, width=[]))
    refused("layers must be a function", lambda: fastnn.Sweep("layers"), kind=TypeError)
    refused(
        r"candidate \(width=-1, l2=0.1\): units must be a positive int", fastnn.Sweep(classifier, width=[2, -1], l2=0.1)
    )
    refused(r"candidate \(width=2, act='softmax'\)", fastnn.Sweep(classifier, width=2, act=["relu", "softmax"]))
    refused(r"candidate \(width=2, l2=-1\): l2", fastnn.Sweep(classifier, width=2, l2=[0, -1]))
    refused(
        r"candidate \(width=2, optimizer='adam'\): optimizer",
        fastnn.Sweep(classifier, width=2, optimizer=["adam"]),
        kind=TypeError,
    )
    refused("batch_size must be at most the 120 rows", fastnn.Sweep(classifier, width=2, batch_size=[16, 121]))
    outputs = fastnn.Sweep(lambda n: [fastnn.Dense(n, "softmax")], n=[3, 4])
    refused(r"candidate \(n=4\): outputs must be 3, as of another candidate; got 4", outputs)
    refused("sample must be a number of candidates", fastnn.Sweep(classifier, width=fastnn.Range(1, 4)))
    refused("high must be", lambda: fastnn.Range(3, 2))
    refused("validation_split must be None where cv is given", plain, cv=3, validation_split=0.5)
    refused("cv must be from 2 to the 150 rows", plain, cv=151)
    refused("cv must be an int of at least 2", plain, cv="3", kind=TypeError)
    refused("at most the number of rows of each class; got 3 with 1 rows of class 2", plain, X, [0] * 149 + [2], cv=3)
    one_class = [(np.flatnonzero(LABELS != 2), np.flatnonzero(LABELS == 2))]
    refused("every class among the rows to train on; got one without class 2 in fold 0", plain, cv=one_class)
    refused("fold 0 of cv, rows held out must be", plain, cv=[(np.arange(100), [150])])
    refused(
        "sample_weight must be not all zero in either part",
        plain,
        cv=[(np.arange(100), np.arange(100, 150))],
        sample_weight=np.arange(150) < 100,
    )
    refused("halving must be", plain, halving=1)
    refused("early_stopping must be one that monitors", plain, early_stopping=fastnn.EarlyStopping(monitor="accuracy"))
    refused("score must be a function that says greater_is_better", plain, score=lambda y, p: 1.0)
    refused("callbacks must be a sequence of functions", plain, callbacks=[3], kind=TypeError)
    refused("keep must be a non-negative int", plain, keep=-1)
    refused("metrics must be a sequence of names", plain, metrics="accuracy", kind=TypeError)

    class Falling(fastnn.Schedule):
        def rates(self, epochs):
            return -np.ones(len(epochs))

    refused("learning_rate must be", fastnn.Sweep(classifier, width=2, optimizer=fastnn.SGD(Falling())))
    assert plain.result is None or not any(trial.rounds for trial in plain.result.trials)


def test_what_a_callback_raises_leaves_a_result():
    class Stop(Exception):
        pass

    def stop(result):
        raise Stop

    sweep = fastnn.Sweep(classifier, width=[2], seed=range(1100))
    with pytest.raises(Stop):
        sweep.fit(X, LABELS, epochs=1, callbacks=[stop], threads=2)
    judged = [trial for trial in sweep.result.trials if trial.rounds]
    assert 256 <= len(judged) < 1100 and sweep.result.best.nets
    result = sweep.fit(X, LABELS, epochs=1, callbacks=[lambda result: True], threads=2)
    assert result.stopped and 256 <= sum(trial.rounds for trial in result.trials) < 1100


def test_ctrl_c_leaves_a_result_of_what_was_done():
    sweep = fastnn.Sweep(classifier, width=[2] * 20 + [200], batch_size=1, optimizer=fastnn.Adam(1e-4))
    seen = []

    def interrupt():
        while sweep.result is None or time.monotonic() < seen[0] + 0.5:
            seen[:] = seen or [time.monotonic()]
            time.sleep(0.02)
        _thread.interrupt_main()

    thread = threading.Thread(target=interrupt)
    sweep.fit(X, LABELS, epochs=1)  # compiled
    sweep.result = None
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        sweep.fit(X, LABELS, epochs=3000, threads=2)
    thread.join()
    done = [trial for trial in sweep.result.trials if trial.rounds]
    assert all(trial.epochs == 3000 for trial in done) and len(done) < 21
    assert sweep.fit(X, LABELS, epochs=1).best.score > 0


def test_what_an_own_function_raises_ends_the_sweep():
    @njit
    def picky(prediction, target):
        if prediction > 60.0:
            raise ValueError("too large")
        return (prediction - target) ** 2

    @njit
    def slope(prediction, target):
        return 2 * (prediction - target)

    sweep = fastnn.Sweep(
        [fastnn.Dense(1)], loss=(picky, slope), optimizer=[fastnn.SGD(1e-9), fastnn.SGD(1e-2)], seed=range(3)
    )
    with pytest.raises(ValueError, match="too large"):
        sweep.fit(X, NUMBERS, epochs=400, threads=2, metrics=["r2"])


def test_the_progress_bar_names_the_best(capsys):
    fastnn.Sweep(classifier, width=[2, 3]).fit(X, LABELS, epochs=2, cv=3, progress=True)
    assert "net 6/6" in capsys.readouterr().err.replace("\r", "\n")
