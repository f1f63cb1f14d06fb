"""A short way to ask an engine."""

from collections.abc import Sequence
from typing import Any

from runtime.engine.values.media import Media
from runtime.engine.values.request import GenerationParams, GenerationRequest, Prompt


def request_for(tokens: Sequence[int], media: Sequence[Media] = (), **params: Any) -> GenerationRequest:
    """Return the request for what goes on from a prompt's tokens."""
    return GenerationRequest(Prompt(tuple(tokens), tuple(media)), GenerationParams(**params))
