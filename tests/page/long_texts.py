"""Long answers of every shape, and many chats."""

from tests.page.scripted import Script, message

_PARAGRAPH = "The **keeper** climbed the stairs, `lamp` in hand, and looked out over the *dark* water once more.\n\n"
_LIST = "".join(f"{number}. A line of the list, with **weight** on some words.\n" for number in range(1, 21)) + "\n"
_CODE = (
    "```python\n" + "".join(f"value_{number} = compute({number}, 'text')  # why\n" for number in range(40)) + "```\n\n"
)
SHAPES = {
    "mixed": [_PARAGRAPH, _LIST, _CODE],
    "text": [_PARAGRAPH],
    "list": [_LIST.strip() + "\n"],
    "line": [_PARAGRAPH.strip() + " "],
}


def long_answer(num_tokens: int, parts: list[str]) -> str:
    """Return a text of about so many tokens, 4 characters each."""
    length = 4 * num_tokens
    return ("".join(parts) * (length // len("".join(parts)) + 1))[:length]


def keep_many(script: Script, num_chats: int) -> None:
    for number in range(num_chats):
        pair = message("q", "user", f"Question {number}"), message("a", "assistant", "word " * 50, "q")
        script.keep(*pair, title=f"Chat number {number}")
