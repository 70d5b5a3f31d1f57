"""What a configuration file may say, as data: for the reference, the examples, the man pages and error messages."""

import ast
import enum
import functools
import inspect
import json
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec
from msgspec import inspect as types
from msgspec.structs import FieldInfo, fields


class Presence(enum.StrEnum):
    """How often a table stands in its file."""

    ALWAYS = "always"  # whether it is written or not, its keys have values
    OPTIONAL = "optional"  # something is off unless it is written
    REQUIRED = "required"
    MANY = "many"  # [[...]]


class Key(NamedTuple):
    """One key.

    Args:
        allowed: Which values it takes: ``a number from 0 to 65535``.
        default: Its value when it is left out, in TOML; None when it has none.
        example: Some value, in TOML: the default where there is one.
        required: Whether it must be there (where its table is).
        about: What it means, in full sentences, on one line.
    """

    name: str
    allowed: str
    default: str | None
    example: str
    required: bool
    about: str


class TableDescription(NamedTuple):
    """One table; the keys before the first table are one without a name."""

    name: str
    presence: Presence
    about: str
    keys: tuple[Key, ...]

    @property
    def header(self) -> str:
        """The line that begins it, without a name nothing."""
        brackets = "[[{}]]" if self.presence is Presence.MANY else "[{}]"
        return brackets.format(self.name) if self.name else ""


@functools.cache
def describe(kind: type[msgspec.Struct]) -> tuple[TableDescription, ...]:
    """All tables of the file that *kind* is, in the order in which they are declared."""
    texts = texts_of(kind)
    top, tables = [], []
    for field in fields(kind):
        table = table_of(field.type)
        if table is None:
            top.append(_key(field, texts[field.name]))
        else:
            inner = texts_of(table.kind)
            keys = tuple(_key(each, inner[each.name]) for each in fields(table.kind))
            tables.append(TableDescription(field.name, _presence(field, table), texts[field.name], keys))
    return (TableDescription("", Presence.ALWAYS, "", tuple(top)), *tables)


class TableType(NamedTuple):
    """The type of a field that is a table, or an array of them, at most *most* (if there is a limit)."""

    kind: type[msgspec.Struct]
    many: bool
    optional: bool
    most: int | None = None


def table_of(annotation: Any) -> TableType | None:
    """What table a field of this type is; None when it is a plain value."""
    kind, optional = _without_none(types.type_info(annotation))
    if isinstance(kind, types.StructType):
        return TableType(kind.cls, many=False, optional=optional)
    if isinstance(kind, types.VarTupleType):
        item = _bare(kind.item_type)
        if isinstance(item, types.StructType):
            return TableType(item.cls, many=True, optional=False, most=kind.max_length)
    return None


def texts_of(kind: type[msgspec.Struct]) -> dict[str, str]:
    """What stands below each field of the class, in its source, on one line."""
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        if each.__module__.startswith(__package__ or "tccp.config") and issubclass(each, msgspec.Struct):
            found.update(_texts(ast.parse(textwrap.dedent(inspect.getsource(each)))))
    return found


def _texts(tree: ast.Module) -> Iterator[tuple[str, str]]:
    (body,) = (node.body for node in tree.body if isinstance(node, ast.ClassDef))
    for field, text in pairwise(body):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
        ):
            yield field.target.id, " ".join(str(text.value.value).split())


def _presence(field: FieldInfo, table: TableType) -> Presence:
    if table.many:
        return Presence.MANY
    if table.optional:
        return Presence.OPTIONAL
    return Presence.REQUIRED if field.required else Presence.ALWAYS


def _key(field: FieldInfo, about: str) -> Key:
    default = None if field.required or field.default in (None, ()) else field.default
    examples = _examples(types.type_info(field.type))
    if default in (None, ""):
        assert examples or default == "", f"{field.name} has no default and needs an example"
        default = None if examples else default
    shown = None if default is None else toml(default)
    return Key(field.name, allowed(field.type), shown, shown or toml((examples or [""])[0]), field.required, about)


def allowed(annotation: Any) -> str:
    """In words, which values a type takes: to be read behind "is not"."""
    return _words(types.type_info(annotation))


def _words(kind: types.Type) -> str:
    title = _extra(kind, "title")
    kind, _ = _without_none(kind)
    return str(title or _extra(kind, "title") or _plain_words(_bare(kind)))


def _plain_words(kind: types.Type) -> str:
    match kind:
        case types.LiteralType(values=values):
            return "one of " + ", ".join(toml(value) for value in values)
        case types.IntType(ge=low, le=high):
            return f"a number from {low} to {high}"
        case types.BoolType():
            return "true or false"
        case types.StrType(min_length=least, max_length=most):
            return "a text" + (f" of {least or 0} to {most} characters" if most is not None else "")
        case types.VarTupleType(item_type=item, min_length=least, max_length=most):
            count = "" if least is None else f"at least {least}"
            count += "" if most is None else f"{' and ' if count else ''}at most {most}"
            return f"a list, each {_words(item)}" + (f"; {count} of them" if count else "")
        case types.StructType():
            return "a table"
    raise AssertionError(f"no words for {kind}")


def _without_none(kind: types.Type) -> tuple[types.Type, bool]:
    """*kind* without the None that stands for a missing key, and whether there was one."""
    bare = _bare(kind)
    if isinstance(bare, types.UnionType):
        (other,) = (each for each in bare.types if not isinstance(each, types.NoneType))
        return other, True
    return bare if isinstance(bare, types.StructType | types.VarTupleType) else kind, False


def _bare(kind: types.Type) -> types.Type:
    return kind.type if isinstance(kind, types.Metadata) else kind


def _extra(kind: types.Type, name: str) -> Any:
    return (kind.extra_json_schema or {}).get(name) if isinstance(kind, types.Metadata) else None


def _examples(kind: types.Type) -> list[Any] | None:
    found: list[Any] | None = _extra(kind, "examples")
    return found


def toml(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml(each) for each in value) + "]"
    return json.dumps(value)
