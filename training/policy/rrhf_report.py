"""What RRHF came to: how often the policy's own likelihood orders held-out pairs as rewards do."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from training.policy.candidates import Candidates
from training.policy.own_accuracy import Likelihoods, Ordered, ordered


def write(out: Path, rows: Sequence[Candidates], policies: Mapping[str, Likelihoods]) -> None:
    """``rrhf.json`` and ``.md``; prints the table."""
    found = ordered(rows, policies)
    (out / "rrhf.json").write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1))
    (out / "rrhf.md").write_text(text := table(found))
    print(text, end="")


def table(found: Mapping[str, Ordered]) -> str:
    first = next(iter(found.values()))
    lines = [
        f"| {first.pairs} pairs, {first.prompts} prompts | accuracy | less {next(iter(found))} |",
        "| --- | --- | --- |",
    ]
    lines += [
        f"| {name} | {one.accuracy:.3f} | {one.less_first:+.3f} |" for name, one in found.items()
    ]
    return "\n".join(lines) + "\n"
