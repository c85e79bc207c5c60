"""The directory of a plan: its file, which says what all members are of, and nothing else is."""

import re
from collections.abc import Iterator
from typing import Any

import yaml

from plaudit import ensemble
from plaudit.checkpoint import sha256
from plaudit.whole_file import write_whole
from training import settings
from training.settings import EnsemblePlan, MemberSettings, SettingsError
from training.shared_files import alone

FILE = "plan.yaml"
# How the key of a member's own setting begins.
OF_MEMBER = re.compile(r"members\.(\d+)")


def record(plan: EnsemblePlan) -> str:
    """Write ``OUT/plan.yaml`` if there is none, and return its digest.

    Refuses a plan that differs from the one recorded, and members of which no plan is recorded.
    """
    path = plan.out / FILE
    with alone(path):
        if not path.exists():
            refuse_members(plan)
            write_whole(path, yaml.safe_dump(resolved(plan), sort_keys=False).encode())
    changed = list(differences(resolved(plan), resolved(settings.load(EnsemblePlan, path))))
    if changed:
        raise SettingsError(
            f"{path}: the directory belongs to another plan: {'; '.join(changed)}. Choose another "
            f"out=DIR, or remove {plan.out}{or_change_here(plan, changed)}"
        )
    return sha256(path.read_bytes())


def or_change_here(plan: EnsemblePlan, changed: list[str]) -> str:
    """A remedy that keeps the complete members, where only others differ: one that diverged is
    removed, and trained anew with another lr. By hand, or two plans at once could be recorded."""
    found = [OF_MEMBER.match(key) for key in changed]
    members = sorted({key[1] for key in found if key})
    begun = any((plan.out / f"member-{member}").exists() for member in members)
    if begun or not all(found) or (plan.out / ensemble.FILE).exists():
        return ""
    named = ", ".join(f"members.{member}" for member in members)
    return f", or change {named}, of which nothing is here yet, in {FILE} too"


def refuse_members(plan: EnsemblePlan) -> None:
    known = sorted(plan.out.glob("member-*"))
    if known:
        raise SettingsError(
            f"{plan.out} holds {known[0].name} and no {FILE} that says which plan it is of; choose "
            f"another out=DIR, or remove {plan.out}"
        )


def resolved(plan: EnsemblePlan) -> dict[str, Any]:
    """The plan with all that its members take over from it written out; a plan itself."""
    members = [plan.member(index) for index in range(len(plan.members))]
    own = set(MemberSettings.model_fields)
    return plan.model_dump(mode="json") | {
        "members": [member.model_dump(mode="json", include=own) for member in members]
    }


def differences(given: dict[str, Any], recorded: dict[str, Any]) -> Iterator[str]:
    """What differs, by key; where the directory lies is no difference."""
    one, other = (dict(flat(values)) for values in (given, recorded))
    for key in sorted(one.keys() | other.keys()):
        if key != "out" and one.get(key) != other.get(key):
            yield f"{key} is {one.get(key)}, was {other.get(key)}"


def flat(values: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested values, with dots: ``members.0.lr``."""
    if isinstance(values, list) and values:
        values = dict(enumerate(values))
    if not isinstance(values, dict) or not values:
        yield key, values
        return
    for name, value in values.items():
        yield from flat(value, f"{key}.{name}" if key else str(name))
