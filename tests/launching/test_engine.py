"""What was asked of the engine, what came out, and what the record says of it."""

from typing import Any

import pytest
import torch

from bench.errors import EngineUnavailable
from bench.launching.engine import CellEngine
from bench.results.record import Engine
from bench.training.seeds import Start
from bench.training.stepper import Method
from bench.training.trials import Trials
from tests.cases import builder, plan_of, toy_task
from tests.training.recordings import Tape

STARTS = [Start(lr, seed, seed, seed, seed) for lr in (0.05, 0.1) for seed in (0, 1)]


def trials_of(**changes: Any) -> Trials:
    return Trials(toy_task(dtype=torch.float32), builder("momentum"), plan_of(**changes), STARTS)


def test_nothing_is_replayed_where_nothing_records_or_it_is_off() -> None:
    trials = trials_of()
    for engine in (CellEngine("auto", None, None), CellEngine("off", Tape(), None)):
        assert engine.fitted(trials, None) is trials
        assert engine.record() == Engine(False, False, 0.0, 0.0, None)


def test_auto_says_why_not_and_on_is_unavailable() -> None:
    clipped = trials_of(method=Method(clip_norm=1.0))
    auto = CellEngine("auto", Tape(), None)
    assert auto.fitted(clipped, None).graphs is None
    assert auto.record() == Engine(False, False, 0.0, 0.0, "training.cuda_graph: gradients are clipped")
    with pytest.raises(EngineUnavailable, match=r"^training\.cuda_graph=on: gradients are clipped$"):
        CellEngine("on", Tape(), None).fitted(clipped, None)


def test_one_alone_is_rehearsed_first_and_then_the_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, trials = CellEngine("auto", Tape(), None), trials_of()
    alone = engine.fitted(trials, None)
    choice = alone.choose(4)
    assert choice.most == 4
    assert engine.fitted(alone, choice).graphs is alone.graphs is not None
    list(alone.train(choice, None))
    record = engine.record()
    assert (record.cuda_graph, record.reason) == (True, None)
    assert record.capture_seconds > 0
    monkeypatch.setattr(Trials, "why_not_replayed", lambda self, recording, choice: "so" if choice else None)
    refused = engine.fitted(alone, choice)
    assert refused.graphs is None
    assert (engine.record().cuda_graph, engine.record().reason) == (False, "training.cuda_graph: so")


def test_what_goes_wrong_after_the_rehearsal_is_told() -> None:
    engine = CellEngine("auto", Tape(), None)
    trials = engine.fitted(trials_of(), None)
    assert trials.graphs is not None
    trials.graphs.replayed, trials.graphs.reason = True, "no memory left"
    assert engine.record() == Engine(False, False, 0.0, 0.0, "training.cuda_graph: no memory left")
