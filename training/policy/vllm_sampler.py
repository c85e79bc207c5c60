"""Responses sampled from a causal language model by vLLM in this process."""

from collections.abc import Sequence

from training.policy.chat import Chat
from training.policy.sampling import Response, Sampling
from training.settings import SettingsError

# Prompts of one call, after which their rows are on disk; vLLM batches inside a call by itself.
TOGETHER = 256


class VllmSampler:
    """One ``vllm.LLM``, which is given token ids and gives token ids back."""

    def __init__(self, model: str, chat: Chat, settings: Sampling):
        try:
            from vllm import LLM
        except ModuleNotFoundError:
            raise SettingsError(
                "engine vllm: vLLM is not installed here; pip install 'plaudit[vllm]', or leave "
                "sampling.engine out"
            ) from None
        self._engine = LLM(model=model, dtype=settings.torch_dtype, generation_config="vllm")
        self._chat, self._settings = chat, settings

    def batches(self, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
        places = range(len(prompts))
        return [list(places[start : start + TOGETHER]) for start in places[::TOGETHER]]

    def sample(self, prompts: Sequence[Sequence[int]], seed: int) -> list[list[Response]]:
        from vllm import SamplingParams

        settings = self._settings
        how = SamplingParams(
            n=settings.responses,
            temperature=settings.temperature,
            top_p=settings.top_p,
            max_tokens=settings.max_new_tokens,
            seed=seed,
            stop_token_ids=sorted(self._chat.ends),
            detokenize=False,
        )
        asked = [{"prompt_token_ids": list(ids)} for ids in prompts]
        outputs = self._engine.generate(asked, how, use_tqdm=False)
        return [
            [
                Response(self._chat.text(one.token_ids), one.finish_reason == "stop")
                for one in output.outputs
            ]
            for output in outputs
        ]
