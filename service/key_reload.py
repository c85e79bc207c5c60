"""Keys read again while the server runs: at SIGHUP, so that one can take the place of another."""

import asyncio
import signal
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from service import key_needs, key_sources
from service.audit import Audit
from service.key_entry import KeysError
from service.keys import Keys
from service.logs import log
from service.settings import Settings, SettingsError

WHAT = "reload keys"


@contextmanager
def at_sighup(settings: Settings, keys: Keys, audit: Audit) -> Iterator[None]:
    """While the block runs, SIGHUP reads the files of keys again. Where there is none the signal
    keeps its meaning, that the terminal is gone."""
    if not settings.key_files():
        yield
        return
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, reload, settings, keys, audit)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


def reload(settings: Settings, keys: Keys, audit: Audit) -> None:
    """All of the new keys, or all of the old ones where the new cannot be."""
    before = by_client(keys)
    try:
        new = settings.keys()
        key_needs.check(settings, new)
        check_grants(keys, new)
    except (KeysError, SettingsError) as error:
        log.error("the keys are as they were: %s", error)
        audit.record(WHAT, "refused", who="SIGHUP")
        return
    keys.replace(new)
    after = by_client(new)
    said = {
        "added": sorted(after.keys() - before.keys()),
        "removed": sorted(before.keys() - after.keys()),
        "changed": sorted(name for name in after.keys() & before if after[name] != before[name]),
    }
    audit.record(WHAT, "done", who="SIGHUP", keys=len(new.entries), **said)
    warn(settings, keys)


def by_client(keys: Keys) -> dict[str, set[object]]:
    """All that counts of a client's keys: not where they stand, nor whether as digests."""
    found: dict[str, set[object]] = defaultdict(set)
    for one in keys.entries:
        found[one.client].add((one.digest, one.grants, one.quota, one.expires))
    return found


def check_grants(old: Keys, new: Keys) -> None:
    """What needed a key goes on to need one: a file that is emptied opens nothing."""
    for grant in sorted(old.grants - new.grants):
        raise KeysError(f"no key with scope={grant} would be left; stop the server to close it")


def warn(settings: Settings, keys: Keys) -> None:
    for text in key_sources.warnings_of(settings.key_files(), keys.entries):
        log.warning("%s", text)
