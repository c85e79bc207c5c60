"""What waits behind a forward until its deadline has passed is not computed, in virtual time."""

import asyncio
from dataclasses import dataclass
from types import SimpleNamespace

import virtual_time
from hypothesis import given, settings
from hypothesis import strategies as st
from in_loop import InLoop
from noted_forwards import NotedForwards

from plaudit.joint_model import Asked
from service.admission import Admission
from service.batcher import Batcher
from service.cache import MemoryCache
from service.fair_queue import Caller
from service.items import Encoded, Seen
from service.member_scores import MemberScores
from service.metrics import Metrics
from service.problems import Failure

BUDGET = 16
CALLER = Caller(client="ppo")


@dataclass(frozen=True)
class Request:
    """Sequences of so many tokens, sent ``at`` a second, to be answered within ``allowed``."""

    at: float
    sizes: tuple[int, ...]
    allowed: float


@dataclass
class Answer:
    """ "ok" or the kind of the failure, when, and the first token of each sequence."""

    outcome: str
    ended: float
    firsts: list[int]


class Service:
    """Admission, joining and batcher as they are, before a model in virtual time."""

    def __init__(self, seconds: float):
        metrics = Metrics()
        metrics.rewards.watch("m", "r", None)
        self.model = NotedForwards()
        self._batcher = Batcher(
            InLoop(seconds), metrics, max_batch_tokens=BUDGET, linger_seconds=0.0
        )
        self._admission = Admission(10**6, metrics, BUDGET)
        self._scores = MemberScores(MemoryCache(1, metrics), metrics)
        self._member = SimpleNamespace(name="m", revision="r", submit=self._submit)
        self._asked = 0

    def _submit(self, ids, caller):
        return self._batcher.submit(self.model, Asked(0, ids), caller)

    async def ask(self, request: Request) -> Answer:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(request.at)
        deadline = request.at + request.allowed
        row = [self._encoded(size) for size in request.sizes]
        outcome = "ok"
        try:
            await self._scores.of(
                [self._member],
                [row],
                [[None] * len(row)],
                CALLER,
                lambda tokens: self._admission.admit(CALLER, tokens, deadline),
            )
        except Failure as failure:
            outcome = failure.kind
        return Answer(outcome, loop.time(), [one.ids[0] for one in row])

    def _encoded(self, size: int) -> Encoded:
        self._asked += 1
        ids = [self._asked] * size
        return Encoded(ids, Seen(b"%d" % self._asked, size, 0, None))

    async def close(self) -> None:
        await asyncio.sleep(1000)  # what nobody waits for would be computed by then
        await self._batcher.close()


def served(requests: list[Request], seconds: float) -> tuple[dict[int, float], list[Answer]]:
    """When each sequence was begun, and the answers, where a forward takes ``seconds``."""

    async def story():
        service = Service(seconds)
        answers = await asyncio.gather(*(service.ask(request) for request in requests))
        await service.close()
        return service.model.begun(), answers

    return virtual_time.run(story())


def test_what_is_past_its_deadline_is_dropped_and_its_caller_told():
    """Planning takes a second here, and so does a forward: the first runs from 1 to 2."""
    first, late, patient = (
        Request(0.0, (16,), 60.0),
        Request(1.25, (5, 7), 0.5),
        Request(1.25, (5, 7), 60.0),
    )
    begun, answers = served([first, late, patient], seconds=1.0)
    assert [one.outcome for one in answers] == ["ok", "deadline", "ok"]
    assert answers[1].ended == 1.75
    assert not begun.keys() & set(answers[1].firsts)
    assert [begun[one] for one in answers[2].firsts] == [3.0, 3.0]


REQUESTS = st.lists(
    st.builds(
        Request,
        st.integers(0, 16).map(lambda quarters: quarters / 4),
        st.lists(st.integers(1, 2 * BUDGET), min_size=1, max_size=4).map(tuple),
        st.integers(1, 24).map(lambda quarters: quarters / 4),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=100)
@given(REQUESTS, st.sampled_from([0.1, 0.25, 1.0]))
def test_nothing_is_begun_after_its_deadline(requests, seconds):
    begun, answers = served(requests, seconds)
    for request, answer in zip(requests, answers, strict=True):
        deadline = request.at + request.allowed
        assert answer.outcome in ("ok", "deadline", "overloaded")
        assert answer.ended <= deadline + 1e-6
        assert all(begun[first] <= deadline + 1e-6 for first in answer.firsts if first in begun)
