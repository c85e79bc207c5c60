"""What a format without room for an item's error gives in its place: nothing of it is silent."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

PeerName = Literal["openrlhf", "slime", "triton", "vllm", "sglang", "tei", "cohere"]
PEERS: tuple[PeerName, ...] = get_args(PeerName)
# Several formats send float32, in which a number beyond it would be none.
FLOAT32_MAX = (2 - 2**-23) * 2.0**127
EXAMPLE = "fail,slime=null,openrlhf=floor:-5"


@dataclass(frozen=True)
class OnError:
    """``fail``: the request does; ``null``: no reward; ``floor``: the number ``floor``."""

    kind: Literal["fail", "null", "floor"]
    floor: float | None = None


def read(text: str) -> Mapping[PeerName, OnError]:
    """``fail,slime=null``: of every peer, those named apart. ValueError for anything else."""
    default, named = OnError("fail"), {}
    for part in (part.strip() for part in text.split(",")):
        peer, named_apart, policy = part.rpartition("=")
        if not named_apart:
            default = policy_of(policy)
        elif peer in PEERS and peer not in named:
            named[peer] = policy_of(policy)
        else:
            raise ValueError(f"{peer!r} is not one of {', '.join(PEERS)}, named once")
    return {peer: named.get(peer, default) for peer in PEERS}


def policy_of(text: str) -> OnError:
    kind, _, number = text.partition(":")
    match kind:
        case "fail" | "null" if not number:
            return OnError("fail" if kind == "fail" else "null")
        case "floor":
            floor = float(number)
            if abs(floor) <= FLOAT32_MAX:
                return OnError("floor", floor)
    raise ValueError(f"{text!r} is not fail, null or floor:NUMBER (of float32), as in {EXAMPLE}")
