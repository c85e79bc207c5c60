"""The scan of a model directory, before anything of it is loaded: only data, whole, and as said."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from plaudit import checkpoint, joint_file
from plaudit.checkpoint import CheckpointError
from service.doctor import tokens, weights
from service.doctor.finding import Finding, failed, ok, warning

PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib")


def directories(paths: Sequence[Path]) -> list[Path] | Finding:
    """Directories as they are, and the members of ensemble and objectives files; or why a file is
    neither."""
    found: list[Path] = []
    try:
        for path in paths:
            joint = path.is_file()
            found += [path.parent / m for m in joint_file.read(path).models] if joint else [path]
    except CheckpointError as error:
        return failed("models", str(error), "see docs/serving.md, Ensembles")
    return list(dict.fromkeys(found))


def check(directory: Path, max_tokens: int) -> tuple[list[Finding], int]:
    """Findings of one directory and the parameters of its weights, 0 where those are not whole."""
    if not directory.is_dir():
        return [failed("model", f"{directory}: no such directory", f"ls {directory.parent}")], 0
    name = directory.resolve().name
    findings = [*contents(name, directory)]
    parameters = 0
    try:
        found, parameters = weights.check(directory)
        findings.append(found)
        config = checkpoint.check_config(directory)
        findings.append(purpose(name, config.get("problem_type")))
        findings.append(manifest(name, directory, max_tokens))
        findings += tokens.check(name, directory, config)
    except CheckpointError as error:
        findings.append(failed(name, str(error), mend_of(directory, str(error))))
    except json.JSONDecodeError as error:
        findings.append(
            failed(name, f"{directory}: no JSON: {error}", f"git -C {directory} status")
        )
    return findings, parameters


def contents(name: str, directory: Path) -> Iterator[Finding]:
    """Files that could run code somewhere, though not here."""
    inside = sorted(path.name for path in directory.iterdir() if path.is_file())
    pickles = [one for one in inside if Path(one).suffix in PICKLES]
    programs = [one for one in inside if one.endswith(".py")]
    if pickles or programs:
        # Pickled weights that are the only ones there are not to be thrown away.
        spare = any(one.endswith(".safetensors") for one in inside)
        rm = f"cd {directory} && rm {' '.join(pickles + programs)}"
        yield warning(
            f"{name} files",
            f"{', '.join(pickles + programs)}: may run code in other tools; never read here",
            rm if spare else "convert the weights first, as below",
        )
    else:
        yield ok(f"{name} files", "safetensors and data only; no pickle, no program")


def purpose(name: str, problem_type: object) -> Finding:
    if problem_type in (None, "regression"):
        return ok(f"{name} config", f"one label, problem_type {problem_type or 'not given'}")
    return warning(
        f"{name} config",
        f"problem_type is {problem_type}: other tools may squash its score to a probability",
        'set "problem_type": "regression" in config.json before reward.json is written',
    )


def manifest(name: str, directory: Path, max_tokens: int) -> Finding:
    """reward.json against the files. CheckpointError as ``checkpoint.describe`` raises it."""
    found, revision = checkpoint.describe(directory, max_tokens)
    if found.kind == "plain":
        return ok(
            f"{name} contract",
            f"plain model, no {checkpoint.MANIFEST}: served without calibration or probes",
        )
    return ok(
        f"{name} contract",
        f"{found.kind}, {revision[:19]}, every digest fits, {found.max_tokens} tokens, "
        f"{len(found.probes)} probes",
    )


def mend_of(directory: Path, said: str) -> str:
    """The command for what ``plaudit.checkpoint`` refuses."""
    if "safetensors" in said:
        return (
            "where you trust it: python -c 'from transformers import AutoModelForSequence"
            f'Classification as M; M.from_pretrained("{directory}").save_pretrained("OUT")\''
        )
    if "tokenizer" in said:
        return (
            "python -c 'from transformers import AutoTokenizer as T; "
            f'T.from_pretrained("BASE").save_pretrained("{directory}")\''
        )
    if "digests." in said or checkpoint.MANIFEST in said:
        return f"copy it again: rsync -c SOURCE/ {directory}/"
    return f"see docs/checkpoint.md, and edit {directory}/config.json"
