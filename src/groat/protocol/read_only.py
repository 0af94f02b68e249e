"""A dictionary that stays as it is, and still copies, pickles and turns into JSON like any other."""

from typing import Any, NoReturn


class ReadOnlyDict(dict[str, Any]):
    """Claims of a verified token. Its values are as they came: a list in it can be changed by whoever wants to.

    Not a `MappingProxyType`, which can be neither copied deeply nor pickled, and is nothing to `json.dumps`.
    """

    __slots__ = ()

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("these claims are read-only; dict(claims) is yours to change")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[type["ReadOnlyDict"], tuple[dict[str, Any]]]:
        return ReadOnlyDict, (dict(self),)

    def __copy__(self) -> "ReadOnlyDict":
        return self
