"""What failed a forward by itself is refused for a while, and only that."""

import pytest
import torch

from service.engines.restarts import MOST as MOST_RESTARTS
from service.engines.restarts import STEADY_SECONDS, Restarts
from service.faults import is_device_lost, is_out_of_memory
from service.quarantine import APART_SECONDS, LONGEST_SECONDS, MOST, WANTS, Quarantine
from service.token_budget import RECOVER_SECONDS, TokenBudget
from service.work import HELD_SECONDS, EngineFault, fault_of

POISON = EngineFault("IndexError in a batch of 1", held_seconds=60)
NO_MEMORY = fault_of(MemoryError(), 1)
NONE_AMONG_OTHERS = fault_of(MemoryError(), 2)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_sequence_is_held_twice_as_long_each_time_and_an_hour_at_most(metrics, clock):
    quarantine = Quarantine(metrics, clock)
    for seconds in (60, 120, 240, 480, 960, 1920, 3600, 3600):
        quarantine.note(b"a", POISON)
        clock.now += seconds - 1
        refused = quarantine.refused([b"a", b"b"])
        assert refused.keys() == {b"a"}
        assert (refused[b"a"].type, refused[b"a"].detail[-9:]) == ("quarantined", "after 1 s")
        clock.now += 1
        assert not quarantine.refused([b"a"])
    assert seconds == LONGEST_SECONDS


def test_what_is_scored_after_all_begins_anew(metrics, clock):
    quarantine = Quarantine(metrics, clock)
    quarantine.note(b"a", POISON)
    quarantine.clear(b"a")
    assert not quarantine.refused([b"a"])
    quarantine.note(b"a", POISON)
    clock.now += HELD_SECONDS
    assert not quarantine.refused([b"a"])


def test_memory_that_was_wanting_three_times_in_a_row_is_the_sequences_own_fault(metrics, clock):
    quarantine = Quarantine(metrics, clock)
    for _ in range(WANTS - 1):
        for _ in range(WANTS):  # asked again at once they count as one
            quarantine.note(b"a", NO_MEMORY)
            assert not quarantine.refused([b"a"])
        clock.now += APART_SECONDS
    for seconds in (60, 120, 240):
        quarantine.note(b"a", NO_MEMORY)
        clock.now += seconds - 1
        assert "no memory for it by itself" in quarantine.refused([b"a"])[b"a"].detail
        clock.now += 1
        assert not quarantine.refused([b"a"])


def test_memory_that_was_wanting_among_others_or_before_a_score_holds_nothing(metrics, clock):
    quarantine = Quarantine(metrics, clock)
    for _ in range(2 * WANTS):
        quarantine.note(b"a", NONE_AMONG_OTHERS)
    for _ in range(2):
        for _ in range(WANTS - 1):
            quarantine.note(b"a", NO_MEMORY)
            clock.now += APART_SECONDS
        quarantine.clear(b"a")
    quarantine.note(b"b", NO_MEMORY)
    assert not quarantine.refused([b"a", b"b"])


def test_a_bounded_number_is_held_and_counted_while_it_is(metrics, clock):
    quarantine = Quarantine(metrics, clock)
    for i in range(MOST + 10):
        quarantine.note(str(i).encode(), POISON)
    assert not quarantine.refused([b"9"])
    assert quarantine.refused([b"10"])
    held = metrics.registry.get_sample_value
    assert held("plaudit_quarantined_items") == MOST
    clock.now += HELD_SECONDS
    assert held("plaudit_quarantined_items") == 0
    assert held("plaudit_quarantine_refusals_total") == 1


@pytest.mark.parametrize(
    ("error", "count", "kind", "held"),
    [
        (IndexError("index"), 1, "engine-fault", HELD_SECONDS),
        (IndexError("index"), 2, "engine-fault", 0),
        (MemoryError(), 1, "capacity", 0),
        (torch.OutOfMemoryError("CUDA out of memory"), 1, "capacity", 0),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 1, "capacity", 0),
        (torch.AcceleratorError("CUDA error: out of memory"), 1, "capacity", 0),
        (torch.AcceleratorError("CUDA error: device-side assert"), 1, "engine-fault", 0),
    ],
)
def test_only_what_is_the_sequences_own_fault_holds_it(error, count, kind, held):
    fault = fault_of(error, count)
    assert (fault.kind, fault.held_seconds) == (kind, held)


def test_a_device_is_lost_by_an_error_that_stays():
    lost = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
    assert is_device_lost(lost)
    assert not is_device_lost(RuntimeError("shapes cannot be multiplied"))
    assert not is_device_lost(torch.AcceleratorError("CUDA error: out of memory"))
    assert is_out_of_memory(RuntimeError("std::bad_alloc"))


def test_a_real_allocation_that_is_too_large_is_a_want_of_memory():
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(raised.value)


def test_a_budget_is_halved_and_comes_back_step_by_step(clock):
    budget = TokenBudget(8192, clock)
    budget.shrink(20_000)
    assert budget.tokens == 4096
    budget.shrink(1000)
    assert budget.tokens == 500
    clock.now += RECOVER_SECONDS
    assert budget.tokens == 1000
    clock.now += 10 * RECOVER_SECONDS
    assert budget.tokens == 8192
    for _ in range(20):
        budget.shrink(budget.tokens)
    assert budget.tokens == 256


def test_a_core_is_given_up_after_so_many_deaths_without_steady_work(clock):
    restarts = Restarts(clock)
    pauses = []
    for _ in range(MOST_RESTARTS - 1):
        restarts.failed(was_up=True)
        pauses.append(restarts.pause_seconds)
        restarts.up()
    assert pauses == [0, 1, 2, 4, 8, 16, 32]
    assert not restarts.exhausted
    clock.now += STEADY_SECONDS
    restarts.failed(was_up=True)
    assert (restarts.failures, restarts.exhausted) == (1, False)
    for _ in range(MOST_RESTARTS - 1):
        restarts.failed(was_up=False)
    assert restarts.exhausted
