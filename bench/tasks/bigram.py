"""embedding/bigram: guess the next token from this one, with nothing but a table of logits.

The smallest language model: one embedding whose row for a token holds the logits of the next. A batch touches few of
its rows, which is what sparse gradients, and `torch.optim.SparseAdam`, are for.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from bench.tasks.knobs import check_at_least
from bench.tasks.problem import CROSS_ENTROPY, Model, Problem, Split, Splits, Untrained


@dataclass(frozen=True)
class BigramKnobs:
    """What can be turned at the bigram model.

    Attributes:
        tokens: Size of the vocabulary V, ≥ 2.
        examples: Training pairs of a token and the next, ≥ 4; validation and test have a quarter of it each.
        sharpness: Standard deviation of the chain's own logits, ≥ 0: 0 for a next token that is uniform whatever this
            one is; the larger, the surer.
    """

    tokens: int = 16
    examples: int = 4096
    sharpness: float = 2.0

    def __post_init__(self) -> None:
        check_at_least(self, {"tokens": 2, "examples": 4, "sharpness": 0})


def bigram(knobs: BigramKnobs, seed: int) -> Problem:
    """The next token of a Markov chain, cross-entropy, zero start. Parameters: tokens × tokens.

    The chain's transitions are softmax of normal logits; every split is a sequence of its own from one chain. The
    target is a validation loss .1 above that of the chain itself.

    Args:
        knobs: Vocabulary, length and sharpness.
        seed: Data seed of the chain and its sequences.
    """
    generator = Generator().manual_seed(seed)
    chain = knobs.sharpness * torch.randn(knobs.tokens, knobs.tokens, generator=generator, dtype=torch.float64)
    part = max(1, knobs.examples // 4)
    train, val, test = (_pairs(chain, length, generator) for length in (knobs.examples, part, part))
    floor = F.cross_entropy(chain[val.inputs], val.labels).item()
    return Problem(
        # Pairs repeat: that is what is learned.
        splits=Splits(train, val, test, distinct=False),
        model=_table(knobs.tokens),
        objective=CROSS_ENTROPY,
        target_metric="val_loss",
        target=floor + 0.1,
        classes=knobs.tokens,
        untrained=Untrained("val", math.log(knobs.tokens), 1e-5, f"ln {knobs.tokens}"),
    )


def conditional_entropy(split: Split, tokens: int) -> float:
    """Return the empirical entropy of the next token given this one, in nats: the least loss of any table on a split.

    Args:
        split: Pairs of tokens.
        tokens: Size of the vocabulary.
    """
    counts = bigram_counts(split, tokens)
    chances = counts / counts.sum(1, keepdim=True).clamp_min(1)
    return -float(torch.special.xlogy(counts, chances).sum() / counts.sum())


def bigram_counts(split: Split, tokens: int) -> Tensor:
    """Return how often each token follows each: tokens (this) × tokens (next), float64."""
    pairs = split.inputs * tokens + split.labels
    return torch.bincount(pairs, minlength=tokens**2).reshape(tokens, tokens).double()


def _pairs(chain: Tensor, length: int, generator: Generator) -> Split:
    """Draw a sequence of length + 1 from a chain given by logits, from a uniform first token; return it in pairs."""
    cumulative = chain.softmax(1).cumsum(1)
    last = chain.shape[1] - 1
    sequence = [int(torch.randint(0, last + 1, (), generator=generator))]
    # Inverse transform: one uniform number a token.
    for uniform in torch.rand(length, generator=generator, dtype=torch.float64):
        sequence.append(min(int(torch.searchsorted(cumulative[sequence[-1]], uniform, right=True)), last))
    tokens = torch.tensor(sequence)
    return Split(tokens[:-1].contiguous(), tokens[1:].contiguous())


def _table(tokens: int) -> Model:
    def initialise(_: Generator) -> list[Tensor]:
        return [torch.zeros(tokens, tokens)]

    def forward(weights: Sequence[Tensor], inputs: Tensor) -> Tensor:
        return F.embedding(inputs, weights[0])

    def sparse_forward(weights: Sequence[Tensor], inputs: Tensor) -> Tensor:
        return F.embedding(inputs, weights[0], sparse=True)

    return Model("embedding", initialise, forward, uniform_at_start=True, sparse_forward=sparse_forward)
