"""A model directory: scanned first, and what the scan refuses is not loaded here either."""

from collections.abc import Iterator
from pathlib import Path

from plaudit import checkpoint, scan
from plaudit.checkpoint import CheckpointError
from service.doctor import tokens, weights
from service.doctor.finding import Finding, failed, ok, warning
from service.settings import Settings, SettingsError
from service.sources import sources


def directories(settings: Settings) -> dict[str, Path] | Finding:
    """What a server would load, by name: directories, members of ensembles and of objectives, and
    the models of ``--config``; or why it would load nothing."""
    if not settings.models and settings.config is None:
        return {}
    try:
        return sources(settings).models
    except (CheckpointError, SettingsError) as error:
        return failed("models", str(error), "correct the path or the file; see docs/serving.md")


def check(name: str, directory: Path, max_tokens: int) -> tuple[list[Finding], int]:
    """Findings of one directory and the parameters of its weights, 0 where those are not whole."""
    if not directory.is_dir():
        return [failed(name, f"{directory}: no such directory", f"ls {directory.parent}")], 0
    findings = [*scanned(name, directory)]
    if any(one.state == "failed" for one in findings):
        return findings, 0
    parameters = 0
    try:
        found, parameters = weights.check(name, directory)
        findings.append(found)
        config = checkpoint.check_config(directory)
        findings.append(purpose(name, config.get("problem_type")))
        findings.append(manifest(name, directory, max_tokens))
        findings += tokens.check(name, directory, config)
    except CheckpointError as error:
        findings.append(failed(name, str(error), mend_of(directory, str(error))))
    return findings, parameters


def scanned(name: str, directory: Path) -> Iterator[Finding]:
    """What the scan of ``plaudit serve`` says of the files."""
    found = scan.scan(directory)
    wrong = {one.file for one in found if one.severity == "refused"}
    for one in found:
        said = f"{one.file}: {one.what}"
        if one.severity == "refused":
            yield failed(f"{name} files", said, one.remedy)
        elif one.file not in wrong:  # only weights that are pickled are not to be thrown away
            yield warning(f"{name} files", said, one.remedy)
    if not found:
        yield ok(f"{name} files", "data only: no pickle, no program, no template that does harm")


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
    if "tokenizer" in said:
        return (
            "python -c 'from transformers import AutoTokenizer as T; "
            f'T.from_pretrained("BASE").save_pretrained("{directory}")\''
        )
    if "digests." in said or checkpoint.MANIFEST in said:
        return f"copy it again: rsync -c SOURCE/ {directory}/"
    return f"see docs/checkpoint.md, and edit {directory}/config.json"
