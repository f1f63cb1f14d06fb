"""Which token comes next, for each sequence of a step. The engine's thread only."""

import secrets
from collections.abc import Callable
from collections.abc import Sequence as Tokens

from runtime.engine.chooser import Chooser, token_probs
from runtime.engine.native import Candidates, Context, Model, SamplerChain
from runtime.engine.policy.batch import Sampled
from runtime.engine.policy.sequence import GenerationRequest, Sequence, TokenProbs
from runtime.engine.values.media import is_stand_in


class Choice:
    """The choosers of all sequences; `end_tokens` says at which tokens the model ends."""

    def __init__(self, model: Model, context: Context, end_tokens: Callable[[], tuple[int, ...]]) -> None:
        self._model = model
        self._context = context
        self._end_tokens = end_tokens
        self._choosers: dict[int, Chooser] = {}  # by sequence id
        self._candidates: Candidates | None = None  # made when they are first needed

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
        num_probs = sequence.request.sampling.n_probs
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
            chooser = Chooser(chain, sequence.request.sampling, sequence.constraint)
            self._choosers[sequence.id] = chooser
        probs = None
        if chooser.needs_candidates:
            token, probs = chooser.choose_among(self._shared_candidates, self._context.logits(index), self._model)
        else:
            token = chooser.choose(self._context, index)
        is_shown = token in sequence.request.shown_tokens
        piece = self._model.token_text(token).encode() if is_shown else self._model.piece(token)
        return Sampled(sequence, token, piece, self._model.is_end_of_generation(token), probs)

    def _make_chain(self, request: GenerationRequest) -> SamplerChain:
        params = request.sampling
        seed = params.seed if params.seed is not None else secrets.randbits(32)
        banned = self._end_tokens() if request.ignore_eos else ()
        chain = SamplerChain(self._model, params, seed, banned=banned)
        # The samplers that look back see the prompt, as in llama-server; no further back than they look.
        windows = (params.repeat_last_n, params.dry_penalty_last_n)
        seen = 0 if min(windows) < 0 else max(0, len(request.prompt_tokens) - max(windows))
        for token in request.prompt_tokens[seen:]:
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
        if self._candidates is not None:
            self._candidates.close()
