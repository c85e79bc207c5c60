"""Settings of the server: each is a flag, an environment variable and a line of ``--help``."""

import difflib
import os
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    CliApp,
    CliPositionalArg,
    CliSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings import SettingsError as UnreadableSource

from service import key_needs, key_sources
from service import setting_needs as needs
from service.entrance import is_loopback
from service.key_entry import KeysError
from service.keys import Keys

PREFIX = "PLAUDIT_"
# Those of a rollout worker's environment, which no setting of the server begins with.
CLIENT_PREFIX = "PLAUDIT_CLIENT_"
RECEIVE_SECONDS = 30.0
Dtype = Literal["auto", "float32", "bfloat16", "int8"]


class SettingsError(ValueError):
    """Settings the server will not start with; the text ends with what mends it."""


class Settings(BaseSettings):
    """Serve reward models: POST /score, POST /ensemble_score."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        cli_prog_name="plaudit serve",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
    )

    models: CliPositionalArg[list[Path]] = Field(
        [],
        description="checkpoint directories, files of ensembles or of objectives; "
        "a name is the last path part",
    )
    config: Path | None = Field(None, description="YAML file naming models, ensembles and bundles")
    ensemble: bool = Field(
        False,
        description="one ensemble of the checkpoints named; an average of exactly the others is "
        "its centre",
    )

    host: str = Field("127.0.0.1", description="address to bind; any but loopback needs a key")
    port: int = Field(8000, ge=0, le=65535, description="port to bind")
    api_keys: SecretStr | None = Field(
        None, description="accepted keys, comma separated; NAME:KEY names the client in metrics"
    )
    api_keys_file: Path | None = Field(
        None, description="file of accepted keys or their digests, one a line, with scopes and "
        "quotas; read again at SIGHUP"
    )  # fmt: skip

    trusted_networks: str = Field(
        "", description="networks that score without a key, comma separated: 10.0.0.0/8,fd00::/8"
    )

    admin_port: int | None = Field(
        None, ge=1, le=65535, description="port of /metrics, /ops and the probes; /metrics leaves "
        "the main port then"
    )  # fmt: skip
    admin_host: str = Field(
        "127.0.0.1", description="address of the admin port; any but loopback needs a key that "
        "reads metrics"
    )  # fmt: skip
    open_metrics: bool = Field(
        False, description="/metrics and /ops need no key: the network lets in only who may"
    )
    admin_keys: SecretStr | None = Field(
        None, description="keys that may swap models, comma separated; NAME:KEY names the caller "
        "in the log"
    )  # fmt: skip
    admin_keys_file: Path | None = Field(None, description="file of such keys, as --api-keys-file")
    audit_file: Path | None = Field(
        None, description="file to which the lines of the audit log are appended besides"
    )
    model_root: Path | None = Field(
        None, description="directory of checkpoints that may be swapped in through the admin "
        "port; without it none may"
    )  # fmt: skip
    playground: bool = Field(
        True, description="the page at / to try models by hand; --no-playground leaves it out"
    )

    compat_model: str | None = Field(
        None, description="of other servers' routes that name no model; else the only one loaded"
    )
    compat_truncation: Literal["error", "left", "right"] = Field(
        "error", description="what such routes do with an item that is too long"
    )
    compat_on_error: str = Field(
        "fail", description="what such routes give for an item that has no reward: fail, null or "
        "floor:NUMBER, and for single formats: fail,slime=null,openrlhf=floor:-5"
    )  # fmt: skip

    engine: Literal["torch", "vllm"] = Field(
        "torch", description="what computes; vllm needs plaudit[vllm]"
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where the models run")
    dtype: Dtype = Field(
        "auto",
        description="of the body; the head is always fp32; auto: bf16 on GPUs, else fp32; int8: "
        "weights of linear layers, the rest bf16; torch only",
    )
    deterministic: bool = Field(
        False, description="no bit of a score depends on what is scored beside it; torch only"
    )
    attention: Literal["products", "flex"] = Field(
        "products",
        description="over a packed row: batched matrix products, or torch's FlexAttention, for "
        "GPUs, which needs a C compiler; torch only",
    )
    tensor_parallel: int = Field(1, ge=1, description="GPUs for each member; vllm only")
    vllm_memory: float = Field(
        0.9, gt=0, le=1, description="share of device memory for all members; vllm only"
    )
    threads: int = Field(0, ge=0, description="compute threads on a CPU; 0: torch's choice")
    max_tokens: int = Field(4096, ge=1, description="limit for models without reward.json")
    max_batch_tokens: int = Field(8192, ge=1, description="tokens in one forward")
    prefix_cache_megabytes: float = Field(
        1024.0, ge=0, description="keys and values kept for calls to come; 0: none; torch only"
    )
    linger_ms: float = Field(2.0, ge=0, description="most that an idle engine waits for company")

    max_queued_tokens: int = Field(
        1_000_000, ge=1, description="bounds memory: of tokens let in, and of those held"
    )
    deadline_seconds: float = Field(
        90.0, gt=0, description="time to answer, unless X-Request-Deadline-Ms says less"
    )
    receive_seconds: float = Field(
        RECEIVE_SECONDS, gt=0, description="for a request to arrive, and for its answer to be read"
    )
    drain_delay_seconds: float | None = Field(
        None, ge=0, description="after SIGTERM the port stays open so long, for load balancers to "
        "notice; none: 10, on a loopback address 0"
    )  # fmt: skip
    max_body_megabytes: float = Field(32.0, gt=0, description="largest request body")
    max_items: int = Field(4096, ge=1, description="items in one request")

    redis_url: SecretStr | None = Field(
        None, description="redis://… or rediss://… of the shared cache"
    )
    redis_timeout_ms: float = Field(50.0, gt=0, description="patience with Redis, per operation")
    cache_ttl_seconds: int = Field(604_800, ge=1, description="life of a score in Redis")
    cache_megabytes: float = Field(256.0, ge=0, description="in-process cache; 0: none")
    cache_secret: SecretStr = Field(
        SecretStr(""),
        description="key of the checksum on values in Redis; needed where that is not on loopback",
    )

    canary_seconds: float = Field(
        15.0, gt=0, description="how often a stored probe of each model is scored again; without "
        "any score for four times that /readyz says no"
    )  # fmt: skip
    hang_seconds: float = Field(
        300.0, gt=0, description="a forward, or an item's tokenizing, that takes longer never "
        "ends: the process exits with 70, or vLLM's core is started again"
    )  # fmt: skip
    otlp_endpoint: str | None = Field(
        None, description="collector for traces, http://HOST:4318; needs plaudit[otel]"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="of logs")

    def keys(self) -> Keys:
        """The accepted keys of both ports, read now. SettingsError names the entry and what mends
        it."""
        admin = self.admin_keys.get_secret_value() if self.admin_keys else None
        api = self.api_keys.get_secret_value() if self.api_keys else None
        try:
            of_api = key_sources.of_setting(api, self.api_keys_file, "--api-keys")
            of_admin = key_sources.of_setting(admin, self.admin_keys_file, "--admin-keys")
            return Keys([*of_api, *of_admin])
        except KeysError as error:
            raise SettingsError(str(error)) from None

    def key_files(self) -> list[Path]:
        return [file for file in (self.api_keys_file, self.admin_keys_file) if file is not None]

    def metrics_are_open(self) -> bool:
        """Whether the admin port shows metrics without a key."""
        return self.open_metrics or is_loopback(self.admin_host)


for _name, _field in Settings.model_fields.items():
    _field.description = f"{_field.description} [{PREFIX}{_name.upper()}]"
Settings.model_rebuild(force=True)


def load(argv: Sequence[str], environ: Mapping[str, str] = os.environ) -> Settings:
    """Settings from flags, then the environment; refused together with what mends them."""
    check_environment(environ)
    settings = read(argv)
    check(settings)
    return settings


def read(argv: Sequence[str]) -> Settings:
    """Settings of flags and the environment, each by itself a value that it may have."""
    # Models stand before, between and after flags.
    flags = CliSettingsSource[Any](Settings, parse_args_method=ArgumentParser.parse_intermixed_args)
    try:
        return CliApp.run(Settings, cli_args=list(argv), cli_settings_source=flags)
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(e) for e in error.errors())) from None
    except UnreadableSource as error:
        raise SettingsError(
            f"{error}: write lists as JSON, PLAUDIT_MODELS='[\"runs/a\"]'"
        ) from None


def _explain(error: object) -> str:
    assert isinstance(error, dict)
    name = ".".join(str(part) for part in error["loc"])
    flag = "--" + name.replace("_", "-")
    return f"{flag} (or {PREFIX}{name.upper()}): {error['msg']}"


def check_environment(environ: Mapping[str, str]) -> None:
    for name, hint in unknown_variables(environ).items():
        raise SettingsError(f"unknown environment variable {name}; {hint}")


def unknown_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Variables that are meant for the server and are none of its settings, and what was meant."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    found = {}
    for name in sorted(environ.keys() - known - {key_sources.OF_SWAP_COMMAND}):
        if name.startswith(PREFIX) and not name.startswith(CLIENT_PREFIX):
            near = difflib.get_close_matches(name, known, n=1)
            found[name] = f"did you mean {near[0]}?" if near else "see plaudit serve --help"
    return found


def check(settings: Settings) -> None:
    """Refuse what would surprise: nothing to serve, or an open port without a key."""
    for said in needs.unmet(settings):
        raise SettingsError(said)
    try:
        key_needs.check(settings, settings.keys())
    except KeysError as error:
        raise SettingsError(str(error)) from None
