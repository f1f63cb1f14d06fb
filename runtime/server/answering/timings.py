"""How long an answer took and how far its prompt is, in llama-server's shapes. Pure."""

from typing import Any

from runtime.engine.values.events import Progress, Timings


def timings_json(timings: Timings) -> dict[str, Any]:
    """Return timings as llama-server writes them, in milliseconds; drafts are mentioned where there were any."""
    drafts = {"draft_n": timings.num_drafted_tokens, "draft_n_accepted": timings.num_accepted_tokens}
    return {
        "cache_n": timings.num_cached_tokens,
        **_rates("prompt", timings.num_prompt_tokens, timings.num_prompt_tokens, timings.prompt_seconds),
        # The first token comes with the prompt's last step and costs none of its own.
        **_rates(
            "predicted",
            timings.num_generated_tokens,
            max(timings.num_generated_tokens - 1, 0),
            timings.generation_seconds,
        ),
        **(drafts if timings.num_drafted_tokens else {}),
    }


def progress_json(progress: Progress) -> dict[str, Any]:
    """Return how far a prompt is, as llama-server writes it."""
    timings = progress.timings
    return {
        "total": progress.num_prompt_tokens,
        "cache": timings.num_cached_tokens,
        "processed": timings.num_cached_tokens + timings.num_prompt_tokens,
        "time_ms": timings.prompt_seconds * 1000,
    }


def _rates(name: str, count: int, num_steps: int, seconds: float) -> dict[str, Any]:
    milliseconds = seconds * 1000
    return {
        f"{name}_n": count,
        f"{name}_ms": milliseconds,
        f"{name}_per_token_ms": milliseconds / num_steps if num_steps else 0.0,
        f"{name}_per_second": num_steps / seconds if num_steps and seconds > 0 else 0.0,
    }
