"""Every kernel and whole runs as plain Python; `test_plain_python.py` starts this file with NUMBA_DISABLE_JIT=1."""

import threading
import types

import numpy as np
import pytest
import reference
import reference_random
import test_activations
import test_bfloat16
import test_clipping
import test_custom
import test_dense
import test_dropout
import test_embedding
import test_losses
import test_matmul
import test_rng
import test_updates
import test_vmath
from nets import OPTIMIZERS, data, flat, pair
from tolerance import assert_close

import fastnn
from fastnn.kernels import cpu, options
from fastnn.kernels.cpu import amx, memory, plain, simd, step, tile, vmath
from fastnn.kernels.formulas import ACTIVATIONS, LOSSES, named
from fastnn.kernels.program import Dense, Program
from fastnn.kernels.tables import GRADIENT

has_tiles = pytest.mark.skipif(not options.has_bfloat16_tiles(), reason="no tiles of bfloat16 numbers")


def test_nothing_is_compiled():
    assert not options.COMPILED
    for module in (memory, simd, tile, amx):
        left = [name for name, thing in vars(module).items() if type(thing).__name__ == "_Intrinsic"]
        assert not left, f"{module.__name__} has primitives without a twin in plain.py"
    assert isinstance(step.run, types.FunctionType)


def test_no_twin_is_left_over():
    twins = {thing for thing in vars(plain).values() if isinstance(thing, types.FunctionType)}
    public = {twin for twin in twins if twin.__module__ == plain.__name__ and not twin.__name__.startswith("_")}
    used = {
        thing
        for module in (memory, simd, tile, amx)
        for thing in vars(module).values()
        if isinstance(thing, types.FunctionType)
    }
    assert not public - used


def test_a_debugger_sees_addresses_and_values():
    p = memory.address_of(np.arange(64.0))
    assert repr(p + 1) == f"Pointer({p.address + 8:#x}, float64)"
    assert "0. 1. 2." in repr(simd.load(p)).replace("  ", " ")


@pytest.mark.parametrize("number", [2.5, np.float64(2.5), np.float32(2.5), 1e300, np.int64(3)])
def test_a_vector_keeps_its_dtype(number):
    v = simd.load(memory.address_of(np.arange(64, dtype=np.float32)))
    with np.errstate(all="ignore"):
        for result in (v + number, number - v, v * number, number / (v + 1.0), simd.fma(v, number, v)):
            assert result.dtype == np.float32
        assert (v < number).dtype == bool
        assert isinstance(number > v, np.ndarray)


def test_whole_numbers_wrap_around_as_in_a_register():
    v = simd.bits(simd.load(memory.address_of(np.ones(64, np.float32))))
    one = 0x3F800000
    assert set((v + 0xFFFFFFFF).lanes) == {one - 1}
    assert set((v << 1).lanes) == {(one << 1)}
    assert set((v << 2).lanes) == {(one << 2) - (1 << 32)}
    assert set(((v << 2) >> 2).lanes) == {one - (1 << 30)}


@pytest.mark.parametrize("sized", [False, True])
@pytest.mark.parametrize("layouts", [("C", "C", "C"), ("F", "F", "F"), ("sliced", "reversed", "padded")])
def test_product(layouts, sized, dtype):
    for shape in ((1, 1, 1), (5, 7, 3), (37, 83, 9)):
        test_matmul.check(*shape, dtype, layouts, sized)


@has_tiles
@pytest.mark.parametrize("along", [(False, True), (True, False)])
def test_rounded_product(along):
    for start in (0, 2):
        test_bfloat16.check_product(33, 16, 65, *along, start)
    test_bfloat16.test_ties_go_to_even_and_nan_and_infinity_travel_on(along[0])


@has_tiles
def test_gradients_of_rounded_operands(monkeypatch):
    monkeypatch.setattr(amx, "works", lambda: True)
    test_bfloat16.test_gradients_are_those_of_rounded_operands(*test_bfloat16.ONE_BLOCK)


@pytest.mark.parametrize("layout", ["C", "F", "reversed"])
@pytest.mark.parametrize("name", test_dense.ALL)
def test_dense_layer(name, layout, dtype):
    test_dense.check(name, 19, 6, 21, dtype, [layout] * 8, layout != "F", layout != "reversed")


@pytest.mark.parametrize("name", test_activations.ALL)
def test_activation(name, dtype):
    for layout in ("C", "F", "sliced"):
        test_activations.check(name, 5, 19, dtype, [layout] * 4)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", test_losses.KINDS)
def test_loss(kind, weighted, dtype):
    for layout in ("C", "sliced"):
        test_losses.check(kind, 23, 5, dtype, [layout] * 4, weighted)


@pytest.mark.parametrize("case", test_updates.CASES)
def test_update(case, dtype):
    test_updates.check(case, 21, dtype, ["C"] * 4)


@pytest.mark.parametrize("code", test_vmath.NAMES)
def test_elementary_function(code, dtype):
    test_vmath.test_special_values_are_exact(code, dtype)
    x = np.linspace(-0.99, 20.0, 200, dtype=dtype) + (code == vmath.LOG)
    exact = [float(test_vmath.EXACT_VALUE[code](v)) for v in x.astype(np.float64).tolist()]
    assert_close(test_vmath.values(code, x), np.array(exact), "pointwise")


def test_permutation():
    for m in (1, 2, 65):
        assert np.array_equal(test_rng.permutation(2**62, 2**40, m), reference_random.permutation(2**62, 2**40, m))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_fit(name, dtype):
    net, twin, weights = pair(dtype=dtype, l2=0.02)
    make, settings = OPTIMIZERS[name]
    X, y = data(25, dtype=dtype)
    w = np.linspace(0.5, 2.0, 25)
    right, losses = twin.train(weights, X, y, reference.Optimizer(**settings), 2, reference.in_order(25, 10), w)
    history = net.fit(X, y, optimizer=make(), epochs=2, batch_size=10, shuffle=False, sample_weight=w, l2=0.02)
    assert_close(flat(net.get_weights()), flat(right), "training", dtype)
    assert_close(history.loss, losses, "training", dtype)


@pytest.mark.parametrize("loss", reference.LOSSES)
def test_gradients_and_outputs(loss, dtype):
    output = (reference.FUSED | {"mae": "tanh"}).get(loss, "linear")
    net, twin, weights = pair((40, 18, 2), ("gelu", output), loss, dtype=dtype)
    X, y = data(70, 40, 2, loss, dtype)
    value, gradient = net.loss_and_gradient(X, y)
    right, right_dX = twin.gradients(weights, X, y)
    assert_close(value, twin.objective(weights, X, y), "sum", dtype)
    parts = [part for slices in net.parameter_slices for part in slices]
    assert_close(np.concatenate([gradient[part] for part in parts]), flat(right), "training")
    assert_close(net.input_gradient(X, y), right_dX, "training")
    assert_close(net.predict(X), twin.predict(weights, X), "training")
    assert net.evaluate(X, y)["loss"] == pytest.approx(value)


def test_dropping(dtype):
    test_dropout.test_the_mask_is_the_references(0.25, (3, 17), "F", dtype)
    test_dropout.test_training_is_the_references((20, 9, 4, 3), (0.2, 0.5, 0.2), 20, None, dtype)


def test_limited_gradients():
    for clip in test_clipping.CLIPS:
        test_clipping.test_training_is_the_references("adamw", clip, "shards", "float64")


def test_tables(dtype):
    test_embedding.test_the_loss_and_its_gradient("all", 5, dtype)
    test_embedding.test_predictions_of_many_and_of_few_rows("all", dtype)
    test_embedding.test_a_step_updates_the_rows_that_its_batch_touches("adam", "one-hot", dtype)
    test_embedding.test_dropout_between("vectors", dtype)
    test_embedding.test_public_kernels_of_a_table_without_rows(dtype)


def test_tables_clipped_and_found_among_many():
    test_embedding.test_l2_and_clipping("sgd", dict(clip_norm=0.05))
    test_embedding.test_l2_reaches_all_rows_of_a_given_gradient()
    test_embedding.test_rows_are_found_among_many_levels()
    test_embedding.test_public_kernels_make_a_lazy_step_in_compiled_code()


def test_functions_of_the_user(dtype):
    test_custom.test_as_the_built_in_ones((5, 7, 6, 2), 40, "silu", True, dtype)


def shuffled_run(threads, dtype):
    net, _, _ = pair((20, 33, 3), ("relu", "softmax"), dtype=dtype)
    X, y = data(480, 20, 3, dtype=dtype)
    history = net.fit(
        X, y, epochs=2, batch_size=450, threads=threads, sample_weight=np.ones(480), validation_data=(X[:9], y[:9])
    )
    return flat(net.get_weights()), history.loss, history.validation_loss, net.predict(X, threads=threads)


def test_threads_change_no_bit():
    for one, three in zip(shuffled_run(1, "float32"), shuffled_run(3, "float32"), strict=True):
        assert np.array_equal(one, three)


def test_helpers_share_gradients_and_updates():
    rows, results = 200, []
    for threads in (1, 3):
        net, _, _ = pair((300, 120, 3), ("tanh", "softmax"))
        X, y = data(rows, 300, 3)
        layers = [Dense(units, named(ACTIVATIONS, name)) for units, name in ((120, "tanh"), (3, "softmax"))]
        program = Program(300, layers, named(LOSSES, "cross_entropy"))
        made = cpu.make_plan(program, net.parameters, rows, GRADIENT, threads)
        assert made["THREADS"] == threads and program.size >= step.SHARED_UPDATE
        made.bind_data(X, y.astype(np.float64), labels=True)
        made.set(TASKS=0)
        arguments = made.table, made.reals, made.parameters
        # not by `execute`, whose threads a coverage tool does not see
        helpers = [threading.Thread(target=step.run, args=(*arguments, i)) for i in range(1, threads)]
        for helper in helpers:
            helper.start()
        step.run(*arguments, 0)
        for helper in helpers:
            helper.join()
        results.append((made.gradient.copy(), made.loss))
    assert np.array_equal(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]


def test_nets_side_by_side_stop_early_as_the_callback_does():
    X, y = data(24, 3, 2)
    held, stop = (X[18:], y[18:]), fastnn.EarlyStopping(patience=2)

    def layers(width):
        return [fastnn.Dense(width, "tanh"), fastnn.Dense(2, "softmax")]

    sweep = fastnn.Sweep(layers, width=[2, 3], seed=[0, 1], optimizer=fastnn.SGD(3.0), batch_size=8, standardize=True)
    found = sweep.fit(X[:18], y[:18], epochs=12, early_stopping=stop, validation_data=held, threads=1, keep=4)
    for trial in found.trials:
        net = fastnn.Sequential(layers(trial.values["width"]), seed=trial.values["seed"], standardize=True)
        settings = dict(optimizer=fastnn.SGD(3.0), batch_size=8, epochs=12, threads=1)
        history = net.fit(X[:18], y[:18], validation_data=held, callbacks=[stop], **settings)
        assert np.array_equal(trial.losses[0], history.loss)
        assert np.array_equal(trial.nets[0].parameters, net.parameters)
    assert any(trial.epochs < 12 for trial in found.trials)


def test_newtons_method_ends_where_the_gradient_is_zero():
    X, y = data(40, 3, 1, loss="binary_cross_entropy", dtype="float64")
    net = fastnn.Sequential([fastnn.Dense(1, "sigmoid")], dtype="float64")
    net.minimize(X, y, solver="newton-cholesky", tol=1e-9)
    assert np.abs(net.loss_and_gradient(X, y)[1]).max() < 1e-9


def test_a_frozen_net_gives_what_the_net_does():
    X, y = data(30, 5, 2)
    net = fastnn.Sequential([fastnn.Dense(9, "tanh"), fastnn.Dense(2, "softmax")], standardize=True)
    net.fit(X, y, epochs=1, batch_size=16)
    frozen, out = net.freeze(), np.empty((30, 2), np.float32)
    for x, row in zip(X.astype(np.float32), out, strict=True):
        fastnn.apply(frozen, x, row)
    assert_close(out, net.predict(X), "sum", "float32")


def test_divergence_is_silent_until_it_is_told():
    net, _, _ = pair(activations=("relu", "relu", "linear"), loss="mse", dtype="float32")
    X, y = data(loss="mse")
    with pytest.raises(fastnn.DivergedError):
        net.fit(X, y, optimizer=fastnn.SGD(1e20), epochs=10)
    assert np.isfinite(net.parameters).all()
