"""vLLM behind a pipe: a JSON line of sequences in, the seconds that it took out.

    python bench/vllm_peer.py MODEL MAX_TOKENS BLOCK_SIZE     # in vLLM's environment

Prefix caching is on, and its cache is emptied before each line.
"""

import asyncio
import json
import os
import sys
import time

os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")

from vllm import PoolingParams, TokensPrompt
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.v1.engine.async_llm import AsyncLLM

RAW = PoolingParams(task="classify", use_activation=False)


def say(found: object) -> None:
    print(f"\npeer {json.dumps(found)}", flush=True)


async def score(llm: AsyncLLM, number: int, ids: list[int]) -> float:
    prompt = TokensPrompt(prompt_token_ids=ids)
    async for output in llm.encode(prompt, RAW, request_id=str(number)):
        last = output
    return float(last.outputs.data[0])


async def main(model: str, max_tokens: str, block_size: str) -> None:
    llm = AsyncLLM.from_engine_args(
        AsyncEngineArgs(
            model=model,
            runner="pooling",
            convert="classify",
            skip_tokenizer_init=True,
            dtype="bfloat16",
            max_model_len=int(max_tokens),
            block_size=int(block_size),
            enable_prefix_caching=True,
            gpu_memory_utilization=0.3,
            disable_log_stats=True,
        )
    )
    await score(llm, -1, [1, 2, 3])
    say("ready")
    number = 0
    while line := await asyncio.to_thread(sys.stdin.readline):
        sequences = json.loads(line)
        await llm.reset_prefix_cache()
        began = time.perf_counter()
        await asyncio.gather(*(score(llm, number + i, ids) for i, ids in enumerate(sequences)))
        seconds = time.perf_counter() - began
        number += len(sequences)
        say(seconds)
    llm.shutdown()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
