"""What settings need of each other and of their texts, besides keys."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from service.compat import on_error
from service.entrance import is_loopback, networks
from service.redis_connection import RedisUrlError, host_of

if TYPE_CHECKING:
    from service.settings import Settings


def unmet(settings: "Settings") -> Iterator[str]:
    """What a server would not start with, and what mends it."""
    if not settings.models and settings.config is None:
        yield "nothing to serve: plaudit serve RUN_DIRECTORY, or --config FILE"
    yield from of_redis(settings)
    yield from of_texts(settings)
    yield from of_model_root(settings)
    if settings.ensemble and settings.config is not None:
        yield (
            "--ensemble is of the checkpoints named, and --config declares its own ensembles: "
            "leave one of them out"
        )
    if settings.admin_port == settings.port and settings.port:
        yield f"--admin-port {settings.port} is --port too: choose another for one"
    if settings.engine == "torch" and settings.tensor_parallel > 1:
        yield "--tensor-parallel is vLLM's: add --engine vllm, or leave it out"
    if settings.engine == "vllm" and settings.deterministic:
        yield "--deterministic is torch's: leave out --engine vllm, or it"
    if settings.attention == "flex" and settings.engine == "vllm":
        yield "--attention is torch's: leave out --engine vllm, or it"
    if settings.attention == "flex" and settings.deterministic:
        yield "--deterministic has an attention of its own: leave out --attention flex, or it"
    if settings.engine == "vllm" and settings.dtype == "int8":
        yield "--dtype int8 is torch's: leave out --engine vllm, or choose --dtype bfloat16"


def of_texts(settings: "Settings") -> Iterator[str]:
    """Settings that are read further where they are used."""
    try:
        networks(settings.trusted_networks)
    except ValueError as error:
        yield f"--trusted-networks: {error}: name networks as 10.0.0.0/8,fd00::/8"
    url = settings.otlp_endpoint
    if url is not None and not url.startswith(("http://", "https://")):
        yield "--otlp-endpoint is not of the form http://HOST:4318"
    try:
        on_error.read(settings.compat_on_error)
    except ValueError as error:
        yield f"--compat-on-error: {error}"


def of_model_root(settings: "Settings") -> Iterator[str]:
    """Swaps need a directory and a port."""
    root = settings.model_root
    if root is None:
        return
    if not root.is_dir():
        yield f"--model-root {root}: no such directory; correct the path"
    if settings.admin_port is None:
        yield "--model-root is of the admin port: add --admin-port 9090"


def of_redis(settings: "Settings") -> Iterator[str]:
    """A URL that can be read, and where others may write to it a key that they do not know."""
    if settings.redis_url is None:
        return
    try:
        host = host_of(settings.redis_url.get_secret_value())
    except RedisUrlError as error:
        yield f"--redis-url {error}"
        return
    if host and not is_loopback(host) and not settings.cache_secret.get_secret_value():
        yield (
            f"--redis-url is on {host}, where others could plant scores, and no key signs ours: "
            "export PLAUDIT_CACHE_SECRET=$(openssl rand -hex 32), the same for all replicas"
        )
