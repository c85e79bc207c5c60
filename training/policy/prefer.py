"""``plaudit prefer``: a policy tuned on pairs, by DPO, IPO, KTO, ORPO or SimPO of TRL.

A killed run goes on where it stopped: give it the same settings again.
"""

from collections.abc import Sequence
from typing import Any

from pydantic import Field, model_validator
from transformers import Trainer, set_seed

from plaudit.conversation import Encoder
from training import settings
from training.data import splits
from training.data.encoding import EncodedPair, encode
from training.data.shapes import Pair
from training.data.sources import Loaded
from training.policy import tuning
from training.policy.chat import Chat
from training.policy.preference_losses import GAMMA, RECIPES, Loss
from training.policy.preference_rows import rows_of
from training.policy.tuning import Curves, Tuning
from training.settings import DataSettings, SettingsError
from training.train import end_together
from training.training_data import read, sample

# Of the log, and their titles.
SHOWN = {
    "loss": "loss",
    "rewards/accuracies": "accuracy of implicit rewards",
    "rewards/margins": "margin of implicit rewards",
}
# KTO sees no pairs, and logs the means of both kinds instead.
SHOWN_OF_KTO = {
    "loss": "loss",
    "rewards/chosen": "implicit reward, chosen",
    "rewards/rejected": "implicit reward, rejected",
}


class PreferSettings(DataSettings, Tuning):
    """Everything that ``plaudit prefer`` can be told."""

    loss: Loss = Field(description="dpo, ipo, kto, orpo or simpo")
    beta: float | None = Field(None, gt=0, description="default 0.1, of simpo 2.5")
    gamma: float = Field(GAMMA, ge=0, description="of simpo: what the chosen one is to lead by")
    max_tokens: int = Field(512, ge=8, description="pairs with a longer conversation are left out")
    validation_pairs: int | None = Field(200, ge=1, description="pairs per source that measure")
    eval_steps: int = Field(20, ge=1, description="steps between measurements on held-out pairs")

    @model_validator(mode="after")
    def _has_pairs(self) -> "PreferSettings":
        if self.batch_responses % 2:
            raise ValueError(
                "a forward is of whole pairs, and of kto of as many of both kinds: give "
                "batch_responses an even number"
            )
        return self


def main(argv: Sequence[str]) -> int:
    prefer(settings.of_command(PreferSettings, "plaudit prefer", __doc__, argv))
    end_together()
    return 0


def prefer(config: PreferSettings) -> None:
    """Tune on the train side's pairs, measure on the validation side's, write ``OUT/policy``."""
    loaded = read(config)
    refuse_graded(loaded)
    tuning.begin(config, {one.source.name: one.digest for one in loaded})
    chat = Chat.load(config.model)
    tuning.run(config, trainer_of(config, chat, loaded), chat)


def trainer_of(config: PreferSettings, chat: Chat, loaded: Sequence[Loaded]) -> Trainer:
    """TRL's trainer before its first step."""
    recipe = RECIPES[config.loss]
    model = tuning.load(config, chat)
    encoder = Encoder(chat.tokenizer, model.config.vocab_size, config.max_tokens)
    kept, held_out = sides(config, loaded, encoder)
    set_seed(config.seed)  # TRL draws the adapters before it does
    trainer: Trainer = recipe.trainer(
        model=model,
        args=arguments(config),
        train_dataset=rows_of(kept, recipe.rows, chat, config.seed),
        eval_dataset=rows_of(held_out, recipe.rows, chat, config.seed),
        processing_class=chat.tokenizer,
        peft_config=tuning.adapters(config),
        callbacks=[Curves(config.out, SHOWN_OF_KTO if config.loss == "kto" else SHOWN)],
    )
    return trainer


def refuse_graded(loaded: Sequence[Loaded]) -> None:
    """No loss of the family reads how likely or how far the chosen response is the better one."""
    for one in loaded:
        graded = sum(pair.soft_label != 1 or pair.target_margin != 0 for pair in one.pairs)
        if graded:
            raise SettingsError(
                f"{one.source.path or one.source.hub}: {graded} of {len(one.pairs)} pairs have a "
                "soft_label below 1 or a target_margin, which plaudit prefer would ignore: give it "
                "a file without them (of plaudit relabel, one made without --soft, --smooth and "
                "--margin), or let plaudit train learn from this one"
            )


def sides(
    config: PreferSettings, loaded: Sequence[Loaded], encoder: Encoder
) -> tuple[list[Pair], list[Pair]]:
    """Pairs to train on and to measure with, those within the length limit. A source's two limits
    count those that fit, as in the training of a reward model."""
    kept: list[Pair] = []
    held_out: list[Pair] = []
    for one in loaded:
        if one.source.side != "validation":
            found = splits.select(one.pairs, config.split, "train", None)
            fitting = sample(within(found, encoder, one.source.name), one.source)
            print(f"{one.source.name}: {len(fitting)} pairs to train on", flush=True)
            kept += [pair.pair for pair in fitting]
        if one.source.side != "train":
            some = splits.select(one.pairs, config.split, "validation", config.validation_pairs)
            measured = within(some, encoder, f"{one.source.name}, held out")
            held_out += [pair.pair for pair in measured]
    if not kept or not held_out:
        raise SettingsError(
            f"{len(kept)} pairs to train on and {len(held_out)} to measure with: raise max_tokens "
            "or the shares of the split"
        )
    return kept, held_out


def within(pairs: Sequence[Pair], encoder: Encoder, name: str) -> list[EncodedPair]:
    encoded, over = encode(pairs, encoder, None)
    print(f"{name}: {len(encoded)} pairs, {over} over {encoder.max_tokens} tokens", flush=True)
    return encoded


def arguments(config: PreferSettings) -> Any:
    """The configuration of the trainer that has the loss."""
    recipe = RECIPES[config.loss]
    rows = config.batch_responses // (1 if recipe.rows == "singles" else 2)
    told = {**tuning.arguments(config), **recipe.told}
    if config.loss == "simpo":
        told["simpo_gamma"] = config.gamma
    return recipe.config(
        **told | {"per_device_train_batch_size": rows, "per_device_eval_batch_size": rows},
        beta=recipe.beta if config.beta is None else config.beta,
        eval_strategy="steps",
        eval_steps=config.eval_steps,
    )
