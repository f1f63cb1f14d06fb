"""Grammars of any kind made one of llguidance's, whose Earley parser works on the bytes of tokens.

Compiling takes milliseconds, at times seconds, so threads that may wait do it, never the engine's; a grammar that is
compiled waits for nobody.
"""

import re
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from runtime.engine.guidance.compiler import CannotCompile, Compiled, Compiler
from runtime.engine.guidance.constraint import GrammarConstraint, refused
from runtime.engine.policy import gbnf, schema
from runtime.engine.values.grammar import Grammar, GrammarKind
from runtime.errors import Unavailable
from runtime.nursery import NoTimeLeft, TaskFailed

if TYPE_CHECKING:
    from runtime.engine.native import Model
    from runtime.nursery import Nursery, Patience

_MAX_SOURCE = 256 * 1024
_MAX_COMPILED = 32
_MAX_COMPILED_BYTES = 192 * 1024 * 1024
# A regular expression between Lark's slashes: what is escaped stays, a slash must be, a new line can't be there.
_IN_SLASHES = re.compile(r"\\.|/|\n", re.DOTALL)
_ESCAPED = {"/": r"\/", "\n": r"\n"}


class Guide:
    """Compiles grammars for one model and keeps the latest. For any thread that may wait.

    Without a nursery every grammar is trusted.
    """

    def __init__(self, model: "Model", nursery: "Nursery | None" = None) -> None:
        self._model = model
        self._nursery = nursery
        self._preparing = threading.Lock()
        self._compiler: Compiler | None = None
        self._pieces: list[bytes] = []
        self._names: dict[int, bytes] = {}  # of the tokens that are no text
        self._end_tokens: frozenset[int] = frozenset()
        self._lock = threading.Lock()  # of what is compiled; nobody holds it for long
        self._compiled: OrderedDict[tuple[GrammarKind, str], Compiled] = OrderedDict()
        # Those, and what sequences are held to.
        self._alive: WeakValueDictionary[tuple[GrammarKind, str], Compiled] = WeakValueDictionary()

    def constraint(self, grammar: Grammar, patience: "Patience | None" = None) -> GrammarConstraint:
        """Return where a sequence under this grammar begins.

        Raises RequestError when the grammar can't be used, Unavailable when those in use leave no memory for it, when
        whoever asks has left, and when the nursery is gone, and NoTimeLeft when it isn't compiled and nobody waits.
        """
        key = grammar.kind, grammar.source
        with self._lock:
            compiled = self._alive.get(key)
        if compiled is None:
            if patience is not None:
                patience.check()
            compiled = self._compile(grammar, patience)
        self._keep(key, compiled)
        constraint = GrammarConstraint(compiled, self._pieces, self._names, self._end_tokens, grammar)
        constraint.check_triggers(grammar)
        return constraint

    def _compile(self, grammar: Grammar, patience: "Patience | None") -> Compiled:
        if len(grammar.source.encode("utf-8", "replace")) > _MAX_SOURCE:
            raise refused(grammar.kind, f"it is longer than {_MAX_SOURCE // 1024} KiB")
        lark = self._lark(grammar)
        try:
            return self._prepared_compiler().compiled(lark, patience)
        except CannotCompile as error:
            raise refused(grammar.kind, str(error)) from error
        except NoTimeLeft:
            raise
        except TaskFailed as error:
            raise Unavailable("no grammar can be compiled any more; start the program again") from error

    def _keep(self, key: tuple[GrammarKind, str], compiled: Compiled) -> None:
        """Keep it as the latest. Raises Unavailable when those that sequences are held to leave no memory for it."""
        with self._lock:
            self._alive[key] = self._compiled[key] = compiled
            self._compiled.move_to_end(key)
            while len(self._compiled) > 1 and (len(self._compiled) > _MAX_COMPILED or self._is_too_much()):
                self._compiled.popitem(last=False)
            if self._is_too_much():
                del self._compiled[key]
                raise Unavailable("the grammars of other requests take all memory that is kept for them; try again")

    def _is_too_much(self) -> bool:
        return sum(each.num_bytes for each in self._alive.values()) > _MAX_COMPILED_BYTES

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

    def _prepared_compiler(self) -> Compiler:
        with self._preparing:
            if self._compiler is None:
                self._compiler = self._make_compiler()
            return self._compiler

    def _make_compiler(self) -> Compiler:
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
        return Compiler(tokens, sorted(self._end_tokens) or [0], self._nursery)
