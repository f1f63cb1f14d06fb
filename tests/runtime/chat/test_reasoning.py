import pytest

from runtime.chat.reasoning import ThinkingMarks, learn_thinking_marks
from runtime.chat.template import load_template

KEPT = "{{% for m in messages %}}{{% if m.reasoning_content %}}{}{{% endif %}}{{{{ m.content }}}}{{% endfor %}}"


@pytest.mark.parametrize(
    ("source", "marks"),
    [
        (KEPT.format("<think>\n{{ m.reasoning_content }}\n</think>\n\n"), ThinkingMarks(is_known=True)),
        (
            KEPT.format("[THINK]{{ m.reasoning_content }}[/THINK]"),
            ThinkingMarks("[THINK]", "[/THINK]", is_known=True),
        ),
        (
            "{% for m in messages %}{{ m.content.split('</think>')[-1] }}{% endfor %}",
            ThinkingMarks(is_known=True),
        ),
        (
            "{% for m in messages if m.tool_calls %}<|THINKING|>{{ m.reasoning_content }}<|/THINKING|>{% endfor %}",
            ThinkingMarks("<|THINKING|>", "<|/THINKING|>", is_known=True),
        ),
        (KEPT.format("<|message|>{{ m.reasoning_content }}<|end|>"), ThinkingMarks()),
        ("{% for m in messages %}{{ m.content }}{% endfor %}", ThinkingMarks()),
    ],
    ids=["written down", "other marks", "taken out", "with calls only", "a message's marks", "unknown"],
)
def test_the_marks_of_thinking_are_learnt(source: str, marks: ThinkingMarks) -> None:
    assert learn_thinking_marks(load_template(source, "", "")) == marks


def test_an_answer_may_have_a_mark_of_its_own_and_thinking_a_message() -> None:
    source = (
        "{% for m in messages %}{% if m.role == 'assistant' %}"
        "{% if m.thinking %}<|start|>assistant<|channel|>analysis<|message|>{{ m.thinking }}<|end|>{% endif %}"
        "<|start|>assistant<|channel|>final<|message|>{{ m.content }}<|end|>"
        "{% else %}<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
    )
    assert learn_thinking_marks(load_template(source, "", "")) == ThinkingMarks(
        "<|channel|>analysis<|message|>",
        "<|end|><|start|>assistant",
        is_known=True,
        answer_opening="<|channel|>final<|message|>",
    )
