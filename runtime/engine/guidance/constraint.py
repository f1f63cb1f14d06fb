"""Which tokens may come next in one sequence, under a compiled grammar."""

from collections.abc import Mapping

from runtime.engine.guidance.compiler import Compiled, reason_of
from runtime.engine.policy.triggers import TriggerSearch
from runtime.engine.values.grammar import Grammar, GrammarKind
from runtime.errors import RequestError

# llguidance marks the tokens that are allowed with 200; a mask has all bits set.
_TO_MASK = b"\0" + b"\xff" * 255


class GrammarConstraint:
    """What one sequence may still say. One thread at a time.

    `names` are those of tokens that are no text. They count in a search for triggers.
    """

    def __init__(
        self,
        compiled: Compiled,
        pieces: list[bytes],
        names: Mapping[int, bytes],
        end_tokens: frozenset[int],
        grammar: Grammar,
    ) -> None:
        self._compiled = compiled  # as long as it is held to, its memory counts
        self._matcher = compiled.matcher.deep_copy()
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
                raise refused(grammar.kind, f"no text of it begins with its trigger {trigger!r}")
        for token in grammar.trigger_tokens:
            if self._matcher.validate_tokens([token]) != 1:
                raise refused(grammar.kind, f"no text of it begins with its trigger, token {token}")

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
            raise RequestError(f"the grammar grew too complex for this text: {reason_of(self._matcher)}", "grammar")
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


def refused(kind: GrammarKind, why: str) -> RequestError:
    if kind is GrammarKind.JSON_SCHEMA:
        return RequestError(f"the JSON schema can't be used: {why}", "json_schema")
    return RequestError(f"the grammar can't be used: {why}", "grammar")
