"""A model on the Hugging Face hub: `hf:OWNER/REPO`, `hf:OWNER/REPO:QUANT` or `hf:OWNER/REPO/path/file.gguf`.

`huggingface_hub` talks, caches where it always does, asks for what is missing when a connection breaks, and finds the
token (HF_TOKEN or its login); we choose the file and check the sha256 of what lies in the cache.
"""

import logging
import re
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import httpx2
from huggingface_hub import HfApi, ModelInfo, constants, hf_hub_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.hf_api import RepoSibling

from bundler.errors import HashMismatch, RecipeError, SourceError
from bundler.progress import ByteCounter, Progress
from bundler.sources.model import Places, SourcedModel, hash_file

# What llama.cpp's -hf takes when no quantization is named, then what is nearest to it in size.
_PREFERRED = ("Q4_K_M", "Q4_0", "Q4_K_S", "Q4_1", "Q5_K_M", "Q8_0")
_PREFERRED_PROJECTORS = ("Q8_0", "F16", "BF16", "F32")
_TIMEOUT_SECONDS = 30.0
_REFERENCE = re.compile(r"hf:([\w.-]+/[\w.-]+)(?::([\w.-]+)|/(.+\.gguf))?")
_SPLIT = re.compile(r"-\d{5}-of-\d{5}\.gguf$", re.IGNORECASE)
_MAX_LISTED = 20


def fetch(reference: str, places: Places, progress: Progress, *, is_projector: bool = False) -> SourcedModel:
    """Return the model, or the projector, that a reference names, from the hub's cache if it is there."""
    match = _REFERENCE.fullmatch(reference)
    if not match:
        raise RecipeError(f"{reference}: should be hf:OWNER/REPO, hf:OWNER/REPO:QUANT or hf:OWNER/REPO/path/file.gguf")
    repo, quantization, file_path = match[1], match[2], match[3]
    # The library's warnings would break our lines; what matters is raised.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    constants.HF_HUB_DISABLE_XET = True  # plain HTTP serves the same files, and only that is tested here
    try:
        info = HfApi(endpoint=places.hub).model_info(repo, files_metadata=True, timeout=_TIMEOUT_SECONDS)
        chosen = choose_file(repo, info.siblings or [], quantization, file_path, is_projector=is_projector)
        progress.step(f"using {chosen.rfilename} of {repo}")
        path = _download(repo, chosen, info, places, progress)
    except (HfHubHTTPError, httpx2.HTTPError, OSError, OfflineModeIsEnabled, HFValidationError, ValueError) as error:
        raise _in_words(repo, error, places) from error
    size, sha256 = hash_file(path, progress)
    expected = chosen.lfs.sha256 if chosen.lfs else sha256
    if sha256 != expected:
        path.resolve().unlink()  # the blob; the link to it is useless then
        path.unlink(missing_ok=True)
        raise HashMismatch(f"hf:{repo}: {chosen.rfilename}", expected, sha256)
    card = info.card_data
    license_name = card.license if card is not None and isinstance(card.license, str) else ""
    file_name = PurePosixPath(chosen.rfilename).name
    return SourcedModel(path, file_name, size, sha256, f"hf:{repo}/{chosen.rfilename}", license=license_name)


def choose_file(
    repo: str,
    files: list[RepoSibling],
    quantization: str | None,
    file_path: str | None,
    *,
    is_projector: bool = False,
) -> RepoSibling:
    """Return the one file that is meant; SourceError, listing what there is, when none is or several are."""
    kind = "mmproj" if is_projector else ""
    models = [file for file in files if file.rfilename.lower().endswith(".gguf") and _kind_of(file.rfilename) == kind]
    if file_path is not None:
        found = [file for file in files if file.rfilename == file_path]
    elif quantization is not None:
        found = [file for file in models if _has_quantization(file.rfilename, quantization)]
    else:
        found = next(
            (
                matching
                for name in (_PREFERRED_PROJECTORS if is_projector else _PREFERRED)
                if (matching := [m for m in models if _has_quantization(m.rfilename, name)])
            ),
            models,
        )
    if is_projector and not models and not found:
        raise SourceError(f"hf:{repo}: has no projector; those are named mmproj-*.gguf")
    if not models and not found:
        raise SourceError(f"hf:{repo}: has no GGUF models; look for a repository whose name ends in -GGUF")
    wanted = file_path or quantization or ("a projector" if is_projector else "a model")
    if not found:
        raise SourceError(f"hf:{repo}: has no {wanted}; it has {_listed(models)}")
    if any(_SPLIT.search(file.rfilename) for file in found):
        raise SourceError(
            f"hf:{repo}: {wanted} is split into {len(found)} files, which can't be packed yet; choose a smaller one"
        )
    if len(found) > 1:
        raise SourceError(f"hf:{repo}: {wanted} could be {_listed(found)}; name one as hf:{repo}/FILE")
    return found[0]


def _kind_of(file_path: str) -> str:
    """Return what a GGUF is beside a model, a projector or an importance matrix; nothing for a model."""
    name = PurePosixPath(file_path).name.lower()
    return next((kind for kind in ("mmproj", "imatrix") if kind in name), "")


def _has_quantization(file_path: str, quantization: str) -> bool:
    """Whether a file's name, or its folder's, has the quantization as a whole word: Q4_K isn't in Q4_K_M."""
    return re.search(rf"(?<![a-z0-9_]){re.escape(quantization)}(?![a-z0-9_])", file_path, re.IGNORECASE) is not None


def _listed(files: list[RepoSibling]) -> str:
    names = [file.rfilename for file in files]
    more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return ", ".join(names[:_MAX_LISTED]) + more


def _download(repo: str, file: RepoSibling, info: ModelInfo, places: Places, progress: Progress) -> Path:
    class Bar(_Bar):
        ours = progress

    # The commit that was listed, so that a push in between can't change what arrives.
    path = hf_hub_download(
        repo,
        file.rfilename,
        revision=info.sha,
        endpoint=places.hub,
        cache_dir=places.hub_cache,
        tqdm_class=Bar,  # any class that looks like tqdm will do
    )
    return Path(path)


def _in_words(repo: str, error: Exception, places: Places) -> SourceError:
    """Return the sentence for what went wrong between the hub and us."""
    host = places.hub or constants.ENDPOINT
    cause = error.__cause__ if isinstance(error, LocalEntryNotFoundError) and error.__cause__ else error
    if isinstance(cause, GatedRepoError):
        return SourceError(f"hf:{repo}: is gated; accept its terms at {host}/{repo}, then set HF_TOKEN")
    if isinstance(cause, RepositoryNotFoundError):
        return SourceError(f"hf:{repo}: no such repository at {host}, or it is private and HF_TOKEN isn't set for it")
    if isinstance(cause, HfHubHTTPError):
        status = cause.response.status_code
        return SourceError(f"hf:{repo}: {host} answered with status {status}; try again later")
    if isinstance(cause, httpx2.HTTPError | OfflineModeIsEnabled):
        return SourceError(f"hf:{repo}: {host} can't be reached; check the connection and try again")
    if isinstance(cause, OSError) and cause.errno is not None:
        return SourceError(f"hf:{repo}: can't be kept in the cache ({cause.strerror or cause})")
    first_line = next(iter(str(cause).splitlines()), type(cause).__name__)
    return SourceError(f"hf:{repo}: {first_line}")


class _Bar:
    """Our progress in tqdm's shape, as far as huggingface_hub uses it."""

    ours: ClassVar[Progress]

    def __init__(self, *_: Any, total: int | None = None, initial: int = 0, desc: str = "", **__: Any) -> None:
        self._transfer = self.ours.bytes(f"downloading {desc}", total)
        self._counter: ByteCounter = self._transfer.__enter__()
        self._counter.advance(initial)

    def update(self, num_bytes: float | None = 1) -> None:
        self._counter.advance(int(num_bytes or 0))

    def close(self) -> None:
        """Nothing to take away."""

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *exception: Any) -> None:
        self._transfer.__exit__(*exception)
