"""``input`` as vLLM, SGLang and OpenAI's clients write it: texts, or token ids."""

from plaudit.wire import Item
from service.problems import Failure

# One text or several; the ids of one or of several. What it is a list of is told by its elements.
Input = str | list[str | int | list[int]]


def items_of(given: Input, field: str) -> list[Item]:
    """An item for each text or sequence of ids. Failure "malformed" for none, or a mixture."""
    if isinstance(given, str):
        return [Item(text=given)]
    if not given:
        raise Failure("malformed", f"{field} is empty: send at least one prompt")
    ids = [one for one in given if isinstance(one, int)]
    if len(ids) == len(given):
        return [Item(token_ids=ids)]
    items = [item_of(one) for one in given if not isinstance(one, int)]
    if ids or len({item.text is None for item in items}) > 1:
        raise Failure(
            "malformed",
            f"{field} is a text, texts, token ids or lists of token ids, and not a mixture",
        )
    return items


def item_of(one: str | list[int]) -> Item:
    return Item(text=one) if isinstance(one, str) else Item(token_ids=one)
