"""Never a second BOS: the tokens that a tokenizer adds by itself, and texts that have them."""

from collections.abc import Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from plaudit.conversation import Around
from plaudit.wire import Item
from service.problems import Failure


@dataclass(frozen=True)
class Bos:
    """How many BOS each of N texts began with; 0 too for what is no text, or has no such token."""

    found: list[int]

    @property
    def kept(self) -> int:
        """Texts that had their own: none was added."""
        return self.found.count(1)

    @property
    def stripped(self) -> int:
        """Texts that had more than one: the others were taken away."""
        return sum(1 for count in self.found if count > 1)

    def __str__(self) -> str:
        counts = {"kept": self.kept, "stripped": self.stripped}
        return ", ".join(f"{name}={count}" for name, count in counts.items() if count)


def with_one_bos(
    items: Sequence[Item], tokenizers: Sequence[Around], add: bool
) -> tuple[list[Item], Bos]:
    """The items, a text with at most one BOS, or with ``add`` with all that ``tokenizers`` add.

    Failure "malformed" if they are asked to add different things: a text is the same for them all.
    """
    distinct = list(dict.fromkeys(tokenizers))
    added = {(around.before, around.after) for around in distinct}
    if add and len(added) > 1 and any(item.text for item in items):
        raise Failure(
            "malformed",
            "the members' tokenizers add different special tokens to a text: send it with them, "
            "and add_special_tokens false",
        )
    fitted = [fit(item, distinct, add) for item in items]
    return [item for item, _ in fitted], Bos([found for _, found in fitted])


def fit(item: Item, tokenizers: Sequence[Around], add: bool) -> tuple[Item, int]:
    """An item and how many BOS its text began with. An empty text stays so, and is an error; one of
    nothing but BOS is empty too."""
    if not item.text:
        return item, 0
    text = item.text
    item = closed_response(item, tokenizers)
    for around in tokenizers:
        found, bare = unprefixed(text, around.before)
        if not bare:
            return replace(item, text=""), found
        if add:
            closed = bare if bare.endswith(around.after) else bare + around.after
            return replace(item, text=around.before + closed), found
        if found:
            return (item if found == 1 else replace(item, text=around.before + bare)), found
    return item, 0


def closed_response(item: Item, tokenizers: Sequence[Around]) -> Item:
    """A response has the length of its words, without the token with which a policy closed it."""
    if item.response is None:
        return item
    for around in tokenizers:
        if around.end and item.response.endswith(around.end):
            return replace(item, response=item.response.removesuffix(around.end))
    return item


def unprefixed(text: str, prefix: str) -> tuple[int, str]:
    """How often ``text`` begins with ``prefix``, and the rest."""
    found = at = 0
    while prefix and text.startswith(prefix, at):
        found, at = found + 1, at + len(prefix)
    return found, text[at:]
