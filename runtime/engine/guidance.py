"""Grammars compiled, and which tokens may come next under them. The only importer of llguidance.

A grammar of any kind becomes one of llguidance's, whose Earley parser works on the bytes of tokens. What a hostile one
can cost is bounded: by the size of its source, by llguidance's own limits on work and memory, and for its recursive
compiler by a thread with a stack that no source of that size uses up. Compiling takes milliseconds, at times a second,
so threads that may wait do it, never the engine's.
"""

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from runtime.engine.policy import gbnf, schema
from runtime.engine.policy.triggers import TriggerSearch
from runtime.engine.values.grammar import Grammar, GrammarKind
from runtime.errors import RequestError

if TYPE_CHECKING:
    from llguidance._lib import LLMatcher, LLParserLimits, LLTokenizer

    from runtime.engine.native import Model

T = TypeVar("T")

_MAX_SOURCE = 256 * 1024
_MAX_COMPILED = 32
_MAX_REASON = 200
_STACK_BYTES = 256 * 1024 * 1024  # address space; memory is taken as it is used
# Without `no_forcing` llguidance works out ahead what a grammar leaves no choice about, without a limit, and allows but
# one of the ways to cut it into tokens.
_HEADER = '%llguidance {"no_forcing": true}\n'
_PLACE = re.compile(r"^(at )?\d+\(\d+\): (failed to compile JSON schema: )?")
# A regular expression between Lark's slashes: what is escaped stays, a slash must be, a new line can't be there.
_IN_SLASHES = re.compile(r"\\.|/|\n", re.DOTALL)
# llguidance marks the tokens that are allowed with 200; a mask has all bits set.
_TO_MASK = b"\0" + b"\xff" * 255


class Guide:
    """Compiles grammars for one model and keeps the latest. For any thread that may wait."""

    def __init__(self, model: "Model") -> None:
        self._model = model
        self._lock = threading.Lock()
        self._tokenizer: LLTokenizer | None = None
        self._pieces: list[bytes] = []
        self._names: dict[int, bytes] = {}  # of the tokens that are no text
        self._end_tokens: frozenset[int] = frozenset()
        self._compiled: OrderedDict[tuple[GrammarKind, str], LLMatcher] = OrderedDict()

    def constraint(self, grammar: Grammar) -> "GrammarConstraint":
        """Return where a sequence under this grammar begins. Raises RequestError when the grammar can't be used."""
        key = grammar.kind, grammar.source
        with self._lock:
            matcher = self._compiled.get(key)
            if matcher is None:
                matcher = self._compiled[key] = _with_deep_stack(lambda: self._compile(grammar))
            self._compiled.move_to_end(key)
            if len(self._compiled) > _MAX_COMPILED:
                self._compiled.popitem(last=False)
            constraint = GrammarConstraint(matcher.deep_copy(), self._pieces, self._names, self._end_tokens, grammar)
        constraint.check_triggers(grammar)
        return constraint

    def _compile(self, grammar: Grammar) -> "LLMatcher":
        if len(grammar.source.encode("utf-8", "replace")) > _MAX_SOURCE:
            raise _refused(grammar.kind, f"it is longer than {_MAX_SOURCE // 1024} KiB")
        # A bundle carries nothing of the package but this module: its __init__ would import much for its own version.
        import llguidance._lib as llguidance

        if self._tokenizer is None:
            self._tokenizer = self._make_tokenizer(llguidance)
        source = _HEADER + self._lark(grammar)
        matcher = llguidance.LLMatcher(self._tokenizer, source, log_level=0, limits=_limits(llguidance))
        if matcher.is_error():
            raise _refused(grammar.kind, _reason(matcher))
        probe = matcher.deep_copy()
        probe.compute_logit_bias()
        if probe.is_error():
            raise _refused(grammar.kind, f"no text within the limits satisfies it ({_reason(probe)})")
        return matcher

    def _lark(self, grammar: Grammar) -> str:
        match grammar.kind:
            case GrammarKind.GBNF:
                return gbnf.to_lark(grammar.source, self._find_token)
            case GrammarKind.JSON_SCHEMA:
                return f"start: %json {schema.checked(grammar.source)}"
            case GrammarKind.REGEX:
                escaped = _IN_SLASHES.sub(lambda match: _ESCAPED.get(match[0], match[0]), grammar.source)
                return f"start: /{escaped}/"
            case GrammarKind.LARK:
                return grammar.source

    def _find_token(self, text: str) -> int | None:
        tokens = self._model.tokenize(text, add_special=False, parse_special=True)
        return tokens[0] if len(tokens) == 1 else None

    def _make_tokenizer(self, llguidance: Any) -> "LLTokenizer":
        model = self._model
        vocabulary = range(model.facts.n_vocab)
        self._pieces = [model.piece(token) for token in vocabulary]
        self._end_tokens = frozenset(token for token in vocabulary if model.is_end_of_generation(token))
        # Like llama.cpp, take NUL for no text.
        self._names = {
            token: model.token_text(token).encode()
            for token, piece in enumerate(self._pieces)
            if not piece.strip(b"\0")
        }
        # 0xff begins the name of a token that is no text.
        tokens = [
            b"\xff" + self._names[token] if token in self._names else piece for token, piece in enumerate(self._pieces)
        ]
        # After the model's own a token for each byte: a trigger may begin in the middle of a token, and from there on
        # its bytes are consumed one by one.
        tokens += [bytes([byte]) for byte in range(256)]
        end_tokens = sorted(self._end_tokens) or [0]
        # Slices make masks of texts without bounds five times cheaper, and this call, which keeps other threads from
        # running, three times longer; masks are cheap enough.
        return llguidance.LLTokenizer(_TokenList(tokens, end_tokens[0]), eos_token=end_tokens, slices=[])  # type: ignore[no-any-return]


class _TokenList:
    """What llguidance asks of a tokenizer."""

    is_tokenizer_wrapper = True
    bos_token_id = None
    special_token_ids: tuple[int, ...] = ()

    def __init__(self, tokens: list[bytes], end_token: int) -> None:
        self.tokens = tokens
        self.eos_token_id = end_token

    def __call__(self, text: str) -> list[int]:
        raise NotImplementedError("grammars are compiled with no_forcing, so that nothing is tokenized")


class GrammarConstraint:
    """What one sequence may still say. One thread at a time.

    `names` are those of tokens that are no text. They count in a search for triggers.
    """

    def __init__(
        self,
        matcher: "LLMatcher",
        pieces: list[bytes],
        names: Mapping[int, bytes],
        end_tokens: frozenset[int],
        grammar: Grammar,
    ) -> None:
        self._matcher = matcher
        self._pieces = pieces
        self._names = names
        self._end_tokens = end_tokens
        # None when the grammar holds.
        self._search = TriggerSearch(grammar.triggers, grammar.skipped) if grammar.is_lazy else None
        self._trigger_tokens = grammar.trigger_tokens

    def check_triggers(self, grammar: Grammar) -> None:
        """Raise RequestError for a trigger that the grammar doesn't begin with."""
        for trigger in grammar.triggers:
            if not self.may_begin_with(trigger.encode()):
                raise _refused(grammar.kind, f"no text of it begins with its trigger {trigger!r}")
        for token in grammar.trigger_tokens:
            if self._matcher.validate_tokens([token]) != 1:
                raise _refused(grammar.kind, f"no text of it begins with its trigger, token {token}")

    def take(self, token: int) -> bool:
        """Take a token that fits and return True; otherwise change nothing."""
        if self._search is not None:
            return self._take_free(token)
        if token in self._end_tokens and self._matcher.is_accepting():
            return True
        return self._matcher.try_consume_tokens([token]) == 1

    def _take_free(self, token: int) -> bool:
        assert self._search is not None
        if token in self._trigger_tokens and not self._search.is_skipping:
            self._matcher.consume_tokens([token])
            self._search = None
            return True
        piece = self._names.get(token) or self._pieces[token]
        begun = self._search.found_with(piece)
        if begun is None:
            self._search.feed(piece)
            return True
        if not self.may_begin_with(begun):
            return False
        self._matcher.consume_tokens(self._byte_tokens(begun))
        self._search = None
        return True

    def mask(self) -> bytes:
        """Return a byte for each token: 0xff where it fits, 0 where not. Raises RequestError at a grammar's limits."""
        if self._search is not None:
            return bytes(0xFF if self._fits_free(piece) else 0 for piece in self._pieces)
        allowed = self._matcher.compute_logit_bias()
        if self._matcher.is_error():
            raise RequestError(f"the grammar grew too complex for this text: {_reason(self._matcher)}", "grammar")
        return allowed[: len(self._pieces)].translate(_TO_MASK)

    def _fits_free(self, piece: bytes) -> bool:
        assert self._search is not None
        begun = self._search.found_with(piece)
        return begun is None or self.may_begin_with(begun)

    def may_begin_with(self, text: bytes) -> bool:
        tokens = self._byte_tokens(text)
        return self._matcher.validate_tokens(tokens) == len(tokens)

    def _byte_tokens(self, text: bytes) -> list[int]:
        return [len(self._pieces) + byte for byte in text]


_ESCAPED = {"/": r"\/", "\n": r"\n"}


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


def _reason(matcher: "LLMatcher") -> str:
    """The first line of llguidance's complaint, without the place in a text that nobody has written."""
    return _PLACE.sub("", matcher.get_error().split("\n", 1)[0])[:_MAX_REASON]


def _refused(kind: GrammarKind, why: str) -> RequestError:
    if kind is GrammarKind.JSON_SCHEMA:
        return RequestError(f"the JSON schema can't be used: {why}", "json_schema")
    return RequestError(f"the grammar can't be used: {why}", "grammar")


def _with_deep_stack(work: Callable[[], T]) -> T:
    """Return what `work` returns, run by a thread with `_STACK_BYTES` of stack."""
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)

    usual = threading.stack_size(_STACK_BYTES)
    try:
        threading.Thread(target=run, name="grammar", daemon=True).start()
    finally:
        threading.stack_size(usual)
    return outcome.result()
