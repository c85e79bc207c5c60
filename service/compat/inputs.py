"""``input`` as vLLM, SGLang and OpenAI's clients write it: texts, or token ids."""

from plaudit.wire import Item
from service.items import refuse_more
from service.problems import Failure

# One text or several; the ids of one or of several. What it is a list of is told by its elements.
Input = str | list[str | int | list[int]]


def items_of(given: Input, field: str, most: int) -> list[Item]:
    """An item for each text or sequence of ids. Failure "malformed" for none, or a mixture, and
    "too-large" for more than ``most``."""
    if isinstance(given, str):
        return [Item(text=given)]
    if not given:
        raise Failure("malformed", f"{field} is empty: send at least one prompt")
    if isinstance(given[0], int):
        ids = [one for one in given if isinstance(one, int)]
        if len(ids) < len(given):
            raise mixture(field)
        return [Item(token_ids=ids)]
    refuse_more(len(given), most)
    items = [item_of(one) for one in given if not isinstance(one, int)]
    if len(items) < len(given) or len({item.text is None for item in items}) > 1:
        raise mixture(field)
    return items


def mixture(field: str) -> Failure:
    return Failure(
        "malformed",
        f"{field} is a text, texts, token ids or lists of token ids, and not a mixture",
    )


def item_of(one: str | list[int]) -> Item:
    return Item(text=one) if isinstance(one, str) else Item(token_ids=one)
