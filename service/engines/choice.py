"""The engine that the settings ask for."""

from service.engines.torch_engine import TorchEngine
from service.member import Engine
from service.metrics import Metrics
from service.settings import Settings, SettingsError


def engine_of(settings: Settings, metrics: Metrics) -> Engine:
    if settings.engine == "torch":
        return TorchEngine(settings, metrics)
    try:  # here, because vLLM is an extra and its import takes seconds
        from service.engines.vllm_engine import VllmEngine
    except ImportError as error:
        raise SettingsError(f"{error}; install the engine: pip install 'plaudit[vllm]'") from None
    return VllmEngine(settings, metrics)
