"""How the next tokens are chosen: by a sampler chain, and by more where a chain alone is not enough.

As llama.cpp does it: first the chain chooses among all tokens, and only when its choice doesn't fit the grammar, it
chooses again among those that do. Most choices fit, and a seed gives the text that llama-server gives.
"""

import math
import secrets
from collections.abc import Sequence as Tokens

from runtime.engine.native import Candidates, Context, DryStages, Model, SamplerChain
from runtime.engine.policy.batch import Sampled
from runtime.engine.policy.sequence import Sequence
from runtime.engine.values.events import TokenProbs
from runtime.engine.values.grammar import Constraint
from runtime.engine.values.media import is_stand_in
from runtime.engine.values.request import GenerationRequest
from runtime.engine.values.sampling import SamplingParams
from runtime.errors import RequestError
from runtime.nursery import Patience


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


class Choosers:
    """The choosers of all sequences. The engine's thread only, but for `prepare`."""

    def __init__(self, model: Model, context: Context) -> None:
        self._model = model
        self._context = context
        self._choosers: dict[int, Chooser] = {}  # by sequence id
        self._candidates: Candidates | None = None  # made when they are first needed
        self._dry = DryStages(model)

    def prepare(self, sampling: SamplingParams, patience: Patience | None = None) -> None:
        """Do what would keep the engine's thread from everybody's next token. Blocks; any other thread.

        Raises NoTimeLeft when it isn't done yet and nobody waits.
        """
        if sampling.has_dry and not self._dry.has(sampling):
            if patience is not None:
                patience.check()
            self._dry.prepare(sampling)

    def sample(self, sequence: Sequence, index: int) -> list[Sampled]:
        """Choose the next token from the logits of the batch's entry `index`, and those after it as long as the draft
        was right. Raises RequestError when the request's grammar is at its limits.
        """
        sampled = [self._choose(sequence, index)]
        for guessed in sequence.draft:
            if sampled[-1].token != guessed or sampled[-1].is_end:
                break
            sampled.append(self._choose(sequence, index + len(sampled)))
        return sampled

    def score(self, sequence: Sequence, index: int, tokens: Tokens[int]) -> tuple[TokenProbs, ...]:
        """Return how likely a prompt's tokens were by the logits of the batch's entries from `index` on."""
        num_probs = sequence.params.sampling.n_probs
        return tuple(
            token_probs(token, self._shared_candidates, self._context.logits(index + offset), self._model, num_probs)
            for offset, token in enumerate(tokens)
        )

    @property
    def _shared_candidates(self) -> Candidates:
        if self._candidates is None:
            self._candidates = Candidates(self._model)
        return self._candidates

    def _choose(self, sequence: Sequence, index: int) -> Sampled:
        chooser = self._choosers.get(sequence.id)
        if chooser is None:
            chain = self._make_chain(sequence.request)
            chooser = Chooser(chain, sequence.params.sampling, sequence.constraint)
            self._choosers[sequence.id] = chooser
        probs = None
        if chooser.needs_candidates:
            token, probs = chooser.choose_among(self._shared_candidates, self._context.logits(index), self._model)
        else:
            token = chooser.choose(self._context, index)
        is_shown = token in sequence.params.shown_tokens
        piece = self._model.token_text(token).encode() if is_shown else self._model.piece(token)
        return Sampled(sequence, token, piece, self._model.is_end_of_generation(token), probs)

    def _make_chain(self, request: GenerationRequest) -> SamplerChain:
        params, sampling = request.params, request.params.sampling
        seed = sampling.seed if sampling.seed is not None else secrets.randbits(32)
        banned = self._model.end_tokens if params.ignore_eos else ()
        chain = SamplerChain(self._model, sampling, seed, banned=banned, dry=self._dry)
        # The samplers that look back see the prompt, as in llama-server; no further back than they look.
        windows = (sampling.repeat_last_n, sampling.dry_penalty_last_n)
        seen = 0 if min(windows) < 0 else max(0, len(request.prompt.tokens) - max(windows))
        for token in request.prompt.tokens[seen:]:
            if not is_stand_in(token):
                chain.accept(token)
        return chain

    def forget(self, sequence: Sequence) -> None:
        chooser = self._choosers.pop(sequence.id, None)
        if chooser is not None:
            chooser.close()

    def close(self) -> None:
        for chooser in self._choosers.values():
            chooser.close()
        self._dry.close()
        if self._candidates is not None:
            self._candidates.close()
