"""One declaration of a setting; all who ask for it follow."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.engine.values.answer_settings import ANSWER_SETTINGS, SEED, TOP_K, AnswerSetting
from runtime.engine.values.sampling import SamplingParams
from runtime.program.options import ANSWER_FIELDS

ROOT = Path(__file__).parents[4]

# Declares other defaults and ranges before anybody has read them, then asks everybody.
OTHERWISE = """
import json
from dataclasses import replace
from runtime.engine.values import answer_settings as declared

for constant in ("TEMPERATURE", "TOP_K", "TOP_P", "MIN_P", "REPEAT_PENALTY", "SEED", "MAX_TOKENS"):
    kind = type(getattr(declared, constant).default)
    numbers = dict(default=kind(6), minimum=kind(5), maximum=kind(7), usual_minimum=kind(5), usual_maximum=kind(7))
    setattr(declared, constant, replace(getattr(declared, constant), **numbers))
declared.ANSWER_SETTINGS = tuple(getattr(declared, setting.name.upper()) for setting in declared.ANSWER_SETTINGS)

from bundler.errors import RecipeError
from bundler.recipe import make_recipe
from runtime.engine.values.sampling import SamplingParams
from runtime.errors import UsageError
from runtime.program import settings
from runtime.program.options import ANSWER_FIELDS
from tests.fakes import ScriptedEngine
from tests.serving import ask, make_app
from runtime.server.page.files import WEBCLIENT

def refused(call, *errors):
    try:
        call()
    except errors as error:
        return str(error)

names = [setting.name for setting in declared.ANSWER_SETTINGS]
plain, app = settings.read(()), make_app(ScriptedEngine(), webclient=WEBCLIENT)
page = ask(app, "GET", "/page.json").json()
props = ask(app, "GET", "/props").json()["default_generation_settings"]["params"]
print(json.dumps({
    "flags": {name: getattr(plain, ANSWER_FIELDS[name]) for name in names},
    "sampling": {name: getattr(SamplingParams(), name) for name in names if name != "max_tokens"},
    "props": {name: props[name] for name in names if name != "max_tokens"},
    "page's defaults": {name: page["defaults"][name] for name in names if name != "max_tokens"},
    "page's fields": {each.pop("name"): each for each in page["settings"]},
    "refused as a flag": {
        name: refused(lambda: settings.read((), {str(settings.OPTIONS[ANSWER_FIELDS[name]].envvar): "8"}), UsageError)
        for name in names
        if settings.OPTIONS[ANSWER_FIELDS[name]].envvar
    },
    "refused in a recipe": {name: refused(lambda: make_recipe({"defaults": {name: 8}}), RecipeError) for name in names},
}))
"""


def test_whoever_asks_for_a_setting_follows_its_declaration() -> None:
    asked = subprocess.run(
        [sys.executable, "-c", OTHERWISE], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert asked.returncode == 0, asked.stderr
    said = json.loads(asked.stdout)
    names = [setting.name for setting in ANSWER_SETTINGS]
    assert said["flags"] == dict.fromkeys(names, 6)
    for place in ("sampling", "props", "page's defaults"):
        assert said[place] == dict.fromkeys([name for name in names if name != "max_tokens"], 6), place
    numbers = {"default": 6, "minimum": 5, "maximum": 7, "usual_minimum": 5, "usual_maximum": 7}
    assert said["page's fields"] == {each.name: {**numbers, "step": each.step} for each in ANSWER_SETTINGS}
    assert len(said["refused as a flag"]) == len(names) - 1  # the seed has no environment variable
    for name, error in {**said["refused as a flag"], **said["refused in a recipe"]}.items():
        assert error is not None, name
        assert "is not in the range 5" in error
    assert all(error.startswith("--default: ") for error in said["refused in a recipe"].values())


def test_every_setting_has_a_flag() -> None:
    assert list(ANSWER_FIELDS) == [setting.name for setting in ANSWER_SETTINGS]


@pytest.mark.parametrize("setting", ANSWER_SETTINGS, ids=lambda setting: setting.name)
def test_what_is_usual_and_the_default_are_allowed(setting: AnswerSetting[float]) -> None:
    maximum = math.inf if setting.maximum is None else setting.maximum
    for number in (setting.default, setting.usual_minimum, setting.usual_maximum):
        assert number is None or setting.minimum <= number <= maximum


def test_less_than_nothing_means_nothing_only_where_that_is_how_it_is_written() -> None:
    assert (SEED.meaning(-1), SEED.meaning(0), TOP_K.meaning(-1)) == (None, 0, -1)
    assert SamplingParams().seed is None
