"""The scheduler against a model that is a pure function of its tokens and a KV cache that checks every entry."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.engine.batch import Batch, Cut, Sampled
from runtime.engine.scheduler import Scheduler
from runtime.engine.sequence import Finished, FinishReason, GenerationRequest, Progress, Sequence, TextDelta

END = 0


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
    num_slots: int = 3
    n_batch: int = 16
    is_cuttable: bool = True
    cells: dict[int, list[int]] = field(default_factory=dict)
    texts: dict[int, str] = field(default_factory=dict)
    ends: dict[int, Finished] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.scheduler = Scheduler(
            num_slots=self.num_slots,
            n_ctx=self.n_ctx,
            n_batch=self.n_batch,
            num_prefill_beside_decode=4,
            is_cuttable=self.is_cuttable,
        )

    def add(self, number: int, prompt: list[int], max_tokens: int | None = None, **more: object) -> Sequence:
        request = GenerationRequest(tuple(prompt), max_tokens=max_tokens, **more)  # type: ignore[arg-type]
        sequence = Sequence.of(number, request, lambda event: None)
        self.scheduler.add(sequence)
        return sequence

    def step(self) -> Batch:
        batch = self.scheduler.schedule(now=0.0)
        for edit in batch.edits:
            held = self.cells.setdefault(edit.slot, [])
            if isinstance(edit, Cut):
                assert self.is_cuttable or edit.keep == 0, "a memory that can't be cut was cut"
                del held[edit.keep :]
            else:
                assert self.is_cuttable, "a memory that can't be cut was shared"
                assert not held, "tokens were shared into a slot that isn't empty"
                assert len(self.cells[edit.source]) >= edit.count, "more was shared than there is"
                held += self.cells[edit.source][: edit.count]
        for entry in batch.entries:
            held = self.cells.setdefault(entry.slot, [])
            assert entry.position == len(held), "a token was computed at the wrong place"
            held.append(entry.token)
        assert sum(map(len, self.cells.values())) <= self.n_ctx, "more cells used than there are"
        assert len(batch.entries) <= self.n_batch
        slots = [sequence.slot for sequence, _count in batch.parts]
        assert len(slots) == len(set(slots)), "a slot was shared"
        sampled = []
        for sequence, index in batch.outputs:
            assert batch.entries[index].wants_logits
            assert self.cells[batch.entries[index].slot] == sequence.tokens, "the cache holds another text"
            token = next_token(sequence.tokens)
            sampled.append(Sampled(sequence, token, bytes([token]), token == END))
        for sequence, event in self.scheduler.commit(batch, sampled, now=0.0):
            assert sequence.id not in self.ends, "an event came after the last one"
            if isinstance(event, TextDelta):
                self.texts[sequence.id] = self.texts.get(sequence.id, "") + event.text
            elif isinstance(event, Finished):
                self.ends[sequence.id] = event
        return batch

    def run(self) -> None:
        for _ in range(5000):
            if not (self.scheduler.num_running or self.scheduler.num_waiting):
                return
            self.step()
        pytest.fail("the scheduler doesn't come to an end")


# Prompts that begin alike, so that caches are reused, cut and shared.
PROMPTS = st.builds(
    lambda num_common, rest: [number % 5 + 1 for number in range(num_common)] + rest,
    st.integers(0, 30),
    st.lists(st.integers(1, 3), min_size=1, max_size=9),
)


@settings(max_examples=200, deadline=None)
@given(
    prompts=st.lists(st.tuples(PROMPTS, st.one_of(st.none(), st.integers(1, 40))), min_size=1, max_size=9),
    is_cuttable=st.booleans(),
    num_slots=st.integers(1, 4),
    n_ctx=st.integers(42, 100),
)
def test_every_sequence_ends_with_the_text_it_would_have_alone(
    prompts: list[tuple[list[int], int | None]], is_cuttable: bool, num_slots: int, n_ctx: int
) -> None:
    machine = Machine(n_ctx=n_ctx, num_slots=num_slots, is_cuttable=is_cuttable)
    for number, (prompt, max_tokens) in enumerate(prompts):
        machine.add(number, prompt, max_tokens)
        machine.step()
    machine.run()
    for number, (prompt, max_tokens) in enumerate(prompts):
        text, reason = expected(prompt, max_tokens, n_ctx)
        assert (machine.texts.get(number, ""), machine.ends[number].reason) == (text, reason)


def test_a_long_prompt_does_not_stall_one_that_generates() -> None:
    machine = Machine(n_ctx=200, n_batch=16)
    talking = machine.add(1, [5], None, ignore_eos=True)
    machine.step()
    machine.add(2, [1] * 100, 1)
    while machine.ends.get(2) is None:
        before = talking.num_generated
        batch = machine.step()
        assert talking.num_generated == before + 1
        assert len(batch.entries) <= 1 + 4


def test_alone_a_prompt_gets_the_whole_batch() -> None:
    machine = Machine(n_ctx=200, n_batch=16)
    machine.add(1, [1] * 40, 1)
    assert [len(machine.step().entries) for _ in range(3)] == [16, 16, 8]


def test_a_second_prompt_computes_only_what_is_new() -> None:
    machine = Machine()
    machine.add(1, [1, 2, 3, 4], 1)
    machine.run()
    machine.add(2, [1, 2, 3, 4, 5, 6], 1)
    machine.run()
    assert machine.ends[2].timings.num_cached_tokens == 4
    assert machine.ends[2].timings.num_prompt_tokens == 2


def test_what_a_running_sequence_has_computed_is_shared() -> None:
    machine = Machine(n_ctx=200, n_batch=64)
    beginning = list(range(1, 31))
    machine.add(1, [*beginning, 77], None, ignore_eos=True)
    machine.step()
    machine.add(2, [*beginning, 88, 89], 1)
    machine.step()
    assert machine.ends[2].timings.num_cached_tokens == 30
    assert machine.ends[2].timings.num_prompt_tokens == 2


def test_prompts_that_come_together_compute_their_common_beginning_once() -> None:
    machine = Machine(n_ctx=2000, num_slots=4, n_batch=64)
    beginning = [number % 90 + 1 for number in range(300)]
    for number in range(4):
        machine.add(number, [*beginning, 100 + number], 1)
    computed = 0
    while len(machine.ends) < 4:
        computed += len(machine.step().entries)
    # The first computes all; the others wait until less than what is worth waiting for is left.
    assert computed <= len(beginning) + 4 + 3 * 64


def test_a_request_that_wants_no_cache_computes_all() -> None:
    machine = Machine()
    machine.add(1, [1, 2, 3, 4], 1)
    machine.run()
    machine.add(2, [1, 2, 3, 4, 5], 1, cache_prompt=False)
    machine.run()
    assert machine.ends[2].timings.num_cached_tokens == 0


def test_a_cancelled_sequence_frees_its_slot_in_the_next_step() -> None:
    machine = Machine(num_slots=1)
    first = machine.add(1, [1] * 30, None, ignore_eos=True)
    second = machine.add(2, [2], 1)
    machine.step()
    assert machine.scheduler.num_waiting == 1
    machine.scheduler.remove(first)
    machine.step()
    assert second.num_generated == 1 or 2 in machine.ends
    machine.run()
    assert 1 not in machine.ends


def test_a_waiting_sequence_can_be_cancelled() -> None:
    machine = Machine(num_slots=1)
    machine.add(1, [1] * 30, 2, ignore_eos=True)
    machine.step()
    waiting = machine.add(2, [2], 1)
    machine.scheduler.remove(waiting)
    machine.run()
    assert set(machine.ends) == {1}


def test_no_tokens_wanted_computes_the_prompt_and_ends() -> None:
    machine = Machine()
    machine.add(1, [1, 2], 0)
    machine.run()
    assert machine.ends[1].reason is FinishReason.LENGTH
    assert machine.ends[1].timings.num_generated_tokens == 0
    assert machine.texts == {}


def test_a_stop_string_ends_the_sequence_and_is_named() -> None:
    machine = Machine()
    prompt = next([seed] for seed in range(1, 200) if len(expected([seed], 5, 64)[0]) == 5)
    text, _reason = expected(prompt, 5, 64)
    machine.add(1, prompt, None, stop=(text[2:4],))
    machine.run()
    assert machine.texts[1] == text[: text.index(text[2:4])]
    assert machine.ends[1].reason is FinishReason.STOP_STRING
    assert machine.ends[1].stopping_string == text[2:4]


def test_a_request_gets_the_slot_it_asks_for_and_others_do_not_wait_for_it() -> None:
    machine = Machine(num_slots=2)
    first = machine.add(1, [1, 2], ignore_eos=True, slot=1)
    machine.step()
    second = machine.add(2, [1, 2, 3], 3, ignore_eos=True, slot=1)
    third = machine.add(3, [4], 1, ignore_eos=True)
    machine.step()
    assert (first.slot, second.slot, third.slot) == (1, None, 0)
    machine.scheduler.remove(first)
    machine.step()
    assert second.slot == 1
    assert second.num_cached == 2


@settings(max_examples=100, deadline=None)
@given(wishes=st.lists(st.tuples(PROMPTS, st.one_of(st.none(), st.integers(0, 2))), min_size=1, max_size=9))
def test_every_sequence_ends_whatever_slots_are_asked_for(wishes: list[tuple[list[int], int | None]]) -> None:
    machine = Machine(n_ctx=50, num_slots=3)
    for number, (prompt, slot) in enumerate(wishes):
        machine.add(number, prompt, 20, slot=slot)
        machine.step()
    machine.run()
    for number, (prompt, _slot) in enumerate(wishes):
        assert (machine.texts.get(number, ""), machine.ends[number].reason) == expected(prompt, 20, 50)


def test_who_wants_progress_hears_of_each_step_of_the_prompt() -> None:
    machine = Machine(n_batch=16)
    machine.add(1, [1] * 40, 2, wants_progress=True)
    machine.add(2, [2] * 3, 1)
    heard = []
    for now in range(4):
        batch = machine.scheduler.schedule(float(now))
        sampled = [Sampled(sequence, 97, b"a", False) for sequence, _index in batch.outputs]
        heard += machine.scheduler.commit(batch, sampled, float(now) + 0.5)
    told = [event for sequence, event in heard if sequence.id == 1 and isinstance(event, Progress)]
    assert [event.timings.num_prompt_tokens for event in told] == [0, 16, 32, 40]
    assert [event.timings.prompt_seconds for event in told] == [0.0, 0.5, 1.5, 2.5]
    assert {event.num_prompt_tokens for event in told} == {40}
    assert not any(isinstance(event, Progress) for sequence, event in heard if sequence.id == 2)


@pytest.mark.parametrize("wants", [True, False])
def test_timings_come_with_each_delta_for_who_wants_them(wants: bool) -> None:
    machine = Machine()
    machine.add(1, [1, 2], 2, wants_timings=wants, ignore_eos=True)
    deltas = []
    while not machine.ends and len(deltas) < 2:
        batch = machine.scheduler.schedule(0.0)
        sampled = [Sampled(sequence, 97, b"a", False) for sequence, _index in batch.outputs]
        deltas += [e for _, e in machine.scheduler.commit(batch, sampled, 1.0) if isinstance(e, TextDelta)]
    found = [delta.timings and delta.timings.num_generated_tokens for delta in deltas]
    assert found == ([1, 2] if wants else [None, None])


def test_when_time_is_over_the_next_line_end_is_the_end() -> None:
    machine = Machine()
    machine.add(1, [1], None, max_seconds=1.5)
    text, ended = "", None
    for now, piece in enumerate([b"a", b"\n", b"b", b"c", b"d\n", b"e"]):
        batch = machine.scheduler.schedule(float(now))
        sampled = [Sampled(sequence, 97, piece, False) for sequence, _index in batch.outputs]
        for _, event in machine.scheduler.commit(batch, sampled, float(now)):
            text += event.text if isinstance(event, TextDelta) else ""
            ended = event.reason if isinstance(event, Finished) else ended
    assert (text, ended) == ("a\nbcd\n", FinishReason.LENGTH)
