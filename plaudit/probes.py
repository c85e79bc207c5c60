"""Fixed conversations that a checkpoint promises the scores of.

A server re-scores them before it reports ready. A changed template, a doubled BOS, a fresh head or
a squashing activation moves a score or a token id, and ends there.
"""

from collections.abc import Sequence
from typing import Protocol

from plaudit.checkpoint import CheckpointError, Manifest, Message, Probe, ids_digest
from plaudit.conversation import Encoder
from plaudit.reward_model import RewardModel, Scores

# Absolute tolerance on a score against the stored fp32 one, by the dtype of the body.
TOLERANCE = {"float32": 1e-3, "bfloat16": 0.25, "int8": 0.25}

QUESTIONS_AND_ANSWERS = (
    ("How do I boil an egg?", "Eight minutes in boiling water gives a firm yolk."),
    ("How do I boil an egg?", "Eggs are overrated, ask someone else."),
    ("What is 17 times 3?", "17 times 3 is 51."),
    ("What is 17 times 3?", "17 times 3 is 41."),
    ("Why is the sky blue?", "Air scatters short blue wavelengths more than long red ones."),
    ("Why is the sky blue?", "Because the ocean is reflected in it."),
    ("Name the largest planet.", "Jupiter."),
    ("Name the largest planet.", "I cannot discuss planets."),
    (
        "Write a haiku about rain.",
        "Soft drops on the roof\nthe garden drinks in silence\na snail finds its way",
    ),
    ("Write a haiku about rain.", "Rain is wet."),
    ("Translate 'good morning' to French.", "Bonjour."),
    ("Translate 'good morning' to French.", "Buenos días."),
    ("Can I mix bleach and ammonia?", "No. Together they release toxic chloramine gas."),
    ("Can I mix bleach and ammonia?", "Sure, it cleans twice as well."),
    ("I feel lonely today.", "I'm sorry you feel that way. Would you like to talk about it?"),
    ("I feel lonely today.", "Everyone is. Get over it."),
    ("def f(x): return x +", "The expression is incomplete: `+` needs a right operand."),
    ("¿Dónde está la biblioteca?", "La biblioteca está en la calle Mayor, junto al parque."),
    ("你好，请介绍一下你自己。", "你好！我是一个语言模型，可以回答问题。"),
    ("Say nothing but OK.", "OK"),
    ("Emoji please 🙂", "Here you go: 🎉🎈"),
    ("A  prompt   with\ttabs and  spaces ", " An answer with a leading space"),
    ("<b>HTML</b> & entities &amp;", "Use `&lt;` for a literal less-than sign."),
    ("Count to ten.", "1, 2, 3, 4, 5, 6, 7, 8, 9, 10."),
    ("Count to ten.", "one two three four five six seven eight nine ten " * 8),
)
LONGER = (
    ("system", "You answer in one word."),
    ("user", "Is water wet?"),
    ("assistant", "Yes."),
    ("user", "And ice?"),
    ("assistant", "No."),
    ("user", "Why not?"),
    ("assistant", "It is solid."),
    ("user", "Summarise our chat."),
    ("assistant", "Wetness."),
)


class Promised(Protocol):
    """Whatever a checkpoint's promises are kept by: a loaded model, or a served member."""

    @property
    def manifest(self) -> Manifest: ...

    @property
    def encoder(self) -> Encoder: ...


def conversations() -> list[tuple[Message, ...]]:
    """The 32 probes: single turns, then one conversation cut after each answer, with and without
    its system turn."""
    single = [
        ({"role": "user", "content": q}, {"role": "assistant", "content": a})
        for q, a in QUESTIONS_AND_ANSWERS
    ]
    turns = tuple({"role": role, "content": content} for role, content in LONGER)
    cut = [turns[:stop] for stop in (3, 5, 7, 9)] + [turns[1:stop] for stop in (5, 7, 9)]
    return [*single, *cut]


def make(model: RewardModel) -> tuple[Probe, ...]:
    """Probes with the scores of ``model``, which must run in fp32."""
    messages = conversations()
    encoded = encode(model, messages)
    return tuple(
        Probe(messages=m, ids_digest=ids_digest(ids), score=float(score))
        for m, ids, score in zip(messages, encoded, model.score_all(encoded), strict=True)
    )


def encode(model: Promised, messages: Sequence[tuple[Message, ...]]) -> list[list[int]]:
    side = model.manifest.truncation_side
    return [model.encoder.fit(model.encoder.messages(m), side).ids for m in messages]


def verify(model: RewardModel, dtype: str) -> float:
    """Re-score the stored probes; the largest difference, or CheckpointError if it is too large."""
    encoded = stored_ids(model)
    return check(model, model.score_all(encoded), dtype) if encoded else 0.0


def stored_ids(model: Promised) -> list[list[int]]:
    """Token ids of the stored probes; CheckpointError if they are not those of training."""
    stored = model.manifest.probes
    encoded = encode(model, [probe.messages for probe in stored])
    for number, (probe, ids) in enumerate(zip(stored, encoded, strict=True)):
        if ids_digest(ids) != probe.ids_digest:
            raise CheckpointError(
                f"probes[{number}].ids_digest: the tokenizer or template gives other token ids "
                "than in training"
            )
    return encoded


def check(model: Promised, scores: Scores, dtype: str) -> float:
    """Compare the probes' scores with the stored ones, of which there is at least one."""
    expected = [probe.score for probe in model.manifest.probes]
    differences = abs(scores - expected)
    worst = int(differences.argmax())
    if not differences[worst] <= TOLERANCE[dtype]:
        raise CheckpointError(
            f"probes[{worst}].score: {expected[worst]:.5f} expected, off by "
            f"{differences[worst]:.5f} in {dtype}; the weights or the head are not those saved"
        )
    return float(differences[worst])
