"""How few tokens a text can have, told from its length alone, so that one that is far too long is
refused without being tokenised: a megabyte takes seconds.

Only for tokenizers that lose nothing of a text but control characters: byte-level BPE with a token
for every byte that text is made of, without normaliser but NFC, and with splits that remove
nothing. There of every character a byte is in one token, and none has more than the longest.
"""

import json
from dataclasses import dataclass
from typing import Any

# Characters that NFC can make one of: no character's canonical decomposition is longer.
COMPOSED = 4
# What stands for each byte: itself where that is printable in Latin-1, else from U+0100 on.
PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
OTHERS = [byte for byte in range(256) if byte not in PRINTABLE]
BYTES = {byte: chr(byte) for byte in PRINTABLE} | {b: chr(256 + i) for i, b in enumerate(OTHERS)}
CONTROLS = [chr(code) for code in (*range(32), 127)]
# ASCII but for controls, which some vocabularies lack, and what every other character ends with.
NEEDED = {BYTES[byte] for byte in (*range(32, 127), *range(128, 192))}
KEEPING = {"Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"}


@dataclass(frozen=True)
class Bound:
    """``longest``: most characters of a text that one token stands for, besides those ``lost``,
    which may have none."""

    longest: int
    lost: frozenset[str]

    def tokens(self, text: str) -> int:
        """No fewer than these."""
        kept = len(text) - sum(map(text.count, self.lost))
        return -(-kept // self.longest)


def bound(tokenizer: Any) -> Bound | None:
    """What can be told of a tokenizer; None where nothing can."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    declared = None if backend is None else json.loads(backend.to_str())
    if declared is None or not keeps_all(declared):
        return None
    added = [len(one["content"].encode()) for one in declared["added_tokens"]]
    most = max([*map(len, declared["model"]["vocab"]), *added])
    known = declared["model"]["vocab"].keys()
    lost = frozenset(one for one in CONTROLS if BYTES[ord(one)] not in known)
    return Bound(most * COMPOSED if declared["normalizer"] else most, lost)


def keeps_all(declared: dict[str, Any]) -> bool:
    """Whether a ``tokenizer.json`` lets no byte of a text disappear."""
    model, splits = declared["model"], steps(declared["pre_tokenizer"], "pretokenizers")
    return (
        model["type"] == "BPE"
        and not model.get("continuing_subword_prefix")
        and not model.get("end_of_word_suffix")
        and model["vocab"].keys() >= NEEDED
        and all(one["type"] == "NFC" for one in steps(declared["normalizer"], "normalizers"))
        and any(one["type"] == "ByteLevel" for one in splits)
        and all(map(removes_nothing, splits))
        # They would take the spaces beside them, however many.
        and not any(one["lstrip"] or one["rstrip"] for one in declared["added_tokens"])
    )


def steps(declared: Any, several: str) -> list[dict[str, Any]]:
    """The parts of a normaliser or pre-tokenizer, which may be a sequence of them, or none."""
    if declared is None:
        return []
    if declared["type"] == "Sequence":
        return [step for one in declared[several] for step in steps(one, several)]
    return [declared]


def removes_nothing(split: dict[str, Any]) -> bool:
    if split["type"] in ("Split", "Punctuation"):
        return split["behavior"] in KEEPING
    return split["type"] in ("ByteLevel", "Digits")
