"""What the steps of a cell run on, as it was asked for and as it came out."""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from bench.errors import EngineUnavailable
from bench.results.record import Engine
from bench.training.compiled import CompiledGradients
from bench.training.graphs import Graphs, Recording
from bench.training.trials import Choice, Trials

if TYPE_CHECKING:
    from bench.training.parallel import Group


@dataclass
class CellEngine:
    """The engine of a running cell.

    Attributes:
        setting: "auto", "on" or "off": whether whole steps are replayed.
        recording: What records them on the cell's device; None where nothing does.
        compiled: Its compiled gradients; None where none are asked for.
        group: The ranks that train each trial together; None where this process trains alone.
    """

    setting: str
    recording: Recording | None
    compiled: CompiledGradients | None
    group: "Group | None" = None
    _graphs: list[Graphs] = field(default_factory=list)
    _reason: str | None = None

    def fitted(self, trials: Trials, choice: Choice | None) -> Trials:
        """Return the trials as their steps are taken: replayed, where a rehearsal allows it.

        Args:
            trials: The trials.
            choice: How they are trained; None before that is known, when one alone is rehearsed.

        Raises:
            EngineUnavailable: Steps are to be replayed and cannot be.
        """
        if self.setting == "off" or self.recording is None:
            return trials
        if choice is not None and choice.most == 1:
            # Rehearsed when nothing was chosen yet.
            return trials
        reason = trials.why_not_replayed(self.recording, choice)
        if reason is not None and self.setting == "on":
            raise EngineUnavailable(f"training.cuda_graph=on: {reason}")
        self._reason = reason and f"training.cuda_graph: {reason}"
        if reason is None and trials.graphs is None:
            self._graphs.append(Graphs(self.recording))
        return replace(trials, graphs=None if reason else self._graphs[-1])

    def record(self) -> Engine:
        """Return what came out, for the record."""
        late = next((f"training.cuda_graph: {graphs.reason}" for graphs in self._graphs if graphs.reason), None)
        reasons = [self.compiled.reason if self.compiled else None, self._reason or late]
        return Engine(
            compiled=self.compiled is not None and self.compiled.reason is None,
            cuda_graph=any(graphs.replayed for graphs in self._graphs) and self._reason is None and late is None,
            compile_seconds=round(self.compiled.seconds, 6) if self.compiled else 0.0,
            capture_seconds=round(sum((graphs.seconds for graphs in self._graphs), 0.0), 6),
            reason="; ".join(filter(None, reasons)) or None,
            devices=self.group.size if self.group else 1,
            backend=self.group.backend if self.group else None,
        )
