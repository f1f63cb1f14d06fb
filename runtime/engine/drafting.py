"""Who guesses tokens ahead, and for whom: the text itself, or a smaller model of the same vocabulary.

The engine's thread only, but for `abort`.
"""

from collections.abc import Sequence as Tokens

from runtime.engine.native import Aborted, Context, Model, NoRoom, SamplerChain
from runtime.engine.policy.sequence import Sequence
from runtime.engine.policy.slots import Slots
from runtime.engine.policy.speculation import PromptLookup, Speculation
from runtime.engine.values.edits import BatchEntry
from runtime.engine.values.sampling import SamplingParams
from runtime.errors import EngineError, ModelError

MAX_SEQUENCES_DRAFTED = 2
_NUM_ODD_TOKENS = 128  # llama.cpp's limit: vocabularies are padded to different sizes
_EVERY_NTH = 13  # pieces compared; all of 100,000 would take as long as loading the model


class Drafts:
    """Drafts for the sequences that generate, while few do: guessed tokens cost the others time."""

    def __init__(self, guesser: "PromptLookup | ModelGuesser", max_tokens: int) -> None:
        self._guesser = guesser
        self._speculation = Speculation(guesser, max_tokens)

    def give_to(self, generating: Tokens[Sequence], num_threads: int | None) -> None:
        """Give each sequence its draft for the next step, or none where there are too many sequences."""
        if isinstance(self._guesser, ModelGuesser) and num_threads is not None:
            self._guesser.set_threads(num_threads)
        for sequence in generating:
            is_worth_it = len(generating) <= MAX_SEQUENCES_DRAFTED
            is_text = not sequence.media  # of pictures there is nothing to guess from
            sequence.draft = self._speculation.propose(sequence) if is_worth_it and is_text else ()

    def forget(self, sequence: Sequence) -> None:
        self._speculation.forget(sequence)

    def abort(self) -> None:
        """Stop the guess that is computed, and every later one. Any thread."""
        if isinstance(self._guesser, ModelGuesser):
            self._guesser.abort()

    def close(self) -> None:
        if isinstance(self._guesser, ModelGuesser):
            self._guesser.close()


class ModelGuesser:
    """A draft model with a cache of its own, greedy. It sees a prompt chunk by chunk before its first guess."""

    def __init__(self, draft: Model, target: Model, *, n_ctx: int, num_slots: int, num_threads: int) -> None:
        """Raises ModelError when the two models' tokens differ, or there is no memory for the cache."""
        _check_vocabulary(draft, target)
        self._n_batch = 512
        self._context = Context(draft, n_ctx=n_ctx, n_batch=self._n_batch, num_slots=num_slots, num_threads=num_threads)
        self._slots = Slots(num_slots, self._context.n_ctx, is_cuttable=draft.facts.is_memory_cuttable)
        self._sampler = SamplerChain(draft, SamplingParams(temperature=0), seed=0)

    def guess(self, sequence_id: int, tokens: Tokens[int], max_tokens: int) -> list[int]:
        place = self._slots.best_for(tokens)
        if place is None or len(tokens) + max_tokens > self._context.n_ctx:
            return []
        slot = place.slot
        # A sequence needs its own cache to go on; what others began alike is soon computed.
        keep = 0 if place.donor else place.keep
        self._slots.acquire(place)
        del slot.tokens[keep:]
        self._context.cut(slot.index, keep)
        try:
            return self._go_on(slot.index, slot.tokens, list(tokens), max_tokens)
        except (NoRoom, Aborted, EngineError):  # the answer doesn't depend on guesses
            slot.clear()
            self._context.cut(slot.index, 0)
            return []
        finally:
            self._slots.release(slot)

    def _go_on(self, slot: int, known: list[int], tokens: list[int], max_tokens: int) -> list[int]:
        """Compute what is new of `tokens`, one chunk at most, and with all of it known guess what follows."""
        chunk = tokens[len(known) : len(known) + self._n_batch]
        self._decode(slot, known, chunk)
        guessed: list[int] = []
        while len(known) == len(tokens) + len(guessed):
            guessed.append(self._context.sample(self._sampler, self._last))
            if len(guessed) == max_tokens:
                break
            self._decode(slot, known, guessed[-1:])
        return guessed

    def _decode(self, slot: int, known: list[int], tokens: list[int]) -> None:
        self._last = len(tokens) - 1
        start = len(known)
        entries = [BatchEntry(token, start + i, slot, i == self._last) for i, token in enumerate(tokens)]
        self._context.decode(entries)
        known += tokens

    def set_threads(self, num_threads: int) -> None:
        self._context.set_threads(num_threads)

    def abort(self) -> None:
        self._context.abort()

    def forget(self, sequence_id: int) -> None:
        """Nothing to do: a slot that isn't used is the next one's."""

    def close(self) -> None:
        self._sampler.close()
        self._context.close()


def _check_vocabulary(draft: Model, target: Model) -> None:
    theirs, ours = draft.facts, target.facts
    num_common = min(theirs.n_vocab, ours.n_vocab)
    is_same = (
        theirs.vocab_type == ours.vocab_type
        and abs(theirs.n_vocab - ours.n_vocab) <= _NUM_ODD_TOKENS
        and all(draft.piece(token) == target.piece(token) for token in range(0, num_common, _EVERY_NTH))
    )
    if not is_same:
        raise ModelError("the draft model has another vocabulary than the model; take one of the same family")
