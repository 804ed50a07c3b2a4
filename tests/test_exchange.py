"""Nets in the ONNX format, run by ONNX's own reference and, where it is installed, by ONNX Runtime."""

from dataclasses import replace

import numpy as np
import pytest
import reference
from nets import data, pair
from tolerance import assert_close

import fastnn

onnx = pytest.importorskip("onnx")
try:
    import onnxruntime as runtime
except ImportError:
    runtime = None


def check(net, X, path):
    """Its outputs, as the file says, are the net's."""
    from onnx.reference import ReferenceEvaluator

    net.to_onnx(path)
    model, expected = onnx.load(path), net.predict(X)
    assert (model.opset_import[0].version, model.ir_version) == (13, 7)
    found = [ReferenceEvaluator(model).run(None, {"X": X})]
    if runtime is not None:
        session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        found.append(session.run(None, {"X": X}))
    for (outputs,) in found:
        assert outputs.dtype == net.dtype
        assert_close(outputs, expected, "training", net.dtype)


@pytest.mark.parametrize("name", reference.ACTIVATIONS)
def test_every_activation(name, dtype, tmp_path):
    net, _, _ = pair((5, 7, 6, 2), (name, name, "linear"), "mse", dtype=dtype)
    check(net, data(dtype=dtype)[0], tmp_path / "net.onnx")


@pytest.mark.parametrize("loss, output", [("binary_cross_entropy", "sigmoid"), ("cross_entropy", "softmax")])
def test_classifiers(loss, output, dtype, tmp_path):
    net, _, _ = pair((5, 7, 3), (("leaky_relu", 0.3), output), loss, dtype=dtype, drops=(0.1, 0.5))
    check(net, data(dtype=dtype)[0], tmp_path / "net.onnx")


def test_standardised(dtype, tmp_path):
    X, y = data(loss="mse", dtype=dtype)
    net = fastnn.Sequential([fastnn.Dense(7, "tanh"), fastnn.Dense(3)], dtype=dtype, standardize=True)
    net.fit(3 * X + 5, 10 * y - 20, epochs=2)
    check(net, 3 * X + 5, tmp_path / "net.onnx")


@pytest.mark.parametrize("name", sorted({*reference.ACTIVATIONS} - {"softmax"}))
def test_formulas_over_the_whole_range(name, dtype, tmp_path):
    """From one layer that hands its input to the activation: no product hides an error."""
    sizes = np.concatenate([np.geomspace(1e-12, 30.0, 200), [0.0]])
    X = np.concatenate([sizes, -sizes]).astype(dtype)[:, np.newaxis]
    net = fastnn.Sequential([fastnn.Dense(1, name), fastnn.Dense(1)], dtype=dtype).build(1)
    net.set_weights([[[1.0]], [0.0], [[1.0]], [0.0]])
    check(net, X, tmp_path / "net.onnx")


@pytest.mark.parametrize("name, z", [("softplus", -30.0), ("elu", -1e-12)])
def test_small_results_keep_their_digits(name, z, tmp_path):
    """Written as log(1 + e) and exp(z) - 1 they would lose them."""
    from onnx.reference import ReferenceEvaluator

    net = fastnn.Sequential([fastnn.Dense(1, name)], dtype="float64").build(1)
    net.set_weights([[[1.0]], [0.0]])
    net.to_onnx(tmp_path / "net.onnx")
    (outputs,) = ReferenceEvaluator(str(tmp_path / "net.onnx")).run(None, {"X": np.array([[z]])})
    np.testing.assert_allclose(outputs, net.predict([[z]]), rtol=1e-14)


def test_an_operator_of_a_later_version_raises_the_version(tmp_path, monkeypatch):
    record = replace(fastnn.backends.ACTIVATIONS["gelu"], onnx="Gelu")
    monkeypatch.setitem(fastnn.backends.ACTIVATIONS, "gelu", record)
    net, _, _ = pair((5, 7, 3), ("gelu", "linear"), "mse", dtype="float32")
    net.to_onnx(tmp_path / "net.onnx")
    model = onnx.load(tmp_path / "net.onnx")
    assert (model.opset_import[0].version, model.ir_version) == (20, 9)


def test_what_it_refuses(tmp_path):
    net, _, _ = pair()
    with pytest.raises(ValueError, match="path must be a path in a folder that exists"):
        net.to_onnx(tmp_path / "none" / "net.onnx")
    with pytest.raises(fastnn.NotBuiltError):
        fastnn.Sequential([fastnn.Dense(1)]).to_onnx(tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


def test_functions_of_the_user_have_no_place_in_it(tmp_path):
    from test_custom import GATE

    net = fastnn.Sequential([fastnn.Dense(4, GATE), fastnn.Dense(1)]).build(3)
    with pytest.raises(ValueError, match="net must be of activations that have names; got the functions gate, gate_"):
        net.to_onnx(tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


def test_inputs_and_outputs_have_names_and_shapes(tmp_path):
    net, _, _ = pair()
    net.to_onnx(tmp_path / "net.onnx")
    graph = onnx.load(tmp_path / "net.onnx").graph
    for value, name, columns in ((graph.input[0], "X", 5), (graph.output[0], "output", 3)):
        dimensions = value.type.tensor_type.shape.dim
        assert (value.name, dimensions[0].dim_param, dimensions[1].dim_value) == (name, "samples", columns)
    assert np.array_equal(onnx.numpy_helper.to_array(graph.initializer[0]), net.get_weights()[0])
