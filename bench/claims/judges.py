"""Which function judges which claim."""

from bench.claims import generalisation
from bench.claims.evidence import Judge

JUDGES: dict[str, Judge] = {
    "C5": generalisation.large_batches_generalise_worse,
}
