"""Claims of methods that are said to close the gap of large batches, or to stand in for one another."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from bench.analysis.budgets import ROUNDING, cuts
from bench.analysis.measures import direction, values
from bench.analysis.study import CONDITION, Study
from bench.claims.claim import Claim
from bench.claims.contrasts import Contrast, better_by, notes
from bench.claims.evidence import Data, Evidence

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

    def of(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the rows of this condition."""
        keep = np.ones(len(rows), dtype=bool)
        for name, value in self.condition.items():
            keep &= (rows[name] == value).to_numpy(dtype=bool)
        return rows[keep]


def arms(study: Study) -> list[Arm]:
    """Return the conditions of a study with what was turned in each; exports of old versions have nothing turned."""
    found = []
    cells = study.cells.drop_duplicates(CONDITION)
    for _, row in cells.iterrows():
        condition = {name: str(row[name]) for name in CONDITION}
        told = {name: row[name] if name in cells and isinstance(row[name], str) else "" for name in ("knobs", "method")}
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
    for arm in found:
        if not claim.speaks_of(arm.base["task"]) or GHOST in arm.knobs:
            continue
        outcomes = arm.of(data.results.seed_outcomes)
        small, large = outcomes["batch_size"].min(), outcomes["batch_size"].max()
        if not small < large:
            continue
        own = replace(arm, base=arm.condition)
        for rule in sorted(set(outcomes["rule"])):
            at = {
                (budget, size): _rows(outcomes, size, budget, rule)
                for budget in ("epochs", "steps")
                for size in (small, large)
            }
            closed = better_by((at["epochs", small], at["epochs", large]), (at["steps", large], at["steps", small]))
            yield from _evidence(own, closed, "", rule, "equal steps", f"batch {large} against {small}")
        plain, scaled = (_rows(outcomes, large, "epochs", rule) for rule in ("fixed", "sqrt"))
        yield from _evidence(own, better_by((scaled, plain)), "", "sqrt", "ladder 1 learning rate", f"batch {large}")
        last, longer = outcomes, "ladder 3 longer"
        for ghost in found:
            if GHOST not in ghost.knobs or _without(ghost, GHOST) != _without(arm, GHOST):
                continue
            chunk = ghost.knobs[GHOST]
            chunked = ghost.of(data.results.seed_outcomes)
            gain = better_by((_rows(chunked, large, "epochs", "sqrt"), scaled))
            said = f"batch {large} in chunks of {chunk}"
            yield from _evidence(own, gain, "", "sqrt", f"ladder 2 ghost batch norm {chunk}", said)
            last = chunked
        more = better_by((_rows(last, large, "steps", "sqrt"), _rows(last, large, "epochs", "sqrt")))
        yield from _evidence(own, more, "", "sqrt", longer, f"batch {large}")


def _rows(outcomes: pd.DataFrame, batch_size: int, budget: str, rule: str) -> pd.DataFrame:
    keep = (outcomes["batch_size"] == batch_size) & (outcomes["budget"] == budget) & (outcomes["rule"] == rule)
    return outcomes[keep]


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
    rows = None
    for growing in found:
        factor = _growth_factor(growing.method)
        for decaying in found if factor else []:
            if _knobbed(growing) != _knobbed(decaying) or _decay_factor(decaying.method) != factor:
                continue
            if growing.method.get("milestones") != decaying.method.get("milestones"):
                continue
            # Cutting the whole study takes long enough to do it only where there is a pair.
            rows = cuts(data.results.study) if rows is None else rows
            yield from _growth_against_decay(data, growing, decaying, rows)


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


def _growth_against_decay(data: Data, growing: Arm, decaying: Arm, rows: pd.DataFrame) -> Iterator[Evidence]:
    grown, decayed = growing.of(rows), decaying.of(rows)
    grown, decayed = (part[(part["budget"] == "end") & ~part["missing"]] for part in (grown, decayed))
    outcomes = data.results.seed_outcomes
    place = replace(growing, base=growing.condition)
    for size in sorted(set(grown["batch_size"]) & set(decayed["batch_size"])):
        own = [_rows(arm.of(outcomes), size, "end", "re-tuned") for arm in (growing, decaying)]
        if any(part.empty for part in own):
            continue
        rate = float(own[1]["lr"].iloc[0])
        same = [part[(part["batch_size"] == size) & (part["lr"] == rate)] for part in (grown, decayed)]
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
    outcomes = data.results.seed_outcomes
    tuned = outcomes[outcomes["rule"] == "re-tuned"]
    full = data.results.study.cells
    full = full[full["full_batch"].astype(bool)]
    for plain in [arm for arm in found if not arm.method]:
        reference = _best_mini_batch(plain.of(tuned), plain.of(full))
        if reference is None:
            continue
        for arm in found:
            if (arm.base, arm.knobs) != (plain.base, plain.knobs) or arm.of(full).empty:
                continue
            if not set(arm.method) <= {"clip_norm"}:
                continue
            whole = arm.of(tuned)
            whole = whole[whole["batch_size"] == int(arm.of(full)["batch_size"].iloc[0])]
            measure = f"clipped at {arm.method['clip_norm']}" if arm.method else "plain"
            place = Arm(plain.condition, plain.knobs, plain.method, plain.condition)
            for budget in sorted(set(whole["budget"]) & set(reference["budget"])):
                one, other = (part[part["budget"] == budget] for part in (whole, reference))
                limits = float(one["budget_value"].iloc[0]), float(other["budget_value"].iloc[0])
                if budget != "end" and max(limits) > min(limits) * ROUNDING:
                    continue
                size = int(other["batch_size"].iloc[0])
                steps = f"{one['step'].mean():.0f} steps against {other['step'].mean():.0f} of batch {size}"
                yield from _evidence(place, better_by((one, other)), budget, "re-tuned", measure, steps)


def _best_mini_batch(rows: pd.DataFrame, full: pd.DataFrame) -> pd.DataFrame | None:
    """Return the rows of the batch size that is best on validation data at the end; None where there is none."""
    rows = rows[~rows["batch_size"].isin(full["batch_size"])]
    ends = rows[rows["budget"] == "end"]
    if ends.empty:
        return None
    score = (direction(ends) * values(ends, "val")).mask(ends["diverged"], -np.inf).fillna(-np.inf)
    means = score.groupby(ends["batch_size"]).mean()
    return rows[rows["batch_size"] == means.idxmax()]
