"""Score held-out pairs through a running service and compare with ``plaudit evaluate``.

    plaudit serve runs/branches/ensemble.yaml --dtype float32 &
    python examples/real/score_over_http.py --evaluation runs/branches/evaluation-hh

Prints for each source the accuracy over HTTP beside the evaluation's, the largest difference of a
reward, and how many pairs the two order differently; exits with 1 if there is such a pair.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from plaudit import RewardClient
from training import settings
from training.data import sources, splits
from training.settings import DataSettings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--data", type=Path, default=Path("examples/real/evaluate-hh.yaml"))
    parser.add_argument("--evaluation", type=Path, required=True, help="its --out directory")
    options = parser.parse_args()
    config = settings.load(DataSettings, options.data)
    alike = True
    with RewardClient(options.url, timeout_seconds=3600, batch_items=64, concurrency=4) as client:
        client.wait_ready(60)
        for source in config.sources:
            pairs = splits.select(
                sources.load(source).pairs, config.split, "test", source.max_pairs
            )
            served = rewards(client, pairs)
            evaluated = evaluated_rewards(options.evaluation, source.name)
            print(f"{source.name}: {comparison(served, evaluated)}", flush=True)
            alike &= np.array_equal(chosen_wins(served), chosen_wins(evaluated))
    sys.exit(0 if alike else 1)


def rewards(client: RewardClient, pairs: list[sources.Pair]) -> np.ndarray:
    """Ensemble rewards (P, 2) of the chosen and the rejected response of each pair."""
    items = [
        {"prompt": list(pair.prompt), "response": response}
        for pair in pairs
        for response in (pair.chosen, pair.rejected)
    ]
    answer = client.ensemble_score(items, truncation="left")
    answer.raise_for_errors()
    return np.array(answer.rewards, np.float64).reshape(-1, 2)


def evaluated_rewards(directory: Path, source: str) -> np.ndarray:
    lines = map(json.loads, (directory / "scores.jsonl").read_text().splitlines())
    return np.array([line["scores"]["ens"] for line in lines if line["source"] == source])


def chosen_wins(rewards: np.ndarray) -> np.ndarray:
    return rewards[:, 0] > rewards[:, 1]


def comparison(served: np.ndarray, evaluated: np.ndarray) -> str:
    right, expected = chosen_wins(served), chosen_wins(evaluated)
    return (
        f"{len(served)} pairs, accuracy {right.mean():.4f} over HTTP, {expected.mean():.4f} "
        f"evaluated; largest difference of a reward {np.abs(served - evaluated).max():.2g}, "
        f"{(right != expected).sum()} pairs ordered differently"
    )


if __name__ == "__main__":
    main()
