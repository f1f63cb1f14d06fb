from collections.abc import Sequence as Tokens
from itertools import pairwise

from runtime.engine.policy.sequence import Sequence
from runtime.engine.policy.speculation import PromptLookup, Speculation
from tests.asking import request_for


def test_what_followed_the_last_three_tokens_before_is_guessed_again() -> None:
    lookup = PromptLookup()
    assert lookup.guess(1, [1, 2, 3, 4, 5, 1, 2, 3], 2) == [4, 5]
    assert lookup.guess(1, [1, 2, 3, 4, 5, 1, 2, 3, 9, 1, 2, 3], 3) == [9, 1, 2]


def test_without_a_repetition_there_is_no_guess() -> None:
    assert PromptLookup().guess(1, [1, 2, 3, 4, 5], 4) == []
    assert PromptLookup().guess(1, [1], 4) == []


def test_sequences_do_not_mix_and_a_shortened_text_is_looked_at_anew() -> None:
    lookup = PromptLookup()
    lookup.guess(1, [1, 2, 3, 4, 1, 2, 3], 1)
    assert lookup.guess(2, [1, 2, 3], 1) == []
    assert lookup.guess(1, [7, 1, 2, 3], 1) == []
    lookup.forget(1)
    assert lookup.guess(1, [8, 1, 2, 3], 1) == []


class Counting:
    """Guesses as many tokens as it is asked for."""

    def guess(self, sequence_id: int, tokens: Tokens[int], max_tokens: int) -> list[int]:
        return [0] * max_tokens

    def forget(self, sequence_id: int) -> None:
        pass


def lengths(num_right: list[int]) -> list[int]:
    """The lengths of the drafts when of each so many tokens are right."""
    speculation = Speculation(Counting(), 8)
    sequence = Sequence.of(1, request_for((1,)), lambda event: None)
    found = []
    for right in num_right:
        draft = speculation.propose(sequence)
        found.append(len(draft))
        sequence.num_drafted += len(draft)
        sequence.num_accepted += min(right, len(draft))
    return found


def test_good_guesses_reach_further_up_to_the_limit() -> None:
    assert lengths([9] * 5) == [2, 4, 8, 8, 8]


def test_a_guess_that_was_right_in_part_sets_the_length() -> None:
    assert lengths([9, 9, 3, 9]) == [2, 4, 8, 4]


def test_bad_guesses_make_longer_and_longer_pauses() -> None:
    found = lengths([0] * 100)
    tries = [index for index, length in enumerate(found) if length]
    pauses = [later - earlier - 1 for earlier, later in pairwise(tries)]
    assert pauses[:5] == [1, 2, 4, 8, 16]
    assert max(pauses) == 16
