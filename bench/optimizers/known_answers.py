"""Which known answer covers which class; tests/optimizers holds them."""

#: Target → what its steps are compared with.
KNOWN_ANSWERS: dict[str, str] = {
    "Adadelta": "its published rule in NumPy; optax",
    "Adafactor": "its published rule in NumPy; optax",
    "Adagrad": "its published rule in NumPy; optax",
    "Adam": "its published rule in NumPy; optax",
    "AdamW": "its published rule in NumPy; optax",
    "Adamax": "its published rule in NumPy; optax",
    "ASGD": "its published rule in NumPy",
    "LBFGS": "the two-loop recursion in NumPy; the strong Wolfe conditions",
    "Muon": "Newton-Schulz iterations in NumPy",
    "NAdam": "its published rule in NumPy; optax",
    "RAdam": "its published rule in NumPy; optax",
    "RMSprop": "its published rule in NumPy; optax",
    "Rprop": "its published rule in NumPy",
    "SGD": "its published rule in NumPy; optax",
    "SparseAdam": "its published rule in NumPy",
    "bench.optimizers.newton:Newton": "one undamped step lands on the minimum of a quadratic",
    "bench.optimizers.bfgs:BFGS": "scipy's own path",
}


def known_answer(target: str) -> str:
    """Return what the steps of a class are compared with in the tests, "none" where nothing is."""
    return KNOWN_ANSWERS.get(target, "none")
