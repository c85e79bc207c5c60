"""Fine-tuning on chosen responses, its checkpoints, and members that start from them."""

import json
import shutil
from copy import deepcopy
from pathlib import Path

import msgspec
import pytest
import torch
import yaml
from short_runs import interrupted_after_first_state, same, weights
from transformers import AutoModelForCausalLM, AutoTokenizer

from plaudit import checkpoint
from plaudit.checkpoint import Base, CheckpointError
from plaudit.conversation import Encoder
from training import average, ensemble, lineage
from training.data.encoding import EncodedPair
from training.data.shapes import Pair
from training.data.sources import Source
from training.data.splits import Split
from training.in_sample import base_trained_on, trained_on
from training.method_settings import LinearProbe
from training.settings import EnsemblePlan, MemberSettings, SettingsError
from training.sft import SftSettings, examples, main, sft, train_pairs
from training.training_data import read
from training.warm import warm

SPLIT = Split(validation=0.3, test=0.2)


@pytest.fixture(scope="module")
def tune(tiny_base, easy_pairs):
    """``tune(out)``: settings of a fine-tuning of ten steps that keeps two."""

    def settings(out: Path, **changes: object) -> SftSettings:
        values: dict[str, object] = {
            "model": str(tiny_base),
            "out": out,
            "sources": [Source(name="easy", path=easy_pairs)],
            "split": SPLIT,
            "max_tokens": 128,
            "epochs": 2,
            "lr": 3e-3,
            "batch_responses": 8,
            "precision": "fp32",
            "save_dtype": "float32",
            "save_at": [6, 10],
            "save_steps": 4,
            "logging_steps": 1,
            "log_to": [],
        }
        return SftSettings(**(values | changes))

    return settings


@pytest.fixture(scope="module")
def tuned(tune, tmp_path_factory) -> SftSettings:
    config = tune(tmp_path_factory.mktemp("sft") / "out")
    sft(config)
    return config


@pytest.fixture(scope="module")
def baklava(tuned, configure, tmp_path_factory) -> list[Path]:
    """Two members from two checkpoints of one run, with one probed head. Read only."""
    plan = configure(
        tmp_path_factory.mktemp("baklava") / "out",
        EnsemblePlan,
        epochs=1,
        model=str(tuned.out / "step-10"),
        probe=LinearProbe(),
        members=[
            MemberSettings(seed=1, lr=1e-3, model=str(tuned.out / "step-6")),
            MemberSettings(seed=2, lr=1e-3),
        ],
    )
    ensemble.run(plan)
    return [plan.member(index).out for index in (0, 1)]


def logged(config: SftSettings) -> list[dict[str, float]]:
    (state,) = (config.out / "trainer").glob("checkpoint-*/trainer_state.json")
    return [row for row in json.loads(state.read_text())["log_history"] if "loss" in row]


def responses(config: SftSettings) -> list[tuple[list[int], int]]:
    """Ids of each training conversation by the reward model's encoder, and where the response and
    what precedes it in the template begin."""
    tokenizer = AutoTokenizer.from_pretrained(config.model)
    encoder = Encoder(tokenizer, len(tokenizer), config.max_tokens)
    found = []
    pairs = train_pairs(config.as_training(), read(config), encoder)
    for asked, chosen in dict.fromkeys((one.pair.first_turn, one.pair.chosen) for one in pairs):
        prompt = [{"role": "user", "content": asked}]
        text = tokenizer.apply_chat_template(prompt, tokenize=False)
        found.append((encoder.pair(prompt, chosen), len(encoder.text(text))))
    return found


def test_the_first_loss_is_that_of_the_responses_alone(tune, tmp_path):
    config = tune(tmp_path / "out", batch_responses=80, epochs=1, save_at=1)
    sft(config)
    plain = AutoModelForCausalLM.from_pretrained(config.model, dtype=torch.float32).eval()
    costs = []
    for ids, start in responses(config):
        row = torch.tensor([ids])
        logits = plain(input_ids=row).logits[0, :-1]
        costs.append(
            torch.nn.functional.cross_entropy(logits, row[0, 1:], reduction="none")[start - 1 :]
        )
    (entry,) = logged(config)
    assert entry["loss"] == pytest.approx(torch.cat(costs).mean().item(), abs=1e-3)


def test_the_end_of_a_cut_response_is_not_learnt(tune, easy_pairs, tokenizer, tmp_path):
    rows = [json.loads(line) for line in easy_pairs.read_text().splitlines()]
    for row in rows[::2]:
        row["chosen_finished"] = False
    path = tmp_path / "cut.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = tune(tmp_path / "out", sources=[Source(name="cut", path=path)])
    encoder = Encoder(tokenizer, len(tokenizer), config.max_tokens)
    pairs = train_pairs(config.as_training(), read(config), encoder)
    ends = 0
    for pair, row in zip(pairs, examples(pairs, tokenizer, {tokenizer.eos_token_id}), strict=True):
        where = zip(row["input_ids"], row["completion_mask"], strict=True)
        learnt = [token for token, taught in where if taught]
        end = [tokenizer.eos_token_id] if pair.pair.finished[0] else []
        assert learnt[-len(pair.pair.chosen) - len(end) :] == encoder.text(pair.pair.chosen) + end
        ends += len(end)
    assert 0 < ends < len(pairs)


@pytest.fixture
def chatml(tokenizer):
    """A tokenizer whose template writes a line break behind the end of each turn."""
    found = deepcopy(tokenizer)
    found.chat_template = (
        "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
        "{{ message['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    return found


def pair_of(chosen: str, finished: bool = True) -> EncodedPair:
    """By what its template writes alone."""
    asked = ({"role": "user", "content": "So?"},)
    return EncodedPair(Pair(asked, chosen, "no", "easy", "", finished=(finished, True)), [], [])


def taught(row: dict[str, list[int]]) -> list[int]:
    where = zip(row["input_ids"], row["completion_mask"], strict=True)
    return [token for token, learnt in where if learnt]


def test_nothing_behind_the_end_of_a_response_is_learnt(chatml):
    end = {chatml.convert_tokens_to_ids("<|im_end|>")}
    whole, cut = examples([pair_of("yes"), pair_of("so", finished=False)], chatml, end)
    assert chatml.decode(taught(whole)) == "yes<|im_end|>"
    assert whole["input_ids"][-1] in end
    assert chatml.decode(taught(cut)) == "so"


def test_a_cut_response_whose_end_is_not_known_is_refused(chatml):
    other = {chatml.pad_token_id}
    examples([pair_of("yes")], chatml, other)
    with pytest.raises(SettingsError, match=r"ends it with no eos token of the model \(<"):
        examples([pair_of("yes", finished=False)], chatml, other)


@pytest.mark.parametrize("order", [1, -1])
def test_a_response_that_is_said_to_be_cut_somewhere_is_cut(chatml, order):
    end = {chatml.convert_tokens_to_ids("<|im_end|>")}
    both = [pair_of("yes"), pair_of("yes", finished=False)][::order]
    (row,) = examples(both, chatml, end)
    assert chatml.decode(taught(row)) == "yes"


def test_a_cut_response_of_no_tokens_is_left_out(chatml):
    end = {chatml.convert_tokens_to_ids("<|im_end|>")}
    assert len(examples([pair_of("", finished=False), pair_of("yes")], chatml, end)) == 1


def test_training_lowers_the_loss(tuned):
    losses = [entry["loss"] for entry in logged(tuned)]
    assert losses[-1] < losses[0] - 0.5


def test_each_kept_step_is_a_backbone_with_its_tokenizer_and_lineage(tuned):
    base = checkpoint.file_digest(*checkpoint.weight_files(Path(tuned.model)))
    found = [lineage.read(tuned.out / f"step-{step}") for step in (6, 10)]
    assert [one.step for one in found] == [6, 10]
    assert {one.base for one in found} == {Base(tuned.model, base)}
    assert len({one.run for one in found}) == 1
    assert len({one.weights for one in found}) == 2
    for step in (6, 10):
        directory = tuned.out / f"step-{step}"
        AutoTokenizer.from_pretrained(directory)
        _, info = AutoModelForCausalLM.from_pretrained(directory, output_loading_info=True)
        assert not info["missing_keys"]
        assert len({path.stat().st_mode for path in directory.iterdir()}) == 1
        assert lineage.read(directory).weights == checkpoint.file_digest(
            *checkpoint.weight_files(directory)
        )


def test_an_interrupted_run_keeps_the_same_checkpoints(tuned, tune, tmp_path):
    config = tune(tmp_path / "out")
    with interrupted_after_first_state(config.out):
        sft(config)
    assert not (config.out / "step-10").exists()
    with pytest.raises(SettingsError, match="add --resume"):
        sft(config)
    sft(config, resume=True)
    assert len(logged(config)) == 10
    for step in ("step-6", "step-10"):
        assert same(config.out / step, tuned.out / step)


def test_another_run_in_the_directory_is_refused(tuned, tmp_path):
    """Killed before its first kept step too."""
    out = shutil.copytree(tuned.out, tmp_path / "out")
    for step in ("step-6", "step-10"):
        shutil.rmtree(out / step)
    sft(tuned.model_copy(update={"out": out, "logging_steps": 2}), resume=True)
    other = tuned.model_copy(update={"out": out, "lr": 1e-4})
    with pytest.raises(SettingsError, match="is of another run"):
        sft(other, resume=True)
    shutil.rmtree(out / "trainer")
    shutil.copytree(tuned.out / "step-6", out / "step-6")
    with pytest.raises(SettingsError, match="is of another run"):
        sft(other)


def test_a_run_that_has_left_nothing_may_be_another(tuned, tune, tmp_path):
    (tmp_path / "out").mkdir()
    shutil.copy(tuned.out / "run.txt", tmp_path / "out")
    sft(tune(tmp_path / "out", lr=1e-4, epochs=1, save_at=1))
    assert (tmp_path / "out" / "run.txt").read_text() != (tuned.out / "run.txt").read_text()
    assert lineage.read(tmp_path / "out" / "step-5").run == (
        (tmp_path / "out" / "run.txt").read_text()
    )


@pytest.mark.parametrize("steps", [[11], [0, 5], [], 11, 0])
def test_steps_that_the_run_has_not_are_refused(tune, tmp_path, steps):
    with pytest.raises(ValueError, match=r"save_at"):
        sft(tune(tmp_path / "out", save_at=steps))


def test_a_file_in_the_way_of_the_directory_is_named(tune, tmp_path):
    (tmp_path / "taken").write_text("a note")
    with pytest.raises(SettingsError, match="a file of this name, or above it, is in the way"):
        sft(tune(tmp_path / "taken"))


def test_a_count_of_checkpoints_is_spread_to_the_end(tune, tmp_path):
    assert tune(tmp_path, save_at=3).steps(10) == [3, 6, 10]
    assert tune(tmp_path, save_at=1).steps(10) == [10]


def test_members_share_the_base_of_the_run_and_say_where_they_started(tuned, baklava):
    manifests = [checkpoint.read(directory)[0] for directory in baklava]
    starts = [lineage.read(tuned.out / f"step-{step}") for step in (6, 10)]
    assert [m.base.digest for m in manifests] == [one.base.digest for one in starts]
    assert [m.base.run for m in manifests] == [one.run for one in starts]
    assert [m.base.start for m in manifests] == [one.weights for one in starts]
    assert len({m.head_init for m in manifests}) == 1


def test_members_of_one_run_are_averaged(baklava, tmp_path):
    warm(baklava, tmp_path / "warm")
    manifest, _ = checkpoint.read(tmp_path / "warm")
    assert manifest.base.run is not None
    assert manifest.base.start is None
    first, second = (weights(directory) for directory in baklava)
    for name, tensor in weights(tmp_path / "warm").items():
        torch.testing.assert_close(tensor, (first[name] + second[name]) / 2, rtol=0, atol=1e-6)


def test_members_of_different_runs_are_refused(baklava):
    manifests = [checkpoint.read(directory)[0] for directory in baklava]
    other = msgspec.structs.replace(manifests[1].base, run="sha256:other")
    changed = [manifests[0], msgspec.structs.replace(manifests[1], base=other)]
    with pytest.raises(CheckpointError, match=r"base\.run is sha256:other.*different fine-tuning"):
        average.check(baklava, changed)


def test_starts_of_different_runs_are_refused_before_training(
    tuned, configure, tiny_base, tmp_path
):
    plan = configure(
        tmp_path / "out",
        EnsemblePlan,
        members=[
            MemberSettings(seed=1, lr=1e-3, model=str(tuned.out / "step-6")),
            MemberSettings(seed=2, lr=1e-3, model=str(tiny_base)),
        ],
    )
    with pytest.raises(SettingsError, match="not of one SFT run"):
        ensemble.run(plan)
    assert not plan.out.exists()


def test_a_changed_checkpoint_is_no_longer_of_its_run(tuned, tmp_path):
    copy = shutil.copytree(tuned.out / "step-6", tmp_path / "copy")
    shutil.copyfile(tuned.out / "step-10" / "model.safetensors", copy / "model.safetensors")
    with pytest.raises(SettingsError, match="weights are not those of"):
        lineage.base_of(str(copy))


def test_one_trunk_for_several_starts_is_refused(configure, tmp_path):
    members = [MemberSettings(seed=i, lr=1e-3, model=f"step-{i}") for i in (1, 2)]
    with pytest.raises(ValueError, match="trunk_cache holds the states of one start"):
        configure(tmp_path, EnsemblePlan, members=members, trunk_cache=tmp_path / "trunk")


def test_what_a_member_s_start_was_tuned_on_counts_as_seen(tuned, baklava):
    """Strength by such a member would be memory of the fine-tuning too."""
    seen = [path for path, _ in trained_on(baklava[0])]
    assert seen == [baklava[0], baklava[0].parent / "head.safetensors", tuned.out / "step-6"]
    digest = lineage.read(tuned.out / "step-10").weights
    assert list(base_trained_on(Base(str(tuned.out / "step-10"), digest))) == [
        (tuned.out / "step-10", SPLIT)
    ]


def test_a_base_without_a_run_is_written_as_it_always_was():
    text = b'{"id":"models/base","digest":"sha256:d67a"}'
    assert msgspec.json.encode(Base("models/base", "sha256:d67a")) == text
    assert msgspec.json.decode(text, type=Base) == Base("models/base", "sha256:d67a")


def test_the_command_reads_a_file_and_overrides(tune, tmp_path, capsys):
    path = tmp_path / "sft.yaml"
    path.write_text(yaml.safe_dump(tune(tmp_path / "out").model_dump(mode="json")))
    assert main([str(path), "epochs=1", "save_at=[2]"]) == 0
    assert f"{tmp_path / 'out' / 'step-2'}: a backbone" in capsys.readouterr().out
    assert not (tmp_path / "out" / "step-5").exists()
