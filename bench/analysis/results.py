"""Everything the analysis finds in a sweep, computed once, in the order in which one thing needs another."""

from dataclasses import dataclass

import pandas as pd

from bench.analysis.advice import advice
from bench.analysis.budgets import common_budgets, cuts
from bench.analysis.comparisons import largest_against_smallest
from bench.analysis.findings import findings
from bench.analysis.outcomes import batch_summary, divergence_map, learning_curves
from bench.analysis.overview import overview
from bench.analysis.profiles import performance_ratios, profile_scores
from bench.analysis.rules import (
    learning_rate_scores,
    reference_batch_sizes,
    retuned,
    rule_outcomes,
    rule_rates,
    seed_outcomes,
)
from bench.analysis.speed import memory, speed_summary, step_parts, throughput
from bench.analysis.study import Study, study
from bench.analysis.targets import scaling, seeds_to_target, to_target


@dataclass(frozen=True)
class Results:
    """What the report prints and draws. Each table's columns stand in the function that makes it.

    Attributes:
        study: The tables, arranged.
        cuts: `bench.analysis.budgets.cuts`.
        budgets: `bench.analysis.budgets.common_budgets`.
        references: `bench.analysis.rules.reference_batch_sizes`.
        choices: `bench.analysis.rules.retuned`.
        rates: `bench.analysis.rules.rule_rates`.
        seed_outcomes: `bench.analysis.rules.seed_outcomes`.
        rule_outcomes: `bench.analysis.rules.rule_outcomes`.
        comparisons: `bench.analysis.comparisons.largest_against_smallest`.
        targets: `bench.analysis.targets.to_target`.
        seeds_to_target: `bench.analysis.targets.seeds_to_target`.
        scaling: `bench.analysis.targets.scaling`.
        throughput: `bench.analysis.speed.throughput`.
        parts: `bench.analysis.speed.step_parts`.
        memory: `bench.analysis.speed.memory`.
        speeds: `bench.analysis.speed.speed_summary`.
        curves: `bench.analysis.outcomes.learning_curves`.
        divergence: `bench.analysis.outcomes.divergence_map`.
        summary: `bench.analysis.outcomes.batch_summary`.
        overview: `bench.analysis.overview.overview`.
        ratios: `bench.analysis.profiles.performance_ratios`.
        profile_scores: `bench.analysis.profiles.profile_scores`.
        findings: `bench.analysis.findings.findings`.
        advice: `bench.analysis.advice.advice`.
    """

    study: Study
    cuts: pd.DataFrame
    budgets: pd.DataFrame
    references: pd.DataFrame
    choices: pd.DataFrame
    rates: pd.DataFrame
    seed_outcomes: pd.DataFrame
    rule_outcomes: pd.DataFrame
    comparisons: pd.DataFrame
    targets: pd.DataFrame
    seeds_to_target: pd.DataFrame
    scaling: pd.DataFrame
    throughput: pd.DataFrame
    parts: pd.DataFrame
    memory: pd.DataFrame
    speeds: pd.DataFrame
    curves: pd.DataFrame
    divergence: pd.DataFrame
    summary: pd.DataFrame
    overview: pd.DataFrame
    ratios: pd.DataFrame
    profile_scores: pd.DataFrame
    findings: pd.DataFrame
    advice: pd.DataFrame


def analyse(cells: pd.DataFrame, trials: pd.DataFrame, curves: pd.DataFrame) -> Results:
    """Analyse a sweep.

    Args:
        cells: The exported cells, columns `bench.results.tables.CELL_COLUMNS`.
        trials: The exported trials, columns `bench.results.tables.TRIAL_COLUMNS`.
        curves: The exported curves, columns `bench.results.tables.CURVE_COLUMNS`.
    """
    data = study(cells, trials, curves)
    complete = data.complete_trials()
    cut = cuts(data)
    scores = learning_rate_scores(cut)
    references = reference_batch_sizes(data.cells)
    choices, rates = retuned(scores), rule_rates(scores, references)
    per_seed = seed_outcomes(cut, rates)
    means = rule_outcomes(per_seed, rates)
    targets = to_target(complete)
    per_seed_targets = seeds_to_target(complete, targets)
    fast, held, speeds = throughput(data.cells), memory(data.cells), speed_summary(data.cells)
    compared = largest_against_smallest(per_seed, rates)
    found = findings(speeds, targets, per_seed_targets, compared)
    ratios = performance_ratios(data.cells, targets)
    return Results(
        study=data,
        cuts=cut,
        budgets=common_budgets(complete),
        references=references,
        choices=choices,
        rates=rates,
        seed_outcomes=per_seed,
        rule_outcomes=means,
        comparisons=compared,
        targets=targets,
        seeds_to_target=per_seed_targets,
        scaling=scaling(targets, choices),
        throughput=fast,
        parts=step_parts(data.cells),
        memory=held,
        speeds=speeds,
        curves=learning_curves(data, choices),
        divergence=divergence_map(data, choices),
        summary=batch_summary(data, means, targets, fast, held),
        overview=overview(data, means, targets),
        ratios=ratios,
        profile_scores=profile_scores(ratios),
        findings=found,
        advice=advice(data.cells, per_seed_targets, per_seed, references, held),
    )
