"""A model directory, looked at before anything of it is loaded.

A model file is a program unless proven otherwise: pickles run code when they are read,
configurations name code to fetch, templates are executed for each conversation. Here files are
listed, JSON and the headers of safetensors are read, and templates are rendered and texts encoded
in processes of their own with little memory and time. No weight is read, and neither torch nor
Transformers is imported.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from plaudit import checkpoint
from plaudit.checkpoint import CheckpointError
from plaudit.scan import configurations, files, sizes, templates, tokenizers, weights
from plaudit.scan.finding import Finding, refused

__all__ = ["Finding", "explain", "refuse", "scan", "verify"]


def scan(directory: Path) -> list[Finding]:
    """Everything that is to be said of a model directory, what is refused first.

    Digests are left out, since that reads all weights: see ``verify``.
    """
    if not directory.is_dir():
        return [refused(".", "no such directory", "correct the path")]
    listed, found = files.listed(directory)
    if not found:  # where a file could lead outside, none is opened
        found = configurations.check(directory)
        if not found:  # templates stand in files that these checks have read
            found = [*texts(directory), *templates.check(directory)]
            found += tokenizers.check(directory)
        lies = weights.check(directory)
        if not found and not lies:  # both are read again
            found = sizes.check(directory)
        found = [*found, *lies, *files.programs(listed, directory)]
    return sorted(found, key=lambda finding: finding.severity != "refused")


def texts(directory: Path) -> list[Finding]:
    """Tokenizer and templates that differ from ``reward.json``, or that it does not know."""
    return differences(directory, checkpoint.check_texts)


def verify(directory: Path) -> list[Finding]:
    """What differs from ``reward.json``, if there is one; reads all weights once."""
    return differences(directory, checkpoint.read)


def differences(directory: Path, compare: Callable[[Path], object]) -> list[Finding]:
    if not checkpoint.is_complete(directory):
        return []
    try:
        compare(directory)
    except CheckpointError as error:
        return [refused(checkpoint.MANIFEST, str(error), "restore the files it was written for")]
    return []


def refuse(directories: Sequence[Path]) -> list[tuple[Path, Finding]]:
    """Scan all; CheckpointError if anything is refused, else the notes, each with its directory."""
    found = [(one, finding) for one in directories for finding in scan(one)]
    wrong = [pair for pair in found if pair[1].severity == "refused"]
    if wrong:
        lines = "\n".join(explain(directory, finding) for directory, finding in wrong)
        raise CheckpointError(f"the scan of the models found what is never loaded\n{lines}")
    return found


def explain(directory: Path, finding: Finding) -> str:
    """One line for people."""
    place = directory if finding.file == "." else directory / finding.file
    return f"{finding.severity}: {place}: {finding.what}; {finding.remedy}"
