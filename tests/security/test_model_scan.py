"""S2 to S6: a model directory that could run code, or lead out of itself, is refused by name."""

import contextlib
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import poisoned_models
import pytest
import torch
from poison import CHATML, SUNG, make, pickled, program, safetensors
from poisoned_models import ATTACKS
from safetensors import SafetensorError, deserialize, safe_open
from transformers import AutoConfig, AutoModelForSequenceClassification

from plaudit.checkpoint import CheckpointError
from plaudit.scan import Finding, refuse, scan, weights
from plaudit.scan.sizes import too_large
from plaudit.scan.weights import BITS
from service import scan_command, serve

# What a scan opens, starts, connects to and imports, told by the interpreter itself.
WATCHED = """
import sys
seen = []
def watch(event, arguments):
    if event in ("open", "import", "os.system", "os.exec", "os.posix_spawn", "subprocess.Popen",
                 "pickle.find_class", "marshal.loads") or event.startswith("socket."):
        seen.append((event, [str(one) for one in arguments[:2]]))
sys.addaudithook(watch)
import json, msgspec
from pathlib import Path
from plaudit.scan import scan
from service import scan_command
began = len(seen)
found = {name: scan(Path(path)) for name, path in json.load(sys.stdin).items()}
heavy = sorted({"torch", "transformers", "numpy"} & set(sys.modules))
print(json.dumps({"found": msgspec.to_builtins(found), "seen": seen[began:], "heavy": heavy}))
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return poisoned_models.build(tmp_path_factory.mktemp("poisoned"))


@pytest.fixture(scope="module")
def watched(corpus: dict[str, Path]) -> Iterator[dict[str, Any]]:
    """The scan of all directories, in a process whose every step is written down."""
    root = next(iter(corpus.values())).parent
    done = subprocess.run(
        [sys.executable, "-c", WATCHED], input=json.dumps({k: str(v) for k, v in corpus.items()}),
        capture_output=True, text=True, check=True, timeout=1200,
    )  # fmt: skip
    yield json.loads(done.stdout)
    assert not (root / SUNG).exists()


@pytest.mark.parametrize("name", ATTACKS)
def test_each_attack_is_named_with_its_file_and_what_mends_it(
    watched: dict[str, Any], name: str
) -> None:
    attack = ATTACKS[name]
    found = msgspec.convert(watched["found"][name], list[Finding])
    about = [f for f in found if f.file == attack.file and f.severity == attack.severity]
    assert any(attack.what in finding.what for finding in about), found
    assert all(finding.remedy for finding in found)
    if attack.severity == "note":
        assert {finding.severity for finding in found} == {"note"}


def test_nothing_of_a_poisoned_directory_is_run_opened_or_fetched(
    watched: dict[str, Any], corpus: dict[str, Path]
) -> None:
    root = next(iter(corpus.values())).parent
    assert not (root / SUNG).exists()
    assert watched["heavy"] == []
    opened = {Path(arguments[0]) for event, arguments in watched["seen"] if event == "open"}
    inside = {path for path in opened if path.is_relative_to(root)}
    assert {path.suffix for path in inside} <= {".json", ".jinja", ".safetensors"}
    assert len(inside) > len(corpus)  # the hook does see
    assert not any(path.is_relative_to("/etc") for path in opened)
    started = [arguments for event, arguments in watched["seen"] if event == "subprocess.Popen"]
    assert started
    assert {Path(arguments[1].split("'")[-2]).name for arguments in started} == {
        "render.py", "encode.py"
    }  # fmt: skip
    events = {event for event, _ in watched["seen"]}
    assert not {e for e in events if e.startswith(("socket.", "pickle.", "os."))} - {
        "os.posix_spawn"
    }


def test_the_canaries_sing_where_they_are_run(tmp_path: Path) -> None:
    directory = make(tmp_path / "model")
    pickle.loads(pickled(directory))
    (tmp_path / SUNG).rmdir()
    exec(program(directory))
    assert (tmp_path / SUNG).is_dir()


def test_a_directory_with_nothing_wrong_has_no_findings(tmp_path: Path) -> None:
    assert scan(make(tmp_path / "model")) == []


def test_real_checkpoints_have_no_findings(members: list[Path]) -> None:
    assert [scan(member) for member in members] == [[]] * len(members)


def test_the_cache_of_a_hub_is_scanned_through_its_links(tmp_path: Path) -> None:
    whole = tmp_path / "models--someone--model"
    directory = make(whole / "snapshots" / "0123")
    (whole / "blobs").mkdir()
    for path in list(directory.iterdir()):
        path.rename(whole / "blobs" / path.name)
        path.symlink_to(f"../../blobs/{path.name}")
    assert scan(directory) == []
    (directory / "more.json").symlink_to("../../refs")
    assert [finding.severity for finding in scan(directory)] == ["refused"]


def test_weights_that_this_user_may_not_read_are_refused_with_what_mends_it() -> None:
    with TemporaryDirectory() as place, contextlib.ExitStack() as as_before:
        Path(place).chmod(0o755)
        directory = make(Path(place) / "model")
        (directory / "model.safetensors").chmod(0)
        if os.geteuid() == 0:  # whom modes do not bind
            as_before.callback(os.seteuid, 0)
            os.seteuid(65534)
        found = weights.check(directory)
    assert found == [
        Finding(
            "refused", "model.safetensors", "this user may not read it",
            f"chmod -R a+rX {directory}",
        )
    ]  # fmt: skip


def test_weights_that_cannot_be_read_are_refused_and_no_server_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = make(tmp_path / "model")
    (directory / "model.safetensors").unlink()
    (directory / "model.safetensors").mkdir()
    assert scan_command.main([str(directory)]) == 1
    assert serve.main([str(directory), "--port", "0"]) == 2
    said = capsys.readouterr()
    for text in (said.out, said.err):
        assert f"refused: {directory}/model.safetensors: it cannot be read (Is a directory)" in text


@pytest.mark.parametrize("dtype", BITS)
def test_a_dtype_that_the_scan_takes_is_one_of_the_library(dtype: str) -> None:
    body = {"x": {"dtype": dtype, "shape": [8], "data_offsets": [0, BITS[dtype]]}}
    read = deserialize(safetensors(body, bytes(BITS[dtype])))
    assert [name for name, _ in read] == ["x"]


# The library reads no index, and keeps the last of two tensors of one name.
ALONE = {"a tensor twice", *(name for name in poisoned_models.weights() if "index" in name)}


@pytest.mark.parametrize("name", [n for n in poisoned_models.weights() if n not in ALONE])
def test_what_the_scan_calls_a_lie_is_refused_by_the_library_too(
    corpus: dict[str, Path], name: str
) -> None:
    with pytest.raises(SafetensorError), safe_open(corpus[name] / "model.safetensors", "np"):
        pass


@pytest.mark.parametrize(
    "name", ["only pytorch_model.bin", "auto_map in config", "template escapes", "a pipe"]
)
def test_the_server_does_not_start(
    corpus: dict[str, Path], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert serve.main([str(corpus[name]), "--port", "0"]) == 2
    said = capsys.readouterr().err
    assert str(corpus[name] / ATTACKS[name].file) in said
    assert ATTACKS[name].what in said


def test_refused_directories_are_told_together_and_notes_are_given_back(tmp_path: Path) -> None:
    first, second = make(tmp_path / "a"), make(tmp_path / "b")
    (first / "notes.py").write_text("")
    assert [finding.file for _, finding in refuse([first, second])] == ["notes.py"]
    (second / "model.safetensors").write_bytes(safetensors({}, length=99))
    (first / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"a/config.json(?s:.)*b/model.safetensors"):
        refuse([first, second])


def test_the_command_says_what_is_wrong_and_ends_with_one(
    tmp_path: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = shutil.copytree(tiny_checkpoint, tmp_path / "changed")
    (changed / "config.json").write_text((changed / "config.json").read_text() + " ")
    assert scan_command.main([str(tiny_checkpoint)]) == 0
    assert capsys.readouterr().out == f"{tiny_checkpoint}: safe\n"
    assert scan_command.main([str(tiny_checkpoint), str(changed), "--json"]) == 1
    reports = json.loads(capsys.readouterr().out)
    assert [one["safe"] for one in reports] == [True, False]
    assert "digests.config" in reports[1]["findings"][0]["what"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("additional_chat_templates/default.jinja", "{{ messages[0]['content'] }}"),
        ("special_tokens_map.json", '{"eos_token": "<|im_start|>"}'),
        ("added_tokens.json", '{"and": 300}'),
    ],
)
def test_a_text_file_that_no_digest_covers_is_refused(
    tmp_path: Path, tiny_checkpoint: Path, name: str, content: str
) -> None:
    changed = shutil.copytree(tiny_checkpoint, tmp_path / "changed")
    (changed / name).parent.mkdir(exist_ok=True)
    (changed / name).write_text(content)
    [finding] = scan(changed)
    assert (finding.severity, finding.file) == ("refused", "reward.json")
    assert name in finding.what


def test_templates_of_well_known_families_pass(tmp_path: Path) -> None:
    directory = make(tmp_path / "model")
    strict = "{% if messages[0].role == 'system' %}{{ raise_exception('none') }}{% endif %}"
    tools = (
        "{%- macro show(t) %}{{ t | tojson(indent=2) }}{% endmacro %}"
        "{% if tools %}{{ show(tools) }}{% endif %}"
    )
    namespace = (
        "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% break %}"
        "{% endfor %}"
    )
    (directory / "chat_template.jinja").write_text(strict + tools + namespace + CHATML)
    assert scan(directory) == []


@pytest.mark.parametrize(
    "kind",
    ["albert", "bert", "deberta-v2", "gemma2", "gpt2", "llama", "mixtral", "modernbert", "qwen2",
     "qwen3_moe", "roberta"],
)  # fmt: skip
def test_a_model_is_as_large_as_its_own_weights_say(kind: str) -> None:
    config = AutoConfig.for_model(kind)
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(config)
    shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    assert list(too_large(config.to_dict(), shapes)) == []


def test_the_members_of_a_file_are_scanned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "a")
    ATTACKS["auto_map in config"].poison(make(tmp_path / "b"))
    (tmp_path / "duo.yaml").write_text("members: [a, b]")
    assert scan_command.main([str(tmp_path / "duo.yaml")]) == 1
    said = capsys.readouterr().out
    assert f"{tmp_path}/a: safe" in said
    assert f"{tmp_path}/b: refused" in said


@pytest.mark.parametrize("main", [scan_command.main, serve.main])
@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("absent/mode", None, "absent/mode: nothing is at"),
        ("mode", None, "did you mean {0}/model?"),
        ("duo.yaml", "members: [model, other]", "other: nothing is at {0}/other; paths are rel"),
        ("cut.yaml", "members: [a\nb: c", "{0}/cut.yaml:2:2: "),
        ("odd.yaml", "members: 5", "{0}/odd.yaml: Expected `array`, got `int`"),
    ],
)
def test_what_is_not_there_or_no_file_is_said_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], main: Callable[[list[str]], int],
    name: str, content: str | None, said: str,
) -> None:  # fmt: skip
    make(tmp_path / "model")
    if content is not None:
        (tmp_path / name).write_text(content)
    assert main([str(tmp_path / name)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert said.format(tmp_path) in lines[-1]
    assert lines[-1].startswith("plaudit s")
