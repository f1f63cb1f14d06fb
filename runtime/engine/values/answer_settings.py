"""The settings of an answer that people change, each with its default and its range. They are declared here alone.

Command-line flags, recipes, `SamplingParams`, `/page.json` and the page's fields take them from this table. This module
knows neither flags nor JSON.
"""

from dataclasses import dataclass
from typing import Generic, TypeVar

N = TypeVar("N", int, float)

_INT32_MAX = 2**31 - 1
_UINT32_MAX = 2**32 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerSetting(Generic[N]):
    """One setting, under its name in requests. `minimum` and `maximum` belong to the range; None is no bound.

    The usual range and `step` are those of the page's field. With `can_be_none`, flags and recipes write -1 for None.
    """

    name: str
    default: N
    minimum: N
    maximum: N | None = None
    usual_minimum: N
    usual_maximum: N | None = None
    step: N
    can_be_none: bool = False

    def meaning(self, written: N) -> N | None:
        """Return what a flag's or a recipe's number means: None for -1 where that is how None is written."""
        return None if self.can_be_none and written < 0 else written


TEMPERATURE = AnswerSetting(name="temperature", default=0.8, minimum=0, usual_minimum=0, usual_maximum=2, step=0.05)
TOP_K = AnswerSetting(
    name="top_k",
    default=40,
    minimum=-_INT32_MAX - 1,
    maximum=_INT32_MAX,
    usual_minimum=0,
    usual_maximum=200,
    step=1,
)
TOP_P = AnswerSetting(name="top_p", default=0.95, minimum=0, maximum=1, usual_minimum=0.05, usual_maximum=1, step=0.05)
MIN_P = AnswerSetting(name="min_p", default=0.05, minimum=0, maximum=1, usual_minimum=0, usual_maximum=1, step=0.01)
# Logits are divided by it, so it can't be 0.
REPEAT_PENALTY = AnswerSetting(
    name="repeat_penalty", default=1.0, minimum=0.01, usual_minimum=0.8, usual_maximum=2, step=0.01
)
# None: each request draws its own.
SEED = AnswerSetting(
    name="seed", default=-1, minimum=-1, maximum=_UINT32_MAX, usual_minimum=0, step=1, can_be_none=True
)
# In tokens. None: an answer ends when the model ends it or the context is full.
MAX_TOKENS = AnswerSetting(
    name="max_tokens", default=-1, minimum=-1, maximum=_INT32_MAX, usual_minimum=1, step=1, can_be_none=True
)

ANSWER_SETTINGS = (TEMPERATURE, TOP_K, TOP_P, MIN_P, REPEAT_PENALTY, SEED, MAX_TOKENS)
