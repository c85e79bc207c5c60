"""One thread turns texts into token ids, for callers that still wait."""

import asyncio
import threading

from service import scorer
from service.items import encode


async def test_what_its_caller_has_left_is_not_encoded(serve, tiny_checkpoint, monkeypatch):
    encoded, begun, go_on = [], threading.Event(), threading.Event()

    def slowly(member, numerics, item, cut):
        encoded.append(item.response)
        begun.set()
        assert go_on.wait(60)
        return encode(member, numerics, item, cut)

    async with serve(models=[tiny_checkpoint]) as client:
        monkeypatch.setattr(scorer, "encode", slowly)
        items = [{"prompt": "p", "response": str(n)} for n in range(9)]
        left = asyncio.create_task(client.post("/score", json={"items": items}))
        assert await asyncio.to_thread(begun.wait, 60)
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
        go_on.set()
        other = {"prompt": "p", "response": "another's"}
        answer = await client.post("/score", json={"items": [other]})
    assert answer.json()["items"][0]["score"] is not None
    assert encoded == ["0", "another's"]
