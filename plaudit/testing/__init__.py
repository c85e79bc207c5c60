"""For tests of code that calls the service."""

from plaudit.testing.fake_server import FakeServer, Received

__all__ = ["FakeServer", "Received"]
