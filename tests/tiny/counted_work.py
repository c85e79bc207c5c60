"""Work that is counted, not timed: the same on every machine.

Counted are the instructions of plaudit that run, the tokens of sequences that are compared, hashed
or copied, and the elements of the tensors that operations take and give.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import plaudit

PACKAGE = str(Path(plaudit.__file__).parent)


class Tokens:
    touched = 0


class Token(int):
    def __hash__(self):
        Tokens.touched += 1
        return int.__hash__(self)

    def __eq__(self, other):
        Tokens.touched += 1
        return int(self) == int(other)

    def __ne__(self, other):
        Tokens.touched += 1
        return int(self) != int(other)

    def __lt__(self, other):
        Tokens.touched += 1
        return int(self) < int(other)


class Ids(list):
    """Tokens of a sequence; who goes through them, or takes a part, touches them."""

    def __iter__(self):
        Tokens.touched += len(self)
        return super().__iter__()

    def __getitem__(self, at):
        found = super().__getitem__(at)
        if not isinstance(at, slice):
            return found
        Tokens.touched += len(found)
        return Ids(found)


def counted_ids(tokens) -> Ids:
    return Ids(map(Token, tokens))


class Elements(TorchDispatchMode):
    """Views touch none, and what is written to in place only what is written."""

    touched = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        found = operation(*args, **(kwargs or {}))
        alias = next((one.alias_info for one in operation._schema.returns), None)
        if alias is None:
            self.touched += elements((args, found))
        elif alias.is_write:
            self.touched += elements(args[1:])
        return found


def elements(of: object) -> int:
    return sum(x.numel() for x in tree_leaves(of) if isinstance(x, torch.Tensor))


class Instructions:
    """Of the package; not lines, since one may loop. Who traces else is let go on afterwards."""

    run = 0

    def __enter__(self):
        self._before = sys.gettrace()
        sys.settrace(self._called)
        return self

    def __exit__(self, *_):
        sys.settrace(self._before)

    def _called(self, frame, event, arg):
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        return self._ran

    def _ran(self, frame, event, arg):
        self.run += event == "opcode"
        return self._ran


def work_of(plan: Callable[[], object]) -> int:
    before = Tokens.touched
    with Elements() as elements, Instructions() as instructions:
        plan()
    return instructions.run + elements.touched + Tokens.touched - before
