"""Which function judges which claim."""

from bench.claims import accumulation, costs, dynamics, escape, generalisation, methods, noise, rates, sharpness, steps
from bench.claims.evidence import Judge

JUDGES: dict[str, Judge] = {
    "C1": steps.bigger_is_always_better,
    "C2": steps.doubling_halves_the_steps,
    "C3": noise.noise_scale_predicts_critical_batch,
    "C4": noise.critical_batch_grows,
    "C5": generalisation.large_batches_generalise_worse,
    "C6": generalisation.large_batches_stop_in_worse_optima,
    "C7": sharpness.large_batches_find_sharp_minima,
    "C8": sharpness.sharpness_explains_the_gap,
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
    "C20": escape.small_batches_regularise_label_noise,
    "C21": escape.noise_escapes_local_optima,
    "C22": dynamics.gradient_descent_at_the_edge_of_stability,
    "C23": dynamics.distance_grows_like_the_logarithm,
    "C24": accumulation.accumulation_is_the_big_batch,
    "C25": noise.small_batches_are_unstable,
}
