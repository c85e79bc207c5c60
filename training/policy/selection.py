"""Which candidates a policy learns from, by their rewards (RAFT, arXiv:2304.06767). Pure."""

from collections import defaultdict
from collections.abc import Sequence

from training.policy.candidates import Candidates

# Row and place of a response, and its reward.
Place = tuple[int, int, float]


def best_of_each(rows: Sequence[Candidates], min_characters: int) -> list[Candidates]:
    """The best response of each prompt, of equal ones the first. A prompt none of whose responses
    is long enough and has a reward gives none."""
    best: dict[int, Place] = {}
    for row, place, reward in fit(rows, min_characters):
        if row not in best or reward > best[row][2]:
            best[row] = row, place, reward
    return kept(rows, [*best.values()])


def top_overall(rows: Sequence[Candidates], min_characters: int, share: float) -> list[Candidates]:
    """The best ``share`` of all responses, whichever their prompts; at least one where there is
    one. The share is of those that are long enough and have a reward."""
    ranked = sorted(fit(rows, min_characters), key=lambda one: -one[2])
    return kept(rows, ranked[: max(1, round(share * len(ranked)))])


def fit(rows: Sequence[Candidates], min_characters: int) -> list[Place]:
    return [
        (number, place, reward)
        for number, one in enumerate(rows)
        for place, reward in one.known()
        if len(one.responses[place]) >= min_characters
    ]


def kept(rows: Sequence[Candidates], places: Sequence[Place]) -> list[Candidates]:
    """In the order of the rows."""
    by_row: dict[int, list[int]] = defaultdict(list)
    for row, place, _ in places:
        by_row[row].append(place)
    return [rows[row].keep(sorted(by_row[row])) for row in sorted(by_row)]
