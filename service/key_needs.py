"""Which keys a server cannot be without."""

from typing import TYPE_CHECKING

from service.entrance import is_loopback
from service.key_entry import KeysError
from service.keys import Keys

if TYPE_CHECKING:
    from service.settings import Settings


def check(settings: "Settings", keys: Keys) -> None:
    """A port that others reach needs keys that open it, and swaps do on loopback too. KeysError
    with what mends it."""
    if not is_loopback(settings.host) and "score" not in keys.grants:
        raise KeysError(
            f"--host {settings.host} is open to the network and no key is set: "
            "export PLAUDIT_API_KEYS=$(openssl rand -hex 24)"
        )
    closed = settings.admin_port is not None and not settings.metrics_are_open()
    if closed and "metrics" not in keys.grants:
        raise KeysError(
            f"--admin-host {settings.admin_host} is open to the network and no key reads metrics: "
            "plaudit keys new prometheus --scope metrics, or --open-metrics where the network "
            "lets in only who may"
        )
    if settings.model_root is not None and "admin" not in keys.grants:
        raise KeysError(
            f"--model-root {settings.model_root} lets models be swapped and no key for it is set: "
            "export PLAUDIT_ADMIN_KEYS=$(openssl rand -hex 24)"
        )
