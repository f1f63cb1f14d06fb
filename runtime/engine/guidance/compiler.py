"""A grammar in Lark compiled for a vocabulary, here or in a child.

What a hostile grammar can cost while a text is written is bounded by llguidance's own limits on work and memory, and
for its recursive compiler by a thread with a stack that no source of the length that is allowed uses up. Nothing bounds
how long the compiler itself takes and how much it allocates: a schema of 43 bytes can ask for minutes and gigabytes
(`{"type": "integer", "multipleOf": 99999989}`). So a child tries it first, within limits, and what it did there is done
again here, where it is needed.
"""

import json
import os
import re
import resource
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from runtime.nursery import Limits, NoTimeLeft, Nursery, NurseryGone, Patience, TaskFailed

if TYPE_CHECKING:
    from llguidance._lib import LLMatcher, LLParserLimits, LLTokenizer

T = TypeVar("T")

# Address space, which counts as if it were used; memory is taken as it is used.
_STACK_BYTES = 256 * 1024 * 1024
_TRIAL_BYTES = 64 * 1024 * 1024
_TRIAL = Limits(cpu_seconds=3, seconds=20.0, memory_bytes=_STACK_BYTES + _TRIAL_BYTES)
_MAX_REASON = 200
_NICENESS = 5
# What a nursery has to be started for.
PREPARATION, TASK = f"{__name__}:prepare_trials", f"{__name__}:try_grammar"
# Without `no_forcing` llguidance works out ahead what a grammar leaves no choice about, without a limit, and allows but
# one of the ways to cut it into tokens.
_HEADER = '%llguidance {"no_forcing": true}\n'
_PLACE = re.compile(r"^(at )?\d+\(\d+\): (failed to compile JSON schema: )?")


class CannotCompile(Exception):
    """The reason, for whoever wrote the grammar."""


@dataclass(frozen=True, eq=False)  # one is itself alone, and no slots: it is referred to weakly
class Compiled:
    """A grammar at its beginning, for `deep_copy` alone, and about how many bytes it takes."""

    matcher: "LLMatcher"
    num_bytes: int


class Compiler:
    """Compiles for one vocabulary: the bytes of each token, and which of them end a text. Any thread that may wait.

    Without a nursery every grammar is trusted.
    """

    def __init__(self, tokens: Sequence[bytes], end_tokens: Sequence[int], nursery: Nursery | None) -> None:
        self._nursery = nursery
        if nursery is not None:
            nursery.prepare(PREPARATION, _packed(tokens, end_tokens))
        self._tokenizer = _make_tokenizer(tokens, end_tokens)

    def compiled(self, lark: str, patience: Patience | None = None) -> Compiled:
        """Compile. Raises CannotCompile, and TaskFailed when whoever has the patience has left."""
        num_bytes = self._try(lark, patience) if self._nursery is not None else 0
        return Compiled(_with_deep_stack(lambda: _compile(self._tokenizer, lark)), num_bytes)

    def _try(self, lark: str, patience: Patience | None) -> int:
        assert self._nursery is not None
        try:
            outcome = json.loads(self._nursery.run(TASK, lark.encode(), _TRIAL, patience))
        except (NurseryGone, NoTimeLeft):
            raise
        except TaskFailed as failure:
            if patience is not None and patience.has_left:
                raise
            raise CannotCompile(
                f"compiling it takes more than {_TRIAL.cpu_seconds} s or {_TRIAL_BYTES // 1024**2} MB; simplify it"
            ) from failure
        if outcome["reason"] is not None:
            raise CannotCompile(outcome["reason"])
        return int(outcome["num_bytes"])


def _packed(tokens: Sequence[bytes], end_tokens: Sequence[int]) -> bytes:
    packed = {"tokens": [token.decode("latin-1") for token in tokens], "end_tokens": list(end_tokens)}
    return json.dumps(packed).encode()


# -- in the nursery ---------------------------------------------------------------------------------------------------

_trial_tokenizer: "LLTokenizer | None" = None


def prepare_trials(given: bytes) -> bytes:
    """Make the tokenizer that every trial needs."""
    global _trial_tokenizer
    packed = json.loads(given)
    _trial_tokenizer = _make_tokenizer([each.encode("latin-1") for each in packed["tokens"]], packed["end_tokens"])
    return b""


def try_grammar(given: bytes) -> bytes:
    """Compile a grammar, and return why it can't be, or None, and how many bytes it took."""
    bytes_before = _peak_bytes()
    reason = None
    assert _trial_tokenizer is not None, "the nursery is prepared before its first task"
    tokenizer = _trial_tokenizer
    try:
        _with_deep_stack(lambda: _compile(tokenizer, given.decode()))
    except CannotCompile as error:
        reason = str(error)
    return json.dumps({"reason": reason, "num_bytes": _peak_bytes() - bytes_before}).encode()


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


# -- both -------------------------------------------------------------------------------------------------------------


class _TokenList:
    """What llguidance asks of a tokenizer."""

    is_tokenizer_wrapper = True
    bos_token_id = None
    special_token_ids: tuple[int, ...] = ()

    def __init__(self, tokens: Sequence[bytes], end_token: int) -> None:
        self.tokens = list(tokens)
        self.eos_token_id = end_token

    def __call__(self, text: str) -> list[int]:
        raise NotImplementedError("grammars are compiled with no_forcing, so that nothing is tokenized")


def _make_tokenizer(tokens: Sequence[bytes], end_tokens: Sequence[int]) -> "LLTokenizer":
    # A bundle carries nothing of the package but this module: its __init__ would import much for its own version.
    import llguidance._lib as llguidance

    # Slices make masks of texts without bounds five times cheaper, and this call, which keeps other threads from
    # running, three times longer; masks are cheap enough.
    return llguidance.LLTokenizer(_TokenList(tokens, end_tokens[0]), eos_token=list(end_tokens), slices=[])  # type: ignore[arg-type]


def _compile(tokenizer: "LLTokenizer", lark: str) -> "LLMatcher":
    import llguidance._lib as llguidance

    matcher = llguidance.LLMatcher(tokenizer, _HEADER + lark, log_level=0, limits=_limits(llguidance))
    if matcher.is_error():
        raise CannotCompile(reason_of(matcher))
    probe = matcher.deep_copy()
    probe.compute_logit_bias()
    if probe.is_error():
        raise CannotCompile(f"no text within the limits satisfies it ({reason_of(probe)})")
    return matcher


def _limits(llguidance: Any) -> "LLParserLimits":
    """Return limits that keep the dearest step of a hostile grammar near a tenth of a second, far from any other's."""
    return llguidance.LLParserLimits(  # type: ignore[no-any-return]
        max_items_in_row=2_000,
        initial_lexer_fuel=1_000_000,
        step_lexer_fuel=200_000,
        step_max_items=100_000,
        max_lexer_states=50_000,
        max_grammar_size=500_000,
        precompute_large_lexemes=False,
        verbose_errors=False,
    )


def reason_of(matcher: "LLMatcher") -> str:
    """The first line of llguidance's complaint, without the place in a text that nobody has written."""
    return _PLACE.sub("", matcher.get_error().split("\n", 1)[0])[:_MAX_REASON]


_starting = threading.Lock()  # the size of a stack is set for whichever thread starts next


def _with_deep_stack(work: Callable[[], T]) -> T:
    """Return what `work` returns, run by a thread with `_STACK_BYTES` of stack."""
    outcome: Future[T] = Future()

    def run() -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)  # others' tokens come first
        try:
            outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)

    with _starting:
        usual = threading.stack_size(_STACK_BYTES)
        try:
            threading.Thread(target=run, name="grammar", daemon=True).start()
        finally:
            threading.stack_size(usual)
    return outcome.result()
