"""What races found, as Markdown tables and as a chart: of one machine, and of all side by side."""

from statistics import median

import by_machine

# README is read off the repository, too
RAW = "https://raw.githubusercontent.com/fastnn-numba/fastnn/main/"
PAGES = "https://fastnn-numba.github.io/fastnn/"

TITLES = {
    "fastnn": "fastnn",
    "fastnn loop": "a loop of fit",
    "fastnn float32": "fastnn, float32",
    "fastnn halving": "fastnn, halving",
    "torch": "PyTorch",
    "torch sparse": "PyTorch, sparse",
    "torch.compile": "torch.compile",
    "jax": "JAX",
    "sklearn": "scikit-learn",
    "onnxruntime": "ONNX Runtime",
}
TRAINING = ("fastnn", "torch", "torch.compile", "jax", "sklearn")
SWEEPS = ("fastnn", "fastnn loop", "torch", "jax")
SEARCH = ("fastnn", "fastnn halving", "sklearn")
EMBEDDING = ("fastnn", "torch", "torch sparse")
BFLOAT16 = ("fastnn", "fastnn float32", "torch")
PREDICTION = ("fastnn", "onnxruntime", "torch", "sklearn")
SOLVERS = ("fastnn", "sklearn")
UNITS = {"us": 1.0, "ms": 1e3, "seconds": 1e6}  # in microseconds
SHORT_TABLES = ("training", "sweeps", "search", "embedding", "predict")  # whose judged rows README shows
SHORT_SIZES = (128, 512, 2048)  # of products, on the page of all machines
SWEPT = (
    "PyTorch trains all nets in one product a layer, JAX under vmap; both start from weights that are stacked and code "
    "that is compiled, and judge nothing. fastnn's time is that of the whole call, which makes the nets and judges "
    "each on 64 rows."
)
# Okabe and Ito's colours, told apart with every kind of colour vision
COLOURS = {
    "torch": "#E69F00",
    "torch.compile": "#D55E00",
    "jax": "#0072B2",
    "sklearn": "#009E73",
    "onnxruntime": "#CC79A7",
}


class NoMarkers(Exception):
    """A file without the place for the tables."""


def number(value, digits=3):
    """So many significant digits, whole numbers in full."""
    if value is None:
        return "–"
    size = len(str(int(abs(value)))) if abs(value) >= 1 else 0
    return f"{value:,.{max(0, digits - size)}f}"


def _of(row, library, what="us"):
    return row["libraries"].get(library, {}).get(what)


def _microseconds(row, library):
    """Time of a library in a row of any table, or None."""
    for unit, factor in UNITS.items():
        if (value := _of(row, library, unit)) is not None:
            return factor * value
    speed = _of(row, library, "gflops")
    return 2e-3 * row["n"] ** 3 / speed if speed else None


def _ratio(row):
    """The best peer's time over fastnn's."""
    peers = (_microseconds(row, library) for library in row["libraries"] if not library.startswith("fastnn"))
    best, own = min((us for us in peers if us is not None), default=None), _microseconds(row, "fastnn")
    return None if best is None or own is None else best / own


def _share(row):
    """What of the machine's peak, or of its roofline, fastnn reaches."""
    own = _microseconds(row, "fastnn")
    least = row["roofline"]["us"] if "roofline" in row else None
    if row.get("peak_gflops"):
        least = 2e-3 * row["n"] ** 3 / row["peak_gflops"]
    return f"{100 * least / own:.0f}%" if own and least else "–"


def table(head, rows):
    """A Markdown table; all columns but the first are numbers."""
    lines = [head, ["---"] + ["--:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _times(row, libraries, what="us"):
    times = {library: _of(row, library, what) for library in libraries}
    best = min((us for us in times.values() if us is not None), default=None)
    return [f"**{number(us)}**" if us is not None and us == best else number(us) for us in times.values()]


def _present(rows, libraries, what="us"):
    """The libraries that have a time in any row."""
    return [library for library in libraries if any(_of(row, library, what) is not None for row in rows)]


def _absences(rows):
    """One line on the libraries that were left out."""
    found = {}
    for row in rows:
        for library, entry in row["libraries"].items():
            if "left_out" in entry:
                found.setdefault((TITLES[library], entry["left_out"]), []).append(row["name"])
    lines = [
        f"{title} is left out{'' if len(names) == len(rows) else ' of ' + '; '.join(names)}: {why}."
        for (title, why), names in found.items()
    ]
    return " ".join(lines)


def _training(rows):
    libraries = _present(rows, TRAINING)
    head = ["µs a step", "cores", *(TITLES[library] for library in libraries), "best peer / fastnn", "of roofline"]
    lines = []
    for row in rows:
        limit = row.get("roofline")
        line = [row["name"], str(row["cores"]), *_times(row, libraries), number(_ratio(row)), _share(row)]
        lines.append([*line, number(limit["us"]), limit["bound"]] if limit else [*line, "–", "–"])
    return table([*head, "roofline", "set by"], lines)


def _sweeps(rows):
    libraries = _present(rows, SWEEPS)
    head = ["µs a step of a net", "cores", *(TITLES[library] for library in libraries), "best peer / fastnn"]
    lines = [
        [
            *(row["name"], str(row["cores"]), *_times(row, libraries), number(_ratio(row))),
            number(row.get("two_threads", {}).get("ratio")),
        ]
        for row in rows
    ]
    return table([*head, "fastnn, one thread / two"], lines)


def _searches(rows):
    """Seconds, the accuracy that was found and the share of the epochs that it took."""
    libraries, lines = _present(rows, SEARCH, "seconds"), []
    for row in rows:
        found = {what: [_of(row, library, what) for library in libraries] for what in ("seconds", "score", "share")}
        lines.append([f"{row['name']}, seconds", *map(number, found["seconds"]), number(_ratio(row))])
        lines.append(["... best mean accuracy", *(number(score, 4) for score in found["score"]), ""])
        lines.append(["... of all epochs", *(f"{share:.0%}" for share in found["share"]), ""])
    return table(["", *(TITLES[library] for library in libraries), "scikit-learn / fastnn"], lines)


def _calls(rows, what, libraries):
    """Times of one call, or of one step."""
    libraries = _present(rows, libraries)
    head = [what, "cores", *(TITLES[library] for library in libraries), "best peer / fastnn"]
    return table(head, [[row["name"], str(row["cores"]), *_times(row, libraries), number(_ratio(row))] for row in rows])


def _solvers(rows):
    """Times of fits, and the iterations that they took."""
    libraries = _present(rows, SOLVERS, "ms")
    head = ["ms to within 1e-4 of the least loss", "cores", *(TITLES[library] for library in libraries)]
    lines = []
    for row in rows:
        took = [_of(row, library, "iterations") for library in libraries]
        times = _times(row, libraries, "ms")
        lines.append([row["name"], str(row["cores"]), *times, number(_ratio(row)), " and ".join(map(str, took))])
    return table([*head, "scikit-learn / fastnn", "iterations"], lines)


def _products(rows):
    """Square sizes, then each odd size beside the next even one."""
    rows = {(row["order"], row["n"]): row for row in rows}
    ways = ("fastnn", "fastnn in @njit", "torch")
    lines = []
    for (order, n), row in rows.items():
        if n % 2 or (order, n - 1) in rows:
            continue
        speeds = [_of(row, way, "gflops") for way in ways]
        lines.append([f"{order} {n}", *(number(speed) for speed in speeds), number(_ratio(row)), _share(row)])
    parts = []
    if lines:
        parts = [table(["GFLOP/s", *ways[:2], "torch.mm", "fastnn / torch.mm", "fastnn of the peak"], lines)]
    lines = []
    for (order, n), row in rows.items():
        even = rows.get((order, n + 1))
        if n % 2 and even:
            pair = [_of(row, "fastnn", "gflops"), _of(even, "fastnn", "gflops")]
            ratio = pair[0] / pair[1] if None not in pair else None
            lines.append([f"{order} {n} and {n + 1}", *map(number, pair), number(ratio)])
    if lines:
        parts.append(table(["GFLOP/s of fastnn", "odd size", "even size", "odd / even"], lines))
    return parts


def _peaks(rows):
    """The measured roofline of each number of cores, the medians of all rounds."""
    by_cores = {}
    for row in rows:
        if "roofline" in row:
            by_cores.setdefault(row["cores"], []).extend(row["roofline"]["rounds"])
    levels = list(dict.fromkeys(level for rounds in by_cores.values() for level in rounds[0] if level != "flops"))
    lines = [
        [str(cores), *(number(median(each[key] for each in rounds) / 1e9) for key in ("flops", *levels))]
        for cores, rounds in sorted(by_cores.items())
    ]
    head = ["cores", "GFLOP/s", *(f"GB/s from {level}" for level in levels)]
    return table(head, lines) if lines else ""


def _conditions(result):
    """Lines on the machine, and on the runs that its rows come from."""
    found = {}
    for name in by_machine.TABLES:
        for row in result[name]:
            run = result["runs"][row["run"]]
            versions = ", ".join(f"{package} {version}" for package, version in run["versions"].items() if version)
            rounds = run["long_rounds"] if name in ("sweeps", "search") else run["rounds"]
            found.setdefault(f"{row['run'][:10]}, {versions}", []).append((name, rounds, row.get("seconds")))
    lines = [f"{by_machine.title(result)}, vectors of {result['vector width']}."]
    for run, rows in found.items():
        rounds = dict.fromkeys(f"{rounds}" for _, rounds, _ in rows)
        line = f"{len(rows)} row{'s' * (len(rows) > 1)} of {run}; median of {' or '.join(rounds)} rounds"
        seconds = [each for _, _, each in rows if each is not None]
        lines.append(line + (f"; took {_duration(1e6 * sum(seconds))}." if len(seconds) == len(rows) else "."))
    return "\n".join(lines if len(lines) < 3 else [lines[0], "", *(f"- {line}" for line in lines[1:])])


def _two_threads(rows):
    lines = [
        [row["name"], *(number(median(times)) for times in zip(*row["pairs"], strict=True)), number(row["ratio"])]
        for row in rows
    ]
    return table(["µs a step of fastnn", "one", "two", "one / two"], lines)


def markdown(result):
    """All tables of a machine."""
    parts = [_conditions(result)]
    for heading, name, make in (
        ("Training", "training", lambda rows: [_training(rows), _absences(rows), _peaks(rows)]),
        ("Two threads", "two_threads", lambda rows: [_two_threads(rows)]),
        ("Sweeps", "sweeps", lambda rows: [_sweeps(rows), SWEPT, _absences(rows)]),
        ("Searches", "search", lambda rows: [_searches(rows), _absences(rows)]),
        ("Training on codes", "embedding", lambda rows: [_calls(rows, "µs a step", EMBEDDING), _absences(rows)]),
        ("Training with bfloat16", "bfloat16", lambda rows: [_calls(rows, "µs a step", BFLOAT16), _absences(rows)]),
        ("Prediction", "predict", lambda rows: [_calls(rows, "µs a call", PREDICTION), _absences(rows)]),
        ("Solvers", "solvers", lambda rows: [_solvers(rows), _absences(rows)]),
        ("Products", "matmul", lambda rows: [*_products(rows), _absences(rows)]),
    ):
        if result[name]:
            parts += [f"## {heading}", *make(result[name])]
    return "\n\n".join(part for part in parts if part)


def _duration(us):
    """A time with its unit."""
    for unit, size in (("min", 6e7), ("s", 1e6), ("ms", 1e3)):
        if us is not None and us >= size:
            return f"{number(us / size)} {unit}"
    return "–" if us is None else f"{number(us)} µs"


def _rows(result, name, short):
    """{(name, cores): row} of a table that machines are compared by."""
    rows = {(row["name"], row["cores"] if "cores" in row else 1): row for row in result[name]}
    if name == "matmul":
        return {key: row for key, row in rows.items() if row["n"] in SHORT_SIZES}
    return {key: row for key, row in rows.items() if row.get("judged", True) or name == "sweeps" and not short}


def _cells(row):
    """Time of fastnn, that of the best peer over it, and the share of the roofline."""
    return ["–"] * 3 if row is None else [_duration(_microseconds(row, "fastnn")), number(_ratio(row)), _share(row)]


def _side_by_side(machines, tables, short):
    """The cells of all machines in each row of some tables."""
    head, lines = ["", "cores"], []
    for result in machines:
        head += [f"{by_machine.title(result)}: fastnn", "best peer / fastnn", "of roofline"]
    for name in tables:
        found = [_rows(result, name, short) for result in machines]
        for what, cores in dict.fromkeys(key for rows in found for key in rows):
            line = [what, str(cores)]
            for rows in found:
                line += _cells(rows.get((what, cores)))
            lines.append(line)
    return table(head, lines)


def whole(machines):
    """For the page on performance: all machines side by side."""
    rows = {row["name"]: None for result in machines for row in result["two_threads"]}
    ratios = [{row["name"]: row["ratio"] for row in result["two_threads"]} for result in machines]
    lines = [[name, *(number(ratio.get(name)) for ratio in ratios)] for name in rows]
    titles = [by_machine.title(result) for result in machines]
    compared = [name for name in by_machine.TABLES if name != "two_threads"]
    parts = [
        _side_by_side(machines, compared, short=False),
        "![How many times longer each library takes than fastnn](race.png)",
        table(["time of a step on one thread / on two", *titles], lines) if lines else "",
        "All times, versions and conditions: "
        + ", ".join(f"[{by_machine.title(result)}](race-{by_machine.slug(result)}.md)" for result in machines)
        + ".",
    ]
    return "\n\n".join(part for part in parts if part)


def short(machines):
    """For README: the judged rows of all machines side by side."""
    pages = (f"[{by_machine.title(result)}]({PAGES}race-{by_machine.slug(result)}.html)" for result in machines)
    parts = [
        _side_by_side(machines, SHORT_TABLES, short=True),
        f"![How many times longer each library takes than fastnn]({RAW}docs/race.png)",
        f"The times of all libraries, versions and dates: {', '.join(pages)}.",
    ]
    return "\n\n".join(parts)


def page(result):
    """The page of a machine."""
    made = "<!-- made by asv_bench/peers.py --readme -->"
    return f"{made}\n\n# The race: {by_machine.title(result)}\n\n{markdown(result)}\n"


def pages(machines, root):
    """{file: text} of README.md, the page on performance, and the page of each machine."""
    docs = root / "docs"
    texts = {docs / f"race-{by_machine.slug(result)}.md": page(result) for result in machines}
    for file, text in ((root / "README.md", short(machines)), (docs / "performance.md", whole(machines))):
        texts[file] = replaced(file, text)
    return texts


def publish(machines, root):
    """Renew these pages and the chart."""
    texts = pages(machines, root)
    for file in set((root / "docs").glob("race-*.md")) - set(texts):
        file.unlink()
    for file, text in texts.items():
        file.write_text(text, encoding="utf-8")
    draw(machines, root / "docs" / "race.png")


def around(file, mark="race"):
    """(before, begin, end, after): the markers of a file, and what stands around them."""
    begin, end = f"<!-- {mark}: begin -->", f"<!-- {mark}: end -->"
    try:
        before, found, rest = file.read_text(encoding="utf-8").partition(begin)
    except FileNotFoundError:
        raise NoMarkers(f"{file} does not exist; it must hold the lines {begin} and {end}") from None
    _, found_end, after = rest.partition(end)
    if not found or not found_end or begin in rest or end in after:
        raise NoMarkers(f"{file} must hold the lines {begin} and {end}, once and in this order")
    return before, begin, end, after


def replaced(file, text, mark="race"):
    """The content of a file with another text between its markers."""
    before, begin, end, after = around(file, mark)
    return f"{before}{begin}\n{text}\n{end}{after}"


def between(file, text, mark="race"):
    """Replace what stands between the markers of a file."""
    file.write_text(replaced(file, text, mark), encoding="utf-8")


def draw(machines, file):
    """A panel for each machine, a bar for each peer in each judged row: its time over fastnn's, as a logarithm."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    found = [_bars(result) for result in machines]
    keys = list(dict.fromkeys(key for bars in found for key in bars))
    groups = {
        key: [library for library in COLOURS if any(library in bars.get(key, {}) for bars in found)] for key in keys
    }
    places, at = {}, 0
    for key, libraries in groups.items():
        places[key], at = at, at + len(libraries) + 1
    size = 2.2 + 3.6 * len(machines), 0.9 + 0.155 * at
    figure, panels = pyplot.subplots(
        1, len(machines), figsize=size, dpi=150, sharey=True, squeeze=False, layout="constrained"
    )
    seen = {}
    for axes, bars, result in zip(panels[0], found, machines, strict=True):
        _panel(axes, bars, groups, places, seen)
        axes.set_title(by_machine.title(result), fontsize=9)
        axes.set_ylim(-at + 0.2, 1)
    labels = []
    for name, cores in keys:
        net, _, way = name.partition(", ")
        labels.append(f"{net}\n{way}, {cores} core{'s' * (cores > 1)}")
    panels[0][0].set_yticks([-places[key] - (len(groups[key]) - 1) / 2 for key in keys], labels, fontsize=7.5)
    figure.suptitle("Time of a training step or a prediction over fastnn's (1×); longer is slower", fontsize=9)
    order = [library for library in COLOURS if library in seen]
    figure.legend(
        [seen[library] for library in order],
        [TITLES[library] for library in order],
        loc="outside lower center",
        ncols=max(1, len(order)),
        frameon=False,
        fontsize=8,
    )
    figure.savefig(file, facecolor="white")
    pyplot.close(figure)


def _bars(result):
    """{(name, cores): {library: its time over fastnn's}} of the judged rows that have any."""
    rows = [row for row in result["training"] if row["judged"]] + result["predict"]
    bars = {}
    for row in rows:
        times = {library: _of(row, library) for library in COLOURS}
        ratios = {library: us / _of(row, "fastnn") for library, us in times.items() if us and _of(row, "fastnn")}
        if ratios:
            bars[row["name"], row["cores"]] = ratios
    return bars


def _panel(axes, bars, groups, places, seen):
    """The bars of a machine; puts one of each library into `seen`."""
    for key, ratios in bars.items():
        for library, ratio in ratios.items():
            y = -places[key] - groups[key].index(library)
            bar = axes.barh(y, ratio - 1, left=1, height=0.86, color=COLOURS[library])
            seen.setdefault(library, bar)
            axes.annotate(
                number(ratio, 2),
                (max(ratio, 1), y),
                xytext=(3, 0),
                textcoords="offset points",
                va="center",
                fontsize=6.5,
                color="#333333",
            )
    ratios = [ratio for each in bars.values() for ratio in each.values()]
    axes.set_xscale("log")
    axes.set_xlim(min([0.8, *(0.8 * ratio for ratio in ratios)]), max([10, *(1.8 * ratio for ratio in ratios)]))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}×")
    axes.xaxis.set_minor_formatter(lambda value, _: "")
    axes.axvline(1, color="black", linewidth=1)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8)
    axes.spines[["top", "right", "left"]].set_visible(False)
