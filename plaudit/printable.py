"""Words of strangers in messages of ours: one line, which no terminal obeys and UTF-8 can hold."""


def printable(text: str) -> str:
    """``text`` with what is not printable written as in a Python string: ``\\n``, ``\\x1b``, and
    ``\\ud800``, half a character, which JSON can write and no file can."""
    return "".join(one if one.isprintable() else escaped(one) for one in text)


def escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
