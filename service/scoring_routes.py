"""Which routes give rewards, ours and those of other servers' formats.

Written out once, as Prometheus matches labels: commands and dashboards read it without loading the
formats, and a test holds it to the routes that are declared.
"""

import re

SCORING_ROUTES = (
    "/score|/ensemble_score|/classify|/pooling|/rerank|/v1/rerank|/v2/rerank|/predict|/encode"
    "|/v1/embeddings|/get_reward|/slime|/v2/models/.*/infer"
)


def scores(route: str) -> bool:
    return re.fullmatch(SCORING_ROUTES, route) is not None
