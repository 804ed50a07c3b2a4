"""What is shown of things: summaries and reprs, in a notebook, in help, by tab, and on the command line."""

import html.parser
import inspect
import re
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import numba
import numpy as np
import pytest
from nets import data, pair

import fastnn
from fastnn import __main__, studies

TYPES = re.compile(r": |->|\bNone\b \|")


def net_of(**settings):
    layers = [fastnn.Dense(4, "tanh"), fastnn.Dropout(0.1), fastnn.Dense(1, "sigmoid")]
    return fastnn.Sequential(layers, **settings)


def test_summary_is_a_table_and_says_where_the_net_stands():
    X, y = np.random.default_rng(0).normal(size=(20, 2)), np.arange(20) % 2
    net = net_of(standardize=True)
    assert net.summary().splitlines() == [
        "layer                       inputs   outputs    parameters",
        "standardize=True",
        "Dense tanh                       ?         4             ?",
        "Dropout(0.1)",
        "Dense sigmoid                    4         1             ?",
        "loss binary_cross_entropy, float32                       ?",
        "not built: the first fit finds the number of inputs",
    ]
    stands = []
    for change in (
        lambda: net.build(2),
        lambda: net.apply_gradient(np.ones_like(net.parameters), "sgd"),
        lambda: net.partial_fit(X, y),
        lambda: net.fit(X, y, epochs=2000),
        lambda: net.reset().build(2),
        lambda: net.set_weights([array + 1 for array in net.get_weights()]),
        lambda: net.reset(),
    ):
        change()
        assert str(net) == net.summary()
        stands.append(net.summary().splitlines()[-1])
    goes_on = ": the next fit goes on from here, and after reset() from the start"
    untrained = "not trained: the weights are those that it starts with"
    assert stands == [
        untrained,
        f"trained{goes_on}",
        f"trained for 1 epoch{goes_on}",
        f"trained for 2,001 epochs{goes_on}",
        untrained,
        f"trained{goes_on}",
        "not built: the first fit finds the number of inputs",
    ]


class Table(html.parser.HTMLParser):
    """The cells of a page, row by row, and its caption; every tag is closed in its order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.rows, self.caption = [], [], ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        if tag != "br":
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if self.open[-1] == "caption":
            self.caption += text
        else:
            self.rows[-1][-1] += text


def test_a_notebook_shows_the_same_table():
    net = net_of().build(1000)
    table = Table(net._repr_html_())
    assert table.rows == [
        ["layer", "inputs", "outputs", "parameters"],
        ["Dense tanh", "1,000", "4", "4,004"],
        ["Dropout(0.1)", "", "", ""],
        ["Dense sigmoid", "4", "1", "5"],
        ["all", "", "", "4,009"],
    ]
    assert table.caption.startswith("Sequential, loss binary_cross_entropy, float32not trained")


def test_names_of_functions_are_escaped():
    odd = numba.njit(lambda z: z), numba.njit(lambda z: 1.0)
    assert Table(fastnn.Sequential([fastnn.Dense(2, odd)])._repr_html_()).rows[1][0] == "Dense (<lambda>, <lambda>)"


class Own(fastnn.Callback):
    def __init__(self, limit, name="own", hidden=3):
        self.limit, self.name, self.kept = limit, name, hidden


@pytest.mark.parametrize(
    "thing, text",
    [
        (fastnn.EarlyStopping(), "EarlyStopping()"),
        (fastnn.EarlyStopping(3, monitor="loss"), "EarlyStopping(patience=3, monitor='loss')"),
        (fastnn.ReduceLROnPlateau(0.5, cooldown=2), "ReduceLROnPlateau(factor=0.5, cooldown=2)"),
        (fastnn.Log(print, every=2), "Log(<built-in function print>, every=2)"),
        (Own(0.25, name="mine"), "Own(0.25, name='mine')"),
        (Own(np.arange(3)), "Own(array([0, 1, 2]))"),
        (fastnn.Adam(clip_norm=1.0), "Adam(0.001, clip_norm=1)"),
        (fastnn.SGD(fastnn.StepDecay(0.1, 2, 3), nesterov=True, momentum=0.9), None),
    ],
    ids=str,
)
def test_reprs_are_calls(thing, text):
    assert text is None or repr(thing) == text
    if text is None:
        assert repr(thing) == f"SGD({thing.learning_rate!r}, momentum=0.9, nesterov=True)"


def test_a_checkpoint_shows_its_path(tmp_path):
    pytest.importorskip("safetensors")
    assert repr(fastnn.Checkpoint("fit")) == "Checkpoint('fit')"


def public_functions():
    for module in (fastnn, fastnn.plot, studies):
        for name in module.__all__:
            thing = getattr(module, name)
            if inspect.isclass(thing) and not issubclass(thing, BaseException | tuple):
                yield from (
                    function for one, function in inspect.getmembers(thing, inspect.isfunction) if one[0] != "_"
                )
                yield thing.__init__
            elif inspect.isfunction(thing):
                yield thing


def test_help_shows_names_and_defaults():
    functions = list(public_functions())
    assert len(functions) > 100
    for function in functions:
        text = str(inspect.signature(function))
        assert not TYPES.search(text.replace("'", "")) and len(text) < 400, f"{function.__qualname__}{text}"
    assert str(inspect.signature(fastnn.Dropout)) == "(rate)"
    assert str(inspect.signature(fastnn.Sequential.evaluate)).startswith(
        "(self, X, y, sample_weight=None, threads=None"
    )


def test_tab_shows_what_is_public():
    assert set(dir(fastnn)) == {*fastnn.__all__, "kernels"}
    assert dir(fastnn.plot) == sorted(fastnn.plot.__all__) and dir(studies) == sorted(studies.__all__)
    net = pair()[0]
    shown = {name for name in dir(net) if not name.startswith("_")}
    assert {"fit", "predict", "reset", "summary", "loss", "parameters", "device"} <= shown
    assert not {"kept", "program", "state", "take", "training", "scales_targets"} & shown
    assert all(hasattr(net, name) for name in shown)
    assert "buffers" not in dir(net.fit(*data(), epochs=1))


def test_the_command_line_explains_itself(capsys):
    for arguments, parts in (
        (["--help"], ("usage: python -m fastnn", *__main__.COMMANDS, "--version")),
        (["bench", "--help"], ("--threads", "--json")),
        (["--version"], (f"fastnn {fastnn.__version__}",)),
    ):
        with pytest.raises(SystemExit) as ended:
            __main__.main(arguments)
        assert ended.value.code == 0
        printed = capsys.readouterr().out
        assert all(part in printed for part in parts)
    for arguments in (["nonsense"], ["warmup", "--epochs", "3"], ["--nonsense"]):
        with pytest.raises(SystemExit) as ended:
            __main__.main(arguments)
        assert ended.value.code == 2
        assert "error: " in capsys.readouterr().err


def test_versions_are_shown(capsys):
    assert __main__.main(["versions"]) == 0
    assert capsys.readouterr().out.startswith(f"fastnn{' ' * 14}{fastnn.__version__}\n")


@pytest.mark.parametrize("arguments", [[], ["--output", "pictures"], ["run", "--output", "pictures", "--epochs", "2"]])
def test_without_a_command_it_runs(arguments, monkeypatch):
    seen = []
    monkeypatch.setattr(__main__, "demonstrate", seen.append)
    monkeypatch.setattr(sys, "argv", ["fastnn", *arguments])
    for library in ("matplotlib", "sklearn", "tqdm"):
        pytest.importorskip(library)
    assert __main__.main() == 0
    assert seen[0].output == Path("pictures" if arguments else ".") and seen[0].epochs in (2, 100)


def test_the_script_is_the_command_line():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (script,) = project["scripts"].items()
    assert script[0] == "fastnn" and EntryPoint(*script, group="console_scripts").load() is __main__.main
