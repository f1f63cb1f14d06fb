"""Errors inside a bundle, drawn by whose fault they are.

    HoldallError
    ├── CallerError               the person's or client's: a bad flag, file or request
    │   ├── UsageError            command line, environment or .args
    │   ├── ContainerError        the file is no bundle, truncated, altered, or of a newer format
    │   ├── ModelError            the model is missing or can't be used
    │   │   └── NotEnoughMemory   it and its context need more than this computer has
    │   └── RequestError          a bad request; `param` names the field
    │       ├── TooManyTokens     of a text; carries the numbers
    │       ├── PromptTooLong     carries the numbers
    │       │   └── TextTooLong   of a text that was to become a vector
    │       └── ChatTooLarge      more than is kept of one chat
    ├── MomentError               the moment's: try again, or elsewhere
    │   ├── PortInUse
    │   ├── HistoryError          chats can't be kept or read
    │   │   └── UnreadableChat    one of them; the others can
    │   └── Unavailable           stopping, or there will be no model
    │       ├── QueueFull         too many wait already; says when to come back
    │       │   └── BodiesFull    the large requests that come in are too many
    │       └── EngineRestarted   what was computed is lost, and can be asked for again
    └── EngineError               ours: llama.cpp failed, or a bug

Raised where they are found, caught once: at the command line's edge (one line, then `exit_status`) and in
`server/answering/errors.py` (the dialect's own shape).
"""


class HoldallError(Exception):
    """Root of the tree; `str(error)` is the sentence for the person."""

    exit_status = 1


class CallerError(HoldallError):
    exit_status = 2


class UsageError(CallerError):
    """A flag, environment variable or `.args` line that can't be used."""


class ContainerError(CallerError):
    exit_status = 3


class ModelError(CallerError):
    exit_status = 4


class NotEnoughMemory(ModelError):
    """Sizes in bytes; `fitting_n_ctx` is a context that would do, None when there is none."""

    def __init__(self, needed: int, free: int, n_ctx: int, fitting_n_ctx: int | None) -> None:
        advice = f"try -c {fitting_n_ctx}" if fitting_n_ctx else "close other programs, or take a smaller model"
        super().__init__(
            f"with a context of {n_ctx} tokens this model needs about {needed / 1e9:.1f} GB of memory, "
            f"and this computer has {free / 1e9:.1f} GB free; {advice}"
        )
        self.fitting_n_ctx = fitting_n_ctx


class RequestError(CallerError):
    """A request that can't be served as it stands; `param` is the JSON field at fault, if there is one."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class TooManyTokens(RequestError):
    """A text has more than `max_tokens`. Those that were counted, `num_tokens`, are the least that it has."""

    def __init__(self, num_tokens: int, max_tokens: int) -> None:
        super().__init__(f"a text has more than {max_tokens:,} tokens; split it")
        self.num_tokens = num_tokens
        self.max_tokens = max_tokens


class PromptTooLong(RequestError):
    """The prompt leaves no room for a single new token. Not `is_counted`: it has `num_prompt_tokens` at least."""

    def __init__(self, num_prompt_tokens: int, n_ctx: int, *, is_counted: bool = True) -> None:
        at_least = "" if is_counted else "at least "
        super().__init__(  # with the words "exceeds the available context size", which clients of llama-server look for
            f"the prompt of {at_least}{num_prompt_tokens} tokens exceeds the available context size of {n_ctx}, "
            "one of which is kept for the answer; shorten it or start with a larger -c"
        )
        self.num_prompt_tokens = num_prompt_tokens
        self.n_ctx = n_ctx


class TextTooLong(PromptTooLong):
    """A text that is to become a vector has more tokens than can be computed; `index` counts the texts in `param`."""

    def __init__(self, param: str, index: int, num_tokens: int, max_tokens: int, *, is_counted: bool = True) -> None:
        at_least = "" if is_counted else "at least "
        RequestError.__init__(
            self,
            f"{param}[{index}] has {at_least}{num_tokens} tokens, but a text may have {max_tokens}, "
            "the lesser of -c and what the model was trained for; split it",
            param,
        )
        self.num_prompt_tokens = num_tokens
        self.n_ctx = max_tokens


class ChatTooLarge(RequestError):
    """A chat would hold more than `max_bytes`."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(f"a chat can hold {max_bytes >> 20} MB of texts and attachments; begin a new one")
        self.max_bytes = max_bytes


class MomentError(HoldallError):
    exit_status = 5


class PortInUse(MomentError):
    """Another program listens there already."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(f"port {port} on {host} is taken by another program; choose another with --port")
        self.host = host
        self.port = port


class HistoryError(MomentError):
    """The file of chats can't be used; the words name no path of this machine."""


class UnreadableChat(HistoryError):
    """What the file holds of one chat isn't what this program writes."""

    def __init__(self) -> None:
        super().__init__("this chat can't be read: what the file of chats holds of it isn't ours")


class Unavailable(MomentError):
    """There is no engine, or not any more."""


class QueueFull(Unavailable):
    """As many requests wait as may; `retry_after_seconds` is a guess at when one fewer does."""

    def __init__(self, num_waiting: int, retry_after_seconds: int) -> None:
        super().__init__(f"{num_waiting} requests are waiting already; try again in {retry_after_seconds} s")
        self.retry_after_seconds = retry_after_seconds


class BodiesFull(QueueFull):
    """The bodies of large requests that come in together would take too much memory."""

    def __init__(self, retry_after_seconds: int) -> None:
        Unavailable.__init__(
            self, f"too many large requests come in at the same time; try again in {retry_after_seconds} s"
        )
        self.retry_after_seconds = retry_after_seconds


class EngineRestarted(Unavailable):
    """The engine failed while this was computed, by a bug of ours, and has started anew."""

    def __init__(self) -> None:
        super().__init__("the engine failed at this and has started anew; send the request again")


class EngineError(HoldallError):
    exit_status = 70
