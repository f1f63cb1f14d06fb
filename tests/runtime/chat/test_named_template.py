"""Templates that go by a name: what they are given to write, and how tools come to be told."""

from collections.abc import Sequence

from runtime.chat.conversation import Conversation, Tool, ToolUse
from runtime.chat.messages import Message, Role, ToolCall
from runtime.chat.named_template import NamedTemplate
from runtime.chat.turn import profile_of, prompt_of
from tests.fakes import ScriptedEngine


def write(template: str, messages: Sequence[tuple[str, str]], *, adds_generation_prompt: bool) -> str:
    """What a template does that knows roles and texts only."""
    written = "".join(f"<{role}>{text}" for role, text in messages)
    return f"{template}:{written}{'<assistant>' if adds_generation_prompt else ''}"


def test_roles_and_texts_are_written() -> None:
    template = NamedTemplate("llama9", write)
    messages = [Message(Role.SYSTEM, "Be brief."), Message(Role.USER, "Hi", name="Ann")]
    assert template.render(messages) == "llama9:<system>Be brief.<user>Hi<assistant>"
    assert template.render(messages[1:], adds_generation_prompt=False) == "llama9:<user>Hi"


def test_nothing_is_learnt_of_calls_and_thinking() -> None:
    profile = profile_of(NamedTemplate("llama9", write))
    assert profile.call_form is None
    assert not profile.marks.is_known


def test_an_engine_whose_template_has_a_name_writes_by_it_with_tools_in_the_generic_form() -> None:
    engine = ScriptedEngine(chat_template="llama9", is_template_named=True)
    called = Message(Role.ASSISTANT, tool_calls=(ToolCall("1", "get_time", "{}"),))
    messages = (Message(Role.USER, "When?"), called, Message(Role.TOOL, "noon", tool_call_id="1"))
    prompt = prompt_of(engine, Conversation(messages, ToolUse((Tool("get_time"),))))
    assert prompt.startswith("llama9:<system>You can call these tools")
    assert '<user>When?<assistant><tool_call>\n{"name": "get_time", "arguments": {}}\n</tool_call>' in prompt
    assert prompt.endswith("<user><tool_response>\nnoon\n</tool_response><assistant>")
