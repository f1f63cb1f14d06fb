"""What one step computes: the value that the scheduler hands to llama.cpp."""

from dataclasses import dataclass, field

from runtime.engine.policy.sequence import Sequence
from runtime.engine.values.edits import BatchEntry, Edit, MediaPart
from runtime.engine.values.events import TokenProbs


@dataclass(slots=True)
class Batch:
    """One step, in the order in which it must be carried out: the edits in theirs, then one decode of all entries.

    llama.cpp takes tokens or vectors in a batch, not both: one with `media` has no entries.

    `parts` says how many tokens of which sequence are in it; `outputs` which entry holds the logits from which a
    sequence's next token is sampled. Where tokens were guessed, the logits of the entries that follow are wanted too.
    `scores` are prompts' tokens whose probabilities are wanted, and the entry whose logits predict the first of them.
    """

    lora: tuple[float, ...] = ()  # the scales of the adapters that it is computed with
    edits: list[Edit] = field(default_factory=list)
    entries: list[BatchEntry] = field(default_factory=list)
    media: MediaPart | None = None
    parts: list[tuple[Sequence, int]] = field(default_factory=list)
    outputs: list[tuple[Sequence, int]] = field(default_factory=list)
    scores: list[tuple[Sequence, int, list[int]]] = field(default_factory=list)

    def add(self, sequence: Sequence, count: int) -> list[int]:
        """Plan `count` pending tokens of a sequence, and behind the newest one its draft; return all of them."""
        assert sequence.slot is not None
        start, end = sequence.num_computed, sequence.num_computed + count
        is_last = end == len(sequence.tokens)
        tokens = [*sequence.tokens[start:end], *sequence.draft]
        scored_from = end
        if sequence.num_unscored:  # each token's logits predict the next one
            scored_from = sequence.num_scored - 1
            scored = sequence.tokens[scored_from + 1 : min(end + 1, sequence.num_prompt_tokens)]
            self.scores.append((sequence, len(self.entries) + scored_from - start, scored))
        if is_last:
            self.outputs.append((sequence, len(self.entries) + count - 1))
        position = sequence.position(start)
        for index, token in enumerate(tokens, start):
            wants_logits = (is_last and index >= end - 1) or scored_from <= index < end
            self.entries.append(BatchEntry(token, position + index - start, sequence.slot, wants_logits))
        self.parts.append((sequence, count))
        return tokens

    @property
    def num_outputs(self) -> int:
        return sum(entry.wants_logits for entry in self.entries)

    @property
    def is_empty(self) -> bool:
        return not self.entries and self.media is None


@dataclass(frozen=True, slots=True)
class Sampled:
    """The token chosen for a sequence, the bytes it stands for, whether it ends the text, and how likely it was."""

    sequence: Sequence
    token: int
    piece: bytes
    is_end: bool
    probs: TokenProbs | None = None
