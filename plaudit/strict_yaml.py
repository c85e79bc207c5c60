"""YAML in which a key stands once: readers keep the last of two of one name and say nothing."""

from typing import Any

import yaml

# What PyYAML's readers of single values let through: a 31st of February, ``!!bool perhaps``, ten
# thousand brackets.
READERS = (ArithmeticError, AttributeError, LookupError, RecursionError, ValueError)


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if (key.tag, key.value) in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} stands here a second time", key.start_mark
                )
            seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)


def load(text: str) -> Any:
    """The value of ``text``; YAMLError, with line and column where it is a matter of form."""
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    except READERS as error:
        raise yaml.YAMLError(f"a value that cannot be read ({type(error).__name__})") from None
    finally:
        loader.dispose()
