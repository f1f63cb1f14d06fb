"""What an engine has done since it started, counted. Pure."""

from dataclasses import dataclass

from runtime.engine.values.events import Timings


@dataclass(slots=True)
class Meter:
    """Counts of tokens, seconds and steps; requests count when they end, however they end."""

    num_prompt_tokens: int = 0  # computed; those found in the cache apart
    num_cached_tokens: int = 0
    num_generated_tokens: int = 0
    num_generating_steps: int = 0  # a request's first token comes with its prompt
    prompt_seconds: float = 0.0
    generation_seconds: float = 0.0
    num_steps: int = 0
    num_sequences_in_steps: int = 0
    max_sequence_length: int = 0
    num_drafts: int = 0
    num_drafted_tokens: int = 0
    num_accepted_tokens: int = 0

    def count_step(self, num_sequences: int) -> None:
        self.num_steps += 1
        self.num_sequences_in_steps += num_sequences

    def count_sequence(self, timings: Timings) -> None:
        self.num_prompt_tokens += timings.num_prompt_tokens
        self.num_cached_tokens += timings.num_cached_tokens
        self.num_generated_tokens += timings.num_generated_tokens
        self.num_generating_steps += max(timings.num_generated_tokens - 1, 0)
        self.prompt_seconds += timings.prompt_seconds
        self.generation_seconds += timings.generation_seconds
        self.num_drafts += timings.num_drafts
        self.num_drafted_tokens += timings.num_drafted_tokens
        self.num_accepted_tokens += timings.num_accepted_tokens
        length = timings.num_cached_tokens + timings.num_prompt_tokens + timings.num_generated_tokens
        self.max_sequence_length = max(self.max_sequence_length, length)
