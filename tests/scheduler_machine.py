"""A model that is a pure function of its tokens, and a KV cache that checks every entry, to drive a scheduler with."""

import random
from dataclasses import dataclass, field, replace

import pytest

from runtime.engine.policy.batch import Batch, Sampled
from runtime.engine.policy.scheduler import Scheduler, SchedulerParams
from runtime.engine.policy.sequence import Sequence
from runtime.engine.values.edits import Copy, Cut, Edit, Park, Restore, Shift
from runtime.engine.values.events import Finished, FinishReason, Progress, TextDelta, TokenProbs
from tests.asking import request_for

END = 0
_MAX_GUESSED = 5


def next_token(tokens: list[int]) -> int:
    """The model: the end of the text in one of eleven cases, else a letter."""
    value = hash(tuple(tokens)) % 11
    return END if value == 0 else 96 + value


def expected(prompt: list[int], max_tokens: int | None, n_ctx: int) -> tuple[str, FinishReason]:
    tokens, text = list(prompt), ""
    while True:
        token = next_token(tokens)
        tokens.append(token)
        if token == END:
            return text, FinishReason.END_OF_TEXT
        text += chr(token)
        if len(tokens) - len(prompt) == max_tokens or len(tokens) >= n_ctx:
            return text, FinishReason.LENGTH


@dataclass
class Machine:
    """Drives a scheduler step by step and holds what a real KV cache would hold."""

    n_ctx: int = 64
    num_cells: int | None = None  # as many as one sequence may use
    num_slots: int = 3
    n_batch: int = 16
    is_cuttable: bool = True
    can_shift: bool = True
    context_shift: bool = False
    num_always_kept: int = 0
    parking_bytes: int = 0
    chance: random.Random | None = None  # guesses tokens, and lets some copies fail
    cells: dict[int, list[int]] = field(default_factory=dict)
    texts: dict[int, str] = field(default_factory=dict)
    ends: dict[int, Finished] = field(default_factory=dict)
    edits: list[Edit] = field(default_factory=list)
    scored: dict[int, list[int]] = field(default_factory=dict)

    @property
    def num_outputs(self) -> int:
        return self.num_slots * (1 if self.chance is None else 1 + _MAX_GUESSED)

    def __post_init__(self) -> None:
        self.num_cells = self.num_cells or self.n_ctx
        self.scheduler = Scheduler(
            SchedulerParams(
                num_slots=self.num_slots,
                num_cells=self.num_cells,
                n_ctx=self.n_ctx,
                n_batch=self.n_batch,
                num_prefill_beside_decode=4,
                num_outputs=self.num_outputs,
                is_cuttable=self.is_cuttable,
                can_shift=self.can_shift,
                context_shift=self.context_shift,
                num_always_kept=self.num_always_kept,
                parking_bytes=self.parking_bytes,
            )
        )

    def add(
        self, number: int, prompt: list[int], max_tokens: int | None = None, group: object = None, **more: object
    ) -> Sequence:
        request = replace(request_for(prompt, max_tokens=max_tokens, **more), group=group)
        sequence = Sequence.of(number, request, lambda event: None)
        self.scheduler.add(sequence)
        return sequence

    def fails(self) -> bool:
        return self.chance is not None and self.chance.random() < 0.2

    def edit(self, edit: Edit) -> None:
        self.edits.append(edit)
        held = self.cells.setdefault(edit.slot, [])
        match edit:
            case Cut(_slot, keep):
                assert self.is_cuttable or keep == 0, "a memory that can't be cut was cut"
                del held[keep:]
            case Copy(source, _slot, count):
                assert self.is_cuttable, "a memory that can't be cut was shared"
                assert not held, "tokens were shared into a slot that isn't empty"
                assert len(self.cells[source]) >= count, "more was shared than there is"
                held += self.cells[source][:count]
            case Shift(_slot, keep, discard):
                assert self.can_shift, "a memory that can't be shifted was"
                assert keep + discard <= len(held), "more was dropped than there is"
                del held[keep : keep + discard]
            case Park(_slot, parked):
                assert held == parked.tokens, "another cache was parked than that of these tokens"
                parked.data = None if self.fails() else bytes(held)
            case Restore(_slot, parked):
                assert not held, "a cache was restored over another"
                assert parked.data is not None
                if self.fails():
                    self.scheduler.restore_failed(edit.slot)
                else:
                    held += parked.data
                    self.check_cells()

    def check_cells(self) -> None:
        assert self.num_cells is not None
        assert sum(map(len, self.cells.values())) <= self.num_cells, "more cells used than there are"

    def step(self) -> Batch:
        for edit in self.scheduler.admit(now=0.0):
            self.edit(edit)
        for sequence in self.scheduler.generating:
            sequence.draft = self.guess(sequence.tokens)
        batch = self.scheduler.schedule()
        for edit in batch.edits:
            self.edit(edit)
        self.compute(batch)
        self.check_cells()
        assert len(batch.entries) <= self.n_batch
        assert batch.num_outputs <= self.num_outputs
        slots = [sequence.slot for sequence, _count in batch.parts]
        assert len(slots) == len(set(slots)), "a slot was shared"
        sampled = []
        for sequence, index in batch.outputs:
            assert self.cells[batch.entries[index].slot] == [*sequence.tokens, *sequence.draft], "another text is held"
            sampled += self.sample(batch, sequence, index)
        scored = {sequence.id: self.score(batch, index, tokens) for sequence, index, tokens in batch.scores}
        for sequence, event in self.scheduler.commit(batch, sampled, 0.0, scored):
            assert sequence.id not in self.ends, "an event came after the last one"
            if isinstance(event, Progress):
                self.scored.setdefault(sequence.id, []).extend(each.token for each in event.probs)
            if isinstance(event, TextDelta):
                self.texts[sequence.id] = self.texts.get(sequence.id, "") + event.text
            elif isinstance(event, Finished):
                self.ends[sequence.id] = event
        return batch

    def compute(self, batch: Batch) -> None:
        for entry in batch.entries:
            held = self.cells.setdefault(entry.slot, [])
            assert entry.position == len(held), "a token was computed at the wrong place"
            held.append(entry.token)

    def score(self, batch: Batch, index: int, tokens: list[int]) -> tuple[TokenProbs, ...]:
        for before, token in zip(batch.entries[index : index + len(tokens)], tokens, strict=True):
            assert before.wants_logits
            following = self.cells[before.slot][before.position + 1 :]
            assert following[:1] in ([], [token]), "a token was scored by another's logits"
        return tuple(TokenProbs(token, bytes([token]), 0.0, ()) for token in tokens)

    def guess(self, tokens: list[int]) -> tuple[int, ...]:
        """Some tokens ahead, right for a while."""
        if self.chance is None:
            return ()
        ahead = list(tokens)
        for _ in range(self.chance.randrange(1 + _MAX_GUESSED)):
            ahead.append(next_token(ahead) if self.chance.random() < 0.8 else 99)
        return tuple(ahead[len(tokens) :])

    def sample(self, batch: Batch, sequence: Sequence, index: int) -> list[Sampled]:
        tokens, sampled = list(sequence.tokens), []
        for guessed in [*sequence.draft, None]:
            assert batch.entries[index + len(sampled)].wants_logits
            token = next_token(tokens)
            sampled.append(Sampled(sequence, token, bytes([token]), token == END))
            if token != guessed or token == END:
                break
            tokens.append(token)
        return sampled

    def run(self) -> None:
        for _ in range(5000):
            if not (self.scheduler.num_running or self.scheduler.num_waiting):
                return
            self.step()
        pytest.fail("the scheduler doesn't come to an end")
