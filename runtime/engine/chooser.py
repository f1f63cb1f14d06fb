"""How one sequence's next token is chosen where a sampler chain alone is not enough.

As llama.cpp does it: first the chain chooses among all tokens, and only when its choice doesn't fit the grammar, it
chooses again among those that do. Most choices fit, and a seed gives the text that llama-server gives.
"""

import math

from runtime.engine.guidance import Constraint
from runtime.engine.native import Candidates, Context, Model, SamplerChain
from runtime.engine.policy.sequence import TokenProbs
from runtime.engine.values.sampling import SamplingParams
from runtime.errors import RequestError


class Chooser:
    """A sequence's sampler chain, with a grammar or probabilities or neither. The engine's thread only."""

    def __init__(self, chain: SamplerChain, params: SamplingParams, constraint: Constraint | None) -> None:
        self._chain = chain
        self._constraint = constraint
        self._num_probs = params.n_probs
        self._is_after_sampling = params.post_sampling_probs

    @property
    def needs_candidates(self) -> bool:
        """Whether the choice needs more than the chain, which llama.cpp applies faster by itself."""
        return self._constraint is not None or self._num_probs > 0

    def close(self) -> None:
        self._chain.close()

    def choose(self, context: Context, index: int) -> int:
        """Choose from the logits of the batch's entry `index`."""
        return context.sample(self._chain, index)

    def choose_among(
        self, candidates: Candidates, logits: "memoryview[float]", model: Model
    ) -> tuple[int, TokenProbs | None]:
        """Choose with everything the request asks for. Raises RequestError when the grammar is at its limits."""
        candidates.fill(logits)
        token = candidates.choose(self._chain)
        if self._constraint is not None and not self._constraint.take(token):
            token = self._choose_allowed(self._constraint, candidates, logits)
        self._chain.accept(token)
        return token, self._probs(token, candidates, logits, model) if self._num_probs else None

    def _choose_allowed(self, constraint: Constraint, candidates: Candidates, logits: "memoryview[float]") -> int:
        mask = constraint.mask()
        candidates.fill(logits, mask)
        token = candidates.choose(self._chain)
        if constraint.take(token):
            return token
        # The request's biases forbid all that the grammar allows; the grammar counts.
        candidates.fill(logits, mask)
        token = candidates.likeliest()
        if constraint.take(token):
            return token
        raise RequestError("the grammar grew too complex for this text", "grammar")

    def _probs(self, token: int, candidates: Candidates, logits: "memoryview[float]", model: Model) -> TokenProbs:
        if self._is_after_sampling:
            return _named(token, *candidates.remaining(self._num_probs), model)
        return token_probs(token, candidates, logits, model, self._num_probs)


def token_probs(
    token: int, candidates: Candidates, logits: "memoryview[float]", model: Model, num_probs: int
) -> TokenProbs:
    """Return how likely a token is among all of them by these logits, with the `num_probs` likeliest."""
    candidates.fill(logits)
    return _named(token, *candidates.softmax(token, num_probs), model)


def _named(token: int, probability: float, likely: list[tuple[int, float]], model: Model) -> TokenProbs:
    top = tuple((each, model.piece(each), _log(p)) for each, p in likely)
    return TokenProbs(token, model.piece(token), _log(probability), top)


def _log(probability: float) -> float:
    return math.log(probability) if probability > 0 else -math.inf
