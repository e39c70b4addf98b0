"""Column types that SQLite and PostgreSQL keep alike (UTC times, exact text, JSON, blobs), and
the base of the tables that use them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime

from pydantic import JsonValue
from sqlalchemy import (
    CheckConstraint,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    LargeBinary,
    MetaData,
    String,
    Text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from store.blobs import (
    from_raw,
    pack_flags,
    pack_floats,
    pack_ints,
    raw_text,
    unpack_flags,
    unpack_floats,
    unpack_ints,
)

COPY = "coclimb_copy"  # execution option of an insert that a driver may take by its fast path


class Utc(TypeDecorator[datetime]):
    """An aware time, kept as UTC; SQLite would forget the zone. Refuses a naive one."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value} has no time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class RawText(TypeDecorator[str]):
    """Any Python string as bytes that give it back exactly, NUL and lone surrogates included."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> bytes | None:
        return None if value is None else raw_text(value)

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> str | None:
        return None if value is None else from_raw(value)


class Json(TypeDecorator[JsonValue]):
    """JSON as text: key order and every float kept, non-finite numbers refused."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: JsonValue, dialect: Dialect) -> str | None:
        return None if value is None else json.dumps(value, allow_nan=False)

    def process_result_value(self, value: str | None, dialect: Dialect) -> JsonValue:
        found: JsonValue = None if value is None else json.loads(value)
        return found


class Wide(TypeDecorator[int]):
    """An integer of any size, such as a 64-bit seed, as its decimal text."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> str | None:
        return None if value is None else str(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> int | None:
        return None if value is None else int(value)


class Ints(TypeDecorator[tuple[int, ...]]):
    """Token ids as a blob."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: Sequence[int] | None, dialect: Dialect) -> bytes | None:
        return None if value is None else pack_ints(value)

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> tuple[int, ...] | None:
        return None if value is None else unpack_ints(value)


class Flags(TypeDecorator[tuple[bool, ...]]):
    """One truth value per token as a blob."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: Sequence[bool] | None, dialect: Dialect) -> bytes | None:
        return None if value is None else pack_flags(value)

    def process_result_value(
        self, value: bytes | None, dialect: Dialect
    ) -> tuple[bool, ...] | None:
        return None if value is None else unpack_flags(value)


class Floats(TypeDecorator[tuple[float, ...]]):
    """Finite numbers, bit for bit, as a blob."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: Sequence[float] | None, dialect: Dialect) -> bytes | None:
        return None if value is None else pack_floats(value)

    def process_result_value(
        self, value: bytes | None, dialect: Dialect
    ) -> tuple[float, ...] | None:
        return None if value is None else unpack_floats(value)


def one_of(column: str, values: tuple[str, ...]) -> CheckConstraint:
    """A check in place of a native enum, so that a new word needs no type migration."""
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {float: Double, datetime: Utc, JsonValue: Json}  # noqa: RUF012


def run_key() -> Mapped[str]:
    return mapped_column(ForeignKey("run.id"), primary_key=True)
