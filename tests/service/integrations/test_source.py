"""Where adapters get their options, and what they refuse."""

import subprocess
import sys

import pytest

from plaudit.integrations.failures import NOTIONS, Trainer
from plaudit.integrations.source import STOPS, source_of, without_stop
from plaudit.integrations.trl import Reward
from service.settings import CLIENT_PREFIX, Settings, SettingsError, check_environment


def test_options_win_over_the_environment_and_that_over_defaults() -> None:
    environ = {
        "PLAUDIT_CLIENT_URL": "http://a,http://b",
        "PLAUDIT_CLIENT_COEFFICIENT": "0.5",
        "PLAUDIT_CLIENT_TIMEOUT_SECONDS": "30",
        "PLAUDIT_CLIENT_FAILED": "-2",
        "PLAUDIT_CLIENT_STOP": "<end>",
        "PLAUDIT_API_KEYS": "the server's",
        "HOME": "/",
    }
    options = {"coefficient": 0.25, "model": None}
    found = source_of("areal", options, environ, timeout_seconds=12.0, prompt_key="prompt")
    assert found.url == ("http://a", "http://b")
    assert (found.coefficient, found.timeout_seconds, found.failed) == (0.25, 30.0, -2.0)
    assert (found.stop, found.prompt_key, found.model) == (("<end>",), "prompt", None)
    assert source_of("areal", {"url": ["http://c"], "stop": []}, environ).stop == ()


@pytest.mark.parametrize(
    ("options", "environ", "said"),
    [
        ({}, {}, "no url: give url=, or set PLAUDIT_CLIENT_URL"),
        ({"url": "http://a", "modell": "x"}, {}, "modell"),
        ({"url": "http://a", "aggregate": "max"}, {}, "aggregate"),
        ({"url": "http://a", "failed": "zero"}, {}, "failed"),
        ({"url": "http://a", "failed": float("nan")}, {}, "failed: nan is no number"),
        ({"url": "http://a"}, {"PLAUDIT_CLIENT_FAILED": "-inf"}, "failed: -inf is no number"),
        ({"url": "http://a"}, {"PLAUDIT_CLIENT_MODELL": "x"}, "did you mean PLAUDIT_CLIENT_MODEL"),
        ({"url": "http://a", "model": "m", "aggregate": "lcb"}, {}, "leave one out"),
    ],
)
def test_what_is_odd_is_refused_with_its_name(
    options: dict[str, object], environ: dict[str, str], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        source_of("trl", options, environ)


IDLE = [
    ("trl", "stop", "neither"),
    ("trl", "prompt_key", "neither"),
    ("swift", "stop", "neither"),
    ("swift", "prompt_key", "neither"),
    ("verl", "stop", "prompt_key"),
    ("nemo_rl", "stop", "prompt_key"),
]


@pytest.mark.parametrize(("trainer", "name", "reads"), IDLE)
def test_an_option_that_the_trainer_does_not_read_is_refused_wherever_it_is_said(
    trainer: Trainer, name: str, reads: str
) -> None:
    said = rf"{name}.*{trainer} does not read it.*it reads {reads}.*leave it out"
    with pytest.raises(ValueError, match=said):
        source_of(trainer, {"url": "http://a", name: "x"}, {})
    with pytest.raises(ValueError, match=said):
        source_of(trainer, {"url": "http://a"}, {f"PLAUDIT_CLIENT_{name.upper()}": "x"})


def test_a_reward_function_is_not_made_with_an_option_that_does_nothing() -> None:
    with pytest.raises(ValueError, match=r"stop.*trl does not read it"):
        Reward("http://a", stop=["<end>"])
    with pytest.raises(ValueError, match=r"prompt_key.*trl does not read it"):
        Reward("http://a", prompt_key="question")


@pytest.mark.parametrize("name", ["stop", "prompt_key"])
@pytest.mark.parametrize("trainer", NOTIONS)
def test_every_trainer_takes_the_options_that_it_reads(trainer: Trainer, name: str) -> None:
    if (trainer, name) not in [one[:2] for one in IDLE]:
        found = source_of(trainer, {"url": "http://a", name: "x"}, {})
        assert getattr(found, name) in ("x", ("x",))


@pytest.mark.parametrize("trainer", NOTIONS)
def test_a_key_is_never_shown(trainer: str) -> None:
    found = source_of(trainer, {"url": "http://a", "api_key": "secret"}, {})
    assert "secret" not in repr(found)


def test_no_adapter_loads_its_trainer_before_it_is_called() -> None:
    program = f"""
import sys
from importlib import import_module
for name in {[*NOTIONS]}:
    import_module("plaudit.integrations." + name)
trainers = {{"trl", "verl", "slime", "miles", "areal", "nemo_rl", "ray"}}
print((trainers | {{"torch", "transformers", "numpy", "fastapi"}}) & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "set()"), done.stderr


def test_no_trainer_takes_a_zero_for_a_failure_by_itself() -> None:
    assert all(notion.default in ("raise", "none") for notion in NOTIONS.values())


@pytest.mark.parametrize("stop", STOPS)
def test_one_end_of_turn_is_cut_and_nothing_else(stop: str) -> None:
    source = source_of("slime", {"url": "http://a"}, {})
    assert without_stop(source, f"a {stop} b {stop} \n") == f"a {stop} b "
    assert without_stop(source, "a \n") == "a \n"


def test_the_server_starts_beside_variables_of_the_client_and_keeps_refusing_typos() -> None:
    check_environment({"PLAUDIT_CLIENT_API_KEY": "k", "PLAUDIT_CLIENT_URL": "http://a"})
    check_environment({"PLAUDIT_ADMIN_KEY": "the key of plaudit swap"})
    with pytest.raises(SettingsError, match="did you mean PLAUDIT_API_KEYS"):
        check_environment({"PLAUDIT_API_KEY": "k"})
    assert not [
        name
        for name in Settings.model_fields
        if f"PLAUDIT_{name.upper()}".startswith(CLIENT_PREFIX)
    ]
