"""The database's clock, which all machines share: seconds since 1970, as an SQL expression."""

from __future__ import annotations

from sqlalchemy import Double
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement


class clock(FunctionElement[float]):
    """When the statement began. Stable within it, so that an index may be searched by it."""

    type = Double()
    inherit_cache = True


@compiles(clock, "sqlite")
def _sqlite(element: clock, compiler: SQLCompiler, **options: object) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(clock, "postgresql")
def _postgresql(element: clock, compiler: SQLCompiler, **options: object) -> str:
    return "extract(epoch FROM statement_timestamp())::float8"
