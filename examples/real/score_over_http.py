"""Score held-out pairs through a running service and compare with ``plaudit evaluate``.

    plaudit serve runs/real/ensemble.yaml --dtype bfloat16 &
    python examples/real/score_over_http.py --evaluation runs/real/evaluation

Prints the accuracy over HTTP beside the evaluation's, for each source.
"""

import argparse
import json
from pathlib import Path

from plaudit import RewardClient
from training import settings
from training.data import sources, splits
from training.settings import DataSettings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--data", type=Path, default=Path("examples/real/evaluate.yaml"))
    parser.add_argument("--evaluation", type=Path, required=True, help="its --out directory")
    parser.add_argument("--sources", nargs="+", default=["hh-harmless", "hh-helpful"])
    options = parser.parse_args()
    config = settings.load(DataSettings, options.data)
    evaluation = json.loads((options.evaluation / "evaluation.json").read_text())
    with RewardClient(options.url, timeout_seconds=3600, batch_items=64, concurrency=4) as client:
        client.wait_ready(60)
        for source in config.sources:
            if source.name not in options.sources:
                continue
            pairs = splits.select(
                sources.load(source).pairs, config.split, "test", source.max_pairs
            )
            found = accuracy(client, pairs)
            evaluated = evaluation["sources"][source.name]["rows"]["ens"]["accuracy"]["value"]
            print(f"{source.name}: {len(pairs)} pairs, over HTTP {found}, evaluation {evaluated}")


def accuracy(client: RewardClient, pairs: list[sources.Pair]) -> float:
    """Share of pairs whose chosen response has the higher ensemble reward."""
    items = [
        {"prompt": list(pair.prompt), "response": response}
        for pair in pairs
        for response in (pair.chosen, pair.rejected)
    ]
    answer = client.ensemble_score(items, truncation="left")
    answer.raise_for_errors()
    rewards = [reward for reward in answer.rewards if reward is not None]
    wins = sum(chosen > rejected for chosen, rejected in zip(rewards[::2], rewards[1::2]))  # noqa: B905
    return wins / len(pairs)


if __name__ == "__main__":
    main()
