from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.engine.policy.parking import ParkingLot
from runtime.engine.policy.prefix import common_prefix_length
from runtime.engine.values.edits import Parked

TOKENS = st.lists(st.integers(0, 2), min_size=1, max_size=6)


def parked(lot: ParkingLot, tokens: list[int], num_bytes: int = 10) -> Parked:
    entry = lot.add(tokens)
    entry.data = bytes(num_bytes)
    lot.tidy()
    return entry


def test_the_cache_that_knows_most_of_a_prompt_is_found_with_one_token_left_to_compute() -> None:
    lot = ParkingLot(100, is_cuttable=True)
    parked(lot, [9, 9])
    best = parked(lot, [1, 2, 3, 4])
    assert lot.best_for([1, 2, 3, 9]) == (best, 3)
    assert lot.best_for([1, 2, 3, 4]) == (best, 3)
    assert lot.best_for([5]) is None


def test_where_memory_can_not_be_cut_a_cache_serves_whole_or_not_at_all() -> None:
    lot = ParkingLot(100, is_cuttable=False)
    whole = parked(lot, [1, 2, 3])
    assert lot.best_for([1, 2, 3, 4]) == (whole, 3)
    assert lot.best_for([1, 2, 9, 9]) is None
    assert lot.best_for([1, 2, 3]) is None


def test_beyond_the_limit_the_oldest_go_first() -> None:
    lot = ParkingLot(25, is_cuttable=True)
    for first in (1, 2, 3):
        parked(lot, [first] * 5)
    assert lot.num_bytes == 20
    assert lot.best_for([1, 1, 1]) is None
    assert lot.best_for([3, 3, 3]) is not None


def test_a_cache_that_a_later_one_contains_goes() -> None:
    lot = ParkingLot(100, is_cuttable=True)
    parked(lot, [1, 2])
    longer = parked(lot, [1, 2, 3])
    assert lot.num_bytes == 10
    assert lot.best_for([1, 2, 9]) == (longer, 2)


def test_a_copy_that_was_not_made_is_worth_nothing() -> None:
    lot = ParkingLot(100, is_cuttable=True)
    lot.add([1, 2, 3])
    assert lot.best_for([1, 2, 3]) is None
    lot.tidy()
    assert lot.num_bytes == 0


def test_a_cache_that_went_back_is_no_longer_there() -> None:
    lot = ParkingLot(100, is_cuttable=True)
    lot.take(parked(lot, [1, 2]))
    assert lot.best_for([1, 2, 3]) is None


def test_a_cache_that_an_earlier_one_contains_is_not_kept() -> None:
    lot = ParkingLot(100, is_cuttable=True)
    longer = parked(lot, [1, 2, 3])
    parked(lot, [1, 2])
    assert lot.num_bytes == 10
    assert lot.best_for([1, 2, 9]) == (longer, 2)


def test_where_memory_can_not_be_cut_the_shorter_one_stays() -> None:
    lot = ParkingLot(100, is_cuttable=False)
    shorter, longer = parked(lot, [1, 2]), parked(lot, [1, 2, 3])
    assert lot.best_for([1, 2, 9]) == (shorter, 2)
    assert lot.best_for([1, 2, 3, 9]) == (longer, 3)


@pytest.mark.parametrize("is_cuttable", [True, False])
@given(caches=st.lists(st.tuples(TOKENS, st.sampled_from([(), (0.5,)])), max_size=12), prompt=TOKENS)
def test_no_parked_cache_knows_more_of_a_prompt_than_the_one_found(
    caches: list[tuple[list[int], tuple[float, ...]]], prompt: list[int], is_cuttable: bool
) -> None:
    lot = ParkingLot(1000, is_cuttable=is_cuttable)
    for tokens, lora in caches:
        lot.add(tokens, lora).data = b"x"
    lot.tidy()
    found = lot.best_for(prompt)
    known = [common_prefix_length(tokens, prompt[:-1]) for tokens, lora in caches if not lora]
    whole = [len(tokens) for tokens, lora in caches if not lora and tokens == prompt[:-1][: len(tokens)]]
    assert (found[1] if found else 0) == max(known if is_cuttable else whole, default=0)
    if found:
        lot.take(found[0])
        assert lot.best_for(prompt) != found


def count_comparisons(monkeypatch: pytest.MonkeyPatch, run: Callable[[], object]) -> int:
    """Return how many times two lists of tokens are compared."""
    count = 0

    def counted(a: list[int], b: list[int]) -> int:
        nonlocal count
        count += 1
        return common_prefix_length(a, b)

    monkeypatch.setattr("runtime.engine.policy.parking.common_prefix_length", counted)
    run()
    return count


def test_thousands_of_caches_are_not_looked_at_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    lot = ParkingLot(10_000, is_cuttable=True)

    def park_and_ask() -> None:
        for first in range(2000):
            parked(lot, [first, 7, 7], num_bytes=1)
            lot.best_for([first // 2, 7, 9])

    assert count_comparisons(monkeypatch, park_and_ask) < 20_000
