"""The client of the service: what to send, when to send it again, what an answer means."""

from plaudit.client.reward_client import AsyncRewardClient, RewardClient

__all__ = ["AsyncRewardClient", "RewardClient"]
