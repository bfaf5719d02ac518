"""Which function judges which claim."""

from bench.claims import accumulation, dynamics, escape, generalisation, noise, sharpness
from bench.claims.evidence import Judge

JUDGES: dict[str, Judge] = {
    "C3": noise.noise_scale_predicts_critical_batch,
    "C4": noise.critical_batch_grows,
    "C5": generalisation.large_batches_generalise_worse,
    "C7": sharpness.large_batches_find_sharp_minima,
    "C8": sharpness.sharpness_explains_the_gap,
    "C20": escape.small_batches_regularise_label_noise,
    "C21": escape.noise_escapes_local_optima,
    "C22": dynamics.gradient_descent_at_the_edge_of_stability,
    "C23": dynamics.distance_grows_like_the_logarithm,
    "C24": accumulation.accumulation_is_the_big_batch,
    "C25": noise.small_batches_are_unstable,
}
