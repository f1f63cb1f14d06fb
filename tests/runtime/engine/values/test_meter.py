from runtime.engine.values.events import Timings
from runtime.engine.values.meter import Meter


def test_it_adds_up_what_requests_and_steps_were() -> None:
    meter = Meter()
    meter.count_step(2)
    meter.count_step(1)
    meter.count_sequence(Timings(10, 5, 4, prompt_seconds=0.5, generation_seconds=0.25))
    meter.count_sequence(Timings(3, 0, 0, prompt_seconds=0.1, generation_seconds=0.0))
    meter.count_sequence(Timings(0, 0, 0, 0.0, 0.0, num_drafted_tokens=7, num_accepted_tokens=5, num_drafts=2))
    assert meter == Meter(
        num_prompt_tokens=13,
        num_cached_tokens=5,
        num_generated_tokens=4,
        num_generating_steps=3,
        prompt_seconds=0.6,
        generation_seconds=0.25,
        num_steps=2,
        num_sequences_in_steps=3,
        max_sequence_length=19,
        num_drafts=2,
        num_drafted_tokens=7,
        num_accepted_tokens=5,
    )
