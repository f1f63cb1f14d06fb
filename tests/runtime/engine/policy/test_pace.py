from itertools import pairwise

import pytest

from runtime.engine.policy.pace import Pace


def step(pace: Pace, share: float, now: float, seconds: float = 0.1) -> int:
    """Run one step that gets `share` of the processor time its threads could use; return their number."""
    num_threads = pace.num_threads(now)
    pace.observe_step(num_threads, seconds, share * num_threads * seconds, now + seconds)
    return num_threads


def count(pace: Pace, *counts: int | None) -> None:
    for num_others in counts:
        pace.observe_tasks(num_others)


def test_an_idle_machine_gives_all_threads() -> None:
    pace = Pace(4, 4)
    count(pace, 0, 0, 0, 0)
    assert step(pace, 1.0, 0.0) == 4


@pytest.mark.parametrize(("num_others", "threads"), [(1, 3), (2, 2), (3, 1), (4, 1), (40, 1)])
def test_each_task_that_stays_takes_one_thread_and_the_last_is_kept(num_others: int, threads: int) -> None:
    pace = Pace(4, 4)
    count(pace, *[num_others] * 4)
    assert pace.num_threads(0.0) == threads


def test_a_passing_task_changes_nothing() -> None:
    pace = Pace(2, 2)
    count(pace, 0, 3, 2, 5)
    assert pace.num_threads(0.0) == 2
    count(pace, 1)
    assert pace.num_threads(0.0) == 1


def test_the_second_half_of_a_core_may_go_to_others() -> None:
    pace = Pace(max_threads=4, num_cpus=8)
    count(pace, 4, 4, 4, 4)
    assert pace.num_threads(0.0) == 4
    count(pace, 6, 6, 6, 6)
    assert pace.num_threads(0.0) == 2


def test_the_end_of_the_load_is_seen_at_the_next_count() -> None:
    pace = Pace(2, 2)
    count(pace, 2, 2, 2, 2)
    assert pace.num_threads(0.0) == 1
    count(pace, 0)
    assert pace.num_threads(0.0) == 2


def test_after_a_rest_old_counts_say_nothing() -> None:
    pace = Pace(2, 2)
    count(pace, 0, 0, 0, 0)
    pace.forget()
    count(pace, 2, 2)
    assert pace.num_threads(0.0) == 1


def test_where_the_system_does_not_tell_starved_steps_take_a_thread_away_for_a_while() -> None:
    pace = Pace(2, 2)
    count(pace, None)
    assert step(pace, 0.6, 0.0) == 2
    assert step(pace, 1.0, 0.1) == 1
    assert step(pace, 1.0, 0.15) == 1
    assert step(pace, 1.0, 0.3) == 2


def test_each_try_in_vain_is_followed_by_a_longer_wait() -> None:
    pace = Pace(2, 2)
    tries = [now / 10 for now in range(200) if step(pace, 0.6, now / 10) == 2]
    waits = [later - earlier for earlier, later in pairwise(tries)]
    assert waits == sorted(waits)
    assert waits[0] < 1 < waits[-1] < 10


def test_a_single_short_step_that_was_disturbed_changes_nothing() -> None:
    pace = Pace(2, 2)
    for tick in range(40):
        share = 0.5 if tick % 4 == 0 else 1.0
        assert step(pace, share, tick * 0.007, seconds=0.007) == 2


def test_one_thread_is_never_taken_away() -> None:
    pace = Pace(1, 1)
    assert [step(pace, 0.3, now / 10) for now in range(10)] == [1] * 10
