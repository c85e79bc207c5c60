"""How many generated words make the tokens that are asked for, as the server counts them."""

import random

from plaudit.wire import Item
from service.bench.open_loop import OK
from service.bench.sending import Sender
from service.bench.texts import MARK, BenchError
from service.bench.texts import words as some_words
from service.bench.workload import Target

FEW, MANY = 16, 80


async def words(
    sender: Sender, target: Target, prompt_tokens: int, response_tokens: int
) -> tuple[int, int]:
    """Words of a prompt and of a response. The template's own tokens count to the prompt."""
    few, many = [await tokens(sender, target, count) for count in (FEW, MANY)]
    each = max((many - few) / (MANY - FEW), 0.1)
    frame = few - FEW * each  # of the template, the mark and the prompt's only word
    return max(1, round((prompt_tokens - frame) / each)), max(1, round(response_tokens / each))


async def tokens(sender: Sender, target: Target, count: int) -> int:
    """Tokens of an item whose response has ``count`` words."""
    draw = random.Random(count)
    item = Item(prompt=f"{MARK} {some_words(draw, 1)}", response=some_words(draw, count))
    answer = await sender.post(target.path, target.request([item], None))
    if answer.outcome != OK:
        said = answer.said or "name --model or --ensemble, as GET /models lists them"
        raise BenchError(f"a small request got {answer.status} {answer.outcome}: {said}")
    if answer.failed:
        raise BenchError(
            "a small request got no reward: ask the same with curl; the answer's errors say why"
        )
    return answer.tokens
