"""What becomes of GBNF as text; that it means the same is `test_guidance`'s to show."""

import pytest

from runtime.engine.policy.gbnf import to_lark
from runtime.errors import RequestError


def lark(source: str) -> str:
    return to_lark(source, {"<think>": 7}.get)


def test_a_grammar_that_does_not_recur_is_one_regular_expression() -> None:
    assert lark('root ::= word "."\nword ::= [a-z]+') == (
        r"start: R0"
        "\n"
        r"R0: (R1 /\x{2E}/)"
        "\n"
        r"R1: ((/[\x{61}-\x{7A}]/)+)"
        "\n"
    )


def test_in_one_that_recurs_each_character_is_a_lexeme() -> None:
    assert lark('root ::= "(" root ")" | "ab"') == (
        r"start: r0"
        "\n"
        r"r0: (/\x{28}/ r0 /\x{29}/ | (/\x{61}/ /\x{62}/))"
        "\n"
    )


def test_a_rule_that_goes_on_by_naming_itself_last_is_a_repetition() -> None:
    assert lark('root ::= "a" root | "b" root | "c"') == (
        r"start: R0"
        "\n"
        r"R0: (((/\x{61}/ | /\x{62}/))* (/\x{63}/))"
        "\n"
    )


@pytest.mark.parametrize(
    ("source", "body"),
    [
        ('root ::= ""', '((""))'),
        ("root ::= ", '("")'),
        ("root ::= .", "(/(?s:.)/)"),
        ("root ::= []", '("")'),
        (r'root ::= "\x41\u00fc\U0001F600\n\\\""', r"((/\x{41}/ /\x{FC}/ /\x{1F600}/ /\x{A}/ /\x{5C}/ /\x{22}/))"),
        ("root ::= [^-a]", r"(/[^\x{2D}-\x{2D}\x{61}-\x{61}]/)"),
        ("root ::= [a-]", r"(/[\x{61}-\x{61}\x{2D}-\x{2D}]/)"),
        (r"root ::= [\]\-]", r"(/[\x{5D}-\x{5D}\x{2D}-\x{2D}]/)"),
        ("root ::= [a]{2}", r"((/[\x{61}-\x{61}]/){2,2})"),
        ("root ::= [a]{2,}", r"((/[\x{61}-\x{61}]/){2,})"),
        ("root ::= [a]{0, 3}", r"((/[\x{61}-\x{61}]/){0,3})"),
        ("root ::= [a]{1,9999}", r"((/[\x{61}-\x{61}]/){1,})"),
        ("root ::= ( [a] |\n [b] ) # why\n\n", r"((/[\x{61}-\x{61}]/ | /[\x{62}-\x{62}]/))"),
        ("root ::= [a] |\n  [b]", r"(/[\x{61}-\x{61}]/ | /[\x{62}-\x{62}]/)"),
    ],
)
def test_syntax(source: str, body: str) -> None:
    assert lark(source) == f"start: R0\nR0: {body}\n"


@pytest.mark.parametrize(
    ("source", "body"),
    [("root ::= <[12]>", "(<[12]>)"), ("root ::= !<[12]>", "(<[^12]>)"), ("root ::= <think>", "(<[7]>)")],
)
def test_a_token_keeps_a_grammar_from_being_a_regular_expression(source: str, body: str) -> None:
    assert lark(source) == f"start: r0\nr0: {body}\n"


def test_a_rule_given_twice_is_the_later_one() -> None:
    assert lark("root ::= [a]\nroot ::= [b]") == lark("root ::= [b]")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("", "no rule 'root'"),
        ("x ::= [a]", "no rule 'root'"),
        ("root ::= x", r"no rule 'x' \(line 1, column 10\)"),
        ("root = [a]", r"expected '::=' \(line 1, column 6\)"),
        ("root ::= [a]\n  ::= [b]", r"name of a rule \(line 2, column 3\)"),
        ('root ::= "a', "ends within"),
        ("root ::= [a", "ends within"),
        ("root ::= ( [a]", r"expected '\)'"),
        ("root ::= [a] )", "should end here"),
        ("root ::= * [a]", "nothing before '\\*'"),
        ("root ::= [a]{x}", "a repetition is written"),
        ("root ::= [a]{3,2}", "bounds run backwards"),
        ("root ::= [a]{2001}", "at most 2000"),
        ("root ::= [a]{" + "9" * 4301 + "}", "at most 2000"),
        ("root ::= [a]{3," + "0" * 5000 + "2}", "bounds run backwards"),
        ("root ::= [z-a]", r"range runs backwards \(line 1, column 11\)"),
        (r'root ::= "\q"', r"unknown escape \\q"),
        (r'root ::= "\x4"', r"unknown escape \\x"),
        (r'root ::= "\uD800"', "no character"),
        ("root ::= <unknown>", "not one token"),
        ("root ::= !x", "a token is written"),
        ("root ::= " + "(" * 51, "nested more than 50"),
        ('root ::= "a"' + "*" * 100_000, "nothing before"),
    ],
)
def test_what_is_no_gbnf_is_refused_with_the_place(source: str, words: str) -> None:
    with pytest.raises(RequestError, match=words) as caught:
        lark(source)
    assert caught.value.param == "grammar"


def test_thousands_of_rules_in_a_chain_are_read() -> None:
    source = "root ::= a0\n" + "".join(f"a{place} ::= a{place + 1}\n" for place in range(5000)) + "a5000 ::= [a]"
    assert lark(source).count("\n") == 5003
