from hypothesis import given
from hypothesis import strategies as st

from runtime.engine.policy.prefix import common_prefix_length
from runtime.engine.policy.slots import Slots


def used(slots: Slots, tokens: list[int]) -> int:
    """Run a request for `tokens` through a slot and return the slot's index."""
    place = slots.best_for(tokens)
    assert place is not None
    slots.acquire(place)
    place.slot.tokens += tokens[place.keep :]
    slots.release(place.slot)
    return place.slot.index


def test_a_prompt_goes_to_the_slot_that_knows_most_of_it() -> None:
    slots = Slots(3, 100, is_cuttable=True)
    used(slots, [1, 2, 3, 4])
    chat = used(slots, [9, 8, 7, 6])
    place = slots.best_for([9, 8, 7, 6, 5])
    assert place is not None
    assert (place.slot.index, place.keep) == (chat, 4)


def test_the_last_token_of_a_prompt_is_always_left_to_compute() -> None:
    slots = Slots(1, 100, is_cuttable=True)
    used(slots, [1, 2, 3])
    place = slots.best_for([1, 2, 3])
    assert place is not None
    assert place.keep == 2


def test_memory_that_cannot_be_cut_is_reused_whole_or_not_at_all() -> None:
    slots = Slots(1, 100, is_cuttable=False)
    used(slots, [1, 2, 3])
    for prompt, keep in (([1, 2, 3, 4], 3), ([1, 2, 9], 0), ([1, 2, 3], 0)):
        place = slots.best_for(prompt)
        assert place is not None
        assert place.keep == keep


def test_a_short_common_beginning_does_not_cost_another_conversation_its_cache() -> None:
    slots = Slots(2, 100, is_cuttable=True)
    used(slots, [1, 2, 3, 4, 5, 6])
    assert used(slots, [1, 9, 9, 9]) == 1


def test_a_question_asked_again_is_found_behind_its_long_answer() -> None:
    slots = Slots(2, 100, is_cuttable=True)
    first = used(slots, [1, 2, 3, 4, *range(10, 40)])
    place = slots.best_for([1, 2, 3, 4])
    assert place is not None
    assert (place.slot.index, place.keep) == (first, 3)


def test_a_beginning_that_a_busy_slot_holds_is_shared() -> None:
    slots = Slots(2, 1000, is_cuttable=True)
    beginning = list(range(50))
    first = slots.best_for(beginning)
    assert first is not None
    slots.acquire(first)
    first.slot.tokens += beginning
    place = slots.best_for([*beginning, 99])
    assert place is not None
    assert (place.donor, place.keep) == (first.slot, 50)
    slots.acquire(place)
    assert place.slot.tokens == beginning


def test_a_recurrent_memory_shares_nothing() -> None:
    slots = Slots(2, 1000, is_cuttable=False)
    first = slots.best_for([1])
    assert first is not None
    slots.acquire(first)
    first.slot.tokens += range(50)
    place = slots.best_for([*range(50), 99])
    assert place is not None
    assert (place.donor, place.keep) == (None, 0)


def test_busy_slots_are_not_given_out() -> None:
    slots = Slots(1, 100, is_cuttable=True)
    place = slots.best_for([1])
    assert place is not None
    slots.acquire(place)
    assert slots.best_for([1]) is None


def test_the_slot_unused_for_longest_is_given_up_first() -> None:
    slots = Slots(3, 100, is_cuttable=True)
    old = used(slots, [1, 1])
    new = used(slots, [2, 2])
    for index in (old, new):
        slot = slots.next_to_give_up()
        assert slot is not None
        assert slot.index == index
        slot.clear()
    assert slots.next_to_give_up() is None
    assert slots.num_free_cells == 100


@given(st.lists(st.integers(0, 2), max_size=12), st.lists(st.integers(0, 2), max_size=12))
def test_common_prefix_length_is_that_of_the_definition(a: list[int], b: list[int]) -> None:
    length = common_prefix_length(a, b)
    assert a[:length] == b[:length]
    assert length in (len(a), len(b)) or a[length] != b[length]
