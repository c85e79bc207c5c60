"""``plaudit serve --ensemble``: the checkpoints named are one ensemble, without a file."""

import shutil

import pytest

from service.banner import banner
from service.engines.torch_engine import TorchEngine
from service.listening import Place
from service.registry import Registry
from service.settings import Settings, SettingsError, load
from service.sources import sources

ITEMS = [{"prompt": "Why?", "response": f"Because of reason {i}."} for i in range(3)]


async def ask(client, **body):
    response = await client.post("/ensemble_score", json={"items": ITEMS, **body})
    assert response.status_code == 200, response.text
    return response.json()


async def test_it_is_what_a_file_of_the_same_members_is(serve, members, ensemble_file):
    async with serve(models=[ensemble_file]) as client:
        declared = await ask(client, aggregate="uwo")
    async with serve(models=members, ensemble=True) as client:
        named = await ask(client, aggregate="uwo", ensemble="ensemble")
        own = await client.post("/score", json={"items": ITEMS, "model": members[1].name})
    assert named["rewards"] == pytest.approx(declared["rewards"], abs=1e-6)
    assert named["revision"] == declared["revision"]
    assert (named["ensemble"], own.status_code) == ("ensemble", 200)


@pytest.mark.parametrize("place", [0, 1, 3])
async def test_an_average_of_exactly_the_others_is_the_centre(
    serve, tmp_path, members, average, place
):
    models = [*members]
    models.insert(place, average(tmp_path / "average", members))
    async with serve(models=models, ensemble=True) as client:
        answer = await ask(client)
    assert answer["centre"]["name"] == "average"
    assert [one["name"] for one in answer["members"]] == [one.name for one in members]
    assert answer["rewards"] == answer["centre"]["rewards"]


async def test_it_is_known_by_revisions_wherever_the_members_lie(serve, tmp_path, members, average):
    """The paths in the average's manifest are those of the day it was made."""
    warm = average(tmp_path / "warm", members[:2])
    moved = [shutil.copytree(m, tmp_path / f"moved-{m.name}") for m in members[:2]]
    async with serve(models=[*moved, warm], ensemble=True) as client:
        answer = await ask(client)
    assert answer["centre"]["name"] == "warm"


@pytest.mark.parametrize("named", [slice(0, 2), slice(0, 3)])
async def test_an_average_of_some_of_the_others_is_refused(
    serve, tmp_path, members, average, named
):
    of = members if named == slice(0, 2) else members[:2]
    warm = average(tmp_path / "warm", of)
    with pytest.raises(SettingsError, match=r"--ensemble: warm averages \['m0', 'm1'\].*leave it"):
        async with serve(models=[*members[named], warm], ensemble=True):
            pytest.fail("it was served")


async def test_averages_of_other_models_are_members(serve, tmp_path, members, average):
    first = average(tmp_path / "first", members[:2])
    async with serve(models=[first, members[2]], ensemble=True) as client:
        answer = await ask(client)
    assert [one["name"] for one in answer["members"]] == ["first", members[2].name]
    assert "centre" not in answer


async def test_what_is_shared_and_what_is_the_centre_is_said_at_the_start(
    tmp_path, tiny_checkpoint, retrained_top, members, average, metrics
):
    top = retrained_top(tmp_path / "top", tiny_checkpoint)
    warm = average(tmp_path / "warm", [tiny_checkpoint, top])
    settings = Settings(
        models=[tiny_checkpoint, top, warm], ensemble=True, device="cpu", dtype="float32",
        _cli_parse_args=False,
    )  # fmt: skip
    registry = await Registry.open(TorchEngine(settings, metrics), sources(settings), metrics)
    await registry.engine.close()
    lines = banner(settings, registry, Place("http://127.0.0.1:8000"), None, "memory").splitlines()
    assert "  shared     1 of 2 blocks, computed once for m0, top, warm" in lines
    [said] = [line for line in lines if line.startswith("  ensemble   ensemble")]
    assert said.endswith("of m0, top around warm")
    assert '/ensemble_score -d \'{"ensemble": "ensemble"' in lines[-1]


async def test_a_copy_is_no_average_of_what_it_copies(serve, tmp_path, members):
    copy = shutil.copytree(members[0], tmp_path / "copy")
    async with serve(models=[members[0], copy], ensemble=True) as client:
        answer = await ask(client)
    assert "centre" not in answer
    assert answer["variance"] == pytest.approx([0] * len(ITEMS), abs=1e-9)


def test_flags_and_the_environment_ask_for_it(monkeypatch):
    assert load(["--ensemble", "a", "b"]).ensemble
    for words in (["a", "b", "--ensemble"], ["a", "--ensemble", "b"]):
        assert load(words) == load(["--ensemble", "a", "b"])
    assert not load(["a", "b"]).ensemble
    monkeypatch.setenv("PLAUDIT_ENSEMBLE", "true")
    assert load(["a", "b"]).ensemble


def test_what_it_does_not_go_with_is_refused(tmp_path, members, ensemble_file):
    with pytest.raises(SettingsError, match="--config declares its own ensembles"):
        load([str(members[0]), "--ensemble", "--config", str(tmp_path / "models.yaml")])
    for models, said in (
        ([*members, ensemble_file], "ens has its own file"),
        (members[:1], "of several checkpoints"),
        ([members[0], members[0]], "of several checkpoints"),
    ):
        with pytest.raises(SettingsError, match=said):
            sources(Settings(models=models, ensemble=True, _cli_parse_args=False))
