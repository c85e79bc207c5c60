"""``plaudit ppo``: a policy tuned on the rewards of a running service, by PPO with a critic.

A killed run goes on where it stopped: give it the same settings again.
"""

from collections.abc import Sequence

from pydantic import Field
from transformers import set_seed
from trl import GRPOConfig

from training import backbone, settings
from training.policy import one_process, tuning
from training.policy.chat import Chat
from training.policy.critic import Critic
from training.policy.grpo import SHOWN, GrpoSettings, arguments, dataset, on_rewards
from training.policy.ppo_trainer import PpoTrainer
from training.policy.prompts import Prompt
from training.policy.rewards_ahead import RewardFunction
from training.policy.tuning import Curves
from training.settings import SettingsError
from training.train import end_together


class PpoSettings(GrpoSettings):
    """Everything that ``plaudit ppo`` can be told."""

    responses: int = Field(2, ge=2, description="to each prompt; TRL takes two at least")
    critic: str | None = Field(None, description="model the critic begins as; null: the policy")
    critic_lr: float = Field(3e-6, gt=0, description="learning rate of the critic")
    gamma: float = Field(1.0, gt=0, le=1, description="discount of a later token's reward")
    lam: float = Field(0.95, ge=0, le=1, description="how far what came is trusted over the critic")

    @property
    def bases(self) -> list[str]:
        return [*super().bases, *([] if self.critic is None else [self.critic])]


def main(argv: Sequence[str]) -> int:
    ppo(settings.of_command(PpoSettings, "plaudit ppo", __doc__, argv))
    end_together()
    return 0


def ppo(config: PpoSettings) -> None:
    """Tune, and write ``OUT/policy``. The critic is one process's own."""
    one_process.require("plaudit ppo")
    on_rewards(config, trainer_of)


def refuse_other_ids(critic: str, chat: Chat) -> None:
    """SettingsError where the critic would read the policy's ids as other tokens, or as none."""
    theirs = backbone.own_tokenizer(critic).get_vocab()
    if any(theirs.get(token) != place for token, place in chat.tokenizer.get_vocab().items()):
        raise SettingsError(
            f"critic={critic} has another vocabulary than the policy, whose token ids it would "
            "read as other words: take a model of the policy's tokenizer"
        )


def trainer_of(
    config: PpoSettings, chat: Chat, asked: Sequence[Prompt], reward: RewardFunction
) -> PpoTrainer:
    """The trainer before its first step."""
    args = GRPOConfig(**arguments(config))
    base = config.critic or config.model
    refuse_other_ids(base, chat)
    critic = Critic.load(base, config.critic_lr, chat.tokenizer.pad_token_id, args.device)
    policy = tuning.load(config, chat)
    set_seed(config.seed)  # TRL draws the adapters before it does
    return PpoTrainer(
        reward,
        config.parts,
        critic,
        config.gamma,
        config.lam,
        model=policy,
        args=args,
        train_dataset=dataset(asked),
        processing_class=chat.tokenizer,
        peft_config=tuning.adapters(config),
        callbacks=[Curves(config.out, SHOWN | {"critic/loss": "critic's error"})],
    )
