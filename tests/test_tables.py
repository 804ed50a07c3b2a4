"""Nets that begin with Columns: what they learn of a table goes wherever the net goes."""

import copy
import pickle

import numpy as np
import pytest
from tolerance import assert_close

import fastnn
from fastnn import Adam, Code, Columns, Dense, Dropout, Number

ROWS = 160
COLUMNS = Columns(age=Number(bins=4), city=Code(), ad=Code(dim=3, least=2))


def table(rows=ROWS, seed=0):
    """A table with gaps, text and ids, and whether the ad was clicked."""
    rng = np.random.default_rng(seed)
    age = rng.uniform(18, 80, rows)
    city, ad = rng.choice(["Lima", "Oslo", "Rome"], rows), rng.integers(100, 112, rows)
    clicked = (city == "Oslo") + (age > 50) + rng.normal(0, 0.2, rows) > 0.5
    age[::13] = np.nan
    return {"age": age, "city": [None if i % 17 == 5 else str(one) for i, one in enumerate(city)], "ad": ad}, clicked


def net_of(dtype="float32", layers=(), **settings):
    return fastnn.Sequential([COLUMNS, *layers, Dense(6, "relu"), Dense(1, "sigmoid")], dtype=dtype, **settings)


@pytest.fixture(scope="module", params=["float32", "float64"])
def trained(request):
    frame, clicked = table()
    net = net_of(request.param, [Dropout(0.1)])
    net.fit(frame, clicked, optimizer=Adam(0.02), epochs=20, batch_size=20)
    return net, frame, clicked


def test_it_learns(trained):
    net, frame, clicked = trained
    assert net.evaluate(*table(seed=1))["accuracy"] > 0.85
    assert net.evaluate(frame, clicked)["accuracy"] > 0.9


def test_columns_are_known_by_name(trained):
    net, frame, _ = trained
    expected = net.predict(frame)
    other_order = {"more": frame["ad"], **{name: frame[name] for name in ("ad", "age", "city")}}
    np.testing.assert_array_equal(net.predict(other_order), expected)
    rows = [list(row) for row in zip(*frame.values(), strict=True)]  # by place
    np.testing.assert_array_equal(net.predict(rows), expected)
    assert net.feature_names == ("age", "city", "ad")
    with pytest.raises(ValueError, match="column 'city'"):
        net.predict({"age": [30.0], "ad": [100]})


def test_what_is_unseen_and_what_is_missing_have_rows_of_their_own(trained):
    net, *_ = trained
    (age, city, ad) = net.encode({"age": [None], "city": ["Paris"], "ad": [7]})[0]
    assert np.isnan(age) and (city, ad) == (0, 0)
    assert net.encode({"age": [30.0], "city": [""], "ad": [None]})[0, 1:].tolist() == [1, 1]
    by_name = dict(zip(net.array_names, net.arrays, strict=True))
    assert by_name["E_ad1"].shape == (2 + 12, 3) and by_name["E_city1"].shape == (2 + 3, 6)
    assert by_name["E_city1"][1].any() and not by_name["E_city1"][0].any()  # gaps were trained on, no new city was


def test_copies_pickles_and_files(trained, tmp_path):
    net, frame, _ = trained
    expected, new = net.predict(frame), {"age": [1e9], "city": ["Bonn"], "ad": [100]}
    net.save(tmp_path / "net")
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net)), fastnn.load(tmp_path / "net")):
        np.testing.assert_array_equal(other.predict(frame), expected)
        np.testing.assert_array_equal(other.predict(new), net.predict(new))
        assert other.encoding == net.encoding and other.columns == COLUMNS


def test_frozen_and_in_onnx(trained, tmp_path):
    net, frame, _ = trained
    X, expected = net.encode(frame), net.predict(frame)
    X[:4, 1:] = [[-1, 2.5], [np.nan, 1e30], [99, -np.inf], [3, 4]]  # the first three are no codes, and count as 0
    hostile = X.copy()
    hostile[:3, 1:] = 0
    frozen = net.freeze()
    assert_close(fastnn.apply(frozen, X)[4:], expected[4:], "training", net.dtype)
    np.testing.assert_array_equal(fastnn.apply(frozen, X), fastnn.apply(frozen, hostile))
    onnx = pytest.importorskip("onnx")
    from onnx.reference import ReferenceEvaluator

    net.to_onnx(tmp_path / "net.onnx")
    (found,) = ReferenceEvaluator(onnx.load(tmp_path / "net.onnx")).run(None, {"X": X})
    assert_close(found, fastnn.apply(frozen, X), "training", net.dtype)
    try:
        import onnxruntime
    except ImportError:
        return
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    assert_close(session.run(None, {"X": X})[0], found, "training", net.dtype)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_one_hot_matrix_by_hand_gives_the_same_net(threads):
    """Gathered weights are those of a Dense layer on one-hot features, which is what it stands for."""
    frame, clicked = table()
    columns = Columns(city=Code(), ad=Code())
    net = fastnn.logistic_net(columns=columns, dtype="float64")
    optimizer = fastnn.SGD(0.5, momentum=0.0)
    history = net.fit(frame, clicked, optimizer=optimizer, epochs=30, batch_size=None, l2=0.01, threads=threads)
    X = net.encode(frame)
    hot = np.concatenate([X[:, [j]] == np.arange(len(net.arrays[j])) for j in range(2)], axis=1)
    other = fastnn.logistic_net(dtype="float64")
    expected = other.fit(hot.astype(float), clicked, optimizer=optimizer, epochs=30, batch_size=None, l2=0.01)
    np.testing.assert_allclose(history.loss, expected.loss, rtol=1e-12)
    np.testing.assert_allclose(net.predict(frame), other.predict(hot.astype(float)), rtol=1e-12)


def test_same_bits_on_any_number_of_threads_and_by_halves():
    frame, clicked = table(900)
    found = []
    for threads in (1, 2, 3):
        net = net_of()
        net.fit(frame, clicked, epochs=2, batch_size=300, threads=threads)
        found.append(net.parameters.copy())
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
    one, two = net_of().build(frame), net_of().build(frame)
    one.partial_fit(frame, clicked)
    two.apply_gradient(two.loss_and_gradient(frame, clicked)[1])
    np.testing.assert_array_equal(one.parameters, two.parameters)


def test_it_learns_of_the_rows_that_are_trained_on():
    frame, clicked = table()
    frame["ad"] = np.where(np.arange(ROWS) < 20, 999, frame["ad"])
    rows = np.arange(20, ROWS)
    net = net_of()
    net.fit(frame, clicked, epochs=1, batch_size=20, rows=rows)
    assert 999 not in net.encoding.levels("ad")
    other = net_of()
    other.fit(
        {name: [column[i] for i in rows] for name, column in frame.items()}, clicked[rows], epochs=1, batch_size=20
    )
    np.testing.assert_array_equal(net.parameters, other.parameters)
    split = net_of()
    split.fit(frame, clicked, epochs=1, batch_size=20, shuffle=False, validation_split=20 / ROWS)
    assert 999 in split.encoding.levels("ad")
    weighed = net_of()
    weighed.fit(frame, clicked, epochs=1, batch_size=20, sample_weight=(np.arange(ROWS) >= 20).astype(float))
    assert weighed.encoding == net.encoding


def test_a_sweep_reads_each_fold_by_what_its_training_rows_taught():
    frame, clicked = table()
    folds = [(np.arange(80), np.arange(80, ROWS)), (np.arange(80, ROWS), np.arange(80))]
    sweep = fastnn.Sweep(lambda rate: [COLUMNS, Dropout(rate), Dense(6, "relu"), Dense(1, "sigmoid")], rate=[0.0, 0.2])
    result = sweep.fit(frame, clicked, epochs=3, cv=folds, refit=False)
    for trial in result.trials:
        for net, (rows, held) in zip(trial.nets, folds, strict=True):
            alone = fastnn.Sequential(net.layers)
            alone.fit(frame, clicked, epochs=3, rows=rows)
            assert net.encoding == alone.encoding
            np.testing.assert_array_equal(net.parameters, alone.parameters)
            assert net.evaluate(frame, clicked, rows=held) == alone.evaluate(frame, clicked, rows=held)
    together = result.ensemble(4)
    nets = list(together.pairs())
    expected = sum(weight * net.predict(frame).astype(float) for net, weight in nets) / sum(w for _, w in nets)
    np.testing.assert_allclose(together.predict(frame), expected, rtol=1e-6)
    assert together.encoding is None
    with pytest.raises(ValueError, match="freeze must be asked of nets that were trained on the same rows"):
        together.freeze()
    with pytest.raises(ValueError, match="all with fastnn.Columns, or none"):
        fastnn.Sweep(lambda k: [*[COLUMNS][:k], Dense(1, "sigmoid")], k=[1, 0]).fit(frame, clicked, epochs=1)


def test_an_ensemble_of_nets_of_the_same_rows(tmp_path):
    frame, clicked = table()
    nets = [net_of(seed=seed) for seed in (1, 2)]
    for net in nets:
        net.fit(frame, clicked, epochs=2, batch_size=20)
    both = fastnn.Ensemble(nets)
    assert_close(fastnn.apply(both.freeze(), both.encode(frame)), both.predict(frame), "training", np.dtype("float32"))
    both.save(tmp_path / "both")
    np.testing.assert_array_equal(fastnn.load(tmp_path / "both").predict(frame), both.predict(frame))
    assert both.evaluate(frame, clicked)["accuracy"] >= 0.5


def test_a_checkpoint_goes_on_with_the_bits_of_a_whole_fit(tmp_path):
    frame, clicked = table()
    labels = np.where(clicked, "yes", "no")
    whole, halves = net_of(), net_of()
    whole.fit(frame, labels, epochs=4, batch_size=20)
    path = tmp_path / "fit"
    halves.fit(frame, labels, epochs=2, batch_size=20, callbacks=[fastnn.Checkpoint(path)], resume=path)
    resumed = net_of()
    resumed.fit(frame, labels, epochs=4, batch_size=20, callbacks=[fastnn.Checkpoint(path)], resume=path)
    np.testing.assert_array_equal(resumed.parameters, whole.parameters)
    loaded = fastnn.load(path)
    np.testing.assert_array_equal(loaded.predict_labels(frame), whole.predict_labels(frame))
    other = {**frame, "ad": frame["ad"] + 1}
    with pytest.raises(ValueError, match="table of the checkpoint"):
        net_of().fit(other, labels, epochs=6, batch_size=20, resume=path)


def test_batches_of_tables():
    frame, clicked = table()
    parts = [slice(0, 80), slice(80, ROWS)]
    batches = [({name: column[part] for name, column in frame.items()}, clicked[part]) for part in parts]
    net, other = net_of(), net_of()
    net.fit(batches, epochs=2)
    assert net.encoding.levels("ad") == sorted(set(frame["ad"][:80].tolist()))
    other.build(batches[0][0])
    other.fit(frame, clicked, epochs=2, batch_size=80, shuffle=False)
    np.testing.assert_array_equal(net.parameters, other.parameters)


def test_targets_of_a_regression_are_standardised():
    frame, _ = table()
    y = 1e4 + 1e3 * (np.array(frame["ad"]) - 105)
    net = fastnn.Sequential([COLUMNS, Dense(6, "relu"), Dense(1)], standardize=True)
    net.fit(frame, y, optimizer=Adam(0.02), epochs=30, batch_size=20)
    assert net.evaluate(frame, y)["r2"] > 0.9
    assert net.standardization.target_mean == pytest.approx(y.mean(), rel=1e-6)
    assert (net.standardization.mean == 0).all() and (net.standardization.std == 1).all()


def test_solvers_take_tables():
    frame, clicked = table()
    net = fastnn.logistic_net(columns=Columns(age=Number(bins=4), city=Code()))
    history = net.minimize(frame, clicked, l2=0.01)
    assert history.converged
    loss, gradient = net.objective(frame, clicked, l2=0.01, dtype="float64")(net.parameters)
    assert loss == pytest.approx(history.loss[-1], rel=1e-5) and abs(gradient).max() < 1e-3


def test_labels_as_text(tmp_path):
    frame, clicked = table()
    labels = np.where(clicked, "bought", "left")
    net = fastnn.Sequential([COLUMNS, Dense(6, "relu"), Dense(2, "softmax")])
    weights = {"bought": 1.0, "left": 2.0}
    net.fit(frame, labels, epochs=20, batch_size=20, class_weight=weights, validation_split=0.2, metrics=["accuracy"])
    assert net.classes.tolist() == ["bought", "left"]
    assert set(net.predict_labels(frame)) <= {"bought", "left"}
    right = (net.predict_labels(frame) == labels).mean()
    assert net.evaluate(frame, labels)["accuracy"] == pytest.approx(right)
    net.save(tmp_path / "net")
    np.testing.assert_array_equal(fastnn.load(tmp_path / "net").predict_labels(frame), net.predict_labels(frame))
    numbers = fastnn.Sequential([COLUMNS, Dense(6, "relu"), Dense(2, "softmax")])
    index = (labels == "left").astype(int)
    numbers.fit(frame, index, epochs=20, batch_size=20, class_weight={0: 1.0, 1: 2.0}, validation_split=0.2)
    np.testing.assert_array_equal(numbers.parameters, net.parameters)
    for wrong, match in (("maybe", "'maybe' at row 0"), (None, "missing at row 0")):
        with pytest.raises(ValueError, match=match):
            net.evaluate(frame, [wrong, *labels[1:]])
    more, where = np.concatenate([labels, ["kept", None]]), np.arange(ROWS)  # rows that do not count have others
    longer = {name: [*column, column[0], column[1]] for name, column in frame.items()}
    whole = fastnn.Sequential([COLUMNS, Dense(6, "relu"), Dense(2, "softmax")])
    whole.fit(longer, more.tolist(), epochs=20, batch_size=20, class_weight=weights, validation_split=0.2, rows=where)
    np.testing.assert_array_equal(whole.parameters, net.parameters)
    with pytest.raises(ValueError, match="labels of 2 classes"):
        net_of().fit(frame, ["a", *labels[1:]], epochs=1)
    with pytest.raises(ValueError, match="class_weight must be a dict with keys among"):
        net.fit(frame, labels, epochs=1, class_weight={"no such": 1.0})


@pytest.mark.parametrize(
    "call, error, match",
    [
        (lambda net, X, y: net.jacobian(X), ValueError, "jacobian must be asked of a net of numbers"),
        (lambda net, X, y: net.input_gradient(X, y), ValueError, "input_gradient must be asked of a net of numbers"),
        (lambda net, X, y: net_of().build(3), TypeError, "a table that the Columns"),
        (lambda net, X, y: net_of().predict(X), fastnn.NotBuiltError, "no parameters yet"),
        (lambda net, X, y: net_of().encode(X), fastnn.NotBuiltError, "no parameters yet"),
        (lambda net, X, y: fastnn.Sequential([Dense(1)]).encode(X), ValueError, "begins with Columns"),
        (lambda net, X, y: fastnn.Sequential([Dense(1), COLUMNS]), ValueError, "after fastnn.Columns"),
        (lambda net, X, y: fastnn.Sequential([COLUMNS]), ValueError, "a list of fastnn.Dense"),
        (lambda net, X, y: net.fit({**X, "age": [np.inf] * ROWS}, y), ValueError, "column 'age' of X must be finite"),
        (lambda net, X, y: net.predict({**X, "city": [1] * ROWS}), TypeError, "column 'city' of X must be text"),
        (lambda net, X, y: net.predict({**X, "ad": ["x"] * ROWS}), TypeError, "column 'ad' of X must be numbers"),
        (lambda net, X, y: net.predict({**X, "city": [1, "x"] * (ROWS // 2)}), TypeError, "values of one kind"),
        (lambda net, X, y: net.predict({name: [] for name in X}), ValueError, "at least one row"),
        (lambda net, X, y: setattr(net, "feature_names", ["a"]), ValueError, "which know their names"),
        (lambda net, X, y: fastnn.logistic_net(columns=["age"]), TypeError, "columns must be None or fastnn.Columns"),
    ],
)
def test_what_is_refused(call, error, match):
    frame, clicked = table()
    net = net_of().build(frame)
    before = net.parameters.copy()
    with pytest.raises(error, match=match):
        call(net, frame, clicked)
    np.testing.assert_array_equal(net.parameters, before)
