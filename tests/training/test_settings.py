"""Settings: one file, overrides, and refusals that name the key."""

from pathlib import Path

import pytest
import yaml

from training.settings import EnsemblePlan, SettingsError, TrainSettings, load

LEAST = {"model": "base", "out": "out", "sources": [{"name": "s", "path": "pairs.jsonl"}]}
MEMBERS = [{"seed": 1, "lr": 1e-4}, {"seed": 2, "lr": 2e-4, "dropout": 0.3}]


@pytest.fixture
def read(tmp_path):
    """``read(changes, *overrides)``: the settings of a file with these changes."""

    def _read(changes: dict | None = None, *overrides: str, kind=TrainSettings):
        path = tmp_path / "settings.yaml"
        path.write_text(yaml.safe_dump(LEAST | (changes or {})))
        return load(kind, path, overrides)

    return _read


def test_the_least_settings_are_read(read):
    found = read()
    assert (found.model, found.out) == ("base", Path("out"))
    assert found.sources[0].path == Path("pairs.jsonl")


@pytest.mark.parametrize(
    ("override", "value"),
    [("lr=1e-4", 1e-4), ("lr=1.5e-3", 1.5e-3), ("lr=0.25", 0.25), ("lr=1", 1.0)],
)
def test_numbers_are_read_however_they_are_written(read, override, value):
    assert read(None, override).lr == value


def test_a_number_of_the_file_may_have_no_point(read, tmp_path):
    path = tmp_path / "plain.yaml"
    path.write_text(yaml.safe_dump(LEAST) + "lr: 1e-4\n")
    assert load(TrainSettings, path).lr == 1e-4


def test_overrides_go_deeper_with_dots(read):
    found = read(None, "split.test=0.3", "lora.r=4", "log_to=[]", "epochs=2")
    assert (found.split.test, found.split.validation) == (0.3, 0.1)
    assert found.lora.r == 4
    assert found.log_to == []
    assert found.epochs == 2


@pytest.mark.parametrize("layers", [0, 1])
def test_adapters_stand_in_every_block(read, layers):
    with pytest.raises(SettingsError, match="lora trains adapters, train_layers the blocks"):
        read({"lora": {"r": 4}}, f"train_layers={layers}")


def test_an_override_fills_what_the_file_leaves_null(read):
    assert read({"lora": None}, "lora.r=4").lora.r == 4


def test_an_override_keeps_the_other_keys_of_the_file(read):
    found = read({"split": {"validation": 0.2, "test": 0.1}}, "split.test=0.3")
    assert (found.split.validation, found.split.test) == (0.2, 0.3)


def test_null_is_a_value(read):
    assert read({"train_layers": 2}, "train_layers=null").train_layers is None


@pytest.mark.parametrize(
    ("override", "name"),
    [("epoch=3", "did you mean 'epochs'"), ("split.tests=0.1", "did you mean 'test'")],
)
def test_an_unknown_key_gets_the_nearest_name(read, override, name):
    with pytest.raises(SettingsError, match=name) as caught:
        read(None, override)
    assert f"unknown key {override.partition('=')[0]!r}" in str(caught.value)


def test_an_unknown_key_of_a_source_gets_the_nearest_name(read):
    with pytest.raises(SettingsError, match="did you mean 'max_pairs'"):
        read({"sources": [{"name": "s", "path": "p", "maxpairs": 3}]})


def test_a_key_near_to_none_lists_what_is_known(read):
    with pytest.raises(SettingsError, match="known: accumulation, alpha"):
        read(None, "zzz=1")


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("lr=fast", "lr"),
        ("lr=0", "lr"),
        ("lr=.inf", "lr"),
        ("epochs=.nan", "epochs"),
        ("batch_pairs=1.5", "batch_pairs"),
        ("label_smoothing=0.5", "label_smoothing"),
        ("split.test=1", r"split\.test"),
        ("lora=5", "lora"),
        ("sources=[]", "sources"),
        ("model=null", "model"),
        ("save_dtype=float16", "save_dtype"),
        ("log_to=[printer]", r"log_to\.0"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_its_key(read, override, key):
    with pytest.raises(SettingsError, match=rf"settings\.yaml: {key}"):
        read(None, override)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("lr", "write key=value"),
        ("sources.0.name=x", "sources holds no keys"),
        ("model.name=x", "model holds no keys"),
        ("lr={", "lr={"),
    ],
)
def test_an_override_that_cannot_be_read_is_refused(read, override, said):
    with pytest.raises(SettingsError, match=said):
        read(None, override)


@pytest.mark.parametrize("text", ["- a\n- b\n", "", "model: {"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path, text):
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=r"odd\.yaml"):
        load(TrainSettings, path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SettingsError, match=r"none\.yaml: no such settings file"):
        load(TrainSettings, tmp_path / "none.yaml")


def test_a_file_that_is_not_utf_8_is_named(tmp_path):
    path = tmp_path / "odd.yaml"
    path.write_bytes("model: café\n".encode("latin-1"))
    with pytest.raises(SettingsError, match=r"odd\.yaml: the settings file is not UTF-8"):
        load(TrainSettings, path)


def test_every_problem_is_told_at_once(read):
    with pytest.raises(SettingsError) as caught:
        read(None, "lr=fast", "epoch=1")
    assert len(str(caught.value).splitlines()) == 2


def test_members_differ_only_in_what_they_say(read):
    plan = read({"members": MEMBERS, "dropout": 0.1, "epochs": 2}, kind=EnsemblePlan)
    first, second = plan.member(0), plan.member(1)
    assert (first.seed, first.lr, first.dropout) == (1, 1e-4, 0.1)
    assert (second.seed, second.lr, second.dropout) == (2, 2e-4, 0.3)
    assert [m.out for m in (first, second)] == [Path("out/member-0"), Path("out/member-1")]
    assert first.head_seed == second.head_seed
    assert first.epochs == second.epochs == 2


def test_an_ensemble_has_at_least_two_members(read):
    with pytest.raises(SettingsError, match="members"):
        read({"members": MEMBERS[:1]}, kind=EnsemblePlan)
