"""Keys at rest: what a line of a keys file may say, and what is refused with what mends it."""

import hashlib
import stat
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import keys_command
from service.key_entry import GRANTS, Entry, KeysError, read
from service.key_sources import of_file, warnings_of
from service.keys import Keys
from service.quotas import Quota
from service.settings import SettingsError, load

KEY = "sesame-7261"
DIGEST = hashlib.sha256(KEY.encode()).hexdigest()
NOTHING = hashlib.sha256(b"").hexdigest()
OTHER = hashlib.sha256(b"other").hexdigest()


def entries(*lines: str) -> list[Entry]:
    return read(lines, "keys line", ("score",), "key")


def client(keys: Keys, key: str | None) -> str | None:
    found = keys.find(key)
    return found and found.client


@pytest.mark.parametrize("line", [f"trainer:{KEY}", f"trainer:sha256:{DIGEST}"])
def test_a_key_is_found_by_itself_or_with_its_name_and_by_nothing_else(line: str) -> None:
    keys = Keys(entries(line, f"other:sha256:{OTHER}"))
    assert client(keys, KEY) == client(keys, f"trainer:{KEY}") == "trainer"
    near = ["", "s", KEY[:-1], f"{KEY} ", f"other:{KEY}", f"sha256:{DIGEST}", DIGEST, "trainer:",
            f"trainer:sha256:{DIGEST}", f"trainer:trainer:{KEY}", KEY.upper(), None]  # fmt: skip
    assert [client(keys, key) for key in near] == [None] * len(near)


def test_an_empty_key_is_nobodys() -> None:
    (one,) = entries("a:k")
    keys = Keys([replace(one, digest=bytes.fromhex(NOTHING))])
    assert [client(keys, key) for key in ("", None, "a:")] == [None] * 3


def test_a_digest_in_a_file_gives_nobody_the_key() -> None:
    """Nothing that is held or printed is what a caller sends."""
    keys = Keys(entries(f"trainer:{KEY}", f"other:sha256:{OTHER}"))
    assert KEY not in repr(vars(keys)) + repr(keys.entries)
    for key in (OTHER, f"sha256:{OTHER}", f"other:sha256:{OTHER}", f"other:{OTHER}"):
        assert client(keys, key) is None
    assert client(keys, "other") == "other"


def test_a_line_says_name_scopes_quota_and_end() -> None:
    (one,) = entries(
        f"trainer:sha256:{DIGEST}\t scope=score scope=metrics tokens-per-second=1000.5 "
        "burst-tokens=20000 expires=2031-06-30T12:00:00Z"
    )
    assert (one.client, one.hashed, one.place) == ("trainer", True, "keys line 1")
    assert one.grants == {"score", "metrics"}
    assert one.expires == datetime(2031, 6, 30, 12, tzinfo=UTC)
    assert Keys([one]).quotas == {"trainer": Quota(1000.5, 20_000)}


def test_lines_without_a_key_are_left_out_and_those_without_a_name_are_numbered() -> None:
    found = entries("# ours", "", "one", "  ", "named:two", f"sha256:{DIGEST}")
    assert [one.client for one in found] == ["key-1", "named", "key-3"]
    assert [one.place for one in found] == ["keys line 3", "keys line 5", "keys line 6"]
    assert all(one.grants == {"score"} and one.quota is None for one in found)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("a:k colour=red", "word 2 is no field; write"),
        ("a:k scope", "word 2 is no field; write"),
        ("a: k", "word 2 is no field; write"),
        ("a:k scope=root", "scope= is one of score, metrics, admin"),
        ("a:k scope=score,metrics", "for several write it several times"),
        ("a:k scope=", "scope= is one of"),
        ("a:k tokens-per-second=5", "burst-tokens=, a positive whole number, such as 50"),
        ("a:k burst-tokens=5", "a quota needs tokens-per-second="),
        ("a:k tokens-per-second=0 burst-tokens=5", "a quota needs tokens-per-second="),
        ("a:k tokens-per-second=inf burst-tokens=5", "a quota needs tokens-per-second="),
        ("a:k tokens-per-second=-1 burst-tokens=5", "a quota needs tokens-per-second="),
        ("a:k tokens-per-second=1 burst-tokens=0", "burst-tokens=, a positive whole number"),
        ("a:k tokens-per-second=1 burst-tokens=1.5", "burst-tokens=, a positive whole number"),
        ("a:k burst-tokens=1 burst-tokens=2", "burst-tokens= stands there 2 times"),
        ("a:k expires=tomorrow", "expires= is 2027-06-30 or"),
        ("a:k expires=2027-02-30", "expires= is 2027-06-30 or"),
        ("a:k expires=2027-06-30T12:00:00", "expires= is 2027-06-30 or"),
        (f"a:sha256:{DIGEST[:-1]}", "64 digits of 0-9a-f"),
        (f"sha256:{DIGEST.upper()}", "64 digits of 0-9a-f"),
        (f"a:sha256:{NOTHING} scope=score", "the digest of no key at all; plaudit keys new"),
    ],
)
def test_a_line_of_another_form_is_refused_with_its_place(line: str, said: str) -> None:
    with pytest.raises(KeysError, match="keys line 2") as caught:
        entries("# ours", line)
    assert said in str(caught.value)


def said_of(line: str) -> str:
    try:
        entries(line)
    except KeysError as error:
        return str(error)
    return ""


@given(st.text(min_size=12).map(str.split).map("".join).filter(lambda key: len(key) > 11))
def test_no_error_quotes_what_may_be_a_part_of_a_key(key: str) -> None:
    for line in (f"a: {key}", f"{key} {key}", f"a:k scope={key}", f"a:k expires={key}",
                 f"a:sha256:{key}", f"a:k {key}=1"):  # fmt: skip
        assert key not in said_of(line)


def test_two_live_keys_of_one_client_share_its_name_and_its_quota() -> None:
    quota = "tokens-per-second=10 burst-tokens=100"
    keys = Keys(entries(f"trainer:old {quota}", f"trainer:new {quota} expires=2031-01-01"))
    assert client(keys, "old") == client(keys, "new") == "trainer"
    assert keys.quotas == {"trainer": Quota(10.0, 100)}
    with pytest.raises(KeysError, match="keys line 2: trainer has another quota in keys line 1"):
        Keys(entries(f"trainer:old {quota}", "trainer:new"))


def test_a_key_that_stands_twice_is_refused_even_once_in_plain_and_once_as_digest() -> None:
    with pytest.raises(KeysError, match="keys line 2: the same key stands in keys line 1"):
        Keys(entries(f"a:{KEY} scope=score", f"b:sha256:{DIGEST} scope=admin"))


@pytest.mark.parametrize(("days", "over"), [(-1, True), (1, False)])
def test_a_key_ends_at_its_time(days: int, over: bool) -> None:
    day = datetime.now(UTC) + timedelta(days=days)
    (one,) = entries(f"a:{KEY} expires={day:%Y-%m-%dT%H:%M:%SZ}")
    assert one.is_over() is over


def test_a_file_without_keys_is_refused_at_the_start_and_not_taken_for_open(tmp_path: Path) -> None:
    for text, said in (("", "has no key"), ("# none\n", "has no key"), ("\xff", "UTF-8")):
        (tmp_path / "keys").write_bytes(text.encode("latin-1"))
        for flag in ("--api-keys-file", "--admin-keys-file"):
            with pytest.raises(SettingsError, match=said):
                load(["x", flag, str(tmp_path / "keys")], {})
    with pytest.raises(SettingsError, match="no file"):
        load(["x", "--api-keys-file", str(tmp_path / "none")], {})
    with pytest.raises(SettingsError, match="let the server's user read it"):
        load(["x", "--api-keys-file", str(tmp_path)], {})


@pytest.mark.parametrize("line", ["a:k scope=metrics", "a:k scope=admin"])
def test_a_port_that_others_reach_needs_keys_that_open_it(tmp_path: Path, line: str) -> None:
    file = tmp_path / "keys"
    file.write_text(line)
    keys = ["--api-keys-file", str(file)]
    with pytest.raises(SettingsError, match=r"--host 0\.0\.0\.0 is open to the network and no key"):
        load(["x", "--host", "0.0.0.0", *keys], {})


def test_an_admin_port_that_others_reach_needs_a_key_or_the_word_that_the_network_guards_it(
    tmp_path: Path,
) -> None:
    file = tmp_path / "keys"
    file.write_text("a:k scope=score")
    flags = ["x", "--api-keys-file", str(file), "--admin-port", "9000", "--admin-host", "0.0.0.0"]
    with pytest.raises(SettingsError, match="plaudit keys new prometheus --scope metrics, or --op"):
        load(flags, {})
    assert load([*flags, "--open-metrics"], {})
    file.write_text("a:k scope=score\nb:m scope=metrics")
    assert load(flags, {})


def test_what_the_setting_names_is_what_a_key_without_scopes_opens() -> None:
    settings = load(["x", "--api-keys", "a,named:b", "--admin-keys", "c"], {})
    found = {one.client: one.grants for one in settings.keys().entries}
    trainers, operators = {"score", "metrics"}, {"admin", "metrics"}
    assert found == {"key-1": trainers, "named": trainers, "admin-key-1": operators}


def made(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str, str]:
    status = keys_command.main([str(one) for one in argv])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_the_command_makes_a_key_of_which_the_file_has_the_digest_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "keys"
    keys = []
    for argv in (
        ("trainer", "--tokens-per-second", 5, "--burst-tokens", 50),
        ("ops", "--scope", "metrics", "--scope", "admin", "--expires", "2031-01-01"),
    ):
        status, out, _ = made(capsys, "new", *argv, "--file", file)
        assert status == 0
        keys.append(out.strip())
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len({*keys}) == 2
    assert all(len(key) > 50 and key not in file.read_text() for key in keys)
    read_again = Keys(of_file(file))
    assert [client(read_again, key) for key in keys] == ["trainer", "ops"]
    assert [one.grants for one in read_again.entries] == [{"score"}, {"metrics", "admin"}]
    assert read_again.quotas == {"trainer": Quota(5.0, 50)}


def test_the_command_begins_a_file_that_is_there_and_has_no_key_yet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for text in ("", "# ours\n"):
        (tmp_path / "keys").write_text(text)
        assert made(capsys, "new", "trainer", "--file", tmp_path / "keys")[0] == 0
        assert [one.client for one in of_file(tmp_path / "keys")] == ["trainer"]


def test_the_command_shows_what_keys_of_the_admin_file_open_without_a_scope(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "keys").write_text(f"ops:sha256:{DIGEST}\nsha256:{OTHER} scope=score\n")
    _, out, _ = made(capsys, "check", "--admin", tmp_path / "keys")
    rows = [row.split()[:3] for row in out.splitlines()[1:]]
    assert rows == [["ops", "metrics", "admin"], ["admin-key-2", "score", "-"]]


def test_the_command_prints_key_and_line_where_no_file_is_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, out, _ = made(capsys, "new", "trainer")
    assert status == 0
    key, line = (row.split(":", 1)[1].strip() for row in out.splitlines())
    assert client(Keys(entries(line)), key) == "trainer"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["Trainer"], "a name is of small letters"),
        (["a b"], "a name is of small letters"),
        (["trainer", "--expires", "soon"], "expires= is"),
        (["trainer", "--burst-tokens", "5"], "a quota needs tokens-per-second="),
        (["other"], "other has another quota in"),
    ],
)
def test_the_command_writes_no_line_that_the_server_would_not_take(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], argv: list[str], said: str
) -> None:
    file = tmp_path / "keys"
    before = "other:k tokens-per-second=1 burst-tokens=1"  # without an end of line
    file.write_text(before)
    status, out, err = made(capsys, "new", *argv, "--file", file)
    assert (status, out, file.read_text()) == (2, "", before)
    assert said in err
    assert made(capsys, "new", "trainer", "--file", file)[0] == 0
    assert len(of_file(file)) == 2


def test_the_command_shows_a_file_and_what_is_not_right_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "keys"
    file.write_text(
        f"trainer:{KEY} tokens-per-second=5 burst-tokens=50\n"
        f"former:sha256:{OTHER} scope=admin expires=2020-01-01\n"
    )
    file.chmod(0o644)
    status, out, err = made(capsys, "check", file)
    assert status == 0
    rows = [row.split() for row in out.splitlines()]
    assert rows[1] == ["trainer", "score", "metrics", "5", "50", "-", "plain", "key"]
    assert rows[2] == ["former", "admin", "-", "-", "2020-01-01", "00:00", "UTC", "digest"]
    assert KEY not in out + err
    for warning in (f"chmod 600 {file}", "line 2: the time of this key of former is over", "1 in"):
        assert warning in err
    file.chmod(0o640)
    assert [*warnings_of([file], [])] == []
    file.write_text("a:k scope=root")
    status, out, err = made(capsys, "check", file)
    assert (status, out) == (2, "")
    assert "line 1: scope= is one of" in err


def test_the_scopes_of_the_command_are_those_of_the_file() -> None:
    assert GRANTS == ("score", "metrics", "admin")
