"""The scheduler against a machine that checks every entry of its cache."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.engine.policy.batch import Sampled
from runtime.engine.values.edits import Cut, Park, Shift
from runtime.engine.values.events import Finished, FinishReason, Progress, TextDelta, TokenProbs
from tests.scheduler_machine import END, Machine, expected

# Prompts that begin alike, so that caches are reused, cut and shared.
PROMPTS = st.builds(
    lambda num_common, rest: [number % 5 + 1 for number in range(num_common)] + rest,
    st.integers(0, 30),
    st.lists(st.integers(1, 3), min_size=1, max_size=9),
)


@settings(max_examples=200)
@given(
    prompts=st.lists(st.tuples(PROMPTS, st.booleans()), min_size=1, max_size=7),
    num_slots=st.integers(1, 4),
    n_ctx=st.integers(42, 100),
    seed=st.one_of(st.none(), st.integers(0, 1000)),
)
def test_who_wants_its_prompt_scored_hears_of_each_token_once(
    prompts: list[tuple[list[int], bool]], num_slots: int, n_ctx: int, seed: int | None
) -> None:
    chance = None if seed is None else random.Random(seed)
    machine = Machine(n_ctx=n_ctx, num_slots=num_slots, chance=chance)
    for number, (prompt, wants_scores) in enumerate(prompts):
        machine.add(number, prompt, 20, wants_prompt_probs=wants_scores)
        machine.step()
    machine.run()
    for number, (prompt, wants_scores) in enumerate(prompts):
        assert machine.scored.get(number, []) == (prompt[1:] if wants_scores else [])
        assert (machine.texts.get(number, ""), machine.ends[number].reason) == expected(prompt, 20, n_ctx)


@settings(max_examples=200)
@given(
    prompts=st.lists(st.tuples(PROMPTS, st.one_of(st.none(), st.integers(1, 40))), min_size=1, max_size=9),
    is_cuttable=st.booleans(),
    num_slots=st.integers(1, 4),
    n_ctx=st.integers(42, 100),
    parking_bytes=st.sampled_from([0, 60, 1000]),
    seed=st.one_of(st.none(), st.integers(0, 1000)),
)
def test_every_sequence_ends_with_the_text_it_would_have_alone(
    prompts: list[tuple[list[int], int | None]],
    is_cuttable: bool,
    num_slots: int,
    n_ctx: int,
    parking_bytes: int,
    seed: int | None,
) -> None:
    chance = random.Random(seed) if is_cuttable and seed is not None else None
    machine = Machine(
        n_ctx=n_ctx, num_slots=num_slots, is_cuttable=is_cuttable, parking_bytes=parking_bytes, chance=chance
    )
    for number, (prompt, max_tokens) in enumerate(prompts):
        machine.add(number, prompt, max_tokens)
        machine.step()
    machine.run()
    for number, (prompt, max_tokens) in enumerate(prompts):
        text, reason = expected(prompt, max_tokens, n_ctx)
        assert (machine.texts.get(number, ""), machine.ends[number].reason) == (text, reason)


@settings(max_examples=200)
@given(
    prompts=st.lists(st.tuples(PROMPTS, st.integers(1, 150), st.integers(-1, 50)), min_size=1, max_size=7),
    is_cuttable=st.booleans(),
    can_shift=st.booleans(),
    num_slots=st.integers(1, 4),
    n_ctx=st.integers(42, 100),
    n_discard=st.integers(0, 60),
    parking_bytes=st.sampled_from([0, 1000]),
)
def test_with_context_shift_every_sequence_gets_all_tokens_it_asked_for(
    prompts: list[tuple[list[int], int, int]],
    is_cuttable: bool,
    can_shift: bool,
    num_slots: int,
    n_ctx: int,
    n_discard: int,
    parking_bytes: int,
) -> None:
    machine = Machine(
        n_ctx=n_ctx,
        num_slots=num_slots,
        is_cuttable=is_cuttable,
        can_shift=can_shift,
        parking_bytes=parking_bytes,
        context_shift=True,
        num_always_kept=1,
    )
    for number, (prompt, max_tokens, n_keep) in enumerate(prompts):
        machine.add(number, prompt, max_tokens, ignore_eos=True, n_keep=n_keep, n_discard=n_discard)
        machine.step()
    machine.run()
    for number, (prompt, max_tokens, _n_keep) in enumerate(prompts):
        assert machine.ends[number].timings.num_generated_tokens == max_tokens
        assert machine.ends[number].is_truncated or len(prompt) + max_tokens <= n_ctx


def test_a_shift_keeps_what_was_asked_for_and_drops_half_of_the_rest() -> None:
    machine = Machine(n_ctx=20, context_shift=True)
    sequence = machine.add(1, [1, 2, 3, 4], 17, ignore_eos=True, n_keep=3)
    machine.run()
    assert [edit for edit in machine.edits if isinstance(edit, Shift)] == [Shift(0, 3, 8)]
    assert sequence.tokens[:3] == [1, 2, 3]
    assert machine.ends[1].is_truncated


def test_a_prompt_counts_as_computed_though_a_shift_has_dropped_some_of_it() -> None:
    machine = Machine(n_ctx=20, context_shift=True)
    machine.add(1, list(range(1, 18)), 5, ignore_eos=True)
    machine.run()
    assert machine.ends[1].timings.num_prompt_tokens == 17


def test_tokens_that_others_share_are_computed_again_instead_of_moved() -> None:
    machine = Machine(n_ctx=120, context_shift=True, n_batch=64)
    beginning = list(range(1, 51))
    machine.add(1, [*beginning, 77], 80, ignore_eos=True, n_discard=20)
    machine.step()
    machine.add(2, [*beginning, 88], 2, ignore_eos=True)
    machine.run()
    assert machine.ends[1].is_truncated
    assert machine.ends[1].timings.num_generated_tokens == 80
    assert not any(isinstance(edit, Shift) for edit in machine.edits)


def test_without_context_shift_a_full_context_ends_the_text_and_says_so() -> None:
    machine = Machine(n_ctx=20)
    machine.add(1, [1, 2, 3, 4], None, ignore_eos=True)
    machine.run()
    assert machine.ends[1].is_truncated
    assert machine.ends[1].timings.num_generated_tokens == 16


def test_a_sequence_may_be_kept_to_a_part_of_the_pool() -> None:
    machine = Machine(n_ctx=20, num_cells=40, num_slots=2)
    for number in (1, 2):
        machine.add(number, [number, 2, 3, 4], None, ignore_eos=True)
    machine.run()
    assert [end.timings.num_generated_tokens for end in machine.ends.values()] == [16, 16]
    assert not any(isinstance(edit, Cut) for edit in machine.edits)  # nobody had to give way


def test_ten_conversations_on_two_slots_are_not_computed_again() -> None:
    machine = Machine(n_ctx=400, num_slots=2, n_batch=64, parking_bytes=10_000)
    conversations = [[number, *range(1, 60)] for number in range(100, 110)]
    for turn in range(3):
        for number, tokens in enumerate(conversations):
            machine.add(10 * turn + number, tokens, 2, ignore_eos=True)
            machine.run()
            if turn:
                assert machine.ends[10 * turn + number].timings.num_prompt_tokens <= 5
            tokens += [7, 8, 9]


def test_a_conversation_that_goes_on_is_not_parked_for_its_old_end() -> None:
    machine = Machine(n_ctx=400, num_slots=1, n_batch=64, parking_bytes=10_000)
    machine.add(1, list(range(1, 81)), 20, ignore_eos=True)
    machine.run()
    machine.add(2, [*range(1, 81), 99], 1)
    assert not any(isinstance(edit, Park) for edit in machine.scheduler.admit(0.0))


def test_guesses_that_are_right_save_steps_and_wrong_ones_change_nothing() -> None:
    plain = Machine(n_ctx=400)
    guessing = Machine(n_ctx=400, chance=random.Random(1))
    num_steps = []
    for machine in (plain, guessing):
        machine.add(1, [5], 60, ignore_eos=True)
        steps = 0
        while 1 not in machine.ends:
            machine.step()
            steps += 1
        num_steps.append(steps)
    assert plain.texts == guessing.texts
    assert num_steps[1] < num_steps[0] / 2
    timings = guessing.ends[1].timings
    assert 0 < timings.num_accepted_tokens < timings.num_drafted_tokens
    assert 0 < timings.num_drafts <= num_steps[1]


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


def test_a_long_prompt_with_other_adapters_does_not_stall_one_that_generates() -> None:
    machine = Machine(n_ctx=200, n_batch=16)
    machine.add(1, [5], None, ignore_eos=True)
    machine.step()
    machine.add(2, [1] * 100, 1).lora = (1.0,)
    settings = []
    while machine.ends.get(2) is None:
        batch = machine.step()
        settings.append(batch.lora)
        assert {sequence.lora for sequence, _count in batch.parts} == {batch.lora}
        assert len(batch.entries) <= 1 + 4
    assert all(settings[index] != settings[index + 1] for index in range(len(settings) - 1))  # they take turns


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


@settings(max_examples=100)
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
    machine.add(1, [1] * 40, 2, "one client", wants_progress=True)
    machine.add(2, [2] * 3, 1, "one client")
    heard = []
    for now in range(4):
        machine.scheduler.admit(float(now))
        batch = machine.scheduler.schedule()
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
        machine.scheduler.admit(0.0)
        batch = machine.scheduler.schedule()
        sampled = [Sampled(sequence, 97, b"a", False) for sequence, _index in batch.outputs]
        deltas += [e for _, e in machine.scheduler.commit(batch, sampled, 1.0) if isinstance(e, TextDelta)]
    found = [delta.timings and delta.timings.num_generated_tokens for delta in deltas]
    assert found == ([1, 2] if wants else [None, None])


def test_when_time_is_over_the_next_line_end_is_the_end() -> None:
    machine = Machine()
    machine.add(1, [1], None, max_seconds=1.5)
    text, ended = "", None
    for now, piece in enumerate([b"a", b"\n", b"b", b"c", b"d\n", b"e"]):
        machine.scheduler.admit(float(now))
        batch = machine.scheduler.schedule()
        sampled = [Sampled(sequence, 97, piece, False) for sequence, _index in batch.outputs]
        for _, event in machine.scheduler.commit(batch, sampled, float(now)):
            text += event.text if isinstance(event, TextDelta) else ""
            ended = event.reason if isinstance(event, Finished) else ended
    assert (text, ended) == ("a\nbcd\n", FinishReason.LENGTH)


def test_the_last_event_has_the_token_that_ended_the_text_and_its_probabilities() -> None:
    machine = Machine()
    machine.add(1, [1], None)
    machine.scheduler.admit(0.0)
    batch = machine.scheduler.schedule()
    probs = TokenProbs(END, b"", -0.5, ())
    sampled = [Sampled(sequence, END, b"", True, probs) for sequence, _index in batch.outputs]
    [(_, event)] = machine.scheduler.commit(batch, sampled, 0.0)
    assert isinstance(event, Finished)
    assert (event.reason, event.end_token, event.end_probs) == (FinishReason.END_OF_TEXT, END, probs)
