"""Clients that ask for much beside clients that ask for little."""

import random
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.engine.policy.sequence import Sequence
from tests.scheduler_machine import Machine, expected

PROMPT = [1, 2, 3]


def crowd(machine: Machine, num_sequences: int, group: object = "crowd", num_tokens: int = 30) -> list[Sequence]:
    """Have one client ask for many answers that don't end early."""
    numbers = (number for number in count(100) if expected([number % 6 + 1, number // 6], num_tokens, 999)[0][29:])
    return [
        machine.add(number, [number % 6 + 1, number // 6], num_tokens, group)
        for number, _ in zip(numbers, range(num_sequences), strict=False)
    ]


def num_steps_until_the_end(machine: Machine, sequence: Sequence) -> int:
    for num_steps in count(1):
        machine.step()
        if sequence.id in machine.ends:
            return num_steps
    raise AssertionError


@pytest.mark.parametrize("parking_bytes", [0, 10_000])
@pytest.mark.parametrize("num_slots", [2, 4])
def test_two_tokens_do_not_wait_for_one_of_another_clients_many(num_slots: int, parking_bytes: int) -> None:
    machine = Machine(num_slots=num_slots, n_ctx=400, parking_bytes=parking_bytes)
    crowd(machine, 20)
    for _ in range(5):
        machine.step()
    assert machine.scheduler.num_running == num_slots
    assert num_steps_until_the_end(machine, machine.add(1, PROMPT, 2)) == 2
    machine.run()
    assert len(machine.ends) == 21


def test_one_client_alone_has_all_places() -> None:
    machine = Machine(num_slots=4, n_ctx=400)
    crowd(machine, 20)
    machine.step()
    for _ in range(20):
        assert len(machine.step().parts) == 4


def test_who_gives_back_its_place_goes_on_where_it_was() -> None:
    machine = Machine(num_slots=2, n_ctx=400)
    sequences = crowd(machine, 2)
    for _ in range(5):
        machine.step()
    machine.add(1, PROMPT, 2)
    machine.step()
    assert [sequence.slot is None for sequence in sequences] == [False, True]  # the younger one
    machine.run()
    assert {number: machine.texts[number] for number in (each.id for each in sequences)} == {
        each.id: expected(list(each.request.prompt.tokens), 30, 400)[0] for each in sequences
    }


def test_places_are_shared_alike_between_two_who_want_many() -> None:
    machine = Machine(num_slots=4, n_ctx=400)
    crowd(machine, 10, "first")
    machine.step()
    for number in range(10):
        machine.add(number, [number + 1, 6, 6], 30, "second")
    machine.step()
    groups = [sequence.group for sequence, _count in machine.step().parts]
    assert sorted(map(str, groups)) == ["first", "first", "second", "second"]


def test_clients_with_a_place_each_keep_it() -> None:
    machine = Machine(num_slots=2, n_ctx=400)
    first, second = crowd(machine, 1, "first"), crowd(machine, 1, "second")
    machine.step()
    waiting = machine.add(1, PROMPT, 2)
    machine.step()
    assert [each.slot is None for each in (*first, *second, waiting)] == [False, False, True]


def test_who_wants_a_slot_gets_it_from_one_who_has_more() -> None:
    machine = Machine(num_slots=3, n_ctx=400)
    first, second, third = crowd(machine, 3)
    machine.step()
    assert num_steps_until_the_end(machine, machine.add(1, PROMPT, 2, slot=second.slot)) == 2
    assert [each.slot is None for each in (first, second, third)] == [False, True, False]


def test_one_who_waits_for_a_shared_beginning_lets_others_pass() -> None:
    machine = Machine(num_slots=3, n_ctx=400, num_cells=1200, n_batch=16)
    long = [number % 5 + 1 for number in range(200)]
    machine.add(100, long, 5, "crowd")
    machine.step()
    machine.add(101, [*long, 1], 5)  # another client's
    assert num_steps_until_the_end(machine, machine.add(1, PROMPT, 2)) == 2


def test_a_short_prompt_is_computed_beside_another_clients_long_ones() -> None:
    machine = Machine(num_slots=4, n_ctx=400, n_batch=16)
    for number in range(3):
        machine.add(100 + number, [number + 1] * 90, 5, "crowd")
    machine.step()
    short = machine.add(1, PROMPT, 2)
    assert machine.step().parts[1] == (short, 3)


def test_prompts_of_several_clients_are_computed_in_small_steps() -> None:
    machine = Machine(num_slots=4, n_ctx=400, n_batch=16)
    machine.add(100, [1] * 90, 5, "one")
    assert len(machine.step().entries) == 16
    machine.add(101, [2] * 90, 5, "one")
    assert len(machine.step().entries) == 16
    machine.add(1, [3] * 90, 2, "another")
    assert [count for _sequence, count in machine.step().parts] == [4, 4]


def test_cells_are_given_back_by_who_has_most_places() -> None:
    machine = Machine(num_slots=4, n_ctx=100)  # and no more cells than that
    crowd(machine, 3, num_tokens=90)
    for _ in range(25):
        machine.step()
    assert num_steps_until_the_end(machine, machine.add(1, [4] * 20, 20)) <= 30


@settings(max_examples=200)
@given(
    requests=st.lists(
        st.tuples(st.integers(0, 3), st.integers(1, 30), st.integers(1, 40), st.one_of(st.none(), st.integers(0, 1))),
        min_size=1,
        max_size=16,
    ),
    is_cuttable=st.booleans(),
    num_slots=st.integers(2, 5),
    n_ctx=st.integers(42, 100),
    parking_bytes=st.sampled_from([0, 60, 1000]),
    seed=st.one_of(st.none(), st.integers(0, 1000)),
)
def test_no_group_starves_and_each_text_is_what_it_would_be_alone(
    requests: list[tuple[int, int, int, int | None]],
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
    prompts = [[(group + index) % 5 + 1 for index in range(length)] for group, length, _tokens, _slot in requests]
    for number, (group, _length, max_tokens, slot) in enumerate(requests):
        machine.add(number, prompts[number], max_tokens, group, slot=slot)
        machine.step()
    machine.run()
    for number, (_group, _length, max_tokens, _slot) in enumerate(requests):
        text, reason = expected(prompts[number], max_tokens, n_ctx)
        assert (machine.texts.get(number, ""), machine.ends[number].reason) == (text, reason)


@settings(max_examples=100)
@given(
    num_groups=st.integers(1, 3),
    num_sequences=st.integers(1, 12),
    num_slots=st.integers(2, 5),
    waited=st.integers(0, 30),
    prompt=st.lists(st.integers(1, 6), min_size=1, max_size=12),
)
def test_a_place_is_there_in_the_next_step_while_a_group_has_two_too_many(
    num_groups: int, num_sequences: int, num_slots: int, waited: int, prompt: list[int]
) -> None:
    machine = Machine(num_slots=num_slots, n_ctx=400, num_cells=400)
    for number in range(num_groups * num_sequences):
        machine.add(100 + number, [number % 6 + 1, number // 6 + 1], 25, f"crowd {number % num_groups}")
    for _ in range(waited):
        machine.step()
    newcomer = machine.add(1, prompt, 1)
    machine.step()
    if num_groups < num_slots:
        assert 1 in machine.ends or newcomer.slot is not None


@settings(max_examples=200)
@given(
    requests=st.lists(st.tuples(st.integers(0, 2), st.integers(1, 40), st.integers(1, 40)), min_size=2, max_size=8),
    num_cells=st.integers(42, 90),
)
def test_the_oldest_of_all_gets_on_whoever_else_asks_for_how_much(
    requests: list[tuple[int, int, int]], num_cells: int
) -> None:
    machine = Machine(num_slots=4, n_ctx=num_cells, n_batch=8)
    for number, (group, length, max_tokens) in enumerate(requests):
        machine.add(number, [number % 6 + 1] * min(length, num_cells - 2), max_tokens, group)
    while len(machine.ends) < len(requests):
        oldest = next(iter(machine.scheduler._running), None)
        machine.step()
        assert oldest is None or oldest.id in machine.ends or oldest.slot is not None
