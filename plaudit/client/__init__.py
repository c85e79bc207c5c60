"""The client of the service: what to send, when to send it again, what an answer means."""

from plaudit.client.async_reward_client import AsyncRewardClient
from plaudit.client.reward_client import RewardClient

__all__ = ["AsyncRewardClient", "RewardClient"]
