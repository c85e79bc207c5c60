"""``plaudit prefer``: a policy tuned on pairs, by DPO, IPO, KTO, ORPO or SimPO of TRL."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator
from transformers import Trainer

from plaudit.conversation import Encoder
from training import settings
from training.data import splits
from training.data.encoding import encode
from training.data.shapes import Pair
from training.data.sources import Loaded
from training.policy import tuning
from training.policy.chat import Chat
from training.policy.preference_losses import GAMMA, RECIPES, Loss
from training.policy.preference_rows import rows_of
from training.policy.tuning import Curves, Tuning
from training.settings import DataSettings, SettingsError
from training.train import describe
from training.training_data import read

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
    epochs: float = Field(1.0, gt=0)
    batch_pairs: int = Field(8, ge=1, description="pairs in one forward; of kto, responses")
    eval_steps: int = Field(20, ge=1, description="steps between measurements on held-out pairs")

    @model_validator(mode="after")
    def _has_neighbours(self) -> "PreferSettings":
        if self.loss == "kto" and self.batch_pairs < 2:
            raise ValueError("kto holds a batch's responses against its other prompts: at least 2")
        return self


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="plaudit prefer",
        description=__doc__,
        epilog="\n".join(describe(PreferSettings)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("settings", type=Path, help="YAML file of settings")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="override a setting")
    parser.add_argument("--resume", action="store_true", help="go on from the last saved state")
    options = parser.parse_args(argv)
    prefer(settings.load(PreferSettings, options.settings, options.overrides), options.resume)
    return 0


def prefer(config: PreferSettings, resume: bool = False) -> None:
    """Tune on the train side's pairs, measure on the validation side's, save ``OUT``."""
    loaded = read(config)
    data = {one.source.name: one.digest for one in loaded}
    last = tuning.begin(config, data, resume)
    chat = Chat.load(config.model)
    tuning.train(config, trainer_of(config, chat, loaded), chat, data, last)


def trainer_of(config: PreferSettings, chat: Chat, loaded: Sequence[Loaded]) -> Trainer:
    """TRL's trainer before its first step."""
    recipe = RECIPES[config.loss]
    model = tuning.load_policy(config, chat.tokenizer)
    encoder = Encoder(chat.tokenizer, model.config.vocab_size, config.max_tokens)
    kept, held_out = sides(config, loaded, encoder)
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


def sides(
    config: PreferSettings, loaded: Sequence[Loaded], encoder: Encoder
) -> tuple[list[Pair], list[Pair]]:
    """Pairs to train on and to measure with, those within the length limit."""
    kept: list[Pair] = []
    held_out: list[Pair] = []
    for one in loaded:
        if one.source.side != "validation":
            found = splits.select(one.pairs, config.split, "train", one.source.max_pairs)
            kept += within(found, encoder, one.source.name)
        if one.source.side != "train":
            some = splits.select(one.pairs, config.split, "validation", config.validation_pairs)
            held_out += within(some, encoder, f"{one.source.name}, held out")
    if not kept or not held_out:
        raise SettingsError(
            f"{len(kept)} pairs to train on and {len(held_out)} to measure with: raise max_tokens "
            "or the shares of the split"
        )
    return kept, held_out


def within(pairs: Sequence[Pair], encoder: Encoder, name: str) -> list[Pair]:
    encoded, over = encode(pairs, encoder, None)
    print(f"{name}: {len(encoded)} pairs, {over} over {encoder.max_tokens} tokens", flush=True)
    return [one.pair for one in encoded]


def arguments(config: PreferSettings) -> Any:
    """The configuration of the trainer that has the loss."""
    recipe = RECIPES[config.loss]
    told = dict(recipe.told)
    if recipe.rows == "texts":
        # A margin for the end token; nothing is cut, what is longer was left out.
        told["max_length"] = 2 * config.max_tokens
    if config.loss == "simpo":
        told["simpo_gamma"] = config.gamma
    return recipe.config(
        **tuning.arguments(config),
        **told,
        beta=recipe.beta if config.beta is None else config.beta,
        num_train_epochs=config.epochs,
        per_device_train_batch_size=config.batch_pairs,
        per_device_eval_batch_size=config.batch_pairs,
        eval_strategy="steps",
        eval_steps=config.eval_steps,
    )
