"""The answer of an ensemble: rewards of the items that enough members scored, and who failed.

Letters: N items of a request, S of them with a reward, M members.
"""

from collections.abc import Sequence

import msgspec
import numpy as np

from plaudit import aggregate
from plaudit.wire import Centre, EnsembleResponse, ItemError, ItemResult, MemberInfo
from service.ensemble import Ensemble
from service.items import Seen
from service.joint_results import calibrate, joint_result, raw_scores, usage
from service.member_scores import Outcome
from service.places import Array, Places, none_unless_finite


def answer(
    ensemble: Ensemble,
    seen: Sequence[Sequence[Seen | ItemError]],
    outcomes: Sequence[Sequence[Outcome]],
) -> EnsembleResponse:
    """Of what each of ``ensemble.models`` made of the N items."""
    raw = raw_scores(outcomes)
    places = rewarded(ensemble, raw)
    at = Places(places, len(raw))
    rewards = calibrate(raw, ensemble.models, seen)[places]
    members, centre = split(ensemble, rewards)
    kind, coefficient = ensemble.aggregate, ensemble.coefficient
    combined = at.floats(aggregate.aggregate(members, kind, coefficient, centre))
    columns = zip(zip(*seen, strict=True), zip(*outcomes, strict=True), combined, strict=True)
    items = [item_result(ensemble, *column) for column in columns]
    return EnsembleResponse(
        ensemble=ensemble.name,
        revision=ensemble.revision,
        aggregate=kind,
        coefficient=coefficient,
        degraded=any(item.degraded is True for item in items),
        rewards=combined,
        mean=at.floats(aggregate.mean(members)),
        variance=at.floats(aggregate.variance(members)),
        members=[MemberInfo(m.name, m.revision) for m in ensemble.members],
        member_scores=[
            None if row is None else [none_unless_finite(score) for score in row]
            for row in at.rows(split(ensemble, raw[places])[0])
        ],
        items=items,
        usage=usage(seen, outcomes, items),
        centre=centre_of(ensemble, at, raw[places], rewards),
    )


def rewarded(ensemble: Ensemble, raw: Array) -> list[int]:
    """The items that enough members scored, and the centre."""
    members, centre = split(ensemble, raw)
    enough = (~np.isnan(members)).sum(axis=1) >= ensemble.needed
    if centre is not None:
        enough &= ~np.isnan(centre)
    found: list[int] = np.flatnonzero(enough).tolist()
    return found


def split(ensemble: Ensemble, columns: Array) -> tuple[Array, Array | None]:
    """Of one column a model: those of the members (S, M), and that of the centre (S,)."""
    count = len(ensemble.members)
    return columns[:, :count], None if ensemble.centre is None else columns[:, count]


def item_result(
    ensemble: Ensemble,
    ones: Sequence[Seen | ItemError],
    row: Sequence[Outcome],
    reward: float | None,
) -> ItemResult:
    """One item. Without a reward its error is the centre's, else that of the first member."""
    found = joint_result(ones, row, reward)
    models = zip(ensemble.models, row, strict=True)
    failed = {model.name: one for model, one in models if isinstance(one, ItemError)}
    if reward is None:
        if ensemble.centre is not None and isinstance(row[-1], ItemError):
            return ItemResult(error=row[-1])
        return found
    return msgspec.structs.replace(found, degraded=True, failed=failed) if failed else found


def centre_of(
    ensemble: Ensemble, at: Places, raw: Array, rewards: Array
) -> Centre | msgspec.UnsetType:
    """What the answer says of the centre, from raw scores and rewards of S items by all models."""
    if ensemble.centre is None:
        return msgspec.UNSET
    return Centre(
        name=ensemble.centre.name,
        revision=ensemble.centre.revision,
        scores=at.floats(raw[:, -1]),
        rewards=at.floats(rewards[:, -1]),
    )
