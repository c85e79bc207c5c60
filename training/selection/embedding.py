"""Pairs as points: the text that stands for a pair, and its embedding by an encoder.

Letters: N texts, T tokens, D width.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm
from transformers import AutoModel, AutoTokenizer, PreTrainedModel

from plaudit import checkpoint
from training.data.jsonlines import DataError
from training.data.shapes import Pair
from training.measure import Array

BATCH_TEXTS = 32


def prompt_text(pair: Pair) -> str:
    """What is asked, every turn. It does not know the label."""
    return "\n".join(content for _, content in pair.turns)


def sample_text(pair: Pair) -> str:
    """The prompt with the chosen response, as a sample of instruction tuning is embedded."""
    return f"{prompt_text(pair)}\n{pair.chosen}"


TEXTS: dict[str, Callable[[Pair], str]] = {"prompt": prompt_text, "chosen": sample_text}


def embed(texts: Sequence[str], encoder: Path, max_tokens: int) -> tuple[Array, int]:
    """Points (N, D) of length one, the mean of each text's last states; and how many of the texts
    were over ``max_tokens`` and are cut at the right. Equal texts are embedded once."""
    model = load_encoder(encoder)
    place = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    ids, over = tokens(list(place), encoder, model, max_tokens)
    points = np.empty((len(ids), model.config.hidden_size), np.float32)
    order = sorted(range(len(ids)), key=lambda number: len(ids[number]))
    for start in tqdm(range(0, len(order), BATCH_TEXTS), desc="embed", unit="batch"):
        batch = order[start : start + BATCH_TEXTS]
        points[batch] = mean_states(model, [ids[number] for number in batch]).cpu().numpy()
    if not np.isfinite(points).all():
        raise DataError(f"{encoder}: an embedding is not finite; use another encoder")
    places = [place[text] for text in texts]
    return points[places], sum(over[number] for number in places)


def load_encoder(directory: Path) -> PreTrainedModel:
    """The fp32 model without a head; refuses one whose states would be partly random."""
    # Refuses a directory without weights or tokenizer: Transformers would make up a blank one.
    checkpoint.digests(directory)
    model, loading = AutoModel.from_pretrained(
        directory,
        dtype=torch.float32,
        use_safetensors=True,
        trust_remote_code=False,
        output_loading_info=True,
    )
    # Many encoders come without the pooler, which is not used.
    missing = [name for name in loading["missing_keys"] if not name.startswith("pooler.")]
    if missing:
        raise DataError(f"{directory}: no weights for {missing[0]}; name an encoder's directory")
    if model.config.is_encoder_decoder:
        raise DataError(f"{directory}: an encoder with a decoder; name an encoder alone")
    found: PreTrainedModel = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    return found


def tokens(
    texts: Sequence[str], directory: Path, model: PreTrainedModel, max_tokens: int
) -> tuple[list[list[int]], list[bool]]:
    """Token ids with the marks the encoder was trained with, and which texts were cut."""
    tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
    limit = min(tokenizer.model_max_length, model.config.max_position_embeddings)
    if max_tokens > limit:
        raise DataError(f"--max-tokens {max_tokens}: {directory} reads at most {limit} tokens")
    found = tokenizer(list(texts), truncation=True, max_length=max_tokens)
    if not all(found.input_ids):
        raise DataError(f"{directory}: a text has no tokens")
    return found.input_ids, [bool(encoding.overflowing) for encoding in found.encodings]


@torch.inference_mode()
def mean_states(model: PreTrainedModel, ids: Sequence[Sequence[int]]) -> Tensor:
    """Points (N, D) of a batch; padding is neither seen nor averaged."""
    lengths = torch.tensor([len(one) for one in ids], device=model.device)
    padded = pad_sequence([torch.tensor(one) for one in ids], batch_first=True).to(model.device)
    mask = torch.arange(padded.shape[1], device=model.device) < lengths[:, None]
    states = model(input_ids=padded, attention_mask=mask.long()).last_hidden_state
    summed = (states * mask[..., None]).sum(dim=1)
    return normalize(summed / lengths[:, None])
