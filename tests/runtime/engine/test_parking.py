from runtime.engine.parking import Parked, ParkingLot


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
