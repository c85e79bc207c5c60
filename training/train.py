"""``plaudit train``: one reward model from preference pairs."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from peft import LoraConfig
from peft.tuners.lora import LoraModel
from torch import Tensor
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    ProgressCallback,
    TrainerCallback,
    set_seed,
)
from transformers import PreTrainedTokenizerBase as Tokenizer

from plaudit import checkpoint
from plaudit.checkpoint import Manifest
from plaudit.conversation import Encoder
from plaudit.scalar_head import head
from training import (
    backbone,
    data_files,
    lineage,
    linear_probe,
    saved_tokenizer,
    saved_weights,
    settings,
    shards,
    validation,
)
from training.contrastive import Contrast
from training.data.batches import PairCollator, dataset
from training.data.encoding import EncodedPair
from training.frozen_trunk import FrozenTrunk, open_trunk
from training.length_bias.odin import LengthHead
from training.length_bias.product_of_experts import LengthExpert
from training.method_settings import LinearProbe, Lora
from training.seal import seal
from training.settings import HEAD_FILE, SettingsError, TrainSettings
from training.trainer import PairTrainer, Progress, Scorer, arguments, use_bf16
from training.training_data import Data
from training.validation import Kept


def main(argv: Sequence[str]) -> int:
    train(*settings.of_training(TrainSettings, "plaudit train", __doc__, argv))
    end_together()
    return 0


def end_together() -> None:
    """The last of a launch's processes: one that ends first may look lost to the others."""
    PartialState().destroy_process_group()


def train(
    config: TrainSettings, resume: bool = False, watch: TrainerCallback | None = None
) -> None:
    """Train, save and seal one member, while ``watch`` looks on. Refuses a directory that is
    complete already.

    In each process of ``accelerate launch``, or in one: the first writes what it ends with.
    """
    last = state_to_resume(config.out, resume)
    data_files.record(config.out / "trainer", config, begun=last is not None)
    if config.probe is not None:
        config = with_probed_head(config, config.probe)
    set_seed(config.seed)
    tokenizer = backbone.load_tokenizer(config)
    model, tuner = to_train(config, tokenizer)
    head_init = backbone.head_digest(model)
    data = Data.of(config, Encoder(tokenizer, model.config.vocab_size, config.max_tokens))
    accelerator, gathered, kept = fit(config, model, data, last, watch)
    if accelerator.is_main_process:
        if gathered is not None:
            model, tuner = to_train(config, tokenizer)
            model.load_state_dict(gathered)
            del gathered
            accelerator.free_memory()  # of what is no longer reached: this process's shards
        if tuner is not None:
            model = tuner.merge_and_unload()
        complete(config, model, tokenizer, head_init, data, kept)
    accelerator.wait_for_everyone()


def fit(
    config: TrainSettings,
    model: PreTrainedModel,
    data: Data,
    last: str | None,
    watch: TrainerCallback | None,
) -> tuple[Accelerator, dict[str, Tensor] | None, Kept | None]:
    """Change the ``model``'s weights, or, in shards, return them whole; and which were kept."""
    trainer = fitting(config, model, data)
    if watch is not None:
        trainer.add_callback(watch)
    trainer.train(resume_from_checkpoint=last)
    return trainer.accelerator, shards.gather(trainer), validation.kept(config, trainer.state)


def to_train(
    config: TrainSettings, tokenizer: Tokenizer
) -> tuple[PreTrainedModel, LoraModel | None]:
    """The backbone as it is before its first step, and the adapters in it."""
    model = backbone.load_backbone(config, tokenizer)
    tuner = add_lora(model, config.lora) if config.lora else None
    if config.train_layers is not None and use_bf16(config) and config.save_dtype == "bfloat16":
        backbone.hold_frozen_in_bf16(model)
    return model, tuner


def with_probed_head(config: TrainSettings, probe: LinearProbe) -> TrainSettings:
    path = config.out / "trainer" / HEAD_FILE
    with arguments(config).main_process_first(desc="the initial head"):
        linear_probe.probe_head(config, probe, path)
    return config.model_copy(update={"head": path, "probe": None})


def state_to_resume(out: Path, resume: bool) -> str | None:
    """The state to go on from; refuses to write over what is complete, or unfinished without
    ``resume``."""
    if checkpoint.is_complete(out):
        raise SettingsError(f"{out} is a complete checkpoint; choose another out=DIR")
    last = last_state(out / "trainer")
    if last and not resume:
        raise SettingsError(f"{out} holds an unfinished run; add --resume or choose out=DIR")
    return last


def last_state(directory: Path) -> str | None:
    """The newest state that was written to its end; its trainer_state.json is written last."""
    found: dict[int, str] = {}
    for path in directory.glob("checkpoint-*/trainer_state.json"):
        try:
            found[json.loads(path.read_text())["global_step"]] = str(path.parent)
        except FileNotFoundError:
            continue  # by a run that goes on: it deletes a state once there is a newer one
        except json.JSONDecodeError:
            print(f"{path.parent}: cut off while it was written, not used", flush=True)
    return found[max(found)] if found else None


def add_lora(model: PreTrainedModel, lora: Lora) -> LoraModel:
    """Adapters injected in place; the head is no adapter: it trains, and is saved, whole."""
    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        exclude_modules=["score", "classifier"],
    )
    tuner = LoraModel(model, {"default": config}, "default")
    head(model).requires_grad_(True)
    return tuner


def frozen_trunk(
    config: TrainSettings, model: PreTrainedModel, pairs: Sequence[EncodedPair]
) -> FrozenTrunk:
    """States under the blocks that train, for every sequence of the pairs."""
    assert config.trunk_cache is not None
    if config.train_layers is None or config.lora is not None:
        raise SettingsError("trunk_cache needs frozen blocks: set train_layers, without lora")
    return open_trunk(
        config.trunk_cache,
        model,
        len(backbone.layers_of(model)) - config.train_layers,
        {tuple(ids) for pair in pairs for ids in (pair.chosen, pair.rejected)},
        torch.bfloat16 if use_bf16(config) else torch.float32,
    )


def fitting(config: TrainSettings, model: PreTrainedModel, data: Data) -> PairTrainer:
    """The trainer before its first step."""
    args = arguments(config)
    refuse_processes(config, args.world_size)
    measured = [] if config.eval_steps is None else data.reference
    with args.main_process_first(desc="the frozen blocks' states"):
        # Of the held-out fold too, so that all folds share one file.
        known = [*data.region, *measured]
        trunk = frozen_trunk(config, model, known) if config.trunk_cache else None
    trainer = PairTrainer(
        config,
        data.shifted,
        model=Scorer(model, trunk, beside(config, model), contrast(config, model)),
        args=args,
        train_dataset=dataset(data.pairs, config.kwise),
        eval_dataset=dataset(measured) if measured else None,
        compute_metrics=validation.metrics,
        callbacks=validation.callbacks(config),
        data_collator=PairCollator(model, trunk),
    )
    trainer.remove_callback(ProgressCallback)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Progress)
    shards.check(trainer, config)
    shards.keep_fp32(trainer)
    return trainer


def beside(config: TrainSettings, model: PreTrainedModel) -> LengthExpert | LengthHead | None:
    """What is trained with the model to take the length from it."""
    if config.product_of_experts is not None:
        return LengthExpert()
    return None if config.odin is None else LengthHead(head(model).in_features, config.odin)


def contrast(config: TrainSettings, model: PreTrainedModel) -> Contrast | None:
    if config.contrastive is None:
        return None
    return Contrast(config.contrastive, head(model).in_features, config.seed)


def refuse_processes(config: TrainSettings, count: int) -> None:
    """Each would take the step of ``meta`` by its own objective: nothing averages its gradient."""
    if config.meta is not None and count > 1:
        raise SettingsError(f"meta trains in one process, not {count}: take more accumulation")


def complete(
    config: TrainSettings,
    model: PreTrainedModel,
    tokenizer: Any,
    head_init: str,
    data: Data,
    kept: Kept | None,
) -> None:
    """Save and seal."""
    save(config, model, tokenizer)
    draft = Manifest(
        kind="single",
        base=lineage.base_of(config.model),
        head_init=head_init,
        digests=checkpoint.digests(config.out),
        max_tokens=config.max_tokens,
        truncation_side=config.truncation_side,
        dtype=config.save_dtype,
        training=provenance(config, data, kept),
    )
    measured = seal(config.out, draft, data.reference, config.calibration)
    count = len(data.reference)
    of = "" if kept is None else f" after step {kept.step} of {kept.steps}"
    print(f"{config.out}: validation accuracy {measured.accuracy:.3f} on {count} pairs{of}")


def save(config: TrainSettings, model: PreTrainedModel, tokenizer: Any) -> None:
    model.to(getattr(torch, config.save_dtype))
    saved_weights.save(model, config.out)
    saved_tokenizer.save(tokenizer, config.out)


def provenance(config: TrainSettings, data: Data, kept: Kept | None) -> dict[str, Any]:
    found = {
        "commit": commit(),
        "settings": config.model_dump(mode="json"),
        "data": {one.source.name: one.digest for one in data.loaded},
        "pairs": len(data.pairs),
        "refused_rows": {one.source.name: len(one.refused) for one in data.loaded},
    }
    if config.head is not None:
        found["head"] = linear_probe.about(config.head)
    if kept is not None:
        found["kept"] = kept._asdict()
    return found if data.shifted is None else found | {"meta": data.shifted.provenance}


def commit() -> str | None:
    """The commit of the working directory, or None outside a repository or without git."""
    if shutil.which("git") is None:
        return None
    command = ["git", "rev-parse", "HEAD"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() if found.returncode == 0 else None
