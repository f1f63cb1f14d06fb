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
