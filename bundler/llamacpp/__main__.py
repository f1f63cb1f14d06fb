"""`python -m bundler.llamacpp fits SDIST ...` says which of our patches fit other versions of llama-cpp-python."""

import sys
from pathlib import Path

import click

from bundler.errors import BundlerError
from bundler.llamacpp import patch
from bundler.llamacpp.sdist import read_texts


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def llamacpp() -> None:
    """Look after what holdall changes in llama.cpp's sources."""


@llamacpp.command()
@click.argument("sdists", metavar="SDIST...", nargs=-1, required=True, type=click.Path(path_type=Path))
def fits(sdists: tuple[Path, ...]) -> None:
    """Say for each SDIST (a llama_cpp_python-*.tar.gz) which patches fit it.

    The exit status is 1 when one doesn't.
    """
    patches = patch.read_patches()
    width = max(len(each.name) for each in patches)
    num_misfits = 0
    for sdist in sdists:
        misfits = patch.fit(patches, read_texts(sdist, patch.paths_of(patches)))[1]
        num_misfits += len(misfits)
        click.echo(sdist.name)
        for each in patches:
            reasons = "; ".join(misfit.where() for misfit in misfits if misfit.patch == each.name)
            click.echo(f"  {each.name:<{width}}  {reasons or 'fits'}")
    if num_misfits:
        click.get_current_context().exit(1)


def main() -> None:
    try:
        llamacpp()
    except BundlerError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_status)


if __name__ == "__main__":
    main()
