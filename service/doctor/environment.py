"""The settings in the environment: unknown, impossible, or at odds with each other."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import SecretStr

from plaudit.integrations.source import PREFIX as CLIENT_PREFIX
from plaudit.integrations.source import Options
from service.doctor.finding import Finding, failed, ok, warning
from service.key_sources import OF_SWAP_COMMAND
from service.redaction import secrets_of
from service.settings import PREFIX, Settings, SettingsError, check, read, unknown_variables


def settings_of(argv: Sequence[str]) -> Settings | Finding:
    """The settings as a server here would read them, or why it could not."""
    try:
        return read(argv)
    except SettingsError as error:
        return refused(error)


def unknown(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Variables of a misspelt name; the server does not start with one, a trainer does."""
    for name, hint in unknown_variables(environ).items():
        yield failed("environment", f"unknown variable {name}: {hint}", f"unset {name}")
    known = {CLIENT_PREFIX + name.upper() for name in Options.__annotations__}
    for name in sorted(environ):
        if name.startswith(CLIENT_PREFIX) and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else "see docs/trainers.md"
            yield warning("environment", f"unknown variable {name}: {hint}", f"unset {name}")


def consistent(settings: Settings) -> Finding:
    """What the server would say to all settings together."""
    whole = settings
    if not settings.models and settings.config is None:  # the doctor may be asked without a model
        whole = settings.model_copy(update={"models": [Path()]})
    try:
        check(whole)
    except SettingsError as error:
        return refused(error)
    given = sorted(PREFIX + name.upper() for name in settings.model_fields_set - {"models"})
    return ok("settings", f"set: {', '.join(given)}" if given else "all have their defaults")


def refused(error: SettingsError) -> Finding:
    """Its text is whole: it says more of what mends it, and not always behind the same sign."""
    return failed("settings", str(error), "correct or unset it; plaudit serve --help")


def secrets(environ: Mapping[str, str], urls: Sequence[str]) -> list[str]:
    """Values that no report may show: of secret settings, keys and passwords in URLs."""
    fields = Settings.model_fields.items()
    names = {
        PREFIX + name.upper() for name, field in fields if SecretStr in types(field.annotation)
    }
    names |= {f"{CLIENT_PREFIX}API_KEY", OF_SWAP_COMMAND, *unknown_variables(environ)}
    # Of a URL the parts that are secret are hidden, below, and its host is worth seeing.
    values = [value for name in names if (value := environ.get(name)) and "://" not in value]
    found = [part.strip() for value in values for part in (value, *value.split(","))]
    for url in [*urls, *environ.values()]:
        if "://" in url:
            found += secrets_of(url)
    return [one for one in found if len(one) > 2]


def types(annotation: object) -> tuple[object, ...]:
    """A type and those that it is a union of."""
    return (annotation, *getattr(annotation, "__args__", ()))
