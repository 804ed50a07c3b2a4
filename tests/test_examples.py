"""The examples run, draw, and show what their README says."""

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import recipes

pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")
pytest.importorskip("pandas")

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(path.stem for path in EXAMPLES.glob("*.py") if path.stem not in ("common", "training"))
# of MNIST, by nets that compile for seconds; the accuracy that the quick run reaches at least
READERS = {"convolution": 0.85, "recurrence": 0.5}
README = (EXAMPLES / "README.md").read_text(encoding="utf-8")


def has_its_data(name):
    """Whether there is what a script reads."""
    return name not in READERS or (recipes.data_directory() / "mnist.npz").is_file()


def printed_by(folder, *command):
    """What a process prints that runs examples as a user does, with pictures in `folder`."""
    tidy = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "FASTNN_DATA": str(recipes.data_directory())}
    command = [sys.executable, "-W", "error", *command, folder]
    ran = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, env=tidy)
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    return ran.stdout


def run(name, folder, *options):
    """What a script prints; its picture is then in `folder`."""
    if not has_its_data(name):
        pytest.skip(f"no mnist.npz in {recipes.data_directory()} (set FASTNN_DATA)")
    return printed_by(folder, EXAMPLES / f"{name}.py", *options, "--output")


# All in one process: what they import takes longer than what they do.
IN_TURN = """
import contextlib, io, json, runpy, sys
*scripts, folder = sys.argv[1:]
sys.path.insert(0, scripts[0].rpartition("/")[0])
printed = {}
for script in scripts:
    name = script.rpartition("/")[2].removesuffix(".py")
    sys.argv = [script, "--quick", "--output", f"{folder}/{name}"]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        runpy.run_path(script, run_name="__main__")
    printed[name] = out.getvalue()
print(json.dumps(printed))
"""


OTHERS = [name for name in SCRIPTS if name not in READERS]


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """(folder with one for each script, {name: what it printed})."""
    folder = tmp_path_factory.mktemp("quick")
    scripts = [(EXAMPLES / f"{name}.py").as_posix() for name in OTHERS]
    return folder, json.loads(printed_by(folder, "-c", IN_TURN, *scripts))


def assert_drawn(picture, printed):
    """It is all that was written, as the last line says, and shows something."""
    image = pytest.importorskip("PIL.Image")
    assert Path(printed.splitlines()[-1].removeprefix("wrote ")) == picture
    assert list(picture.parent.rglob("*.*")) == [picture]
    with image.open(picture) as drawn:
        assert min(drawn.size) > 400
        assert len(drawn.convert("RGB").getcolors(1 << 16)) > 10


@pytest.mark.parametrize("name", OTHERS)
def test_each_runs_and_draws(name, quick):
    folder, printed = quick
    assert_drawn(folder / name / f"{name}.png", printed[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_each_that_reads_digits_runs_and_draws(name, tmp_path):
    printed = run(name, tmp_path, "--quick")
    assert_drawn(tmp_path / f"{name}.png", printed)
    assert accuracies_in(printed)[-1] > READERS[name]


def test_one_runs_as_a_user_runs_it(tmp_path):
    assert run("log_loss", tmp_path / "new", "--quick").splitlines()[-1] == f"wrote {tmp_path / 'new' / 'log_loss.png'}"


def test_the_readme_shows_each_with_a_small_picture():
    assert re.findall(r"\]\((\w+)\.py\)", README) == re.findall(r"\]\((\w+)\.png\)", README)
    assert sorted(re.findall(r"\]\((\w+)\.py\)", README)) == SCRIPTS
    for name in SCRIPTS:
        assert (EXAMPLES / f"{name}.png").stat().st_size < 80_000


def numbers(line):
    """The numbers in a line."""
    return [float(number) for number in re.findall(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?", line)]


def accuracies_in(printed):
    """What an example that reads MNIST prints of them."""
    return [float(found) for found in re.findall(r"^accuracy on 10,000 test pictures.*: (\S+)$", printed, re.MULTILINE)]


def by_name(printed):
    """The numbers of each line that names a case: `case: 1.5 and 2`."""
    return {name: numbers(rest) for name, rest in re.findall(r"^([\w ,.]+): (.*)$", printed, re.MULTILINE)}


@pytest.mark.slow
def test_one_rate_is_too_small_one_right_and_one_diverges(tmp_path):
    printed = run("learning_rates", tmp_path)
    limit, costs = numbers(printed.splitlines()[0])[0], by_name(printed)
    small, right, large = (float(name.removeprefix("rate ")) for name in costs if name.startswith("rate"))
    assert small < right < limit < large
    assert costs[f"rate {right:g}"][1] < 0.5 < costs[f"rate {small:g}"][1]
    assert "diverged in epoch" in printed


@pytest.mark.slow
def test_sigmoid_units_are_slow(tmp_path):
    results = by_name(run("activations", tmp_path))
    (_, slow, slow_cost, *_), (_, tanh, tanh_cost, *_), (_, relu, relu_cost, *_) = (
        results[name] for name in ("sigmoid", "tanh", "relu")
    )
    assert slow > 5 * max(tanh, relu)
    assert slow_cost > 5 * max(tanh_cost, relu_cost)


@pytest.mark.slow
def test_neither_the_widest_nor_the_deepest_net_is_best(tmp_path):
    results = by_name(run("depth_and_width", tmp_path))
    medians, on_parity = (
        {numbers(name)[0]: found[-1] for name, found in results.items() if name.startswith(start)}
        for start in ("spirals", "parity")
    )
    assert list(medians) == [1, 2, 3, 4, 6, 8]
    assert on_parity[2] > on_parity[1] > on_parity[3] > on_parity[4]
    assert min(medians[2], medians[3]) > 0.98 > 0.96 > medians[1]
    assert medians[3] > medians[6] > medians[8]


@pytest.mark.slow
def test_the_best_rate_of_a_sweep_lies_below_one_that_diverges(tmp_path):
    printed = run("sweep", tmp_path)
    reached = {float(name.removeprefix("rate ")): found for name, found in by_name(printed).items()}
    rates = sorted(reached)
    assert [reached[rate][0] for rate in rates[:-1]] == [15, 15, 15] and reached[rates[-1]][0] < 15
    assert max(rates, key=lambda rate: reached[rate][-1]) == rates[-2]
    printed = run("sweep", tmp_path, "--quick", "--compare")
    assert all(f"GridSearchCV over {library}: best rate" in printed for library in ("fastnn", "sklearn"))


@pytest.mark.slow
def test_early_stopping_keeps_a_better_net(tmp_path):
    results = by_name(run("early_stopping", tmp_path))
    whole, stopped = results["to the end"], results["early stopping"]
    assert stopped[0] < whole[0] / 2
    assert whole[1] < stopped[1]  # cost
    assert stopped[-1] > whole[-1] + 0.05  # accuracy on the test images


@pytest.mark.slow
def test_large_nets_gain_most_from_few_images_and_all_gain_from_more(tmp_path):
    results = by_name(run("scale", tmp_path))
    assert all(scores[-1] > scores[2] > scores[0] for scores in results.values())
    large = results.pop("large net")
    for scores in results.values():
        assert all(one > other for one, other in zip(large, scores, strict=True))


@pytest.mark.slow
def test_no_line_separates_the_petals_and_many_units_overfit(tmp_path):
    results = by_name(run("hidden_units", tmp_path))
    assert results["logistic regression"][0] < 0.6 < 0.9 < results["4 hidden units"][1]
    assert results["32 units"][0] > results["8 units"][0] and results["32 units"][1] < results["8 units"][1]


@pytest.mark.slow
def test_the_squared_error_is_not_convex_and_descends_less(tmp_path):
    printed = run("log_loss", tmp_path)
    lowest = [float(number) for number in re.findall(r"lowest curvature (\S+);", printed)]
    assert lowest[0] < -0.05 and lowest[1] > -1e-12
    assert [float(number) for number in re.findall(r"accuracy (\S+)", printed)] == [0.5, 0.94]


@pytest.mark.parametrize("name", [pytest.param("convolution", marks=pytest.mark.slow), "recurrence"])
def test_gradients_are_central_differences(name, monkeypatch):
    """Of each layer by itself, along a direction that changes all its parameters."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    script = importlib.import_module(name)
    theta, rng = script.start(script.SHAPES).astype(np.float64), np.random.default_rng(1)
    X, y, grad = rng.random((3, 28, 28)), np.array([[3.0], [0.0], [9.0]]), np.empty_like(theta)
    script.gradient(theta, X, y, grad)
    assert np.isfinite(grad).all()
    for i in range(len(script.SHAPES)):
        direction = np.zeros_like(theta)
        for part in script.layers(direction, script.SHAPES)[i]:
            part[...] = rng.normal(size=part.shape)
        ahead, behind = (script.gradient(theta + h * direction, X, y, np.empty_like(theta)) for h in (1e-6, -1e-6))
        assert (ahead - behind) / 2e-6 == pytest.approx(grad @ direction, rel=1e-6, abs=1e-8)


@pytest.mark.slow
def test_a_convolution_reads_digits(tmp_path):
    assert accuracies_in(run("convolution", tmp_path))[-1] > 0.98


@pytest.mark.slow
def test_a_recurrent_net_knows_more_with_each_row(tmp_path):
    after = accuracies_in(run("recurrence", tmp_path))
    assert after == sorted(after) and after[0] < 0.8 and after[-1] > 0.96


def test_the_digits_are_asked_for_where_they_are_missing(tmp_path):
    command = [sys.executable, EXAMPLES / "convolution.py", "--output", tmp_path]
    missing = {**os.environ, "FASTNN_DATA": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    ran = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, env=missing)
    assert ran.returncode == 1 and ran.stderr.startswith(f"{tmp_path / 'mnist.npz'} must be MNIST, as Keras keeps it")
