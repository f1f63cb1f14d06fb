"""How much two texts have in common at their beginnings."""

from collections.abc import Sequence as Tokens

_NUM_COMPARED = 64


def common_prefix_length(a: Tokens[int], b: Tokens[int]) -> int:
    """Return how many tokens two sequences begin with alike."""
    shorter = min(len(a), len(b))
    for start in range(0, shorter, _NUM_COMPARED):  # many at a time, in C
        end = min(start + _NUM_COMPARED, shorter)
        if a[start:end] != b[start:end]:
            return next(index for index in range(start, end) if a[index] != b[index])
    return shorter
