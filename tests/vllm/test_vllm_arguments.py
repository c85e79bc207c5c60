"""What the service's settings become in vLLM's own configuration."""

from service.engines.vllm_engine import VllmEngine
from service.metrics import Metrics


def config(settings, directory, count=1, **changes):
    engine = VllmEngine(settings.model_copy(update=changes), Metrics())
    return engine._arguments(directory, 512, count).create_engine_config()


def test_tensor_parallel_is_of_each_member(settings, directory):
    for count in (1, 2):
        found = config(settings, directory, count, tensor_parallel=2).parallel_config
        assert found.tensor_parallel_size == found.world_size == 2


def test_scores_of_another_tensor_parallel_have_other_names_in_the_cache(settings):
    """Its sums are rounded in another order."""
    engines = [
        VllmEngine(settings.model_copy(update={"tensor_parallel": n}), Metrics()) for n in (1, 2)
    ]
    assert [engine.numerics for engine in engines] == ["vllm/cpu/1/float32", "vllm/cpu/2/float32"]


def test_members_share_the_memory_in_equal_parts(settings, directory):
    for count in (1, 2, 5):
        found = config(settings, directory, count, vllm_memory=0.5).cache_config
        assert found.gpu_memory_utilization == 0.5 / count
