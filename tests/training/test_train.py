"""Short real trainings of tiny bases, from pairs to a sealed checkpoint."""

import hashlib
import json
import shutil
from copy import deepcopy
from pathlib import Path

import pytest
import torch
import yaml
from architectures import BERT
from short_runs import history, interrupted_after_first_state, same, weights
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertModel,
    PreTrainedTokenizerFast,
)

from plaudit import checkpoint, probes
from plaudit.conversation import Encoder
from plaudit.reward_model import RewardModel
from training import backbone
from training.data.sources import Source
from training.data.splits import Split
from training.method_settings import Lora
from training.settings import SettingsError, TrainSettings
from training.train import last_state, main, train
from training.training_data import read, train_region


@pytest.fixture(scope="module")
def trained(configure, tmp_path_factory) -> TrainSettings:
    """A finished training. Read only: copy before changing."""
    config = configure(tmp_path_factory.mktemp("trained") / "out")
    train(config)
    return config


@pytest.fixture
def tiny_encoder(tmp_path, tokenizer: PreTrainedTokenizerFast) -> Path:
    """A BERT base whose tokenizer has marks but no chat template, as MiniLM's."""
    directory = tmp_path / "encoder"
    torch.manual_seed(3)
    BertModel(BertConfig(**BERT, vocab_size=len(tokenizer))).save_pretrained(directory)
    marked = deepcopy(tokenizer)
    marked.cls_token, marked.sep_token, marked.chat_template = "<|im_start|>", "<|im_end|>", None
    marked.save_pretrained(directory)
    return directory


def assert_promises_hold(directory: Path) -> None:
    """Plain Transformers gives every probe's score."""
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model, info = AutoModelForSequenceClassification.from_pretrained(
        directory, dtype=torch.float32, output_loading_info=True
    )
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    manifest = checkpoint.read(directory)[0]
    limit = manifest.max_tokens
    cut = slice(-limit, None) if manifest.truncation_side == "left" else slice(limit)
    assert len(manifest.probes) == 32
    for probe in manifest.probes:
        text = tokenizer.apply_chat_template(list(probe.messages), tokenize=False)
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
        with torch.inference_mode():
            found = model(ids[:, cut]).logits.item()
        assert found == pytest.approx(probe.score, abs=1e-5)


def train_accuracy(directory: Path, config: TrainSettings) -> float:
    model = RewardModel.load(directory, device="cpu")
    pairs = train_region(config, read(config), model.encoder)
    chosen = model.score_all([pair.chosen for pair in pairs])
    rejected = model.score_all([pair.rejected for pair in pairs])
    return float((chosen > rejected).mean())


def test_what_was_trained_loads_in_plain_transformers_with_its_scores(trained):
    assert_promises_hold(trained.out)
    assert probes.verify(RewardModel.load(trained.out, device="cpu"), "float32") < 1e-5


def test_who_may_read_other_new_files_may_read_what_was_trained(trained, tmp_path):
    (tmp_path / "new").touch()
    modes = {path.stat().st_mode for path in trained.out.iterdir() if path.is_file()}
    assert modes == {(tmp_path / "new").stat().st_mode}


def test_training_learns(trained, tmp_path):
    tokenizer = backbone.load_tokenizer(trained)
    backbone.load_backbone(trained, tokenizer).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    before, after = (train_accuracy(out, trained) for out in (tmp_path, trained.out))
    assert after > 0.9 > before
    losses = [entry["loss"] for entry in history(trained)]
    assert sum(losses[-4:]) < 0.5 * sum(losses[:4])


def test_the_manifest_says_what_was_done(trained, easy_pairs, tiny_base):
    manifest, _ = checkpoint.read(trained.out)
    assert manifest.kind == "single"
    assert manifest.base.digest == checkpoint.file_digest(tiny_base / "model.safetensors")
    assert manifest.max_tokens == trained.max_tokens
    assert TrainSettings(**manifest.training["settings"]) == trained
    digest = hashlib.sha256(easy_pairs.read_bytes()).hexdigest()
    assert manifest.training["data"] == {"easy": f"sha256:{digest}"}
    assert manifest.training["validation_accuracy"] > 0.5
    assert manifest.calibration.mean == manifest.stats.mean
    assert list(manifest.stats.quantiles) == sorted(manifest.stats.quantiles)


def test_the_same_seed_gives_the_same_weights(trained, configure, tmp_path):
    again = configure(tmp_path / "again")
    train(again)
    assert same(trained.out, again.out)


def test_a_complete_directory_is_refused(trained):
    with pytest.raises(SettingsError, match="complete checkpoint"):
        train(trained, resume=True)


def test_a_diverged_training_is_not_sealed_and_its_directory_can_be_begun_anew(configure, tmp_path):
    config = configure(tmp_path / "out", lr=1e30, epochs=1)
    said = rf"{config.out}: training diverged, .* lower lr, then remove {config.out}"
    for resume in (False, True):  # what was saved is as far from home
        with pytest.raises(SettingsError, match=said):
            train(config, resume=resume)
        assert not checkpoint.is_complete(config.out)
    shutil.rmtree(config.out)
    train(config.model_copy(update={"lr": 3e-3}))
    assert checkpoint.read(config.out)[0].training["validation_accuracy"] > 0


def test_an_interrupted_run_resumes_to_the_weights_of_a_whole_one(trained, configure, tmp_path):
    config = configure(tmp_path / "interrupted")
    with interrupted_after_first_state(config.out):
        train(config)
    assert not checkpoint.is_complete(config.out)
    with pytest.raises(SettingsError, match="unfinished run; add --resume"):
        train(config)
    done = history(config)
    train(config, resume=True)
    assert history(config)[: len(done)] == done  # with its timings: these steps ran once
    assert len(history(config)) == len(history(trained)) > len(done) > 0
    assert same(trained.out, config.out)


def test_a_state_cut_off_while_written_is_passed_over(tmp_path):
    for step, text in ((90, '{"global_step": 90}'), (100, '{"global_step": 100}'), (110, "")):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(text)
    assert last_state(tmp_path) == str(tmp_path / "checkpoint-100")
    assert last_state(tmp_path / "nothing") is None


def initial_scores(config: TrainSettings) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores of the training pairs before the first step, one sequence at a time."""
    tokenizer = backbone.load_tokenizer(config)
    model = backbone.load_backbone(config, tokenizer).eval()
    encoder = Encoder(tokenizer, model.config.vocab_size, config.max_tokens)
    pairs = train_region(config, read(config), encoder)
    with torch.inference_mode():
        chosen, rejected = (
            torch.cat([model(input_ids=torch.tensor([ids])).logits[0] for ids in side])
            for side in ([pair.chosen for pair in pairs], [pair.rejected for pair in pairs])
        )
    return chosen.double(), rejected.double()


def test_the_first_loss_is_smoothed_and_centred_as_asked(configure, tmp_path):
    config = configure(
        tmp_path / "out", batch_pairs=80, epochs=1, label_smoothing=0.4, centring=0.25
    )
    train(config)
    chosen, rejected = initial_scores(config)
    kept, flipped = (torch.log(1 + torch.exp(-d)) for d in (chosen - rejected, rejected - chosen))
    smoothed = (0.6 * kept + 0.4 * flipped).mean().item()
    centred = 0.25 * ((chosen + rejected) ** 2).mean().item()
    (entry,) = history(config)
    assert entry["loss"] == pytest.approx(smoothed + centred, abs=1e-4)
    assert abs(smoothed - kept.mean().item()) > 1e-3
    assert centred > 1e-3
    assert entry["accuracy"] == pytest.approx((chosen > rejected).double().mean().item(), abs=1e-4)


def test_of_each_prompt_as_many_pairs_as_the_source_gives(configure, tmp_path, easy_pairs):
    source = Source(name="easy", path=easy_pairs, pairs_per_prompt=1)
    config = configure(tmp_path / "out", sources=[source])
    tokenizer = backbone.load_tokenizer(config)
    encoder = Encoder(tokenizer, len(tokenizer), config.max_tokens)
    prompts = [one.pair.first_turn for one in train_region(config, read(config), encoder)]
    whole = configure(tmp_path / "out")
    every = [one.pair.first_turn for one in train_region(whole, read(whole), encoder)]
    assert sorted(prompts) == sorted(set(every))
    assert len(every) == 2 * len(prompts)


def test_two_halves_accumulate_to_the_whole_batch(configure, tmp_path, easy_pairs):
    sources = [Source(name="easy", path=easy_pairs, max_pairs=32)]
    found = []
    for batch_pairs, accumulation in ((32, 1), (16, 2)):
        config = configure(
            tmp_path / str(accumulation),
            sources=sources,
            batch_pairs=batch_pairs,
            accumulation=accumulation,
            epochs=1,
        )
        train(config)
        found.append([(entry["loss"], entry["grad_norm"]) for entry in history(config)])
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-3)
    assert len(found[0]) == len(found[1]) == 1


@pytest.mark.parametrize("encoder", [False, True], ids=["decoder", "encoder"])
def test_dropout_acts_while_training_only(configure, tiny_encoder, tmp_path, encoder):
    base = {"model": str(tiny_encoder)} if encoder else {}
    ids = torch.tensor([[5, 6, 7, 8]])

    def logits(rate: float, training: bool) -> float:
        config = configure(tmp_path, dropout=rate, **base)
        model = backbone.load_backbone(config, backbone.load_tokenizer(config)).train(training)
        with torch.inference_mode():
            return model(input_ids=ids).logits.item()

    assert logits(0.5, training=True) != logits(0.0, training=True)
    assert logits(0.5, training=False) == logits(0.0, training=False) == logits(0.0, training=True)


def test_lower_layers_stay_as_in_the_base_when_only_the_top_one_trains(configure, tmp_path):
    config = configure(tmp_path / "top", train_layers=1, epochs=1)
    train(config)
    base, found = weights(Path(config.model)), weights(config.out)
    moved = {name for name in found if name == "score.weight" or not found[name].equal(base[name])}
    assert {name for name in found if "layers.2." in name} <= moved
    assert moved <= {name for name in found if "layers.2." in name} | {
        "model.norm.weight",
        "score.weight",
    }


def test_the_side_to_cut_is_written_and_kept_to(configure, tmp_path):
    changes = {"truncation_side": "right", "overlong": "cut", "max_tokens": 70, "epochs": 1}
    config = configure(tmp_path / "cut", **changes)
    train(config)
    assert checkpoint.read(config.out)[0].truncation_side == "right"
    assert_promises_hold(config.out)


def test_more_layers_than_there_are_is_refused(configure, tmp_path):
    with pytest.raises(SettingsError, match="train_layers is 4, the model has 3"):
        train(configure(tmp_path, train_layers=4))


def test_adapters_are_merged_and_the_head_is_trained_and_saved(configure, tmp_path):
    config = configure(tmp_path / "lora", lora=Lora(r=2, alpha=4), epochs=1)
    train(config)
    assert_promises_hold(config.out)
    base, found = weights(Path(config.model)), weights(config.out)
    assert found.keys() - base.keys() == {"score.weight"}
    assert not found["model.layers.0.self_attn.q_proj.weight"].equal(
        base["model.layers.0.self_attn.q_proj.weight"]
    )
    assert found["model.embed_tokens.weight"].equal(base["model.embed_tokens.weight"])
    fresh = backbone.load_backbone(config, backbone.load_tokenizer(config))
    assert not found["score.weight"].equal(fresh.score.weight)
    assert checkpoint.read(config.out)[0].head_init == backbone.head_digest(fresh)


def test_the_same_seed_gives_the_same_adapters(configure, tmp_path):
    configs = [configure(tmp_path / name, lora=Lora(r=2, alpha=4), epochs=1) for name in "ab"]
    for config in configs:
        train(config)
    assert same(*(config.out for config in configs))


def test_checkpointed_gradients_train_the_same_weights(trained, configure, tmp_path):
    config = configure(tmp_path / "less-memory", gradient_checkpointing=True)
    train(config)
    found, expected = weights(config.out), weights(trained.out)
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=1e-4)


def test_bf16_autocast_trains_and_is_sealed(configure, tmp_path):
    config = configure(
        tmp_path / "bf16", precision="bf16", save_dtype="bfloat16", train_layers=2, epochs=1
    )
    train(config)
    assert {tensor.dtype for tensor in weights(config.out).values()} == {torch.bfloat16}
    assert_promises_hold(config.out)


def test_frozen_weights_are_the_bases_to_the_bit_where_float32_is_saved(configure, tmp_path):
    config = configure(tmp_path / "out", precision="bf16", train_layers=1, epochs=1)
    train(config)
    base, found = weights(Path(config.model)), weights(config.out)
    frozen = [name for name in found if "embed" in name or ".layers.0." in name]
    assert frozen
    assert all(torch.equal(found[name], base[name]) for name in frozen)


def test_the_head_seed_alone_decides_the_initial_head(configure, tmp_path):
    def initial(**changes) -> str:
        config = configure(tmp_path, **changes)
        return backbone.head_digest(backbone.load_backbone(config, backbone.load_tokenizer(config)))

    assert initial(seed=1) == initial(seed=2)
    assert initial(head_seed=1) != initial(head_seed=2)


def test_an_encoder_trains_with_a_template_of_its_own(configure, tiny_encoder, tmp_path):
    config = configure(tmp_path / "out", model=str(tiny_encoder), dropout=0.1)
    train(config)
    assert_promises_hold(config.out)
    assert train_accuracy(config.out, config) > 0.9
    encoder = Encoder.load(config.out, 128)
    assert encoder.tokenizer.decode(encoder.pair("Hi", "Ho")) == (
        "<|im_start|>user: Hi<|im_end|>assistant: Ho<|im_end|>"
    )


def test_the_command_reads_a_file_and_overrides(configure, tmp_path, capsys, pairs_file):
    plan = configure(tmp_path / "out", sources=[Source(name="given", path=pairs_file)], epochs=1)
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump(plan.model_dump(mode="json")))
    assert (
        main(
            [
                str(path),
                "max_grad_norm=2",
                "sources="
                + json.dumps([{"name": "given", "path": str(pairs_file), "max_pairs": 8}]),
            ]
        )
        == 0
    )
    recorded = checkpoint.read(plan.out)[0].training
    assert recorded["settings"]["max_grad_norm"] == 2
    assert recorded["pairs"] == 8
    assert "given: 60 pairs" in capsys.readouterr().out


def test_help_lists_every_setting(capsys):
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == 0
    said = capsys.readouterr().out
    assert all(f"  {name} " in said for name in TrainSettings.model_fields)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"split": Split(validation=0, test=0.2)}, r"raise split\.validation"),
        ({"train_max_tokens": 8}, "no pair is left to train on"),
    ],
)
def test_an_empty_side_is_refused(configure, tmp_path, changes, said):
    with pytest.raises(SettingsError, match=said):
        train(configure(tmp_path / "out", **changes))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pad_token": "<|im_end|>"}, "no pad token of its own"),
        ({"chat_template": None}, "has no chat template; give one"),
    ],
)
def test_a_base_whose_tokenizer_cannot_serve_is_refused(
    configure, tiny_base, tokenizer, tmp_path, change, said
):
    base = shutil.copytree(tiny_base, tmp_path / "base")
    (base / "chat_template.jinja").unlink()
    changed = deepcopy(tokenizer)
    for name, value in change.items():
        setattr(changed, name, value)
    changed.save_pretrained(base)
    with pytest.raises(SettingsError, match=said):
        train(configure(tmp_path / "out", model=str(base)))


def test_a_template_that_is_not_there_is_named(configure, tmp_path):
    config = configure(tmp_path / "out", chat_template=tmp_path / "nope.jinja")
    with pytest.raises(SettingsError, match=r"nope\.jinja: no such chat_template file"):
        train(config)


@pytest.mark.parametrize("base", ["tiny_base", "tiny_encoder"])
def test_a_base_without_its_tokenizer_is_refused(configure, tmp_path, request, base):
    """Of an encoder Transformers would make up a blank one."""
    bare = tmp_path / "bare"
    no_tokenizer = shutil.ignore_patterns("tokenizer*", "special_tokens*")
    shutil.copytree(request.getfixturevalue(base), bare, ignore=no_tokenizer)
    with pytest.raises(SettingsError, match=r"bare: no tokenizer .*save_pretrained\(DIR\)"):
        train(configure(tmp_path / "out", model=str(bare)))


@pytest.mark.parametrize("below", ["", "run"])
def test_a_file_in_the_way_of_the_directory_is_named(configure, tmp_path, below):
    (tmp_path / "taken").write_text("a note")
    with pytest.raises(
        SettingsError, match=r"taken.*a file of this name, or above it.*another out"
    ):
        train(configure(tmp_path / "taken" / below))
    assert (tmp_path / "taken").read_text() == "a note"
