"""What a launch has cut in shards, one for each process: gradients and the optimiser's state by
DeepSpeed's ZeRO (arXiv:1910.02054, stages 1 and 2), the weights too by FSDP (arXiv:2304.11277)."""

from torch import Tensor
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy
from transformers import Trainer

from training.settings import SettingsError, TrainSettings

# Where a backbone's tensors are in the state of the Scorer that holds it.
BACKBONE = "model."


def refuse(trainer: Trainer) -> None:
    """For what is saved from the model of the first process, which must be whole."""
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        raise SettingsError(
            "FSDP and DeepSpeed cut the model in parts, which are not put together here: launch "
            "with accelerate launch --multi_gpu, where each process holds the whole model"
        )


def check(trainer: Trainer, config: TrainSettings) -> None:
    """Refuse what does not train in shards."""
    if not (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled):
        return
    state = trainer.accelerator.state
    if trainer.is_deepspeed_enabled and state.deepspeed_plugin.zero_stage == 3:
        raise SettingsError(
            "DeepSpeed's stage 3 cuts the head too, which is read outside its own forward: set "
            "zero_stage: 2, or cut the weights by FSDP (examples/launch/fsdp.yaml)"
        )
    for method in ("contrastive", "meta", "odin", "product_of_experts"):
        if getattr(config, method) is not None:
            raise SettingsError(
                f"{method} reads weights or lengths beside the forward, which shards do not keep "
                "whole or exact: launch with accelerate launch --multi_gpu"
            )
    if not trainer.is_fsdp_enabled:
        return
    if state.fsdp_plugin.fsdp_version != 2:
        raise SettingsError(
            "FSDP's first version is not supported: set fsdp_version: 2, as in "
            "examples/launch/fsdp.yaml"
        )
    if isinstance(state.fsdp_plugin.cpu_offload, CPUOffloadPolicy):
        raise SettingsError("batches go where the weights are: set fsdp_offload_params: false")


def keep_fp32(trainer: Trainer) -> None:
    """What is computed in bf16 is autocast's affair, as without shards: FSDP's own policy, which
    Accelerate would set, rounds the head, the sums of gradients and the scores too."""
    if trainer.is_fsdp_enabled:
        trainer.accelerator.state.fsdp_plugin.mixed_precision_policy = MixedPrecisionPolicy()


def gather(trainer: Trainer) -> dict[str, Tensor] | None:
    """The backbone's tensors by name, of all shards, in the first process's memory (not its GPU's);
    none in the others. All must ask. None where each process holds the whole model anyway."""
    if not (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled):
        return None
    if trainer.is_deepspeed_enabled and not trainer.is_world_process_zero():
        return {}  # stages 1 and 2 leave the weights whole: there is nothing to gather
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    return {
        name.removeprefix(BACKBONE): tensor
        for name, tensor in state.items()
        if name.startswith(BACKBONE)
    }
