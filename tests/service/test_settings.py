"""Start refuses rather than surprises."""

import pytest

from service.settings import Settings, SettingsError, load
from service.sources import read_config


def test_a_flag_beats_the_environment_and_the_environment_the_default(monkeypatch):
    monkeypatch.setenv("PLAUDIT_PORT", "9000")
    monkeypatch.setenv("PLAUDIT_LINGER_MS", "7")
    settings = load(["some/run", "--port", "9001"])
    assert (settings.port, settings.linger_ms, settings.host) == (9001, 7.0, "127.0.0.1")


def test_an_unknown_variable_names_the_nearest():
    with pytest.raises(SettingsError, match="PLAUDIT_RDIS_URL; did you mean PLAUDIT_REDIS_URL"):
        load(["x"], environ={"PLAUDIT_RDIS_URL": "redis://"})


def test_a_wrong_value_names_its_flag():
    with pytest.raises(SettingsError, match=r"--port \(or PLAUDIT_PORT\)"):
        load(["x", "--port", "70000"])


def test_nothing_to_serve_says_what_to_give():
    with pytest.raises(SettingsError, match="plaudit serve RUN_DIRECTORY"):
        load([])


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org"])
def test_an_open_port_needs_a_key(host):
    with pytest.raises(SettingsError, match="PLAUDIT_API_KEYS"):
        load(["x", "--host", host])
    assert load(["x", "--host", host, "--api-keys", "k"]).keys().find("k")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_needs_none(host):
    assert load(["x", "--host", host]).keys().entries == ()


def test_keys_come_from_both_places(tmp_path):
    (tmp_path / "keys").write_text("b\n\n c \n")
    settings = load(["x", "--api-keys", "a", "--api-keys-file", str(tmp_path / "keys")])
    found = [settings.keys().find(key) for key in ("a", "b", "c", "d")]
    assert [one and one.client for one in found] == ["key-1", "key-2", "key-3", None]


def test_every_setting_is_described_with_its_variable(capsys):
    with pytest.raises(SystemExit):
        load(["--help"])
    printed = capsys.readouterr().out
    for name in Settings.model_fields:
        assert f"[PLAUDIT_{name.upper()}]" in "".join(printed.split())


@pytest.mark.parametrize(
    "url", ["redis.local:6379", "", "redis://h:hush", "http://h", "redis://h/0?x=hush"]
)
def test_a_redis_url_of_another_form_is_refused_without_quoting_it(url):
    with pytest.raises(SettingsError, match="--redis-url is not of the form") as caught:
        load(["x", "--redis-url", url])
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    "query", ["ssl_ca_certs=/no/hush.crt", "ssl_certfile=/no/hush", "ssl_cert_reqs=hush"]
)
def test_tls_of_redis_that_cannot_work_is_refused_without_quoting_it(query):
    with pytest.raises(SettingsError, match=r"--redis-url (names files|is not)") as caught:
        load(["x", "--redis-url", f"rediss://127.0.0.1/0?{query}"])
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("url", ["redis://redis.local:6379/0", "rediss://10.0.0.7/0"])
def test_a_redis_of_others_needs_a_secret(url):
    with pytest.raises(SettingsError, match="PLAUDIT_CACHE_SECRET"):
        load(["x", "--redis-url", url])
    assert load(["x", "--redis-url", url, "--cache-secret", "s"]).redis_url is not None


@pytest.mark.parametrize("url", ["redis://127.0.0.1/0", "redis://[::1]/0", "unix:///run/redis"])
def test_a_redis_of_this_machine_needs_no_secret(url):
    assert load(["x", "--redis-url", url]).redis_url is not None


def test_secrets_do_not_show():
    settings = load(["x", "--api-keys", "hush", "--redis-url", "redis://:hush@localhost"])
    assert "hush" not in repr(settings)


@pytest.mark.parametrize("flag", ["--cache-megabytes", "--deadline-seconds", "--linger-ms"])
@pytest.mark.parametrize("value", ["inf", "nan"])
def test_a_number_is_a_finite_one(flag, value):
    with pytest.raises(SettingsError, match=f"{flag} .*finite number"):
        load(["x", flag, value])


def test_a_directory_in_place_of_a_configuration_is_named(tmp_path):
    with pytest.raises(SettingsError, match=r"Is a directory; name a YAML file"):
        read_config(tmp_path)
