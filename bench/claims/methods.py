"""Claims of methods that are said to close the gap of large batches, or to stand in for one another."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.analysis.budgets import ROUNDING
from bench.analysis.rows import Groups, Rows
from bench.analysis.study import CONDITION, Study, condition_of, records
from bench.claims.claim import Claim
from bench.claims.contrasts import Contrast, better_by, notes
from bench.claims.evidence import Data, Evidence, judged_by

#: Batch norm statistics over chunks, a knob of networks that have it.
GHOST = "ghost_batch"


@dataclass(frozen=True)
class Arm:
    """A condition, taken apart.

    Attributes:
        condition: Values of `CONDITION`.
        knobs: Turned knobs of the task, name → value.
        method: What departs from the plain step, name → value.
        base: The condition with the task's and the optimizer's plain names.
    """

    condition: dict[str, str]
    knobs: dict[str, str]
    method: dict[str, str]
    base: dict[str, str]

    @property
    def key(self) -> tuple[str, ...]:
        """The condition as `bench.claims.evidence.Data` has it for a key."""
        return tuple(self.condition.values())


def arms(study: Study) -> list[Arm]:
    """Return the conditions of a study with what was turned in each; exports of old versions have nothing turned."""
    found = []
    cells = study.cells.drop_duplicates(CONDITION)
    for row in records(cells):
        condition = condition_of([row[name] for name in CONDITION])
        told = {name: row[name] if isinstance(row.get(name), str) else "" for name in ("knobs", "method")}
        base = condition | {
            "task": condition["task"].removesuffix(f" ({told['knobs']})"),
            "optimizer": condition["optimizer"].removesuffix(f" ({told['method']})"),
        }
        found.append(Arm(condition, _settings(told["knobs"]), _settings(told["method"]), base))
    return found


def _settings(told: str) -> dict[str, str]:
    return dict(word.split("=", 1) for word in told.split())


def _evidence(
    arm: Arm, contrast: Contrast | None, budget: str, rule: str, measure: str, *said: str
) -> Iterator[Evidence]:
    if contrast is not None:
        yield Evidence(
            arm.base,
            contrast.estimator,
            budget=budget,
            rule=rule,
            measure=measure,
            source="curves.csv",
            margin=contrast.margin,
            unit=contrast.unit,
            note=notes(*said, contrast.note),
        )


def gap_is_too_few_updates(data: Data, claim: Claim) -> Iterator[Evidence]:
    """C9: how much of the gap between the smallest and the largest batch size more updates close, and each other rung.

    "equal steps": the gap at equal epochs minus that at equal steps, under each rule. The ladder is climbed at the
    largest batch size, each rung the gain of test result on the one before: "ladder 1 learning rate" (the square root's
    rule in place of a fixed rate, equal epochs), "ladder 2 ghost batch norm" (beside it, where the sweep has the knob),
    "ladder 3 longer" (equal steps in place of equal epochs, with all before). Seeds with a diverged trial are left out.

    Source: Hoffer et al., arXiv 1705.08741, section 5 and table 1.
    """
    found = arms(data.results.study)
    ghosts = [arm for arm in found if GHOST in arm.knobs]
    for arm in found:
        if not claim.speaks_of(arm.base["task"]) or GHOST in arm.knobs:
            continue
        outcomes = data.conditions[arm.key]
        ends = outcomes.ends()
        if ends is None:
            continue
        small, large = ends
        own = replace(arm, base=arm.condition)
        for rule in sorted(set(outcomes["rule"])):
            epochs, steps = (
                [_rows(data, arm, size, budget, rule) for size in (small, large)] for budget in ("epochs", "steps")
            )
            closed = better_by((epochs[0], epochs[1]), (steps[1], steps[0]))
            yield from _evidence(own, closed, "", rule, "equal steps", f"batch {large} against {small}")
        plain, scaled = (_rows(data, arm, large, "epochs", rule) for rule in ("fixed", "sqrt"))
        yield from _evidence(own, better_by((scaled, plain)), "", "sqrt", "ladder 1 learning rate", f"batch {large}")
        last, longer = arm, "ladder 3 longer"
        for ghost in ghosts:
            if _without(ghost, GHOST) != _without(arm, GHOST):
                continue
            chunk = ghost.knobs[GHOST]
            gain = better_by((_rows(data, ghost, large, "epochs", "sqrt"), scaled))
            said = f"batch {large} in chunks of {chunk}"
            yield from _evidence(own, gain, "", "sqrt", f"ladder 2 ghost batch norm {chunk}", said)
            last = ghost
        more = better_by((_rows(data, last, large, "steps", "sqrt"), _rows(data, last, large, "epochs", "sqrt")))
        yield from _evidence(own, more, "", "sqrt", longer, f"batch {large}")


def _rows(data: Data, arm: Arm, batch_size: int, budget: str, rule: str) -> Rows:
    return data.outcomes[(*arm.key, budget, rule)].of(batch_size)


def _without(arm: Arm, knob: str) -> tuple[object, ...]:
    """Return what a condition is but for a knob."""
    knobs = {name: value for name, value in arm.knobs.items() if name != knob}
    return arm.base, knobs, arm.method


def growth_is_decay(data: Data, claim: Claim) -> Iterator[Evidence]:
    """C12: test result with a batch size that grows minus that with a learning rate that decays, within seeds.

    Pairs a growing batch with a step schedule of the same milestones whose factor is the inverse, so that the noise
    scale ηN/B is the same throughout, at the same first batch size. At the learning rate that is best for the decay in
    both ("same rate", under no rule: the claim), and at each one's own ("own rates"). The largest batch of a growth is
    the training split: where it would have grown further, the two noise scales part, which the tables do not tell.

    Source: Smith et al., arXiv 1711.00489.
    """
    found = [arm for arm in arms(data.results.study) if claim.speaks_of(arm.base["task"])]
    decays = [(arm, factor) for arm in found if (factor := _decay_factor(arm.method))]
    pairs = [
        (growing, decaying)
        for growing in found
        for decaying, factor in decays
        if factor == _growth_factor(growing.method)
        and _knobbed(growing) == _knobbed(decaying)
        and growing.method.get("milestones") == decaying.method.get("milestones")
    ]
    if pairs:
        cut = data.results.cuts
        ends = Groups(judged_by(cut[(cut["budget"] == "end") & ~cut["missing"]]), CONDITION)
        for growing, decaying in pairs:
            yield from _growth_against_decay(data, growing, decaying, ends)


def _knobbed(arm: Arm) -> tuple[object, ...]:
    """Return a condition with its knobs and what of its method is no schedule."""
    schedules = ("schedule", "batch_schedule", "milestones", "gamma", "factor", "most")
    return arm.base, arm.knobs, {name: value for name, value in arm.method.items() if name not in schedules}


def _growth_factor(method: dict[str, str]) -> float | None:
    # Values at their defaults are not told: bench.schema.
    growing = method.get("batch_schedule") == "growth" and "schedule" not in method
    return float(method.get("factor", "2")) if growing else None


def _decay_factor(method: dict[str, str]) -> float | None:
    decaying = method.get("schedule") == "step" and "batch_schedule" not in method
    return round(1 / float(method.get("gamma", "0.1")), 6) if decaying else None


def _growth_against_decay(data: Data, growing: Arm, decaying: Arm, ends: Groups) -> Iterator[Evidence]:
    grown, decayed = ends[growing.key], ends[decaying.key]
    place = replace(growing, base=growing.condition)
    for size in sorted(set(grown["batch_size"].tolist()) & set(decayed["batch_size"].tolist())):
        own = [_rows(data, arm, size, "end", "re-tuned") for arm in (growing, decaying)]
        if not all(len(part) for part in own):
            continue
        rate = float(own[1].first("lr"))
        same = [part.where((part["batch_size"] == size) & (part["lr"] == rate)) for part in (grown, decayed)]
        steps = [float(part["step"].mean()) for part in own]
        saved = f"{steps[0]:.0f} updates instead of {steps[1]:.0f}"
        at_rate = f"batch {size}, same rate"
        yield from _evidence(place, better_by((same[0], same[1])), "end", "", at_rate, f"rate {rate:g}", saved)
        yield from _evidence(place, better_by((own[0], own[1])), "end", "re-tuned", f"batch {size}, own rates", saved)


def full_batch_matches(data: Data, claim: Claim) -> Iterator[Evidence]:
    """C19: test result of the full batch minus that of mini-batch training, each at its own best rate, within seeds.

    "clipped" is the full batch with gradients clipped, "plain" that without; both are held against the plain
    mini-batch size that is best on validation data when its trials end. Budgets are compared where both sides were
    cut at the same value; at "end" the full batch has whatever more it was given. The regularisation of the source
    beyond clipping (a penalty on the gradient) is not part of the suite, so a gap may be closed by it and not here.

    Source: Geiping et al., arXiv 2109.14119.
    """
    found = [arm for arm in arms(data.results.study) if claim.speaks_of(arm.base["task"])]
    cells = data.results.study.cells
    full = Groups(cells.loc[cells["full_batch"].astype(bool), [*CONDITION, "batch_size"]], CONDITION)
    wholes = [arm for arm in found if len(full[arm.key]) and set(arm.method) <= {"clip_norm"}]
    for plain in [arm for arm in found if not arm.method]:
        mine = [arm for arm in wholes if (arm.base, arm.knobs) == (plain.base, plain.knobs)]
        reference = _best_mini_batch(_tuned(data, plain), full[plain.key]["batch_size"]) if mine else None
        if reference is None:
            continue
        for arm in mine:
            whole = _tuned(data, arm).of(full[arm.key].first("batch_size"))
            measure = f"clipped at {arm.method['clip_norm']}" if arm.method else "plain"
            place = Arm(plain.condition, plain.knobs, plain.method, plain.condition)
            for budget in sorted(set(whole["budget"]) & set(reference["budget"])):
                one, other = (part.where(part["budget"] == budget) for part in (whole, reference))
                limits = float(one.first("budget_value")), float(other.first("budget_value"))
                if budget != "end" and max(limits) > min(limits) * ROUNDING:
                    continue
                size = int(other.first("batch_size"))
                steps = f"{one['step'].mean():.0f} steps against {other['step'].mean():.0f} of batch {size}"
                yield from _evidence(place, better_by((one, other)), budget, "re-tuned", measure, steps)


def _tuned(data: Data, arm: Arm) -> Rows:
    rows = data.conditions[arm.key]
    return rows.where(rows["rule"] == "re-tuned")


def _best_mini_batch(rows: Rows, full: npt.NDArray[np.int64]) -> Rows | None:
    """Return the rows of the batch size that is best on validation data at the end; None where there is none."""
    rows = rows.where(~np.isin(rows["batch_size"], full))
    ends = rows.where(rows["budget"] == "end")
    if not len(ends):
        return None
    score = pd.Series(ends["sign"] * ends["val"]).mask(ends["diverged"].astype(bool), -np.inf).fillna(-np.inf)
    best: Any = score.groupby(ends["batch_size"]).mean().idxmax()
    return rows.of(best)
