"""One arm of a speed check: a process that runs pytest-benchmark cases at the pace that the check sets.

This file is run by path, in the interpreter and with the sources of the arm, so it imports nothing of this suite: the
standard library, pytest, and torch where a case has brought it. It collects the cases once. For each measurement it
forks, so that a case always starts from the same state; the child runs the test as pytest does, but with a `benchmark`
fixture that hands the function over to the check instead of timing it on its own.

Requests and replies are JSON, one a line, on two file descriptors:

    → {"op": "case", "id": …, "fork": true}   run a case; replies until {"event": "end"}
    → {"op": "call"}                          one call → {"seconds": …}
    → {"op": "facts", "values": PATH | null}  what repeats exactly → {"facts": {…}, "modules": {…}}
    → {"op": "visit", "calls": n, "blocks": k}  k blocks of n calls in a row → {"ns": [… k …]}
    → {"op": "delay", "ns": …}                spin so long after every call from now on (self-test) → {}
    → {"op": "instructions", "calls": n}      n calls with callgrind counting → {}
    → {"op": "stop"}                          leave the case
    → {"op": "quit"}                          end
"""

import functools
import gc
import hashlib
import importlib.metadata
import importlib.util
import itertools
import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

#: Calls after which parameters are compared, the one that `call` made included.
DIGEST_CALLS = 5


class Channel:
    """Requests in, replies out."""

    def __init__(self, requests: int, replies: int) -> None:
        self._requests = os.fdopen(requests, "rb", buffering=0)
        self._replies = replies

    def receive(self) -> dict[str, Any]:
        """Wait for the next request; the end of the check reads as the request to quit."""
        line = self._requests.readline()
        request: dict[str, Any] = json.loads(line) if line else {"op": "quit"}
        return request

    def send(self, **reply: Any) -> None:
        """Send a reply."""
        os.write(self._replies, json.dumps(reply).encode() + b"\n")

    def close(self) -> None:
        """Leave it to another process."""
        self._requests.close()
        os.close(self._replies)


class Paced(BenchmarkFixture):
    """Stands in for pytest-benchmark's fixture: same calls, but the check says when the function runs."""

    def __init__(self, channel: Channel, item: pytest.Item) -> None:
        # Not the parent's: it prepares a measurement. What a test may look at is here.
        self.name, self.fullname = item.name, item.nodeid
        called = getattr(item, "callspec", None)
        self.param, self.params = (called.id, called.params) if called is not None else (None, None)
        self.group: str | None = None
        self.extra_info: dict[str, Any] = {}
        self.stats = None
        self.disabled = True
        self.has_error = self.skipped = False
        self.used = False
        self._channel = channel

    def __call__(self, function_to_benchmark: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Serve calls of a function until the check has enough; return what the last one returned."""
        return self._serve(Calls(functools.partial(function_to_benchmark, *args, **kwargs)))

    def pedantic(
        self,
        target: Callable[..., Any],
        args: Any = (),
        kwargs: Any = None,
        setup: Callable[[], Any] | None = None,
        teardown: Callable[..., Any] | None = None,
        rounds: int = 1,
        warmup_rounds: int = 0,
        iterations: int = 1,
    ) -> Any:
        """Serve calls with a set-up and a teardown of their own, both outside the clock; the check says how many."""
        if setup is None and teardown is None:
            return self._serve(Calls(functools.partial(target, *args, **(kwargs or {}))))
        return self._serve(SetUpCalls(target, args, kwargs or {}, setup, teardown))

    def weave(self, target: Any, **kwargs: Any) -> None:
        """Refuse: what is patched at a distance cannot be paced."""
        raise NotImplementedError("cases that weave or patch cannot be paced; call benchmark(function)")

    patch = weave

    def _serve(self, calls: "Calls") -> Any:
        if self.used:
            raise RuntimeError("the benchmark fixture can be used once in a test")
        self.used = True
        self._channel.send(event="ready")
        serve(self._channel, calls)
        return calls.last


class Calls:
    """A function of no arguments, and its clock."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.call = call
        self.last: Any = None
        self.made = 0
        self.delay = 0

    def once(self) -> Any:
        """Call once, outside any clock."""
        self.made += 1
        self.last = self.call()
        return self.last

    def block(self, calls: int) -> int:
        """Call so often in a row; return the nanoseconds it took."""
        call, delay, now = self.call, self.delay, time.perf_counter_ns
        self.made += calls
        gc.disable()
        try:
            synchronise()
            start = now()
            if delay:
                for _ in itertools.repeat(None, calls):
                    call()
                    end = now() + delay
                    while now() < end:
                        pass
            else:
                for _ in itertools.repeat(None, calls):
                    call()
            synchronise()
            return now() - start
        finally:
            gc.enable()


class SetUpCalls(Calls):
    """A function whose arguments are made before every call."""

    def __init__(
        self,
        target: Callable[..., Any],
        args: Any,
        kwargs: dict[str, Any],
        setup: Callable[[], Any] | None,
        teardown: Callable[..., Any] | None,
    ) -> None:
        super().__init__(self._whole)
        self._target, self._args, self._kwargs = target, args, kwargs
        self._setup, self._teardown = setup, teardown
        self._ns = 0

    def _whole(self) -> Any:
        made = self._setup() if self._setup is not None else None
        args, kwargs = made if made is not None else (self._args, self._kwargs)
        synchronise()
        start = time.perf_counter_ns()
        result = self._target(*args, **kwargs)
        if self.delay:
            end = time.perf_counter_ns() + self.delay
            while time.perf_counter_ns() < end:
                pass
        synchronise()
        self._ns += time.perf_counter_ns() - start
        if self._teardown is not None:
            self._teardown(*args, **kwargs)
        return result

    def block(self, calls: int) -> int:
        """Call so often; return the nanoseconds that the target alone took."""
        self._ns = 0
        gc.disable()
        try:
            for _ in itertools.repeat(None, calls):
                self.once()
        finally:
            gc.enable()
        return self._ns


def serve(channel: Channel, calls: Calls) -> None:
    """Answer requests about a case until told to stop."""
    # Without a collection, which would touch, and so copy, every object that the fork shares with its parent.
    gc.freeze()
    stepped: list[Any] = []
    with watching_optimizers(stepped):
        while (request := channel.receive())["op"] not in ("stop", "quit"):
            if request["op"] == "call":
                start = time.perf_counter()
                calls.once()
                synchronise()
                channel.send(seconds=time.perf_counter() - start)
            elif request["op"] == "facts":
                # What the case itself imports is loaded by now.
                channel.send(facts=facts(calls, stepped, request.get("values")), modules=loaded_modules())
            else:
                break
    # The hook that watches optimizers is gone by the time anything is timed.
    while request["op"] not in ("stop", "quit"):
        if request["op"] == "visit":
            channel.send(ns=[calls.block(request["calls"]) for _ in range(request["blocks"])])
        elif request["op"] == "delay":
            calls.delay = request["ns"]
            channel.send()
        elif request["op"] == "instructions":
            count_instructions(calls, request["calls"])
            channel.send()
        else:
            raise ValueError(f"unknown request {request}")
        request = channel.receive()


def facts(calls: Calls, stepped: list[Any], values: str | None) -> dict[str, Any]:
    """Return what repeats exactly about a case; leaves it after DIGEST_CALLS calls.

    Args:
        calls: The case, called once.
        stepped: Optimizers that have taken a step, filled by `watching_optimizers`.
        values: File to write the numbers to that the digest is of; None for none.
    """
    torch = sys.modules.get("torch")
    found: dict[str, Any] = {
        "implementation": None,
        "operators": 0,
        "synchronisations": 0,
        "digest": None,
        "state_bytes": 0,
        "peak_bytes": None,
    }
    if torch is not None:
        names = operators(calls)
        found["operators"] = len(names)
        found["synchronisations"] = names.count("_local_scalar_dense")
        if stepped:
            found["implementation"] = implementation(names)
        found["peak_bytes"] = peak_bytes(calls)
    while calls.made < DIGEST_CALLS:
        calls.once()
    if torch is None:
        found["digest"] = plain_digest(calls.last)
        return found
    if stepped:
        tensors = [p for optimizer in stepped for group in optimizer.param_groups for p in group["params"]]
        found["state_bytes"] = held_bytes([optimizer.state for optimizer in stepped])
    else:
        tensors = list(tensors_in(calls.last))
    if not tensors:
        found["digest"] = plain_digest(calls.last)
        return found
    found["digest"] = digest(tensors)
    if values is not None:
        dense = (t if t.layout == torch.strided else t.to_dense() for t in tensors)
        torch.save([t.detach().to("cpu", copy=True) for t in dense], values)
    return found


class watching_optimizers:
    """Append every torch optimizer that takes a step to a list, while entered."""

    def __init__(self, stepped: list[Any]) -> None:
        self._stepped = stepped
        self._handle: Any = None

    def __enter__(self) -> None:
        """Register the hook where torch is here."""
        if "torch" not in sys.modules:
            return
        from torch.optim.optimizer import register_optimizer_step_post_hook

        def seen(optimizer: Any, *_: Any) -> None:
            if not any(optimizer is known for known in self._stepped):
                self._stepped.append(optimizer)

        self._handle = register_optimizer_step_post_hook(seen)

    def __exit__(self, *_: object) -> None:
        """Remove it."""
        if self._handle is not None:
            self._handle.remove()


def operators(calls: Calls) -> list[str]:
    """Call once and return the names of the operators that it dispatched, in order."""
    from torch.utils._python_dispatch import TorchDispatchMode

    seen: list[str] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(func.overloadpacket.__name__)
            return func(*args, **(kwargs or {}))

    with Watch():  # type: ignore[no-untyped-call]
        calls.once()
    return seen


def implementation(names: list[str]) -> str:
    """Return what an optimizer ran, by the operators of one call."""
    if any(name.startswith("_fused_") for name in names):
        return "fused"
    # One foreach kernel that counts steps does not make an update foreach.
    return "foreach" if sum(name.startswith("_foreach_") for name in names) > 1 else "forloop"


def peak_bytes(calls: Calls) -> int | None:
    """Call once and return the most bytes of tensors that it made and held at a time, beyond those held before."""
    import torch

    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        calls.once()
        torch.cuda.synchronize()
        return int(torch.cuda.max_memory_allocated() - before)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        calls.once()
    results = profile.profiler.kineto_results if profile.profiler is not None else None
    if results is None:
        return None
    changes = [(e.start_ns(), e.nbytes()) for e in results.events() if e.name() == "[memory]"]
    held = itertools.accumulate(size for _, size in sorted(changes, key=lambda change: change[0]))
    return max((int(size) for size in held), default=0)


def tensors_in(value: Any) -> Iterator[Any]:
    """Yield the tensors in a value and in the mappings and sequences it holds."""
    torch = sys.modules["torch"]
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from tensors_in(item)


def held_bytes(value: Any) -> int:
    """Return the bytes of all tensors in a value, storages shared counted once."""
    storages: dict[int, int] = {}
    for tensor in tensors_in([dict(state) for state in value]):
        parts = (tensor._indices(), tensor._values()) if tensor.is_sparse else (tensor,)
        for part in parts:
            storages[part.untyped_storage().data_ptr()] = part.untyped_storage().nbytes()
    return sum(storages.values())


def digest(tensors: list[Any]) -> str:
    """Return the SHA-256 of shapes, types and bits."""
    torch = sys.modules["torch"]
    sha = hashlib.sha256()
    for tensor in tensors:
        dense = tensor.detach().to_dense() if tensor.layout != torch.strided else tensor.detach()
        sha.update(f"{tuple(dense.shape)} {dense.dtype}".encode())
        raw = dense.cpu().contiguous().reshape(-1).view(torch.uint8)
        sha.update(raw.numpy().tobytes())
    return sha.hexdigest()


def plain_digest(value: Any) -> str | None:
    """Return the SHA-256 of a plain value: numbers, text and what holds them; None for anything else."""
    plain = (type(None), bool, int, float, complex, str, bytes)

    def is_plain(part: Any) -> bool:
        if isinstance(part, dict):
            return all(is_plain(item) for pair in part.items() for item in pair)
        return all(map(is_plain, part)) if isinstance(part, list | tuple) else isinstance(part, plain)

    return hashlib.sha256(repr(value).encode()).hexdigest() if is_plain(value) else None


def synchronise() -> None:
    """Wait for a CUDA device that is in use."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()


def count_instructions(calls: Calls, times: int) -> None:
    """Call so often while callgrind counts; only under valgrind, started with its counting off."""
    import torch

    gc.disable()
    torch._C._valgrind_toggle()
    for _ in itertools.repeat(None, times):
        calls.call()
    torch._C._valgrind_toggle_and_dump_stats()
    gc.enable()


class Fixtures:
    """The fixture that replaces pytest-benchmark's: registered last, so that it wins."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.current: Paced | None = None

    @property
    def used(self) -> bool:
        """Whether the running case has handed its function over."""
        return self.current is not None and self.current.used

    @pytest.fixture
    def benchmark(self, request: pytest.FixtureRequest) -> Paced:
        """Return the paced stand-in."""
        self.current = Paced(self.channel, request.node)
        return self.current


class Arm:
    """The pytest plugin: collect, tell, and run cases as asked."""

    def __init__(self, channel: Channel, twin: Channel | None, processor: int | None) -> None:
        self._channel = channel
        self._twin = twin
        self._processor = processor
        self._fixtures = Fixtures(channel)
        self._errors: dict[str, str] = {}
        self._outcome: tuple[str, str] = ("passed", "")

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Put the fixture in."""
        session.config.pluginmanager.register(self._fixtures, "paced-benchmark")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Keep why a file could not be collected."""
        if report.failed:
            self._errors[report.nodeid] = last_line(report.longreprtext)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Serve until told to quit."""
        preload()
        # Not before: the arms are imported side by side.
        if self._processor is not None:
            os.sched_setaffinity(0, {self._processor})
        items = {item.nodeid: item for item in session.items if "benchmark" in getattr(item, "fixturenames", ())}
        self._channel.send(
            event="collected",
            cases=list(items),
            errors=self._errors,
            modules=loaded_modules(),
            python=sys.version.split()[0],
            torch=version_of("torch"),
            capability=capability(),
        )
        gc.collect()
        gc.freeze()
        if self._twin is not None:
            # Each keeps its own line alone, so that the check notices the end of either.
            if os.fork() == 0:
                self._channel.close()
                self._channel = self._fixtures.channel = self._twin
                try:
                    self._loop(items)
                finally:
                    os._exit(0)
            self._twin.close()
        self._loop(items)
        return True

    def _loop(self, items: dict[str, pytest.Item]) -> None:
        while (request := self._channel.receive())["op"] != "quit":
            if request["op"] != "case":
                # A leftover of a case that ended early, such as a skipped one.
                continue
            item = items[request["id"]]
            if request["fork"]:
                self._fork(item)
            else:
                self._run(item)

    def _fork(self, item: pytest.Item) -> None:
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            code = 1
            try:
                self._run(item)
                code = 0
            except BaseException:
                traceback.print_exc()
                sys.stderr.flush()
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            self._channel.send(event="end", outcome="died", reason=f"killed by {signal.Signals(number).name}")
        elif os.WEXITSTATUS(status):
            self._channel.send(event="end", outcome="died", reason=f"ended with exit code {os.WEXITSTATUS(status)}")

    def _run(self, item: pytest.Item) -> None:
        seed_everything()
        self._outcome = ("passed", "")
        self._fixtures.current = None
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
        outcome, reason = self._outcome
        if outcome == "passed" and not self._fixtures.used:
            outcome, reason = "failed", "the test never called benchmark(…)"
        self._channel.send(event="end", outcome=outcome, reason=reason)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep how the running case ended."""
        if report.skipped and isinstance(report.longrepr, tuple):
            self._outcome = ("skipped", report.longrepr[2].removeprefix("Skipped: "))
        elif report.failed and self._outcome[0] == "passed":
            self._outcome = ("failed", last_line(report.longreprtext))


def last_line(text: str) -> str:
    """Return the line of a failure that says what is wrong: the last one that pytest marks, else the last."""
    lines = [line for line in text.splitlines() if line.strip()]
    marked = [line[1:].strip() for line in lines if line.startswith("E ")]
    return (marked or lines or ["no message"])[-1 if not marked else 0][:300]


def loaded_modules() -> dict[str, str | None]:
    """Return the modules that are loaded, and their files."""
    files = {name: getattr(module, "__file__", None) for name, module in list(sys.modules.items())}
    # Some are made up, with a file that is none.
    return {name: file if file is not None and Path(file).is_absolute() else None for name, file in files.items()}


def version_of(module: str) -> str | None:
    """Return the version of a module that is loaded, or installed; None where it is neither."""
    if module in sys.modules:
        return str(sys.modules[module].__version__)
    try:
        return importlib.metadata.version(module)
    except importlib.metadata.PackageNotFoundError:
        return None


def capability() -> str | None:
    """Return the instruction set that torch uses on the processor."""
    torch = sys.modules.get("torch")
    return str(torch.backends.cpu.get_cpu_capability()) if torch is not None else None


def preload() -> None:
    """Load what torch loads at an optimizer's first use, so that no child does."""
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(1)
        leaf = torch.zeros(2, 2, requires_grad=True)
        for optimizer in (torch.optim.SGD([leaf], lr=0.1), torch.optim.Adam([leaf], lr=0.1)):
            torch.nn.functional.relu(leaf).sum().backward()
            operators(Calls(optimizer.step))
        peak_bytes(Calls(leaf.sum))


def seed_everything() -> None:
    """Start every case from the same random state."""
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


def main() -> None:
    """Run: what the check says as JSON (descriptors of the arm and of its twin, processor), then pytest's arguments."""
    settings, *arguments = json.loads(sys.argv[1]), *sys.argv[2:]
    # This file's folder is no place to import from; what comes after it is PYTHONPATH, the arm's sources first.
    sys.path.pop(0)
    channel = Channel(*settings["channel"])
    twin = Channel(*settings["twin"]) if settings["twin"] else None
    neutral = ["-p", "no:cacheprovider", "-p", "no:randomly", "--continue-on-collection-errors", "--benchmark-disable"]
    if importlib.util.find_spec("xdist"):
        neutral += ["-n", "0"]
    if importlib.util.find_spec("pytest_cov"):
        neutral += ["--no-cov"]
    try:
        code = pytest.main([*neutral, *arguments], plugins=[Arm(channel, twin, settings["processor"])])
    except BaseException:
        traceback.print_exc()
        code = 1
    if code not in (0, 5):
        channel.send(event="refused", code=int(code))


if __name__ == "__main__":
    main()
