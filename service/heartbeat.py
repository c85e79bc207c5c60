"""A task that only sleeps: how late it wakes is how long everything else waits for the loop."""

import asyncio

from service.metrics import Metrics

PERIOD_SECONDS = 0.25


async def beat(metrics: Metrics) -> None:
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + PERIOD_SECONDS
        await asyncio.sleep(PERIOD_SECONDS)
        metrics.saturation.loop_lag.observe(max(0.0, loop.time() - due))
        metrics.saturation.busy.sample()
