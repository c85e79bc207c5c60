"""Which routes score is one rule, and everybody who asks goes by it."""

import re

from service.compat import peers
from service.edge import QUIET
from service.routes import ADMIN, OWN
from service.scoring_routes import scores
from service.ui import assets

DECLARED = {route.path: route for route in (*OWN, *ADMIN, *peers.ROUTES)}
SCORING = {"/score", "/ensemble_score"} | {one.path for one in peers.ROUTES if one.asks}


def test_a_route_scores_that_is_our_own_or_asks_for_another_servers_body():
    assert {path for path in DECLARED if scores(path)} == SCORING


def test_the_page_of_operations_counts_the_same():
    text = (assets.HERE / "files" / "panels.js").read_text()
    [listed] = re.findall(r"SCORING = new Set\(\[(.*?)\]\)", text, re.DOTALL)
    assert set(re.findall(r'"([^"]+)"', listed)) == SCORING


def test_what_is_not_logged_is_declared_and_scores_nothing():
    assert set(QUIET) <= DECLARED.keys() - SCORING
