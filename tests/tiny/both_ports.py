"""The service with its admin port, over HTTP, in the test's own loop."""

import asyncio

import httpx2
import uvicorn

from service import admin, listening
from service.app import create_app
from service.engines.torch_engine import TorchEngine
from service.registry import Registry
from service.serve import access_of, admin_of, listener
from service.settings import Settings
from service.sources import sources


class Both:
    """The service with its admin port, in the test's own loop, without signals."""

    def __init__(self, metrics, **settings):
        self._metrics = metrics
        self.settings = Settings(dtype="float32", device="cpu", _cli_parse_args=False, **settings)

    async def __aenter__(self):
        self.engine = engine = TorchEngine(self.settings, self._metrics)
        self.registry = await Registry.open(engine, sources(self.settings), self._metrics)
        access = access_of(self.settings, self._metrics)
        self.app = create_app(self.settings, self.registry, self._metrics, access.keys)
        self.main = uvicorn.Server(listener(self.app, "127.0.0.1", 0))
        self.app.state.health.stopping = lambda: self.main.should_exit
        at = listening.bind("127.0.0.1", 0, "--")
        admin_at = listening.bind(self.settings.admin_host, self.settings.admin_port, "--admin-")
        beside = admin_of(self.settings, self.app, self.registry, self._metrics, access)
        self.admin = uvicorn.Server(listener(beside, "127.0.0.1", 0))
        self.serving = asyncio.create_task(admin.serve_both(self.main, at, self.admin, admin_at))
        async with asyncio.timeout(60):
            while not (self.main.started and self.admin.started):
                await asyncio.sleep(0.01)
        port = self.main.servers[0].sockets[0].getsockname()[1]
        self.client = httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=120)
        url = f"http://127.0.0.1:{self.settings.admin_port}"
        self.ops = httpx2.AsyncClient(base_url=url, timeout=120)
        return self

    async def __aexit__(self, *_):
        self.main.should_exit = True
        await self.client.aclose()
        await self.serving
        await self.ops.aclose()
