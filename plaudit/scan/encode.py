"""A program of its own: encodes a few texts with the tokenizer.json that it is given, under limits.

It is run as ``python -I encode.py`` and imports nothing of Plaudit. It reads a path and writes what
is wrong. Regular expressions, replacements and merges of a tokenizer are work that its author
chose: a few bytes of them can take for ever, or more memory than there is.
"""

import resource
import sys

# Reading a large vocabulary takes seconds; what follows should not.
LOAD_CPU_SECONDS, CPU_SECONDS = 20, 5
MEMORY = 2 * 2**30
# Ids for each byte of a text, and besides.
MAX_GROWTH, MAX_FRAME = 8, 1000
TEXTS = (
    "Hi",
    "It was a long day. " * 1000,
    "a" * 4000,
    "a" * 4000 + "!",
    "7" * 1000 + " " * 1000 + "\n" * 1000 + "-" * 1000 + ".",
    "<|im_start|>user\nWhy, O'Neil? — 1 234,50 € \ufb01ne e\u0301\t\r\n<|im_end|>" * 50,
    "😀🇫🇷 中文 עברית हिन्दी" * 100,
)  # fmt: skip


def judge(path: str) -> str:
    """What is wrong with a tokenizer, in words that follow "the tokenizer"; empty if nothing is."""
    from tokenizers import Tokenizer  # here: the scan itself takes only the limits of this program

    try:
        tokenizer = Tokenizer.from_file(path)
    except BaseException as error:  # noqa: BLE001  a panic of Rust is no Exception
        return f"cannot be read ({type(error).__name__})"
    limit_cpu(int(used()) + CPU_SECONDS)
    for text in TEXTS:
        try:
            count = len(tokenizer.encode(text, add_special_tokens=False).ids)
        except Exception:  # noqa: BLE001  some have no token for what they do not know
            continue
        except BaseException as error:  # noqa: BLE001  as above
            return f"fails with {type(error).__name__} for {text[:20]!r} and more"
        if count > MAX_GROWTH * len(text.encode()) + MAX_FRAME:
            return f"makes {count} tokens of {len(text.encode())} bytes"
    return ""


def used() -> float:
    """Seconds of CPU time so far."""
    spent = resource.getrusage(resource.RUSAGE_SELF)
    return spent.ru_utime + spent.ru_stime


def limit_cpu(seconds: int) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, LOAD_CPU_SECONDS + CPU_SECONDS))


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    limit_cpu(LOAD_CPU_SECONDS)
    sys.stdout.write(judge(sys.stdin.read()))


if __name__ == "__main__":
    main()
