"""The declared routes: which one a path is of, who may use it, how it says that it failed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from starlette.routing import compile_path

from service.problems import Failure

# Of everybody; of keys that score, and for "scoring" of those whose network is trusted too; of keys
# that read metrics; of keys that administrate; of no route that is declared.
Use = Literal["open", "scoring", "keyed", "metrics", "admin", "unknown"]
# A failure's status and body in the words of another server's protocol.
Refuse = Callable[[Failure], tuple[int, object]]


@dataclass(frozen=True)
class Route:
    """``path`` may have places for names, such as ``/v2/models/{model}/infer``. ``refuse`` and
    a key in the path are for routes of other servers' protocols, and so is ``asks``: the struct
    of a body, or of any of several, for the published schema."""

    path: str
    use: Use
    refuse: Refuse | None = None
    asks: type | tuple[type, ...] = ()

    @property
    def of_a_peer(self) -> bool:
        return self.refuse is not None


UNKNOWN = Route("unknown", "unknown")
METRICS = Route("/metrics", "metrics")
PROBES = (Route("/livez", "open"), Route("/readyz", "open"))
# What /ops asks for again and again.
OPS_MODELS = Route("/ops/models", "metrics")
# Of the pages.
FILES = "/ui/{file}"
OWN = (
    *PROBES,
    METRICS,
    *(Route(path, "open") for path in ("/openapi.json", "/", "/docs", FILES)),
    Route("/score", "scoring"),
    Route("/ensemble_score", "scoring"),
    Route("/models", "keyed"),
)
# The page for people, where a browser asks them for the key.
OPS = Route("/ops", "metrics")
# Of the admin port.
ADMIN = (*PROBES, METRICS, OPS_MODELS, OPS, Route("/", "open"), Route(FILES, "open"))
# Of the admin port where it has keys.
ACTS = tuple(Route(f"/admin/{name}", "admin") for name in ("swap", "swaps", "models"))


class Routes:
    """Finds the declared route of a path. Labels and log lines have its ``path``, from a closed
    set, and never what a caller wrote.

    Starlette has a matcher of its own, whose ``$`` also takes a line's end for the end of a path:
    what is UNKNOWN here must not come to it."""

    def __init__(self, routes: Sequence[Route]):
        self._exact = {route.path: route for route in routes if "{" not in route.path}
        named = [route for route in routes if "{" in route.path]
        self._patterns = [(compile_path(route.path)[0], route) for route in named]

    def of(self, path: str) -> Route:
        exact = self._exact.get(path)
        if exact is not None:
            return exact
        matching = (route for pattern, route in self._patterns if pattern.fullmatch(path))
        return next(matching, UNKNOWN)
