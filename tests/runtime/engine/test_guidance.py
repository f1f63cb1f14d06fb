"""Which tokens a grammar allows, with the tiny real model's vocabulary and llama.cpp's own sampler as an oracle."""

import ctypes
import json
import random
import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from runtime.engine.guidance import compiler
from runtime.engine.guidance.compiler import Compiler
from runtime.engine.guidance.constraint import GrammarConstraint
from runtime.engine.guidance.guide import Guide
from runtime.engine.native import Model
from runtime.engine.values.grammar import Grammar, GrammarKind
from runtime.errors import RequestError, Unavailable
from runtime.nursery import Nursery, Patience


@pytest.fixture(scope="module")
def model(stories: Model) -> Model:
    return stories


@pytest.fixture(scope="module")
def guide(model: Model) -> Guide:
    return Guide(model)


@pytest.fixture(scope="module")
def wary_guide(model: Model, nursery: Nursery) -> Guide:
    """One that has a child try each grammar first."""
    return Guide(model, nursery)


@pytest.fixture(scope="module")
def end(model: Model) -> int:
    return next(token for token in range(model.facts.n_vocab) if model.is_end_of_generation(token))


def gbnf(source: str, *triggers: str) -> Grammar:
    return Grammar(GrammarKind.GBNF, source, triggers)


def token_of(model: Model, piece: bytes) -> int:
    return next(token for token in range(model.facts.n_vocab) if model.piece(token) == piece)


def take(constraint: GrammarConstraint, model: Model, text: bytes) -> bool:
    """Take a text byte by byte, which this vocabulary has tokens for."""
    return all(constraint.take(token_of(model, text[place : place + 1])) for place in range(len(text)))


def allowed(constraint: GrammarConstraint, model: Model) -> set[bytes]:
    return {model.piece(token) for token, bits in enumerate(constraint.mask()) if bits}


ACCEPTED = [
    (gbnf('root ::= "a" [0-9]+'), [b"a1", b"a12"], [b"b", b"a", b"1"]),
    (gbnf('root ::= [a-z]* "x"'), [b"x", b"axbx"], [b"ab", b"1"]),
    (gbnf('root ::= "a" root "b" | "c"'), [b"c", b"aacbb"], [b"acbb", b"ab"]),
    (gbnf('root ::= root "a" | "b"'), [b"b", b"baaa"], [b"a"]),
    (Grammar(GrammarKind.REGEX, r"(a/b|c\/d)\n?"), [b"a/b", b"c/d", b"a/b\n"], [b"ab", b"a/b\n\n"]),
    (Grammar(GrammarKind.REGEX, "a\nb"), [b"a\nb"], [b"ab"]),
    (Grammar(GrammarKind.LARK, 'start: "yes" | A\nA: /n+/'), [b"yes", b"nn"], [b"ye", b"yn"]),
    (
        Grammar(GrammarKind.JSON_SCHEMA, '{"type": "integer", "maximum": 20, "minimum": 0}'),
        [b"7", b"20"],
        [b"21", b'"'],
    ),
    (
        Grammar(GrammarKind.JSON_SCHEMA, '{"type": "object"}'),
        [b"{}", b'{"a": [1, true]}', b'{\n  "b" : null\n}'],
        [b"[]", b"{  }", b'{"a"}'],
    ),
]


@pytest.mark.parametrize(
    ("grammar", "good", "bad"), ACCEPTED, ids=[f"{each[0].kind.value} {each[0].source}" for each in ACCEPTED]
)
def test_texts_of_a_grammar_can_be_written_to_their_end_and_others_not(
    guide: Guide, model: Model, end: int, grammar: Grammar, good: list[bytes], bad: list[bytes]
) -> None:
    for text in good:
        constraint = guide.constraint(grammar)
        assert take(constraint, model, text), text
        assert constraint.mask()[end]
        assert constraint.take(end)
    for text in bad:
        constraint = guide.constraint(grammar)
        assert not (take(constraint, model, text) and constraint.take(end)), text


def test_a_token_that_does_not_fit_changes_nothing(guide: Guide, model: Model, end: int) -> None:
    constraint = guide.constraint(gbnf('root ::= "ab"'))
    assert not constraint.take(token_of(model, b"b"))
    assert not constraint.take(end)
    assert take(constraint, model, b"ab")
    assert constraint.take(end)


def test_when_a_text_is_complete_only_its_end_may_follow(guide: Guide, model: Model, end: int) -> None:
    constraint = guide.constraint(gbnf('root ::= "a"'))
    assert take(constraint, model, b"a")
    assert [token for token, bits in enumerate(constraint.mask()) if bits] == [end]


def test_a_token_with_a_name_can_be_asked_for(guide: Guide, model: Model, end: int) -> None:
    constraint = guide.constraint(gbnf("root ::= <[300]> !<[301]>"))
    assert not constraint.take(301)
    assert constraint.take(300)
    assert not constraint.take(301)
    assert constraint.take(302)


def test_sequences_under_one_grammar_do_not_see_each_other(guide: Guide, model: Model) -> None:
    grammar = gbnf('root ::= "ab" | "cd"')
    first, second = guide.constraint(grammar), guide.constraint(grammar)
    assert take(first, model, b"a")
    assert take(second, model, b"cd")
    assert take(first, model, b"b")


def test_a_grammar_is_compiled_once(guide: Guide, monkeypatch: pytest.MonkeyPatch) -> None:
    guide.constraint(gbnf('root ::= "once"'))
    monkeypatch.setattr(guide, "_compile", lambda grammar: pytest.fail("compiled again"))
    guide.constraint(gbnf('root ::= "once"', "on"))


def test_only_the_latest_grammars_are_kept(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.engine.guidance.guide._MAX_COMPILED", 2)
    guide = Guide(model)
    for letter in "ababc":
        guide.constraint(gbnf(f'root ::= "{letter}"'))
    assert [source for _kind, source in guide._compiled] == ['root ::= "b"', 'root ::= "c"']


def test_a_grammar_that_somebody_holds_is_not_compiled_again(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.engine.guidance.guide._MAX_COMPILED", 1)
    guide = Guide(model)
    held = guide.constraint(gbnf('root ::= "a"'))
    guide.constraint(gbnf('root ::= "b"'))
    monkeypatch.setattr(guide, "_compile", lambda *_: pytest.fail("compiled again"))
    assert guide.constraint(gbnf('root ::= "a"')) is not held


# -- lazy grammars ----------------------------------------------------------------------------------------------------


def test_text_is_free_until_the_trigger_which_belongs_to_the_grammar(guide: Guide, model: Model, end: int) -> None:
    grammar = gbnf('root ::= "<f>" [0-9] "</f>"', "<f>")
    constraint = guide.constraint(grammar)
    assert take(constraint, model, b"I < you <f")
    assert all(constraint.mask())
    assert take(constraint, model, b">")
    assert allowed(constraint, model) == {b"%d" % digit for digit in range(10)}
    assert not take(constraint, model, b"x")
    assert take(constraint, model, b"5</f>")
    assert allowed(constraint, model) == {b""}
    assert constraint.take(end)


def test_a_text_may_end_before_any_trigger(guide: Guide, model: Model, end: int) -> None:
    constraint = guide.constraint(gbnf('root ::= "<f>"', "<f>"))
    assert take(constraint, model, b"nothing")
    assert constraint.take(end)


def test_a_token_that_goes_on_after_the_trigger_must_fit(guide: Guide, model: Model) -> None:
    constraint = guide.constraint(gbnf('root ::= " t" "o"', " t"))
    other = token_of(model, b" the")
    assert model.piece(other).startswith(b" t")
    assert not constraint.take(other)
    mask = constraint.mask()
    assert not mask[other]
    assert mask[token_of(model, b" to")]
    assert mask[token_of(model, b" t")]
    assert constraint.take(token_of(model, b"a"))
    assert constraint.take(token_of(model, b" to"))
    assert allowed(constraint, model) == {b""}


def test_a_trigger_that_no_text_begins_with_is_refused(guide: Guide) -> None:
    with pytest.raises(RequestError, match="begins with its trigger '<g>'"):
        guide.constraint(gbnf('root ::= "<f>"', "<f>", "<g>"))


# -- llama.cpp's sampler as an oracle ---------------------------------------------------------------------------------

JSON = r"""
root ::= object
value ::= object | array | string | number | ("true" | "false" | "null") ws
object ::= "{" ws (string ":" ws value ("," ws string ":" ws value)*)? "}" ws
array ::= "[" ws (value ("," ws value)*)? "]" ws
string ::= "\"" ([ !#-Z^-~] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F]{4}))* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9]+)? ws
ws ::= [ \t\n]*
"""
ORACLE = {
    "json": JSON,
    "words": 'root ::= ([a-z]+ " "){2,8} "."',
    "last recursion": 'root ::= word\nword ::= [a-z ] word | "!"',
    "first optional": 'root ::= ("a" | "b")? [0-9]{1,3} ("," root)?',
    "ambiguous": 'root ::= (a | b)* "x"\na ::= [a-m ]+\nb ::= [g-z ]+',
    "nested": 'root ::= "a" (root root)? "b"',
    "arithmetic": 'root ::= (expr "=" ws term "\\n")+\nexpr ::= term ([-+*/] term)*\n'
    'term ::= ident | num | "(" ws expr ")" ws\nident ::= [a-z] [a-z0-9_]* ws\nnum ::= [0-9]+ ws\nws ::= [ \\t\\n]*',
    "beyond ASCII": 'root ::= [ä-ÿ]{3} "ß" [a-zž]*',
    "token": 'root ::= <[300]> <[301]> "x" | "abc"',
}


@pytest.mark.parametrize("source", ORACLE.values(), ids=ORACLE.keys())
def test_gbnf_allows_the_tokens_that_llama_cpp_allows(guide: Guide, model: Model, source: str) -> None:
    api, rng = model.library.api, random.Random(7)
    with_text = [token for token in range(model.facts.n_vocab) if model.piece(token)]
    for _ in range(10):
        constraint = guide.constraint(gbnf(source))
        theirs = api.llama_sampler_init_grammar(model.vocab, source.encode(), b"root")
        for _ in range(30):
            mask, oracle = constraint.mask(), llama_cpp_allows(model, theirs)
            both = [token for token in with_text if mask[token]]
            assert both == [token for token in with_text if oracle[token]]
            if not both:
                break
            token = rng.choice(both)
            assert constraint.take(token)
            api.llama_sampler_accept(theirs, token)
        api.llama_sampler_free(theirs)


def llama_cpp_allows(model: Model, sampler: object) -> list[bool]:
    api, count = model.library.api, model.facts.n_vocab
    data = (api.llama_token_data * count)(*(api.llama_token_data(token, 1.0, 0.0) for token in range(count)))
    array = api.llama_token_data_array(data, count, -1, False)
    api.llama_sampler_apply(sampler, ctypes.byref(array))
    return [each.logit == 1.0 for each in data]


# -- hostile grammars -------------------------------------------------------------------------------------------------


def chain(count: int, line: str, last: str) -> str:
    return "\n".join(line.format(place, place + 1) for place in range(count)) + "\n" + last.format(count)


def chain_of_refs(count: int) -> str:
    schemas = {f"a{place}": {"items": {"$ref": f"#/$defs/a{place + 1}"}} for place in range(count)}
    return json.dumps({"$ref": "#/$defs/a0", "$defs": {**schemas, f"a{count}": {"type": "null"}}})


HOSTILE = {
    "a stack of readings without end": gbnf('root ::= e root "x" | "y"\ne ::= f\nf ::= "" | "z"'),
    "two readings of each character": gbnf('root ::= "a" root "y" | "a" root "z" | "w"'),
    "all that can be ambiguous": gbnf('root ::= root root | "a" | ""'),
    "repetitions of repetitions": gbnf('root ::= ((("a"{2000}){2000}){2000}){2000}'),
    "a long literal": gbnf(f'root ::= "{"a" * 250_000}"'),
    "a long chain of rules": gbnf(chain(15_000, "a{} ::= a{}", 'a{} ::= "a"\nroot ::= a0')),
    "a long chain of Lark's": Grammar(GrammarKind.LARK, chain(18_000, "a{}:a{}", 'a{}: "a"\nstart: a0')),
    "a long chain of terminals": Grammar(GrammarKind.LARK, chain(18_000, "A{}:A{}", 'A{}: "a"\nstart: A0')),
    "a long chain of references": Grammar(GrammarKind.JSON_SCHEMA, chain_of_refs(4500)),
    "an expression of nested repetitions": Grammar(GrammarKind.REGEX, "((a{1000}){1000}){1000}"),
    "an expression with many states": Grammar(GrammarKind.REGEX, "(.*a.*b){30}|(.*b.*a){30}"),
    "a length without use": Grammar(GrammarKind.JSON_SCHEMA, '{"type": "string", "minLength": 1000000000}'),
}


@pytest.mark.parametrize("grammar", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_grammar_is_refused_or_held_within_limits(wary_guide: Guide, model: Model, grammar: Grammar) -> None:
    rng = random.Random(3)
    try:
        constraint = wary_guide.constraint(grammar)
        for _ in range(100):
            tokens = [token for token, bits in enumerate(constraint.mask()) if bits and model.piece(token)]
            if not tokens or not constraint.take(rng.choice(tokens)):
                break
    except RequestError as error:
        assert str(error)


def multiples(*numbers: int) -> Grammar:
    parts = [{"type": "integer", "multipleOf": number} for number in numbers]
    return Grammar(GrammarKind.JSON_SCHEMA, json.dumps(parts[0] if len(parts) == 1 else {"allOf": parts}))


# In a single process each of these takes minutes, or gigabytes.
WITHOUT_END = {
    "a number with as many remainders": multiples(99_999_989),
    "a smaller one": multiples(9_999_991),
    "one among properties": Grammar(
        GrammarKind.JSON_SCHEMA,
        '{"type": "object", "properties": {"a": {"type": "array", "items": {"multipleOf": 99999971}}}}',
    ),
    "several numbers at once": multiples(101, 103, 107, 109, 113, 127, 131),
    "in Lark": Grammar(GrammarKind.LARK, 'start: %json {"type": "integer", "multipleOf": 99999989}'),
    "rules that double": gbnf(chain(1_000, "r{0} ::= r{1} r{1}", 'r{} ::= "a"\nroot ::= r0')),
    "a few rules that double": gbnf(chain(60, "r{0} ::= r{1} r{1}", 'r{} ::= "a"\nroot ::= r0')),
    "many rules that double": gbnf(chain(9_000, "r{0} ::= r{1} r{1}", 'r{} ::= "a"\nroot ::= r0')),
    "rules that grow threefold": gbnf(chain(500, "r{0} ::= r{1} r{1} r{1}?", "r{} ::= [ab]\nroot ::= r0")),
}


@pytest.mark.parametrize("grammar", WITHOUT_END.values(), ids=WITHOUT_END.keys())
def test_a_grammar_that_takes_too_much_to_compile_is_refused_in_words(wary_guide: Guide, grammar: Grammar) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(RequestError, match=r"compiling it takes more than 3 s or 64 MB; simplify it|too big"):
        wary_guide.constraint(grammar)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 50 * 1024  # KiB


def test_a_grammar_that_is_compiled_does_not_wait_for_another(wary_guide: Guide) -> None:
    ready = gbnf('root ::= "ready"')
    wary_guide.constraint(ready)
    patience = Patience(60.0)
    with ThreadPoolExecutor() as threads:
        compiling = threads.submit(wary_guide.constraint, multiples(99_999_971), patience)
        wary_guide.constraint(ready)
        wary_guide.constraint(gbnf('root ::= "new"'))
        assert not compiling.done()
        patience.leave()
        with pytest.raises(Unavailable):
            compiling.result(timeout=30)


def test_what_compiled_grammars_take_is_bounded_and_those_in_use_count(
    model: Model, nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.engine.guidance.guide._MAX_COMPILED_BYTES", 3 * 1024 * 1024)
    monkeypatch.setattr(Compiler, "_try", lambda *_: 1024 * 1024)
    guide = Guide(model, nursery)
    held = [guide.constraint(gbnf(f'root ::= "{letter}"')) for letter in "abc"]
    with pytest.raises(Unavailable, match="take all memory"):
        guide.constraint(gbnf('root ::= "d"'))
    del held[0]
    guide.constraint(gbnf('root ::= "d"'))
    guide.constraint(gbnf('root ::= "e"'))
    assert [source for _kind, source in guide._compiled] == ['root ::= "e"']


def test_a_child_that_cannot_be_had_refuses_the_grammar(model: Model) -> None:
    gone = Nursery.start(preparations=[compiler.PREPARATION], tasks=[compiler.TASK])
    gone.close()
    with pytest.raises(Unavailable, match="start the program again"):
        Guide(model, gone).constraint(gbnf('root ::= "a"'))


@pytest.mark.parametrize(
    ("grammar", "words"),
    [
        (Grammar(GrammarKind.REGEX, "("), "can't be used: invalid regex"),
        (Grammar(GrammarKind.REGEX, "a(?=b)"), "can't be used: invalid regex"),
        (Grammar(GrammarKind.REGEX, "(" * 100_000), "can't be used: invalid regex"),
        (Grammar(GrammarKind.REGEX, r"[^\s\S]"), "no text within the limits"),
        (Grammar(GrammarKind.LARK, "start: " + "(" * 100_000), "too deeply nested"),
        (Grammar(GrammarKind.LARK, "start: b"), "can't be used"),
        (gbnf("root ::= root"), "no text within the limits"),
        (gbnf('root ::= "' + "a" * 300_000 + '"'), "longer than 256 KiB"),
        (Grammar(GrammarKind.JSON_SCHEMA, '{"$ref": "#"}'), "no text within the limits"),
        (Grammar(GrammarKind.JSON_SCHEMA, '{"type": "text"}'), "JSON schema can't be used"),
        (Grammar(GrammarKind.JSON_SCHEMA, '{"oneOf": [{"maximum": 3}, {"minimum": 2}]}'), "oneOf"),
        (Grammar(GrammarKind.JSON_SCHEMA, '{"pattern": "(?!a)"}'), "JSON schema can't be used"),
        (
            Grammar(GrammarKind.JSON_SCHEMA, '{"type": "object", "properties": {"a": false}, "required": ["a"]}'),
            "JSON schema can't be used",
        ),
    ],
)
def test_what_cannot_be_compiled_is_the_callers_mistake(
    guide: Guide, wary_guide: Guide, grammar: Grammar, words: str
) -> None:
    reasons = []
    for each in (guide, wary_guide):
        with pytest.raises(RequestError, match=words) as caught:
            each.constraint(grammar)
        reasons.append(str(caught.value))
    assert "\n" not in reasons[0]
    assert len(reasons[0]) < 400
    assert reasons[0] == reasons[1]


def test_a_grammar_at_its_limits_says_so(guide: Guide, model: Model) -> None:
    constraint = guide.constraint(gbnf('root ::= x* "(" root ")" | x*\nx ::= [a-z]+ | [a-z ]*'))
    letter = token_of(model, b"a")
    assert any(not constraint.take(letter) for _ in range(5000))
    with pytest.raises(RequestError, match="grew too complex"):
        constraint.mask()


def test_nothing_is_imported_before_the_first_grammar(model: Model) -> None:
    program = "import sys; import runtime.engine.engine; sys.exit('llguidance' in str(list(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], timeout=60, check=False).returncode == 0
