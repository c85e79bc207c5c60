"""``plaudit doctor``: what it finds in a good place, and what it says of each that is not."""

import errno
import json
import os
import shutil
import socket
import struct
from pathlib import Path

import pytest
from poison import SUNG
from poisoned_models import ATTACKS
from safetensors.torch import save_file

from plaudit import cli
from service import free_memory
from service.doctor import limits, port, processor, redis_round_trip, versions
from training.service_process import free_port


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch):
    for name in list(os.environ):
        if name.startswith("PLAUDIT_"):
            monkeypatch.delenv(name)


@pytest.fixture
def doctor(capsys):
    """``doctor(…)``: exit status and findings by name."""

    def run(*argv):
        status = cli.main(["doctor", "--json", "--port", "0", *map(str, argv)])
        report = json.loads(capsys.readouterr().out)
        return status, {one["name"]: one for one in report["findings"]}

    return run


@pytest.fixture
def model(tiny_checkpoint, tmp_path) -> Path:
    """A checkpoint that may be broken."""
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "model"))


def test_a_good_place_has_no_failure_and_every_failure_would_have_a_mend(
    doctor, tiny_checkpoint, redis_server
):
    with redis_server.client() as redis:
        redis.config_set("maxmemory", "100mb")
        redis.config_set("maxmemory-policy", "allkeys-lfu")
    status, found = doctor(tiny_checkpoint, "--redis-url", redis_server.url)
    assert status == 0
    failed = [name for name, one in found.items() if one["state"] == "failed"]
    assert failed == []
    for name in (
        "redis",
        "redis write",
        "redis memory",
        "m0 contract",
        "m0 template",
        "m0 weights",
    ):
        assert found[name]["state"] == "ok", found[name]
    assert "300 MGET" in found["redis latency"]["says"]
    assert {"python", "torch", "transformers", "cpu", "threads", "memory", "clock"} <= set(found)
    assert "every digest fits" in found["m0 contract"]["says"]


def test_without_json_it_prints_a_line_each_and_what_mends(capsys, tmp_path):
    assert cli.main(["doctor", "--port", "0", str(tmp_path / "absent")]) == 1
    out = capsys.readouterr().out
    assert "nothing is at" in out
    assert "mend: correct the path" in out
    assert out.splitlines()[-1].endswith("1 failed")


SECRETS = {
    "PLAUDIT_API_KEYS": "canary-one,canary-two",
    "PLAUDIT_CACHE_SECRET": "canary-three",
    "PLAUDIT_API_KEY": "canary-four",
    "PLAUDIT_PORT": "canary-none",
    "PLAUDIT_CLIENT_API_KEY": "canary-five",
    "PLAUDIT_CLIENT_URL": "http://user:canary-six@127.0.0.1:1",
}


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_no_secret_is_in_a_report(flags, monkeypatch, capsys, redis_server, model):
    with redis_server.client() as redis:
        redis.config_set("requirepass", "another")
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    place = f"127.0.0.1:{redis_server.port}/0"
    monkeypatch.setenv("PLAUDIT_REDIS_URL", f"redis://canary-user:canary-seven@{place}")
    assert cli.main(["doctor", *flags, str(model)]) == 1
    odd = f"redis://canary-user:canary-seven@{place}?x=canary-eight"
    assert cli.main(["doctor", *flags, "--redis-url", odd]) == 1
    said = capsys.readouterr()
    assert "canary" not in said.out + said.err
    assert f"***@127.0.0.1:{redis_server.port}" in said.out
    assert "PLAUDIT_API_KEY: did you mean PLAUDIT_API_KEYS?" in said.out


def test_a_mistyped_setting_is_found_on_both_sides(doctor, monkeypatch):
    monkeypatch.setenv("PLAUDIT_MAX_ITEM", "5")
    monkeypatch.setenv("PLAUDIT_CLIENT_URLS", "http://a")
    status, found = doctor()
    assert status == 1
    assert found["environment"]["state"] in ("failed", "warning")
    monkeypatch.delenv("PLAUDIT_MAX_ITEM")
    status, found = doctor()
    assert (status, found["environment"]["state"]) == (0, "warning")
    assert "PLAUDIT_CLIENT_URL" in found["environment"]["says"]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PLAUDIT_PORT", "port", "--port"),
        ("PLAUDIT_HOST", "0.0.0.0", "no key is set"),
        ("PLAUDIT_DTYPE", "float16", "--dtype"),
        ("PLAUDIT_REDIS_URL", "http://x", "--redis-url is not"),
        ("PLAUDIT_API_KEYS", "a key", "entry 1: word 2 is no field; write [NAME:]KEY and then"),
    ],
)
def test_settings_that_a_server_would_refuse_are_refused_here(
    doctor, monkeypatch, name, value, said
):
    monkeypatch.setenv(name, value)
    status, found = doctor()
    assert status == 1
    assert found["settings"]["state"] == "failed"
    assert said in found["settings"]["says"]
    assert found["settings"]["mend"]


def test_values_that_are_no_urls_are_let_be_and_their_passwords_hidden(doctor, monkeypatch, capsys):
    monkeypatch.setenv("ORIGIN_RE", r"https://[a-z]+\.example\.com")
    assert doctor()[0] == 0
    monkeypatch.setenv("PLAUDIT_REDIS_URL", "redis://me:canary@[::1/0")
    status, found = doctor()
    assert (status, found["redis"]["state"]) == (1, "failed")
    assert cli.main(["doctor", "--redis-url", "redis://me:canary@[::1/0"]) == 1
    assert "canary" not in capsys.readouterr().out + str(found)


def edit(path: Path, **changes):
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, **changes}))


def cut_short(model):
    file = model / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])


def only_pickled(model):
    (model / "model.safetensors").rename(model / "pytorch_model.bin")


BREAKS = {
    "weights cut short": (cut_short, "model files", "failed", "save the file again"),
    "a weight changed": (
        lambda m: save_file({}, m / "more.safetensors"), "model", "failed", "rsync",
    ),
    "pickled weights": (only_pickled, "model files", "failed", "save_pretrained"),
    "a pickle beside": (
        lambda m: (m / "training_args.bin").write_bytes(b""), "model files", "warning", "remove",
    ),
    "a program beside": (
        lambda m: (m / "modeling.py").write_text(""), "model files", "warning", "remove",
    ),
    "remote code": (
        lambda m: edit(m / "config.json", auto_map={}), "model files", "failed", "",
    ),
    "two labels": (
        lambda m: edit(m / "config.json", id2label={"0": "a", "1": "b"}), "model", "failed",
        "config.json",
    ),
    "another problem": (
        lambda m: edit(m / "config.json", problem_type="single_label_classification"),
        "model config", "warning", "regression",
    ),
    "no pad token": (
        lambda m: edit(m / "config.json", pad_token_id=None), "model", "failed", "config.json",
    ),
    "no tokenizer": (
        lambda m: [p.unlink() for p in m.glob("tokenizer*")], "model files", "failed", "restore",
    ),
    "a config that is cut": (
        lambda m: (m / "config.json").write_text("{"), "model files", "failed", "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BREAKS)
def test_a_broken_model_is_found_with_what_mends_it(doctor, model, what):
    breaks, name, state, mend = BREAKS[what]
    breaks(model)
    status, found = doctor(model)
    assert found[name]["state"] == state, found
    assert mend in found[name]["mend"]
    # A warning alone, but where the digests rightly no longer fit.
    assert status == (0 if what in ("a pickle beside", "a program beside") else 1)


def test_pickled_weights_that_are_the_only_ones_are_not_to_be_removed(doctor, model):
    only_pickled(model)
    status, found = doctor(model)
    assert (status, found["model files"]["state"]) == (1, "failed")
    assert "remove" not in found["model files"]["mend"]


POISONS = (
    "auto_map in tokenizer_config.json", "a link to a file outside", "template loops for ever",
    "template escapes by attr", "index names a file outside",
)  # fmt: skip


@pytest.mark.parametrize("name", POISONS)
def test_what_the_scan_refuses_is_said_and_nothing_of_it_is_loaded(doctor, model, name):
    attack = ATTACKS[name]
    attack.poison(model)
    status, found = doctor(model)
    assert status == 1
    assert found["model files"]["state"] == "failed"
    assert found["model files"]["says"].startswith(f"{attack.file}: ")
    assert attack.what in found["model files"]["says"]
    assert not {"model weights", "model contract", "model tokenizer", "model template"} & set(found)
    assert not (model.parent / SUNG).exists()


def test_a_plain_model_is_served_and_said_to_be_one(doctor, tmp_path, save_plain, tokenizer):
    plain = save_plain(tmp_path / "plain", tokenizer, seed=1)
    status, found = doctor(plain)
    assert status == 0
    assert "no reward.json" in found["plain contract"]["says"]


def test_a_template_that_is_missing_or_broken_is_said(doctor, tmp_path, save_plain, tokenizer):
    plain = save_plain(tmp_path / "plain", tokenizer, seed=1)
    (plain / "chat_template.jinja").write_text("{{ nothing(")
    assert doctor(plain)[1]["plain files"]["state"] == "failed"
    (plain / "chat_template.jinja").write_text("{{ raise_exception('never') }}")
    assert doctor(plain)[1]["plain files"]["state"] == "failed"
    (plain / "chat_template.jinja").unlink()
    assert doctor(plain)[1]["plain template"]["state"] == "warning"


def test_members_of_an_ensemble_file_are_scanned(doctor, ensemble_file, members):
    _, found = doctor(ensemble_file)
    assert {f"{member.name} weights" for member in members} <= set(found)
    ensemble_file.write_text("nothing: 1\n")
    status, found = doctor(ensemble_file)
    assert (status, found["models"]["state"]) == (1, "failed")


def test_models_of_a_configuration_are_scanned_under_their_names(
    doctor, tmp_path, tiny_checkpoint, monkeypatch
):
    config = tmp_path / "models.yaml"
    config.write_text(f"models: {{first: {tiny_checkpoint}, second: {tmp_path / 'absent'}}}\n")
    monkeypatch.setenv("PLAUDIT_CONFIG", str(config))
    status, found = doctor()
    assert found["first contract"]["state"] == "ok"
    assert (status, found["second"]["state"]) == (1, "failed")
    monkeypatch.delenv("PLAUDIT_CONFIG")
    assert doctor("--config", config)[1]["first contract"] == found["first contract"]
    monkeypatch.setenv("PLAUDIT_CONFIG", str(config))
    config.write_text("models: {}\n")
    assert doctor()[1]["models"]["state"] == "failed"


def test_the_admin_port_is_tried_too(doctor, monkeypatch):
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", port := free_port()))
        stranger.listen(1)
        monkeypatch.setenv("PLAUDIT_ADMIN_PORT", str(port))
        status, found = doctor()
    assert (status, found["admin port"]["state"]) == (1, "failed")
    assert f"--admin-port {port + 1}" in found["admin port"]["mend"]
    assert doctor()[1]["admin port"]["state"] == "ok"


@pytest.mark.parametrize(
    ("name", "mend"), [("port", "--port 8000"), ("admin port", "--admin-port 9090")]
)
def test_for_a_port_of_the_systems_own_the_usual_one_is_suggested(name, mend):
    refused = port.refused(
        "127.0.0.1", 80, PermissionError(errno.EACCES, "Permission denied"), name
    )
    assert (refused.state, refused.mend) == ("failed", f"plaudit serve {mend}")


def test_a_port_in_use_is_found_and_a_server_there_is_told_from_a_stranger(
    capsys, listen, tiny_checkpoint
):
    def port_finding(port):
        cli.main(["doctor", "--json", "--port", str(port)])
        found = json.loads(capsys.readouterr().out)["findings"]
        return next(one for one in found if one["name"] == "port")

    with listen(models=[tiny_checkpoint]) as url:
        own = port_finding(url.rpartition(":")[2])
    assert (own["state"], "answers /livez" in own["says"]) == ("warning", True)
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen(1)
        port = stranger.getsockname()[1]
        found = port_finding(port)
    assert found["state"] == "failed"
    assert f"--port {port + 1}" in found["mend"]


def test_redis_that_will_not_do_is_said_with_the_command(doctor, redis_server, monkeypatch):
    monkeypatch.setenv("PLAUDIT_REDIS_TIMEOUT_MS", "60000")  # how fast this machine is is no matter
    _, found = doctor("--redis-url", redis_server.url)
    assert found["redis memory"]["state"] == "warning"
    with redis_server.client() as redis:
        redis.config_set("maxmemory", "100mb")
        redis.config_set("maxmemory-policy", "noeviction")
        redis.acl_setuser(
            "worker", enabled=True, passwords=["+pw"], keys=["plaudit:*"],
            commands=["+get", "+mget", "+set", "+ping"],
        )  # fmt: skip
        redis.acl_setuser("reader", enabled=True, passwords=["+pw"], commands=["+ping", "+get"])
    assert "noeviction" in doctor("--redis-url", redis_server.url)[1]["redis memory"]["says"]
    place = f"127.0.0.1:{redis_server.port}/0"
    status, found = doctor("--redis-url", f"redis://worker:pw@{place}")
    assert (status, found["redis latency"]["state"]) == (0, "ok")  # what the server itself needs
    status, found = doctor("--redis-url", f"redis://reader:pw@{place}")
    assert (status, "ACL SETUSER" in found["redis"]["mend"]) == (1, True)
    redis_server.kill()
    status, found = doctor("--redis-url", redis_server.url)
    assert (status, "ConnectionError" in found["redis"]["says"]) == (1, True)
    redis_server.start()


def test_keys_of_the_doctor_end_by_themselves(doctor, redis_server):
    doctor("--redis-url", redis_server.url)
    with redis_server.client() as redis:
        names = redis.keys("plaudit:doctor:*")
        assert len(names) == 1
        assert 0 < redis.ttl(names[0]) <= redis_round_trip.LIFE_SECONDS


@pytest.mark.parametrize(
    ("flags", "dtype", "state", "said"),
    [
        ("fpu amx_bf16 amx_tile avx512_bf16", "auto", "ok", "AMX-BF16, AVX512-BF16"),
        ("fpu avx512f", "auto", "ok", "keep --dtype float32"),
        ("fpu avx2", "bfloat16", "warning", "emulated"),
    ],
)
def test_instructions_are_told_by_what_they_mean_for_the_dtype(flags, dtype, state, said):
    cpuinfo = f"processor\t: 0\nmodel name\t: Test CPU\nflags\t\t: {flags}\n"
    found = processor.instructions(processor.flags_of(cpuinfo), processor.name_of(cpuinfo), dtype)
    assert (found.state, said in found.says, "Test CPU" in found.says) == (state, True, True)


def test_more_threads_than_a_container_gets_are_found():
    quota = processor.quota_of("150000 100000\n")
    assert quota == 1.5
    assert processor.quota_of("max 100000\n") is None
    found = processor.cores(16, quota, threads=16)
    assert (found.state, found.mend) == ("warning", "export PLAUDIT_THREADS=2")
    assert processor.cores(16, None, threads=16).state == "ok"


def test_memory_is_the_less_of_machine_and_container(tmp_path):
    for name, text in {
        "memory.max": "3000000000\n", "memory.current": "1000000000\n",
        "memory.stat": "anon 4\ninactive_file 500000000\n",
    }.items():  # fmt: skip
        (tmp_path / name).write_text(text)
    left = free_memory.left_in_container(tmp_path)
    assert left == 2_500_000_000
    machine = free_memory.available("MemTotal: 9 kB\nMemAvailable:    8000000 kB\n")
    assert machine == 8_000_000 * 1024
    assert limits.memory(machine, left, need_bytes=2e9).state == "ok"
    assert limits.memory(machine, left, need_bytes=3e9).state == "failed"
    assert limits.memory(machine, None, need_bytes=3e9).state == "ok"
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory.left_in_container(tmp_path) is None


def test_few_descriptors_and_a_clock_that_is_wrong_are_found():
    assert limits.descriptors(1024).state == "warning"
    assert limits.descriptors(65536).state == "ok"
    assert limits.clock(now=0.0, installed=1e9, source="tsc").state == "failed"
    assert limits.clock(now=2e9, installed=1e9, source="hpet").state == "warning"
    assert limits.clock(now=2e9, installed=1e9, source="tsc").state == "ok"


def test_old_and_absent_packages_are_found_and_other_extras_left_alone():
    found = {
        one.name: one.state
        for one in versions.packages(
            ["torch>=99; extra == 'service'", "numpy>=1.0; extra == 'service'",
             "absent-package>=1", "trl>=99; extra == 'training'"]
        )
    }  # fmt: skip
    assert found == {"torch": "failed", "numpy": "ok", "absent-package": "failed"}
    assert versions.numbers("2.13.0+cpu") == versions.numbers("2.13")
    assert versions.numbers("2.9.1") < versions.numbers("2.13")


def test_a_file_that_claims_a_giant_header_is_not_read(doctor, model):
    (model / "model.safetensors").write_bytes(struct.pack("<Q", 2**40) + b"{}")
    status, found = doctor(model)
    assert (status, found["model files"]["state"]) == (1, "failed")


def test_the_host_of_a_url_is_shown_and_its_password_is_not(doctor, monkeypatch):
    monkeypatch.setenv("PLAUDIT_REDIS_URL", "redis://me:canary@127.0.0.1:1/3")
    said = doctor()[1]["redis"]["says"]
    assert "redis://***@127.0.0.1:1/3" in said
    assert "canary" not in said
