"""The callback that hands numbers on, and the recipes of docs/logging.md with the programs that they are for."""

import re
from pathlib import Path

import numpy as np
import pytest
from nets import data, pair

import fastnn

RECIPES = Path(__file__).parents[1] / "docs" / "logging.md"


def logged(every=1, **arguments):
    """(what a Log handed on, the history) of a fit of up to ten epochs."""
    calls, net = [], pair()[0]
    log = fastnn.Log(lambda numbers, epoch: calls.append((epoch, numbers)), every=every)
    arguments = dict(optimizer=fastnn.SGD(0.1), epochs=10, batch_size=7) | arguments
    return calls, net.fit(*data(), callbacks=[log, *arguments.pop("callbacks", ())], **arguments)


def test_it_hands_on_all_that_is_recorded():
    calls, history = logged(validation_data=data(), metrics=[mean_output])
    assert [epoch for epoch, _ in calls] == list(range(10))
    assert list(calls[0][1]) == ["loss", "validation_loss", "mean_output", "learning_rate", "elapsed"]
    for name in ("loss", "validation_loss", "learning_rate", "elapsed"):
        assert [numbers[name] for _, numbers in calls] == getattr(history, name).tolist()
    assert [numbers["mean_output"] for _, numbers in calls] == history.metrics["mean_output"].tolist()
    assert {type(value) for _, numbers in calls for value in numbers.values()} == {float}
    assert history.latest() == calls[-1][1]


def mean_output(truth, outputs):
    return float(np.mean(outputs))


@pytest.mark.parametrize(
    "every, stop_at, epochs",
    [(4, None, [0, 4, 8, 9]), (3, None, [0, 3, 6, 9]), (100, None, [0, 9]), (4, 7, [0, 4, 6]), (4, 5, [0, 4])],
)
def test_every_so_many_epochs_and_the_last(every, stop_at, epochs):
    calls, history = logged(every, callbacks=[lambda net, history: history.epochs == stop_at])
    assert [epoch for epoch, _ in calls] == epochs
    assert list(calls[0][1]) == ["loss", "learning_rate", "elapsed"]
    assert calls[-1][1]["loss"] == history.loss[-1]


def test_epochs_go_on_where_a_checkpoint_does(tmp_path):
    pytest.importorskip("safetensors")
    path, seen = tmp_path / "fit", []
    for epochs in (4, 10, 10):
        calls, _ = logged(3, epochs=epochs, callbacks=[fastnn.Checkpoint(path)], resume=path)
        seen.append([epoch for epoch, _ in calls])
    assert seen == [[0, 3], [6, 9], []]


def test_what_the_function_raises_comes_out():
    def fail(numbers, epoch):
        if epoch == 2:
            raise LookupError("mine")

    net, _, _ = pair()
    with pytest.raises(LookupError, match="mine"):
        net.fit(*data(), epochs=5, callbacks=[fastnn.Log(fail)])
    assert net.state.epoch == 3


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """A function that runs the recipe of a heading, where its library is there, and gives its names."""
    monkeypatch.chdir(tmp_path)

    def run(heading, library):
        pytest.importorskip(library)
        section = RECIPES.read_text(encoding="utf-8").partition(f"## {heading}\n")[2].partition("\n## ")[0]
        (block,) = re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
        X = np.random.default_rng(0).normal(size=(100, 2))
        net = fastnn.Sequential([fastnn.Dense(4, "tanh"), fastnn.Dense(1, "sigmoid")])
        names = {"fastnn": fastnn, "net": net, "X": X, "y": X[:, 0] > 0, "__name__": "recipe"}
        exec(compile(block, RECIPES, "exec"), names)
        return names

    return run


@pytest.mark.slow
def test_tensorboard(recipe, tmp_path):
    pytest.importorskip("tensorboard")
    recipe("TensorBoard", "tensorboardX")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "runs" / "first")).Reload()
    assert {"loss", "validation_loss", "learning_rate", "elapsed"} == set(events.Tags()["scalars"])
    points = events.Scalars("validation_loss")
    assert [point.step for point in points] == list(range(20)) and points[-1].value < points[0].value


@pytest.mark.slow
def test_mlflow(recipe, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tmp_path.joinpath("kept").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow = recipe("MLflow", "mlflow")["mlflow"]
    client = mlflow.MlflowClient()
    (run,) = client.search_runs(["0"])
    points = sorted(client.get_metric_history(run.info.run_id, "validation_loss"), key=lambda point: point.step)
    assert [point.step for point in points] == list(range(20)) and points[-1].value < points[0].value
    assert run.data.metrics["learning_rate"] == pytest.approx(1e-3)


@pytest.mark.slow
def test_weights_and_biases(recipe, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_SILENT", "true")
    recipe("Weights & Biases", "wandb")
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    kept, at, losses = path.read_bytes(), 7, {}
    assert len(kept) < 1 << 15  # one block of LevelDB's log: records are whole, each behind a header of seven bytes
    while at < len(kept):
        end = at + 7 + int.from_bytes(kept[at + 4 : at + 6], "little")
        history, at = Record.FromString(kept[at + 7 : end]).history, end
        values = {"".join(item.nested_key): item.value_json for item in history.item}
        if "validation_loss" in values:
            losses[history.step.num] = float(values["validation_loss"])
    assert list(losses) == list(range(20)) and losses[19] < losses[0]


def test_optuna(recipe):
    study = recipe("Optuna, with pruning", "optuna")["study"]
    states = [trial.state.name for trial in study.trials]
    assert len(states) == 20 and {"PRUNED", "COMPLETE"} == set(states)
    pruned = next(trial for trial in study.trials if trial.state.name == "PRUNED")
    assert 0 < len(pruned.intermediate_values) < 20
    assert study.best_value < 0.6
