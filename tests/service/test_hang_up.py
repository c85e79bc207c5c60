"""Work for a caller that hung up is not begun, long before its deadline."""

import json
import socket
import threading
from urllib.parse import urlsplit

import httpx2

from plaudit.joint_model import JointModel


def code_count(metrics, code: str) -> float:
    return metrics.requests.http.labels("/score", "POST", code)._value.get()


def test_a_caller_that_hangs_up_frees_the_engine(listen, metrics, tiny_checkpoint, monkeypatch):
    begun, gate, computed = threading.Event(), threading.Event(), []
    whole = JointModel.compute

    def held(self, asked):
        begun.set()
        gate.wait()
        computed.extend(one.ids[0] for one in asked)
        return whole(self, asked)

    items = [{"token_ids": [10 + i, 6, 7] * 150} for i in range(30)]
    body = json.dumps({"items": items}).encode()
    with listen(models=[tiny_checkpoint], max_batch_tokens=512) as url:
        monkeypatch.setattr(JointModel, "compute", held)
        at = urlsplit(url)
        with socket.create_connection((at.hostname, at.port)) as caller:
            head = f"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            caller.sendall(head.encode() + body)
            assert begun.wait(30)
        try:
            for _ in range(2000):
                assert httpx2.get(f"{url}/livez").status_code == 200
                if code_count(metrics, "499"):
                    break
            assert code_count(metrics, "499") == 1
        finally:
            gate.set()
        answer = httpx2.post(f"{url}/score", json={"items": [{"token_ids": [9]}]}, timeout=30)
        assert answer.status_code == 200
    # The forward that ran, and the other caller's.
    assert len(computed) <= 2
