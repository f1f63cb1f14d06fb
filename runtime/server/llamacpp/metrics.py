"""llama.cpp's `/metrics`: what the engine has done, in Prometheus's text format and with llama-server's names.

Off unless `--metrics` is given, as in llama-server: numbers of use are not for everyone who reaches the port.
"""

from starlette.requests import Request
from starlette.responses import Response

from runtime.engine.values.meter import Meter
from runtime.server.asking.fields import operation
from runtime.server.refusals import NotOffered
from runtime.server.service import Service

# Prometheus's text format, version 0.0.4: https://prometheus.io/docs/instrumenting/exposition_formats/
_MEDIA_TYPE = "text/plain; version=0.0.4"


class Metrics:
    """The endpoint; rates are those since it was last asked."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._last = Meter()

    @operation("Counters and gauges for Prometheus")
    async def metrics(self, _request: Request) -> Response:
        if not self._service.flags.has_metrics:
            raise NotOffered("this server keeps its numbers to itself; start it with --metrics")
        engine = await self._service.engine()
        meter, self._last = engine.meter(), self._last
        text = exposition(meter, self._last, engine.num_processing, engine.num_deferred)
        self._last = meter
        answer = Response(text, media_type=_MEDIA_TYPE)
        # With capitals: llama-server's clients look the name up as it writes it.
        answer.raw_headers.append((b"Process-Start-Time-Unix", b"%d" % self._service.created))
        return answer


def exposition(meter: Meter, last: Meter, num_processing: int, num_deferred: int) -> str:
    """Return the page: counters since the start, and rates since `last`."""
    num_prompt_tokens = meter.num_prompt_tokens - last.num_prompt_tokens
    num_generating_steps = meter.num_generating_steps - last.num_generating_steps
    counters: list[tuple[str, str, float]] = [
        ("prompt_tokens_total", "Prompt tokens computed, less those found in the cache", meter.num_prompt_tokens),
        ("prompt_tokens_cached_total", "Prompt tokens found in the cache", meter.num_cached_tokens),
        ("prompt_seconds_total", "Seconds spent on prompts", meter.prompt_seconds),
        ("tokens_predicted_total", "Tokens generated", meter.num_generated_tokens),
        ("tokens_predicted_seconds_total", "Seconds spent on generating", meter.generation_seconds),
        ("n_decode_total", "Steps computed", meter.num_steps),
        ("n_tokens_max", "Tokens of the longest sequence, prompt and answer", meter.max_sequence_length),
        ("spec_decode_num_draft_tokens_total", "Tokens drafted", meter.num_drafted_tokens),
        ("spec_decode_num_accepted_tokens_total", "Drafted tokens that were kept", meter.num_accepted_tokens),
        ("spec_decode_num_drafts_total", "Drafts that were verified", meter.num_drafts),
    ]
    gauges: list[tuple[str, str, float]] = [
        (
            "prompt_tokens_seconds",
            "Prompt tokens a second since the last look",
            _rate(num_prompt_tokens, meter.prompt_seconds - last.prompt_seconds),
        ),
        (
            "predicted_tokens_seconds",
            "Tokens generated a second since the last look",
            _rate(num_generating_steps, meter.generation_seconds - last.generation_seconds),
        ),
        ("requests_processing", "Requests being computed", num_processing),
        ("requests_deferred", "Requests that wait", num_deferred),
        (
            "n_busy_slots_per_decode",
            "Requests in a step on average",
            meter.num_sequences_in_steps / max(meter.num_steps, 1),
        ),
    ]
    lines = []
    for kind, metrics in (("counter", counters), ("gauge", gauges)):
        for name, text, value in metrics:
            lines += [
                f"# HELP llamacpp:{name} {text}",
                f"# TYPE llamacpp:{name} {kind}",
                f"llamacpp:{name} {value:.15g}",
            ]
    return "\n".join(lines) + "\n"


def _rate(count: int, seconds: float) -> float:
    return count / seconds if seconds > 0 else 0.0
