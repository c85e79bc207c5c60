"""What an operator is told at the start: what is served, where, and a curl to copy."""

import json
import shlex

from msgspec import UNSET

from plaudit.wire import ModelInfo
from service.entrance import is_loopback
from service.listening import Place
from service.registry import Registry
from service.settings import Settings


def banner(
    settings: Settings, registry: Registry, main: Place, admin: Place | None, cache: str
) -> str:
    """``admin`` is where the admin port is, if there is one; ``cache`` is where scores are kept."""
    url = main.url
    playground = f"playground at {url}/, " if settings.playground else ""
    lines = [f"Plaudit at {url} ({playground}docs at {url}/docs){everywhere(main)}"]
    for info in registry.infos():
        lines.append(
            f"  {info.kind:10} {info.name}  {info.revision[:19]}  {info.max_tokens} tokens, "
            f"{info.dtype}{of_what(info)}"
        )
    for trunk in registry.engine.trunks:
        lines.append(
            f"  {'shared':10} {trunk.shared} of {trunk.blocks} blocks, computed once for "
            f"{', '.join(trunk.members)}"
        )
    key = "required" if "score" in settings.keys().grants else "none needed"
    lines.append(f"  cache: {cache}; API key: {key}")
    if admin is not None:
        there = admin.url
        lines.append(f"  admin: {there}/ops, {there}/metrics, {there}/readyz{everywhere(admin)}")
        if not is_loopback(settings.admin_host):
            lines.append(f"  admin: {of_metrics(settings)}")
    lines.append(f"  trainers' own routes: {of_the_trainers(settings, registry)}")
    lines.append(curl(settings, registry, url))
    return "\n".join(lines)


def everywhere(place: Place) -> str:
    return f", on every {place.every} address of this machine" if place.every else ""


def of_metrics(settings: Settings) -> str:
    if settings.open_metrics:
        return "whoever reaches it reads it; let no one in but Prometheus"
    return "/metrics and /ops need a key with scope=metrics"


def of_the_trainers(settings: Settings, registry: Registry) -> str:
    """What a route of another server's format scores with where that names no model."""
    whole = registry.wholes() if settings.compat_model is None else [settings.compat_model]
    if len(whole) == 1:
        return whole[0]
    return f"one of {', '.join(whole)}, by --compat-model; see docs/compat.md"


def of_what(info: ModelInfo) -> str:
    """What a model without reward.json lacks; the members of an ensemble or a bundle."""
    if info.kind == "plain":
        return ", without probes and calibration: not verified, its rewards are its scores"
    if not info.members:
        return ""
    centre = "" if info.centre is UNSET else f" around {info.centre}"
    return f", of {', '.join(info.members)}{centre}"


def curl(settings: Settings, registry: Registry, url: str) -> str:
    item = {"prompt": "How do I boil an egg?", "response": "Eight minutes in boiling water."}
    route, named = "score", {"model": next(iter(registry.members))}
    if settings.ensemble:
        route, named = "ensemble_score", {"ensemble": next(iter(registry.ensembles))}
    body = json.dumps({**named, "items": [item]})
    key = " -H 'Authorization: Bearer KEY'" if "score" in settings.keys().grants else ""
    # Quoted where it has brackets, which shells expand.
    return f"  curl -s {shlex.quote(f'{url}/{route}')}{key} -d '{body}'"
