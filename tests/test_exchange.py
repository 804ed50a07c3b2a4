"""Nets in the ONNX format, run by ONNX's own reference and, where it is installed, by ONNX Runtime."""

import numpy as np
import pytest
import reference
from nets import data, pair
from tolerance import assert_close

import fastnn

onnx = pytest.importorskip("onnx")


def check(net, X, path):
    """Its outputs, as the file says, are the net's."""
    from onnx.reference import ReferenceEvaluator

    net.to_onnx(path)
    (outputs,) = ReferenceEvaluator(str(path)).run(None, {"X": X})
    # the format keeps alpha, and its reference the constants of gelu, in float32
    coarse = any(layer.alpha is not None or layer.activation.startswith("gelu") for layer in net.layers if layer.arrays)
    assert outputs.dtype == net.dtype
    assert_close(outputs, net.predict(X), "training", "float32" if coarse else net.dtype)
    return outputs


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


def test_onnx_runtime_runs_it(tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    net, _, _ = pair((5, 7, 6, 3), ("gelu", "silu", "softmax"), dtype="float32")
    X = data(dtype="float32")[0]
    outputs = check(net, X, tmp_path / "net.onnx")
    session = runtime.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    assert_close(session.run(None, {"X": X})[0], outputs, "training")


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
