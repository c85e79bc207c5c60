"""``plaudit cache`` on a real redis-server, with keys that the cache itself has written."""

import json

import pytest
import redis as redis_py

from plaudit import cli
from service.byte_size import size
from service.cache import KEY_PREFIX, RedisCache, key_of
from service.cache_command import gather, lines
from service.cached_keys import PAGE, by_revision, pages

OLD, NEW = "sha256:" + "a1" * 32, "sha256:" + "b2" * 32


async def write(redis_server, metrics, revision, count, ttl_seconds=1000):
    cache = RedisCache(
        redis_server.url, metrics, timeout_seconds=30, ttl_seconds=ttl_seconds, secret=""
    )
    keys = [key_of(revision, "torch/cpu/float32", [ids]) for ids in range(count)]
    await cache.put(dict.fromkeys(keys, 1.0))
    assert await cache.get(keys) == dict.fromkeys(keys, 1.0)
    await cache.close()


@pytest.fixture
def plaudit(redis_server, capsys, monkeypatch):
    """``plaudit("stats")``: exit status, output and errors."""
    monkeypatch.setenv("PLAUDIT_REDIS_URL", redis_server.url)

    def run(*argv):
        status = cli.main(["cache", *argv])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


async def test_stats_counts_keys_and_lives_by_revision(plaudit, redis_server, metrics):
    await write(redis_server, metrics, OLD, 30, ttl_seconds=100)
    await write(redis_server, metrics, NEW, 70)
    with redis_server.client() as redis:
        redis.set("somebody:else", "x")
        redis.set("plaudit:1:" + "x" * 32, "of an earlier version")
        sizes = sum(redis.memory_usage(name) for name in redis.keys("plaudit:2:*"))
    status, out, _ = plaudit("stats", "--json")
    found = json.loads(out)
    rows = {row["revision"]: row for row in found["revisions"]}
    assert status == 0
    assert {name: row["keys"] for name, row in rows.items()} == {
        "b2" * 6: 70,
        "a1" * 6: 30,
        "another layout": 1,
    }
    assert rows["a1" * 6]["longest_ttl_seconds"] <= 100 < rows["b2" * 6]["shortest_ttl_seconds"]
    assert rows["another layout"]["endless"] == 1
    assert found["keys"] == 101
    assert found["hit_ratio"] == 1.0
    ours = [rows["a1" * 6], rows["b2" * 6]]
    assert sum(row["bytes"] for row in ours) == pytest.approx(sizes, rel=0.05)
    assert f"{'a1' * 6}" in plaudit("stats")[1]


async def test_of_keys_that_were_not_sampled_stats_says_neither_memory_nor_end(
    redis_server, metrics
):
    await write(redis_server, metrics, OLD, 2 * PAGE)
    # One key each, so that of forty some are in a sample of a fifth and some are not.
    rare = [f"{place:012x}" for place in range(40)]
    with redis_server.client() as redis:
        for revision in rare:
            redis.set(KEY_PREFIX + revision.encode() + b":x", "endless")
        found = gather(redis, redis_server.url)
    rows = {row["revision"]: row for row in found.revisions}
    cells = {line.split()[0]: line.split()[1:] for line in lines(found) if line}
    assert {rows[revision]["sampled"] for revision in rare} == {0, 1}
    for revision in rare:
        if rows[revision]["sampled"]:
            assert cells[revision] == ["1", *size(rows[revision]["bytes"]).split(), "never"]
        else:
            assert cells[revision] == ["1", "-", "-"]


async def test_purge_of_a_revision_leaves_the_others(plaudit, redis_server, metrics):
    await write(redis_server, metrics, OLD, 30)
    await write(redis_server, metrics, NEW, 70)
    status, out, _ = plaudit("purge", "--revision", OLD, "--yes")
    assert (status, "30 keys unlinked" in out) == (0, True)
    with redis_server.client() as redis:
        assert {name: keys.count for name, keys in by_revision(redis).items()} == {"b2" * 6: 70}
    assert "70 keys unlinked" in plaudit("purge", "--revision", "b2b2", "--yes")[1]


async def test_purge_of_old_keys_leaves_young_ones_and_those_without_an_end(
    plaudit, redis_server, metrics
):
    await write(redis_server, metrics, OLD, 30, ttl_seconds=100)  # as if 900 s of 1000 had gone
    await write(redis_server, metrics, NEW, 70)
    with redis_server.client() as redis:
        redis.set(KEY_PREFIX + b"c3" * 6 + b":x", "endless")
    _, out, _ = plaudit("purge", "--older", "10m", "--ttl-seconds", "1000", "--yes")
    assert "30 keys unlinked" in out
    status, _, err = plaudit("purge", "--older", "1h", "--ttl-seconds", "1000", "--yes")
    assert (status, "shorter time" in err) == (2, True)


async def test_a_lifetime_that_is_no_number_is_refused_by_purge_alone(
    plaudit, redis_server, metrics, monkeypatch, capsys
):
    await write(redis_server, metrics, NEW, 5)
    monkeypatch.setenv("PLAUDIT_CACHE_TTL_SECONDS", "1d")
    assert plaudit("stats")[0] == 0
    with pytest.raises(SystemExit, match="2"):
        plaudit("purge", "--older", "10m", "--yes")
    assert "--ttl-seconds: invalid int value: '1d'" in capsys.readouterr().err
    monkeypatch.setenv("PLAUDIT_CACHE_TTL_SECONDS", "1000")
    assert plaudit("purge", "--older", "10m", "--yes")[0] == 0


async def test_purge_of_all_is_of_plaudit_alone_and_in_pages(plaudit, redis_server, metrics):
    await write(redis_server, metrics, NEW, 3 * PAGE)
    with redis_server.client() as redis:
        redis.set("somebody:else", "x")
        redis.set("plaudit:1:old", "x")
        assert len(list(pages(redis))) > 2
        assert "3001 keys unlinked" in plaudit("purge", "--all", "--yes")[1]
        assert redis.keys() == [b"somebody:else"]
        used = redis.info("commandstats")
        assert "cmdstat_unlink" in used
        assert used["cmdstat_keys"]["calls"] == 1  # the test's own, two lines above


async def test_nothing_is_purged_unless_somebody_agrees(
    plaudit, redis_server, metrics, monkeypatch
):
    await write(redis_server, metrics, NEW, 5)
    status, _, err = plaudit("purge", "--all")
    assert status == 2
    assert "--yes" in err
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda question: "n")
    assert plaudit("purge", "--all")[0] == 1
    with redis_server.client() as redis:
        assert redis.dbsize() == 5
    monkeypatch.setattr("builtins.input", lambda question: "y")
    assert plaudit("purge", "--all")[0] == 0
    with redis_server.client() as redis:
        assert redis.dbsize() == 0


def test_without_a_redis_url_it_says_how_to_give_one(capsys, monkeypatch):
    monkeypatch.delenv("PLAUDIT_REDIS_URL", raising=False)
    assert cli.main(["cache", "stats"]) == 2
    assert "export PLAUDIT_REDIS_URL=redis://" in capsys.readouterr().err


def test_a_url_with_a_part_that_means_nothing_is_refused_without_being_shown(plaudit):
    status, out, err = plaudit("stats", "--redis-url", "redis://127.0.0.1:1/0?x=canary")
    assert (status, "redis://HOST:6379/0" in err, "canary" in out + err) == (2, True, False)


@pytest.mark.parametrize("revision", ["*", "ab", "sha256:*", "a1?2"])
def test_a_revision_that_is_a_pattern_is_refused(plaudit, revision):
    status, _, err = plaudit("purge", "--revision", revision, "--yes")
    assert (status, "is no revision" in err) == (2, True)


def test_errors_name_the_server_and_not_the_password(plaudit, redis_server):
    with redis_server.client() as redis:
        redis.config_set("requirepass", "another")
    url = f"redis://:canary-password@127.0.0.1:{redis_server.port}/0"
    status, out, err = plaudit("stats", "--redis-url", url)
    assert status == 2
    assert f"***@127.0.0.1:{redis_server.port}" in err
    assert "canary" not in out + err
    redis_server.kill()
    assert plaudit("stats")[0] == 2
    redis_server.start()


def test_a_user_without_the_commands_is_told_which(plaudit, redis_server):
    with redis_server.client() as redis:
        redis.acl_setuser(
            "worker", enabled=True, passwords=["+canary"], keys=["plaudit:*"],
            commands=["+get", "+mget", "+set", "+ping", "+hello", "+client"],
        )  # fmt: skip
    url = f"redis://worker:canary@127.0.0.1:{redis_server.port}/0"
    with redis_py.Redis.from_url(url) as redis:
        assert redis.ping()
    status, _, err = plaudit("stats", "--redis-url", url)
    assert (status, "ACL SETUSER" in err, "canary" in err) == (2, True, False)
