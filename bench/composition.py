"""Between Hydra and the suite: registering the schema, composing, and saying in one line what went wrong."""

import atexit
import contextlib
import functools
import io
import os
import re
import shutil
import socket
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import hydra
import yaml
from hydra import compose, initialize_config_dir
from hydra import main as hydra_main
from hydra._internal.utils import get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bench.config import conf_path
from bench.devices import NAMES, unknown_device
from bench.errors import BenchError, UsageError, nearest, unknown
from bench.optimizers.generated import register_optimizers
from bench.schema import Config
from bench.tasks.targets import image_configs

#: Hydra 1.3 behaves like older versions unless told; 1.4 has one behaviour and warns about the argument.
BEHAVIOUR: dict[str, str] = {"version_base": "1.3"} if hydra.__version__.startswith("1.3") else {}

#: Environment variable that conf/config.yaml reads Hydra's scratch folder from.
SCRATCH_VARIABLE = "BENCH_HYDRA_SCRATCH"

#: Folders that Hydra would make before the configuration is checked.
HYDRA_FOLDERS = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir", "hydra.output_subdir", "hydra.job.chdir")

COMPOSITION_ERRORS = (HydraException, OmegaConfBaseException)


@functools.cache
def register() -> None:
    """Register the typed schema, the choices that have no file of their own, and Hydra's scratch folder. Idempotent."""
    store = ConfigStore.instance()
    store.store(name="schema", node=_schema())
    for task, node in image_configs().items():
        data, _, network = task.partition("/")
        store.store(group=f"task/{data}", name=network, node=node, package="task")
    for device in NAMES:
        if ":" in device:
            store.store(group="device", name=device, node={"name": device})
    register_optimizers(conf_path())
    # For conf/config.yaml: Hydra saves a file about every multirun, and it is not to land in the user's folder.
    os.environ[SCRATCH_VARIABLE] = _scratch()


def _schema() -> DictConfig:
    """Return the typed schema, open where a task's knobs and an optimizer's arguments have names of their own.

    Hydra refuses unknown keys as soon as it sees them, which in a multirun is before it knows which task or optimizer a
    cell has; `bench.config.resolve` checks these names when it does.
    """
    schema: DictConfig = OmegaConf.structured(Config)
    for node in (schema.task.knobs, schema.optimizer.arguments):
        OmegaConf.set_struct(node, False)
    return schema


@functools.cache
def _scratch() -> str:
    """Return a folder for the files Hydra writes about a multirun; it goes with the process."""
    path = tempfile.mkdtemp(prefix="bench-hydra-")
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def complete(arguments: Sequence[str], commands: Sequence[str]) -> None:
    """Answer a shell that completes a command line: Hydra's keys and choices after `bench run`, else commands.

    `eval "$(bench -sc install=bash)"` installs it, and likewise for zsh and fish; the shell then asks through
    `bench -sc query=bash` with the line in COMP_LINE.

    Args:
        arguments: What stands after `bench`, beginning with -sc or --shell-completion.
        commands: Names of the commands.
    """
    line = os.environ.get("COMP_LINE", "")
    command, _, rest = line.partition(" ")[2].lstrip().partition(" ")
    asked = any(word.startswith("query=") for word in arguments)
    if asked and (command != "run" or line.endswith("run")):
        print(" ".join(name for name in commands if name.startswith(command)))
        return
    if asked:
        os.environ["COMP_LINE"] = f"bench {rest}"
    run_hydra(arguments, "bench")


#: Said of a single run of what has a grid.
ONE_OF_A_GRID = "this experiment is a grid; without -m only one cell of it is run"


def run_hydra(
    arguments: Sequence[str], program: str = "bench run", elsewhere: Callable[[DictConfig], int] | None = None
) -> tuple[list[DictConfig], str]:
    """Let Hydra parse the command line: compose a single run, hand a multirun to its launcher, or print help.

    Args:
        arguments: What stands after `bench run`.
        program: How Hydra is to call the program.
        elsewhere: Runs one configuration and returns an exit code. Called in processes that a launcher such as joblib's
            makes, which have no other way to hand over what they composed.

    Returns:
        The composed configuration of a single run, or several where Hydra's own basic launcher was asked to run a
        grid; none where Hydra has only printed something. And what is to be said of it once it is known to be valid.

    Raises:
        UsageError: The command line does not compose.
        SystemExit: A multirun has ended, with its exit code.
    """
    _check_flags(arguments)
    register()
    composed: list[DictConfig] = []
    notes: list[str] = []
    here = socket.gethostname(), os.getpid()

    def take(config: DictConfig) -> int | None:
        if elsewhere is not None and (socket.gethostname(), os.getpid()) != here:
            return elsewhere(config)
        settings = HydraConfig.get()
        if settings.mode == RunMode.RUN and settings.sweeper.params:
            notes.append(ONE_OF_A_GRID)
        composed.append(config)
        return None

    # Hydra ends with a traceback or several lines of its own otherwise; here its exceptions become one line.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    before = sys.argv
    sys.argv = [program, *arguments]
    try:
        with composing():
            hydra_main(config_path=str(conf_path()), config_name="config", **BEHAVIOUR)(take)()
    finally:
        sys.argv = before
    return composed, "".join(notes)


#: Set once a multirun is composed: what goes wrong then is no mistake of the person's.
_LAUNCHED = threading.Event()


def launched() -> None:
    """Say that the multirun which Hydra runs just now is composed."""
    _LAUNCHED.set()


@contextlib.contextmanager
def composing() -> Iterator[None]:
    """Say in one line what Hydra, OmegaConf and YAML raise about what they are given, of whatever type it is.

    Raises:
        UsageError: Instead of it, unless a multirun was launched meanwhile.
    """
    _LAUNCHED.clear()
    try:
        with warnings.catch_warnings():
            # Hydra's advice on how a file might be written beside the line that says what is wrong with it.
            warnings.filterwarnings("ignore", category=UserWarning, module=r"hydra\.")
            yield
    except BenchError:
        raise
    # A file of the person's own can hold anything, and they look into it without asking what it is.
    except Exception as error:
        if _LAUNCHED.is_set():
            raise
        raise usage_error(error) from None


def _check_flags(arguments: Sequence[str]) -> None:
    """Refuse flags that Hydra would refuse in several lines, and the one by which it unpickles, and so runs, a file.

    Raises:
        UsageError: A flag is unknown, or has no or another value than it may.
    """
    with contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            asked = get_args_parser().parse_args(arguments)
        except SystemExit as ended:
            if not ended.code:
                raise
            message = said.getvalue().strip().partition("error: ")[2]
            if message.startswith("unrecognized arguments: ") and "=" in message:
                message += "; overrides stand together, all before or all after the flags"
            raise UsageError(f"{message} (see bench run --help)") from None
    for word in asked.overrides:
        key = word.partition("=")[0].lstrip("+~")
        if key in HYDRA_FOLDERS:
            raise UsageError(
                f"{key}: the suite has no use for Hydra's own folders; results_root=… says where records go"
            )
    if asked.experimental_rerun is not None:
        raise UsageError(
            "--experimental-rerun: runs what a pickle says; `bench verify` and `bench retry` run cells again"
        )


def compose_config(overrides: Sequence[str]) -> DictConfig:
    """Compose one configuration from overrides, as `bench run` would.

    Raises:
        UsageError: The overrides do not compose.
    """
    register()
    with composing(), initialize_config_dir(config_dir=str(conf_path()), **BEHAVIOUR):
        return compose("config", overrides=list(overrides))


def usage_error(error: Exception) -> UsageError:
    """Say in one line what does not compose: what was given, what is allowed, the nearest match."""
    if isinstance(error, yaml.YAMLError):
        return _not_yaml(error)
    if isinstance(error, RecursionError):
        return UsageError("the configuration is nested too deeply, or refers to itself")
    while isinstance(error, ConfigCompositionException) and isinstance(error.__cause__, COMPOSITION_ERRORS):
        if "Could not override" in str(error):
            break
        error = error.__cause__
    text = str(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _missing_choice(error)
    override = re.search(r"Could not override '([^']+)'", text)
    if override:
        cause = _root_cause(error)
        if "is not in struct" in cause or "not in" in cause or override[1] not in known_keys():
            return unknown_key(override[1])
        return UsageError(f"{override[1]}: {cause}")
    ambiguous = re.search(r"Ambiguous value for argument '([^']+)'", text)
    if ambiguous:
        return UsageError(f"{ambiguous[1]}: several values need -m (multirun); a list is written key=[a,b]")
    if isinstance(error, OverrideParseException):
        return UsageError(f"cannot read the override {error.override!r}; write key=value")
    key = re.search(r"full_key: (\S+)", text)
    first = text.strip().splitlines()[0] if text.strip() else type(error).__name__
    if not isinstance(error, COMPOSITION_ERRORS):
        first = f"the configuration cannot be composed: {type(error).__name__}: {first}"
    return UsageError(f"{key[1]}: {first}" if key and key[1] not in first else first)


def _not_yaml(error: yaml.YAMLError) -> UsageError:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    where = f"{mark.name.strip()}, line {mark.line + 1}" if mark else getattr(error, "name", "a configuration file")
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
    return UsageError(f"{where}: not YAML that configurations have: {problem}")


def _missing_choice(error: MissingConfigException) -> UsageError:
    group, _, name = str(error.missing_cfg_file).partition("/")
    if group == "hydra":
        inner, _, name = name.partition("/")
        group = f"hydra/{inner}"
    if group == "device":
        return unknown_device(name)
    options = choices(group)
    return unknown(group, name, options) if options else UsageError(str(error).splitlines()[0])


def choices(group: str) -> list[str]:
    """Return the names of a configuration group, `/` for nested folders, but for `default`.

    They are the files under conf/ and, beside them, what was registered in code.
    """
    register()
    folder = conf_path() / group
    names = {path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml")}
    node: Any = ConfigStore.instance().repo
    for part in group.split("/"):
        node = node.get(part, {})
    return sorted({*names, *_registered(node)} - {"default"})


def _registered(node: dict[str, Any]) -> Iterator[str]:
    for name, value in node.items():
        if isinstance(value, dict):
            yield from (f"{name}/{inner}" for inner in _registered(value))
        else:
            yield name.removesuffix(".yaml")


def choice(group: str, name: str) -> DictConfig:
    """Return one choice of a configuration group as it stands, uncomposed: from its file, else as registered."""
    path = conf_path() / group / f"{name}.yaml"
    if path.is_file():
        loaded = OmegaConf.load(path)
        assert isinstance(loaded, DictConfig)
        return loaded
    node: DictConfig = ConfigStore.instance().load(f"{group}/{name}.yaml").node
    return node


def about(group: str, name: str) -> str:
    """Return the comment that a configuration file begins with; empty for a choice registered in code."""
    path = conf_path() / group / f"{name}.yaml"
    if not path.is_file():
        return ""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("# @package"):
            continue
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return " ".join(lines)


def known_keys() -> list[str]:
    """Return every key that can be overridden, dotted, and the groups."""

    def walk(node: Any, prefix: str) -> list[str]:
        keys = []
        for key, value in node.items():
            name = f"{prefix}{key}"
            keys.append(name)
            if isinstance(value, dict):
                keys.extend(walk(value, f"{name}."))
        return keys

    schema = OmegaConf.to_container(OmegaConf.structured(Config))
    groups = {path.name for path in conf_path().iterdir() if path.is_dir()} - {"hydra"}
    return sorted({*walk(schema, ""), *groups, "hydra/launcher"})


def unknown_key(key: str) -> UsageError:
    """Build the error for an override of a key that does not exist."""
    close = nearest(key, known_keys())
    hint = f"; did you mean {close!r}?" if close else ""
    return UsageError(f"unknown config key {key!r}{hint} (all keys: bench run --cfg job)")


def _root_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
