"""Fields of a peer's format that have only one meaning here: another value is refused by name."""

from collections.abc import Mapping

from msgspec import Struct

from service.problems import Failure

# By field, the values that mean what is done anyway, and what to do about any other.
Only = Mapping[str, tuple[tuple[object, ...], str]]


def check(body: Struct, only: Only) -> None:
    """Failure "malformed" that names the first field that asks for what is not done here."""
    for field, (values, remedy) in only.items():
        if getattr(body, field) not in values:
            raise Failure("malformed", f"{field}: {remedy}")
