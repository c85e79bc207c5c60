"""What the arguments and --config name, refused where two things would share a name."""

import shutil

import pytest

from plaudit.checkpoint import CheckpointError
from service.settings import Settings, SettingsError
from service.sources import sources


def settings(**values) -> Settings:
    return Settings(_cli_parse_args=False, **values)


async def test_config_names_models_and_ensembles(serve, tmp_path, members):
    path = tmp_path / "models.yaml"
    path.write_text(
        f"models: {{a: {members[0]}, b: {members[1]}}}\n"
        "ensembles: {both: {members: [a, b], aggregate: wco}}\n"
    )
    async with serve(config=path) as client:
        listed = (await client.get("/models")).json()["models"]
        body = {"items": [{"prompt": "Hi", "response": "Ho"}], "ensemble": "both"}
        answer = (await client.post("/ensemble_score", json=body)).json()
        ambiguous = await client.post("/score", json={"items": []})
    assert [(m["name"], m["kind"]) for m in listed] == [
        ("a", "single"), ("b", "single"), ("both", "ensemble"),
    ]  # fmt: skip
    assert (answer["aggregate"], len(answer["members"])) == ("wco", 2)
    assert ambiguous.status_code == 404
    assert "name one of ['a', 'b']" in ambiguous.json()["detail"]


def test_two_models_of_one_name_are_refused(tmp_path, tiny_checkpoint):
    copy = shutil.copytree(tiny_checkpoint, tmp_path / tiny_checkpoint.name)
    with pytest.raises(SettingsError, match="two models are named"):
        sources(settings(models=[tiny_checkpoint, copy]))


def test_two_ensembles_of_one_name_are_refused(tmp_path, members):
    paths = []
    for name, some in (("a", members[:2]), ("b", members[1:])):
        (tmp_path / name).mkdir()
        paths.append(tmp_path / name / "ens.yaml")
        paths[-1].write_text(f"members: {[str(m) for m in some]}\n")
    with pytest.raises(SettingsError, match="two ensembles are named 'ens'"):
        sources(settings(models=paths))


def test_an_ensemble_that_counts_one_model_twice_is_refused(tmp_path, members):
    path = tmp_path / "models.yaml"
    path.write_text(
        f"models: {{a: {members[0]}, b: {members[0]}}}\nensembles: {{both: {{members: [a, b]}}}}\n"
    )
    said = "models.yaml: ensembles: both: members: b is named twice, as a too"
    with pytest.raises(CheckpointError, match=said):
        sources(settings(config=path))


async def test_a_member_that_is_no_model_is_not_looked_for_elsewhere(
    serve, tmp_path, members, monkeypatch
):
    """Nor where the process runs, though a directory of that name is there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b").symlink_to(members[0])
    path = tmp_path / "models.yaml"
    path.write_text(f"models: {{a: {members[0]}}}\nensembles: {{both: {{members: [a, b]}}}}\n")
    with pytest.raises(SettingsError, match="ensemble both: no model is named"):
        async with serve(config=path):
            pytest.fail("it was served")


async def test_an_uncalibrated_ensemble_is_refused(serve, tmp_path, tokenizer, save_plain):
    for seed in (0, 1):
        save_plain(tmp_path / f"p{seed}", tokenizer, seed=seed)
    path = tmp_path / "ens.yaml"
    path.write_text("members: [p0, p1]\n")
    with pytest.raises(CheckpointError, match="not calibrated"):
        async with serve(models=[path]):
            pytest.fail("it was served")


@pytest.mark.parametrize("text", ["models: {}", "models: 5", "modles: {}", "{"])
def test_a_config_that_does_not_fit_is_refused(tmp_path, text):
    path = tmp_path / "models.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=str(path)):
        sources(settings(config=path))
