"""The bundle as the page shows it, `page.json`: its face, its model, what it can do. Answers while the model loads."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from runtime import __version__
from runtime.container import Face, Manifest
from runtime.engine.values.answer_settings import ANSWER_SETTINGS, MAX_TOKENS, AnswerSetting
from runtime.engine.values.media import MediaKind
from runtime.server.answering.responses import JsonResponse
from runtime.server.lifecycle import Ready
from runtime.server.page.guard import another_users_problem, showing
from runtime.server.page.history import History
from runtime.server.service import Service


class PageFacts:
    """The endpoint. Without a manifest the model was named at the start, and nothing else is known of it."""

    def __init__(self, service: Service, manifest: Manifest | None, history: History | None) -> None:
        self._service = service
        self._manifest = manifest
        self._history = history

    @showing
    async def page_json(self, request: Request) -> Response:
        manifest = self._manifest
        face = manifest.face if manifest else Face()
        problem = another_users_problem(request)
        if problem is None and self._history:
            problem = await self._history.problem()
        return JsonResponse(
            {
                "name": manifest.name if manifest else self._service.model_alias,
                "description": manifest.description if manifest else "",
                "icon": face.icon or None,
                "welcome": face.welcome,
                "suggestions": list(face.suggestions),
                "has_history": self._history is not None and problem is None,
                "history_problem": problem,
                "version": __version__,
                "model": self._model(),
                "modalities": self._modalities(),
                "defaults": self._defaults(face),
                "settings": [described(setting) for setting in ANSWER_SETTINGS],
            }
        )

    def _model(self) -> dict[str, Any]:
        """Return the model's facts: from the manifest, and once it is loaded from itself."""
        manifest, state = self._manifest, self._service.lifecycle.state
        said = dict(manifest.model) if manifest else {}
        facts: dict[str, Any] = {
            "name": said.get("name") or self._service.model_alias,
            "architecture": said.get("architecture"),
            "size_bytes": said.get("size"),
            "n_params": said.get("n_params"),
            "quantization": said.get("quantization"),
            "n_ctx": None,
            "n_ctx_train": said.get("n_ctx_train"),
            "licence": manifest.license if manifest else None,
            "origin": manifest.source if manifest else None,
        }
        if isinstance(state, Ready):
            info = state.engine.info
            facts |= {
                "name": info.name or facts["name"],
                "architecture": info.architecture,
                "size_bytes": info.size_bytes,
                "n_params": info.n_params,
                "n_ctx": info.n_ctx,
                "n_ctx_train": info.n_ctx_train,
            }
        return {name: value or None for name, value in facts.items()}

    def _modalities(self) -> dict[str, bool]:
        """Return what the model reads beside text: nothing, as far as one knows before it is loaded."""
        state = self._service.lifecycle.state
        kinds = state.engine.info.media_kinds if isinstance(state, Ready) else ()
        return {"vision": MediaKind.PICTURE in kinds, "audio": MediaKind.SOUND in kinds}

    def _defaults(self, face: Face) -> dict[str, Any]:
        """Return what a chat of the page begins with: `system` is the page's alone, the rest holds for every client."""
        defaults, names = self._service.defaults, [setting.name for setting in ANSWER_SETTINGS]
        values = {name: getattr(defaults.sampling, name) for name in names if name != MAX_TOKENS.name}
        return {"system": face.system, **values, MAX_TOKENS.name: defaults.max_tokens}


def described(setting: AnswerSetting[Any]) -> dict[str, Any]:
    """Return what the page's field needs: the range, its usual part, and the default of a bundle that names none."""
    return {
        "name": setting.name,
        "default": setting.meaning(setting.default),
        "minimum": setting.minimum,
        "maximum": setting.maximum,
        "usual_minimum": setting.usual_minimum,
        "usual_maximum": setting.usual_maximum,
        "step": setting.step,
    }
