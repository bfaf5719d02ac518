"""Whole training steps as CUDA graphs: recorded once for each shape of batch, then replayed.

A replay launches every kernel of a step at once: gradient and update, on the addresses they had when they were
recorded. Batches are copied into buffers that the graph reads. The optimizer stays the real object: its first step is
taken as ever, so that its state is there, and what warming up moves afterwards is put back in place. See
https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs.
"""

import copy
import time
from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from bench.optimizers.composite import Composite

#: Steps before recording, off the current stream: what is set up lazily must not be in a graph.
WARM_UP = 3
#: What optimizers count in on the host, where a replay does not count on.
PLAIN_VALUES = (int, float, str, tuple, list, dict, set, type(None))
Step = Callable[[Tensor, Tensor], None]


class Recording(Protocol):
    """Records a step so that it can be replayed.

    Attributes:
        capturable: Whether optimizers have to keep the count of their steps on the device.
    """

    capturable: bool

    def aside(self) -> AbstractContextManager[None]:
        """Return where warm-up steps are taken."""
        ...

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        """Record a step, without a lasting effect, and return what takes it."""
        ...


class CudaRecording:
    """CUDA graphs on a device."""

    capturable = True

    def __init__(self, device: torch.device) -> None:
        self._device = device

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Warm up on a side stream, as torch's documentation requires."""
        current, stream = torch.cuda.current_stream(self._device), torch.cuda.Stream(self._device)
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            yield
        current.wait_stream(stream)

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        """Capture a step; nothing of it runs until it is replayed."""
        graph = torch.cuda.CUDAGraph()
        # A stream of this device's own: torch keeps one for whichever device was the first.
        with torch.cuda.device(self._device), torch.cuda.graph(graph, stream=torch.cuda.Stream(self._device)):
            step()
        replay: Callable[[], None] = graph.replay
        return replay


def recording_of(device: torch.device) -> Recording | None:
    """Return what records steps on a device; None where nothing does."""
    return CudaRecording(device) if device.type == "cuda" else None


class Graphs:
    """The graphs of a cell's steps.

    Args:
        recording: What records them.

    Attributes:
        seconds: Seconds spent on warming up and recording.
        replayed: Whether any step was replayed.
        reason: Why steps that were to be replayed were taken one kernel at a time; None where none were.
    """

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.seconds = 0.0
        self.replayed = False
        self.reason: str | None = None

    def steps(
        self, step: Step, prepare: Step, weights: Sequence[Tensor], optimizers: Sequence[torch.optim.Optimizer]
    ) -> "GraphSteps":
        """Return steps that replay `step`; arguments as for `GraphSteps`."""
        return GraphSteps(self, step, prepare, weights, optimizers)


class _Recorded(NamedTuple):
    inputs: Tensor
    labels: Tensor
    replay: Callable[[], None]


class GraphSteps:
    """Takes steps on fixed tensors, replayed where that is possible; else as they are.

    Args:
        graphs: Of the cell.
        step: Takes a step on a batch.
        prepare: Does for batches of a shape what is done once and is on another clock.
        weights: All that a step moves beside the optimizers' state.
        optimizers: The real objects.

    Attributes:
        seconds: Seconds spent on warming up and recording so far, for whoever keeps a clock.
        reason: Why steps are not replayed; None where they are.
    """

    def __init__(
        self,
        graphs: Graphs,
        step: Step,
        prepare: Step,
        weights: Sequence[Tensor],
        optimizers: Sequence[torch.optim.Optimizer],
    ) -> None:
        self.seconds = 0.0
        self.reason: str | None = None
        self._graphs = graphs
        self._step = step
        self._prepare = prepare
        self._weights = list(weights)
        self._optimizers = _parts(optimizers)
        self._begun = False
        self._recorded: dict[tuple[torch.Size, torch.Size], _Recorded] = {}
        for optimizer in self._optimizers if graphs.recording.capturable else []:
            for group in optimizer.param_groups:
                if "capturable" in group:
                    group["capturable"] = True

    def __call__(self, inputs: Tensor, labels: Tensor) -> None:
        """Take a step on a batch."""
        if self.reason is not None or not self._begun:
            # The first step makes the optimizer's state, and takes other branches than those that follow.
            self._step(inputs, labels)
            self._begun = True
            return
        key = (inputs.shape, labels.shape)
        recorded = self._recorded.get(key)
        if recorded is None:
            self._prepare(inputs, labels)
            recorded = self._record(inputs, labels)
            if recorded is None:
                self._step(inputs, labels)
                return
            self._recorded[key] = recorded
        recorded.inputs.copy_(inputs)
        recorded.labels.copy_(labels)
        recorded.replay()
        self._graphs.replayed = True

    def _record(self, inputs: Tensor, labels: Tensor) -> _Recorded | None:
        """Record a step at the shapes of a batch; None and a reason where that fails. Nothing has moved afterwards."""
        start = time.perf_counter()
        device = inputs.device
        held, recording = (inputs.clone(), labels.clone()), self._graphs.recording
        before = Held(self._weights, self._optimizers, device)
        changed = before.opaque
        replay = None
        try:
            with torch.random.fork_rng([device] if device.type == "cuda" else []):
                if not changed:
                    with recording.aside():
                        for _ in range(WARM_UP):
                            self._step(*held)
                    changed = before.restore()
                if not changed:
                    replay = recording.record(lambda: self._step(*held))
                    changed = before.restore()
            if changed:
                self.reason = "the optimizer keeps what it counts or remembers where a graph does not reach it"
        except Exception as error:
            before.restore()
            words = str(error).strip().splitlines()
            self.reason = f"a step cannot be recorded: {type(error).__name__}: {words[0] if words else ''}"
        if self.reason is not None:
            self._graphs.reason = self.reason
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds = time.perf_counter() - start
        self.seconds += seconds
        self._graphs.seconds += seconds
        return None if self.reason is not None or replay is None else _Recorded(*held, replay)


class Held:
    """What steps move, as it is now, to be put back in place.

    Args:
        weights: Parameters and buffers.
        optimizers: Real objects that are no composites.
        device: Where graphs run.

    Attributes:
        opaque: Whether an optimizer keeps tensors in containers that are not looked into.
    """

    def __init__(
        self, weights: Sequence[Tensor], optimizers: Sequence[torch.optim.Optimizer], device: torch.device
    ) -> None:
        self._device = device
        self._optimizers = optimizers
        self._weights = [(weight, weight.detach().clone()) for weight in weights]
        self._states = [set(optimizer.state) for optimizer in optimizers]
        self._mappings = [(mapping, _copied(mapping)) for mapping in self._all_mappings()]
        values = [value for _, copied in self._mappings for value, _ in copied.values()]
        self.opaque = any(not isinstance(value, Tensor) and _holds_tensors(value) for value in values)

    def _all_mappings(self) -> Iterator[MutableMapping[str, Any]]:
        for optimizer in self._optimizers:
            yield from optimizer.state.values()
            yield from optimizer.param_groups
            yield vars(optimizer)

    @torch.no_grad()
    def restore(self) -> bool:
        """Put everything back; return whether something had changed that a replay would not change.

        That is a number or a tensor off the device, or another tensor in place of one.
        """
        changed = False
        for weight, value in self._weights:
            weight.copy_(value)
        for optimizer, known in zip(self._optimizers, self._states, strict=True):
            for parameter in set(optimizer.state) - known:
                del optimizer.state[parameter]
                changed = True
        for mapping, copied in self._mappings:
            for name in {name for name in mapping if _kept(name)} - copied.keys():
                del mapping[name]
                changed = True
            for name, (value, was) in copied.items():
                now = mapping.get(name)
                if isinstance(value, Tensor):
                    off = value.device.type != self._device.type
                    changed |= now is not value or (off and not torch.equal(value, was))
                    value.copy_(was)
                    mapping[name] = value
                elif isinstance(value, PLAIN_VALUES) and now != was:
                    changed = True
                    mapping[name] = was
        return changed


def _kept(name: str) -> bool:
    """Whether an entry of an optimizer is more than what every one of them has to have."""
    return name not in ("params", "state", "param_groups", "defaults")


def _copied(mapping: MutableMapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    def copied(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.detach().clone()
        return copy.copy(value) if isinstance(value, PLAIN_VALUES) else value

    return {name: (value, copied(value)) for name, value in mapping.items() if _kept(name)}


def _holds_tensors(value: Any) -> bool:
    if isinstance(value, Mapping):
        return _holds_tensors(list(value.values()))
    if isinstance(value, Collection) and not isinstance(value, str | bytes | Tensor):
        return any(_holds_tensors(item) for item in value)
    return isinstance(value, Tensor)


def _parts(optimizers: Sequence[torch.optim.Optimizer]) -> list[torch.optim.Optimizer]:
    """Return the optimizers that have the state: those of a composite are its parts."""
    found: list[torch.optim.Optimizer] = []
    for optimizer in optimizers:
        found.extend([part for part, _ in optimizer.parts] if isinstance(optimizer, Composite) else [optimizer])
    return found
