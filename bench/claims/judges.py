"""Which function judges which claim."""

from bench.claims import costs, generalisation, methods, rates, steps
from bench.claims.evidence import Judge

JUDGES: dict[str, Judge] = {
    "C1": steps.bigger_is_always_better,
    "C2": steps.doubling_halves_the_steps,
    "C5": generalisation.large_batches_generalise_worse,
    "C6": generalisation.large_batches_stop_in_worse_optima,
    "C9": methods.gap_is_too_few_updates,
    "C10": rates.rate_follows_batch_size(rates.STOCHASTIC_GRADIENT),
    "C11": rates.rate_follows_batch_size(rates.ADAPTIVE),
    "C12": methods.growth_is_decay,
    "C13": rates.optimal_batch_size,
    "C14": rates.small_batches_tolerate_more_rates,
    "C15": steps.acceleration_pays_at_large_batches,
    "C16": costs.bigger_batches_need_more_memory,
    "C17": costs.bigger_batches_are_faster,
    "C18": costs.powers_of_two_are_faster,
    "C19": methods.full_batch_matches,
}
