# ruff: noqa: E501, RUF005 - the pools are easier to read as long lines
"""Command lines and config files as people, typos and other programs make them."""

from dataclasses import dataclass, field

import yaml
from hypothesis import strategies as st

from bench.composition import choices, known_keys
from bench.tasks.catalogue import DATA_SETS, NETWORKS, PROBLEMS
from tests.fuzzing.template import FAILED, SWEEP

#: A configuration of which a cell is trained in a fraction of a second; broken words come after it, or before.
TINY = [
    *("task=regression/linear", "lr=[0.01,0.1]", "seeds=1", "budget.epochs=null", "budget.steps=3", "tracker=none"),
    *("measure.windows=1", "measure.window_seconds=0.001", "measure.warmup_steps=1"),
]

GROUPS = ("task", "optimizer", "schedule", "batch_schedule", "rule", "budget", "device", "tracker", "experiment")
#: Values that are at home somewhere, at the edge of something, or nowhere.
NUMBERS = (
    *("0", "1", "2", "3", "-1", "64", "full", "007", "1e3", "1_000", "0x10", "1.5", "-0.0", "1e-400", "1e400", "nan"),
    *("-inf", "inf", ".inf", ".nan", "9223372036854775807", "9223372036854775808", "99999999999999999999", "1e308"),
    *("1000000000", "-9223372036854775809", "1e-320", "٣", "½", "1,000", "1e", "--1", "+1", "0b1", "0o7", "1" * 5000),
)
WORDS = (
    *("true", "false", "null", "None", "on", "off", "auto", "yes", "~", "", " ", "''", '""', "'a b'", '"\\""', "\\"),
    *("sgd", "SGD", "adam", "cpu", "cuda:0", "cuda:-1", "gpu", "float32", "keep", "val_loss", "torch.optim:SGD", "???"),
    *("=cmd|' /C calc'!A0", "@SUM(1)", "<script>alert(1)</script>", "%s%n{0}", "a" * 300, "/" * 50, "a:b", "a=b"),
    *("nowhere.py:Thing", "planted.py:Planted", "planted.py", "planted:planted", "planted.py:other", ":", "os:system"),
    *("../x", "../../over/x", "./x", "x/y", "x/../../y", ".", "..", ".hidden", "-x", "con", "/dev/null", "/dev/null/x"),
    *("/proc/nothing", "~", "~nobody/x", "records.txt", "file", "results", "results/fuzzed", "a\nb", "a\tb", "a\x00b"),
    *(
        "\x1b[31mred",
        "\u2028",
        "\u202eevil",
        "\ud800",
        "é",
        "日本",
        "😀",
        "\ufeff",
        "a\rb",
        "\x85",
        "#",
        "a#b",
        "a //b",
    ),
)
STRUCTURES = (
    *(
        "[]",
        "[[]]",
        "[1,[2]]",
        "[,]",
        "[1,",
        "]",
        "{}",
        "{a:1}",
        "{a:1",
        "}",
        "{:}",
        "[null]",
        "[nan]",
        "[true,1]",
        "(1)",
    ),
    *("[a,b]", "[1,-2]", "[0.1,0.1]", "{a:{b:{c:[1]}}}", "[" * 200 + "]" * 200, "{a:" * 60 + "1" + "}" * 60),
    *("[plain_sgd]", "[1e400]", "[0,1,2,3]", "[99999999999999999999]", "{lr:0.1}", "{momentum:0.9}", "{betas:[0.9]}"),
)
SWEEPS = (
    *("1,2", ",", "1,", ",1", "a,b", "1,nan", "choice()", "choice(1,2)", "range(1,4)", "range(0)", "range(1,4,0)"),
    *("range(3,1)", "range(0,100000000)", "interval(0,1)", "glob(*)", "glob([*],exclude=a*)", "shuffle(1,2)"),
    *("sort(3,1)", "tag(a,choice(1,2))", "str([1])", "int(x)", "float(nan)", "bool(2)", "json_str(1)", "nothing(1)"),
    *("extend_list(1)", "choice(choice(1,2),3)", "[1],[2]", "{a:1},{a:2}", "'1,2'", "range(1.5)", "sort()", "cast(1)"),
)
INTERPOLATIONS = (
    *(
        "${seeds}",
        "${nothing}",
        "${oc.env:HOME}",
        "${oc.env:NOT_THERE}",
        "${oc.env:NOT_THERE,1}",
        "${",
        "$",
        "$x",
        "${}",
    ),
    *("${..seeds}", "${.}", "${oc.decode:1}", "${oc.decode:'[1'}", "${oc.create:{a:1}}", "${hydra:job.name}", "${lr}"),
    *(
        "${oc.select:nothing,3}",
        "${oc.select:seeds}",
        "${task.name}",
        "${batch_size}",
        "${eval:1+1}",
        "${oc.dict.keys:task}",
    ),
    *(
        "${sweep}${sweep}",
        "${task}",
        "${hydra:runtime.cwd}",
        "a${seeds}b",
        "${${sweep}}",
        "\\${seeds}",
        "${oc.deprecated:x}",
    ),
)
KNOBS = (
    "examples",
    "features",
    "noise",
    "hidden",
    "label_noise",
    "subset",
    "dimensions",
    "condition",
    "hiden",
    "inputs",
)
ARGUMENTS = ("momentum", "betas", "nesterov", "eps", "momentm", "lr", "params", "maximize", "dampening", "foreach")
TEXT = st.text(max_size=12).map(lambda text: text.replace("/", ""))


@dataclass(frozen=True)
class Line:
    """A command line with what it finds in the current folder.

    Attributes:
        words: What stands after `bench`.
        files: Path → content of files that the template does not have.
    """

    words: tuple[str, ...]
    files: dict[str, bytes] = field(default_factory=dict)


def values() -> st.SearchStrategy[str]:
    return st.one_of(*(st.sampled_from(pool) for pool in (NUMBERS, WORDS, STRUCTURES, SWEEPS, INTERPOLATIONS)), TEXT)


def _typo(name: str) -> st.SearchStrategy[str]:
    """A name with a letter missing, twice, exchanged, or in the other case."""
    at = st.integers(0, max(len(name) - 1, 0))
    return st.one_of(
        at.map(lambda i: name[:i] + name[i + 1 :]),
        at.map(lambda i: name[:i] + name[i : i + 1] + name[i:]),
        at.map(lambda i: name[:i] + "x" + name[i + 1 :]),
        st.just(name.upper()),
        st.just(f" {name}"),
        st.just(f"{name}."),
        st.just(f".{name}"),
        st.just(f"{name}.deeper.still"),
    )


def _mistyped(names: list[str]) -> st.SearchStrategy[str]:
    known = st.sampled_from(names)
    return st.one_of(known, known, known, known.flatmap(_typo))


def keys() -> st.SearchStrategy[str]:
    knobs = st.sampled_from(KNOBS).map("task.knobs.{}".format)
    arguments = st.sampled_from(ARGUMENTS).map("optimizer.arguments.{}".format)
    hydra = st.sampled_from(
        (
            "hydra.launcher.workers",
            "hydra.sweeper.params",
            "hydra.sweeper.params.lr",
            "hydra.run.dir",
            "hydra.job.chdir",
        )
        + ("hydra.sweep.dir", "hydra.output_subdir", "hydra.mode", "hydra.job.name", "hydra.nothing", "hydra/launcher")
        + ("hydra.searchpath", "hydra.verbose", "hydra/sweeper", "hydra/job_logging", "hydra.sweeper.max_batch_size")
    )
    schema = _mistyped(known_keys())
    return st.one_of(schema, schema, schema, knobs, arguments, hydra)


def group_choices() -> st.SearchStrategy[str]:
    """An override that chooses a file, mostly one that is there."""

    def of(group: str) -> st.SearchStrategy[str]:
        return _mistyped(choices(group)).map(lambda name: f"{group}={name}")

    return st.sampled_from(GROUPS).flatmap(of)


def overrides() -> st.SearchStrategy[str]:
    prefix = st.sampled_from(("", "", "", "", "+", "++", "~", "-", "--", "+ "))
    equals = st.sampled_from(("=", "=", "=", "=", "=", "==", ":", " = ", "", "=="))
    assigned = st.builds("{}{}{}{}".format, prefix, keys(), equals, values())
    deleted = keys().map("~{}".format)
    # What is valid by its kind, far from or at the edges of its range.
    numbers = st.builds(
        "{}={}".format,
        st.sampled_from([key for key in known_keys() if "." in key or key in ("batch_size", "lr", "seeds")]),
        st.one_of(
            st.integers(-2, 100),
            st.integers(),
            st.floats(allow_subnormal=False),
            st.floats(0, 1),
            st.integers(0, 2**70),
        ).map(str),
    )
    words = st.one_of(group_choices(), assigned, numbers, assigned, deleted, values())
    return words | st.sampled_from(
        ("task=mnist/mlp", "task=custom", "task.module=planted.py:planted", "optimizer.target=planted.py:Planted")
        + ("task=", "task@x=quadratic/deep", "optimizer@optimizer:other=sgd", "task=[]", "task=quadratic/deep,nqm")
        + ("task.data=" + ",".join([*DATA_SETS, *PROBLEMS]), "task.model=" + ",".join(NETWORKS), "batch_size=full,1,2")
        + ("sweep=${oc.env:HOME}", "results_root=${sweep}", "task.knobs={}", "task.knobs.examples=1000000000000")
        + ("batch_size=${batch_size}", "seeds=1000000000000", "lr=${oc.create:[1]}", "optimizer.lr_log2=[-126,127]")
    )


def _run_flags() -> st.SearchStrategy[list[str]]:
    flags = st.sampled_from(
        (["-m"], ["--multirun"], ["--cfg", "job"], ["--cfg", "all"], ["--cfg", "x"], ["--cfg"], ["--help"], ["-h"])
        + (["--hydra-help"], ["--info"], ["--info", "defaults"], ["--info", "x"], ["--package", "task", "-c", "job"])
        + (["--config-dir", "mine"], ["--config-dir", "nowhere"], ["-cd", "mine"], ["--config-name", "other"], ["-cn"])
        + (["--config-name", "../x"], ["--config-path", "mine"], ["--config-path", "pkg://os"], ["--resolve"], ["-r"])
        + (["--run"], ["--version"], ["--nothing"], ["-x"], ["--experimental-rerun", "mine.pickle"], ["--"], ["-"])
        + (["-sc", "query=bash"], ["-sc", "install=bash"], ["-sc", "x"], ["--cfg", "job", "--resolve"], ["-m", "-m"])
        + (["-m", "--cfg", "job"], ["--cfg=hydra"], ["--config-dir=mine", "-m"], ["--package", "_global_"], ["-e"])
    )
    some = st.just(list[str]())
    return st.one_of(some, some, some, st.just(["-m"]), st.just(["-m"]), flags)


@st.composite
def run_lines(draw: st.DrawFn) -> Line:
    broken = draw(st.lists(overrides(), max_size=draw(st.integers(0, 3))))
    base = TINY if draw(st.integers(0, 7)) else []
    place = len(base) if draw(st.integers(0, 7)) else 0
    words = [*base[:place], *broken, *base[place:]]
    flags = draw(_run_flags())
    at = draw(st.sampled_from((0, len(words))))
    return Line(("run", *words[:at], *flags, *words[at:]))


@st.composite
def option_lines(draw: st.DrawFn) -> Line:
    """Lines of every command but `run`: its own options, in any number, with any value."""
    sweeps = st.one_of(
        st.sampled_from(
            (SWEEP, SWEEP, SWEEP, FAILED, f"results/{SWEEP}", f"results/{SWEEP}/", "empty", "file", "fuzed")
        ),
        values(),
    )
    folder = st.sampled_from(
        (
            "out",
            "out/deep",
            "results",
            "file",
            "file/x",
            "/dev/null",
            "/proc/nothing/x",
            ".",
            "",
            "a\x00b",
            "é",
            "x" * 300,
        )
    )
    number = st.sampled_from(NUMBERS)
    anything = values()
    cases = st.sampled_from(("planted.py", "nowhere", ".", "", "planted.py::test", "a\x00b"))
    options: dict[tuple[str, ...], tuple[int, dict[str, st.SearchStrategy[str] | None]]] = {
        ("report",): (1, {"-o": folder, "--claims": anything, "--also": sweeps, "--language": st.sampled_from(
            ("en", "zh", "zhh", "", "../en", "en.yaml")), "--results-root": folder, "--skip-unreadable": None}),
        ("export",): (1, {"-o": folder, "--format": st.sampled_from(("csv", "parquet", "xls", "")), "--results-root": folder,
            "--skip-unreadable": None}),
        ("status",): (1, {"--json": None, "--watch": None, "--results-root": folder}),
        ("verify",): (1, {"-n": number, "--allow-code": None, "--results-root": folder}),
        ("retry",): (1, {"--status": st.sampled_from(("failed", "failed,oom", "unavailable", "complete", "", ",", "faild")),
            "--workers": number, "--override": st.one_of(overrides(), st.sampled_from(("data.root=x", "data.download=no"))),
            "--results-root": folder}),
        ("merge",): (2, {"-o": folder, "--dry-run": None, "--results-root": folder}),
        ("compare",): (2, {"-o": folder, "--results-root": folder}),
        ("import",): (2, {"-o": folder}),
        ("list",): (1, {"--nothing": None}),
        ("wandb-check",): (1, {"--results-root": folder}),
        ("audit",): (0, {"-m": None}),
        ("frontier",): (0, {"--limit-mib": number, "--most": number, "-o": folder}),
        ("throughput",): (0, {"--rounds": number, "--control": anything, "--seed": number, "-o": folder, "-m": None}),
        ("speed",): (0, {}),
        ("speed", "run"): (0, {"--cases": cases, "-k": anything, "-m": anything}),
        ("speed", "check"): (0, {"--base": anything, "--base-python": st.sampled_from(("nowhere", "file", "", "/")),
            "--gate": number, "--budget": number, "--rounding": number, "--json": folder, "--history": folder,
            "--markdown": folder, "--cases": cases, "-k": anything}),
        ("speed", "self-test"): (0, {"--checks": number, "--injections": number, "--plain": number, "-o": folder}),
        ("speed", "engine"): (0, {"--rounds": number, "--device": anything, "-o": folder}),
        ("speed", "history"): (1, {"-o": folder, "-k": anything}),
        ("spede",): (1, {}),
        ("--version",): (0, {}),
        ("-sc",): (1, {}),
    }  # fmt: skip
    command = draw(st.sampled_from(sorted(options)))
    wanted, known = options[command]
    positional = {
        "import": st.sampled_from(("batch-science", "batch-sience", ".", "empty", "file", "results")),
        "list": st.one_of(st.sampled_from(("tasks", "measures", "claims", "experiments", "task", "")), anything),
        "history": st.sampled_from(("history.jsonl", "file", "results", "nowhere", "a\x00b", "")),
    }.get(command[-1], sweeps)
    count = max(0, wanted + draw(st.sampled_from((0, 0, 0, 0, 0, 0, -1, 1))))
    words = [draw(positional) for _ in range(count)]
    if command[0] in ("audit", "frontier", "throughput") and len(command) == 1:
        words += [*TINY, *draw(st.lists(overrides(), max_size=2))]
    if command == ("retry",) and draw(st.integers(0, 3)):
        words += ["--status", draw(st.sampled_from(("failed", "unavailable")))]
    for name in draw(st.lists(st.sampled_from(sorted(known)), max_size=3)) if known else ():
        value = known[name]
        words += [name] if value is None else [name, draw(value)]
    words += draw(st.sampled_from(([], [], [], [], [], [], ["--help"], ["--nothing"], ["-"], ["--"])))
    # A sweep that waits for what nobody runs is watched for ever, as it should be.
    files = {"history.jsonl": draw(st.sampled_from(HISTORIES))} if command[-1] == "history" else {}
    return Line((*command, *words), files)


HISTORIES = (
    *(b"", b"{}", b"{}\n" * 3, b"[1]\n", b"\xff\xfe\n", b'{"schema": 99}\n', b'{"schema": 1, "cases": 3}\n', b"null\n"),
    b'{"schema": 1, "time": "NaN", "cases": [], "base": {}, "head": {}}\n',
    b"[" * 100_000,
)

GOOD_YAML = """\
# @package _global_
# A grid of mine.
defaults:
  - override /task: regression/linear
  - override /tracker: none
sweep: mine
lr: [0.1]
seeds: 1
budget: {epochs: null, steps: 3}
measure: {windows: 1, window_seconds: 0.001, warmup_steps: 1}
hydra:
  sweeper:
    params:
      batch_size: 4,16
"""
BAD_YAML = (
    *("", "a", "- a", "a: b: c", "\tlr: 1", "lr: [1", "lr: 'a", "lr: !!python/object/apply:os.system ['touch ran']", "null"),
    *("lr: !!python/name:os.system", "lr: !Mine {a: 1}", "a: &a [*a]", "lr: *nothing", "lr: 1\nlr: 2", "? [a, b]\n: 1", "%TAG"),
    *("lr: 2020-01-01", "1: 2", "true: 1", "null: 1", ": 1", "{}: 1", "lr: 1_0", "lr: 0o7", "lr: 1:30", "---\na: 1\n---\nb: 2"),
    *("defaults: 3", "defaults: [3]", "defaults: [nothing]", "defaults: [{a: b, c: d}]", "defaults: [{/task: x}]", "\x00"),
    *("defaults: [{override /task: nothing}]", "defaults: [experiment: mine]", "defaults:\n  - override /experiment: mine"),
    *("defaults: [_self_, _self_]", "# @package nothing.deep\nlr: 1", "# @package\nlr: 1", "hydra: 3", "hydra: {sweeper: 3}"),
    *("hydra: {sweeper: {params: [a]}}", "hydra: {sweeper: {params: {lr: [1,2]}}}", "hydra: {sweeper: {params: {lr: null}}}"),
    *("hydra: {sweeper: {params: {1: 2}}}", "hydra: {sweeper: {params: {lr: ''}}}", "hydra: {sweeper: {params: {'': 1}}}"),
    *("hydra: {launcher: {workers: []}}", "hydra: {launcher: {_target_: os.system}}", "hydra: {run: {dir: x}}", "sweep: ???"),
    *("hydra: {callbacks: {a: {_target_: nothing.Nothing}}}", "lr: ${oc.env:NOT_THERE}", "lr: ${lr}", "sweep: ${oc.env:HOME}"),
    *("a: " + "[" * 300 + "]" * 300, "a: " + "{a: " * 300 + "1" + "}" * 300, "[" * 20_000, "lr: " + "9" * 5000, "lr: 0x" + "f" * 99),
    *("task: 3", "task: [1]", "task: null", "task: {knobs: 3}", "task: {name: {a: 1}}", "optimizer: {arguments: [1]}", "budget:"),
    *("optimizer: {fallback: 3}", "device: {threads: {}}", "seed: {data: null}", "tracker: {dir: {a: 1}}", "sweep: [a]", "seeds: {}"),
    *("batch_size: [1]", "batch_size: {a: 1}", "lr: {a: 1}", "measure: {at_evaluations: 3}", "training: {stack: []}", "a: !!set {b}"),
    *("training: {stack: {a: 1}}", "lr: !!binary aGk=", "sweep: !!binary aGk=", "lr: !!timestamp 2020-01-01", "seeds: [[1]]"),
    *("task: {knobs: {examples: [1]}}", "task: {knobs: {1: 2}}", "optimizer: {arguments: {1: 2}}", "precision: [float32]"),
    *("schedule: {milestones: [a]}", "schedule: {milestones: {}}", "optimizer: {lr_log2: [a, b]}", "optimizer: {lr_log2: null}"),
)  # fmt: skip


def _yaml_values() -> st.SearchStrategy[object]:
    leaves = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_subnormal=False),
        values(),
        st.sampled_from((0, 1, -1, 2**63, 1e400)),
    )
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(("a", "name", "1")), inner),
        max_leaves=4,
    )


@st.composite
def _yaml(draw: st.DrawFn) -> bytes:
    kind = draw(st.integers(0, 5))
    if kind == 0:
        return draw(st.sampled_from(BAD_YAML)).encode()
    if kind == 1:
        return (GOOD_YAML + "\n" + draw(st.sampled_from(BAD_YAML))).encode()
    if kind == 2:
        # A letter or two of a good file are others, or it ends too early.
        raw = bytearray(GOOD_YAML.encode())
        for _ in range(draw(st.integers(1, 3))):
            raw[draw(st.integers(0, len(raw) - 1))] = draw(st.sampled_from(b"\x00\t :-[]{}'\"#&*!%\xff\n?,a0"))
        return bytes(raw[: draw(st.integers(1, len(raw)))]) if draw(st.booleans()) else bytes(raw)
    # A good file with some of its fields, or others, holding something else.
    plain = yaml.safe_load(GOOD_YAML)
    for key in draw(
        st.lists(st.sampled_from([*known_keys(), "defaults", "hydra", "hydra.sweeper.params"]), min_size=1, max_size=2)
    ):
        node, (*parents, last) = plain, key.split(".")
        for parent in parents:
            if not isinstance(node.get(parent), dict):
                node[parent] = {}
            node = node[parent]
        node[last] = draw(_yaml_values())
    return ("# @package _global_\n" + yaml.dump(plain, allow_unicode=True)).encode("utf-8", "surrogatepass")


@st.composite
def config_lines(draw: st.DrawFn) -> Line:
    """Lines that run a config file of one's own: an experiment, a task, an optimizer, a whole configuration."""
    content = draw(_yaml())
    group, word = draw(
        st.sampled_from(
            (("experiment", "experiment=mine"), ("experiment", "+experiment=mine"), ("task", "task=mine"))
            + (("optimizer", "optimizer=mine"), ("", "--config-name=mine"), ("budget", "budget=mine"), ("", "+mine=x"))
        )
    )
    where = draw(
        st.sampled_from((["--config-dir", "mine"], ["--config-dir", "mine"], ["hydra.searchpath=[file://mine]"]))
    )
    name = "/".join(filter(None, ("mine", group, "mine.yaml")))
    more = draw(st.sampled_from(([], ["-m"], ["-m"], ["--cfg", "job"])))
    base = [] if word == "experiment=mine" else TINY
    return Line(("run", *more, *where, word, *base), {name: content})


def lines() -> st.SearchStrategy[Line]:
    """Return command lines: a third of them runs, a third config files, a third other commands."""
    return st.one_of(run_lines(), config_lines(), option_lines())
