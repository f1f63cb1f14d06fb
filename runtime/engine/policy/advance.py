"""What one sampled token means for its sequence, and what the client hears of it."""

from runtime.engine.policy.batch import Sampled
from runtime.engine.policy.sequence import Sequence
from runtime.engine.values.events import Event, Finished, FinishReason, Progress, TextDelta, TokenProbs


def progress(sequence: Sequence, now: float, probs: tuple[TokenProbs, ...] = ()) -> Progress:
    """Return how much of the prompt is computed, with the log-probabilities of its next tokens."""
    return Progress(sequence.num_prompt_tokens, sequence.timings(now), _slot(sequence), probs)


def advance(sequence: Sequence, sampled: Sampled, now: float) -> list[Event]:
    """Take a sampled token and return what the client hears; a `Finished`, if the text has ended, is the last."""
    params = sequence.params
    if sequence.first_token_at is None:
        sequence.first_token_at = now
    if params.max_tokens == 0:  # the prompt was to be computed, nothing more
        return finish(sequence, FinishReason.LENGTH, now)
    sequence.tokens.append(sampled.token)
    sequence.num_generated += 1
    # Where a grammar leaves nothing but the end, a token that is never to be chosen is chosen all the same.
    if sampled.is_end and (not params.ignore_eos or sequence.constraint is not None):
        return finish(sequence, FinishReason.END_OF_TEXT, now, sampled)
    text = sequence.text.feed(sampled.piece)
    timings = sequence.timings(now) if params.wants_timings else None
    probs = (sampled.probs,) if sampled.probs else ()
    events: list[Event] = [TextDelta(text, (sampled.token,), probs, _slot(sequence), timings)]
    if sequence.text.stopping_string:
        events += finish(sequence, FinishReason.STOP_STRING, now)
    elif _is_out_of_time(sequence, sampled.piece, now) or sequence.num_generated == params.max_tokens:
        events += finish(sequence, FinishReason.LENGTH, now)
    return events


def finish(sequence: Sequence, reason: FinishReason, now: float, end: Sampled | None = None) -> list[Event]:
    """Return the rest of the text, if any was held back, and the end; `end` is the token that ended the text."""
    rest = sequence.text.finish()
    timings, stop = sequence.timings(now), sequence.text.stopping_string
    ended_by = (end.token, end.probs) if end else (None, None)
    last = Finished(reason, timings, stop, _slot(sequence), sequence.is_truncated, *ended_by)
    return [*([TextDelta(rest, (), slot=_slot(sequence))] if rest else []), last]


def _is_out_of_time(sequence: Sequence, piece: bytes, now: float) -> bool:
    """Whether this piece ends a line and the time for generating is over (llama.cpp's `t_max_predict_ms`)."""
    if b"\n" not in piece:
        return False
    sequence.has_new_line = True
    limit, started = sequence.params.max_seconds, sequence.first_token_at
    return limit is not None and started is not None and now - started > limit


def _slot(sequence: Sequence) -> int:
    return -1 if sequence.slot is None else sequence.slot
