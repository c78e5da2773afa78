"""A percentile as a database aggregate, the same figure on both databases."""

import json
from collections.abc import Callable
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Aggregate, FloatField
from django.db.models.sql.compiler import SQLCompiler

from analytics.domain.rollup import percentile


class Percentile(Aggregate):
    """Linear interpolation between the two nearest values, as `percentile_cont` does; None over no rows.

    SQLite has no such function: there the values come as one JSON array and are ranked here, so bound the rows.
    """

    function = "PERCENTILE_CONT"
    template = "%(function)s(%(share)s) WITHIN GROUP (ORDER BY %(expressions)s)"
    output_field = FloatField()

    def __init__(self, expression: str, share: float, **extra: Any) -> None:
        super().__init__(expression, share=repr(float(share)), **extra)
        self.share = share

    def as_sqlite(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **_: Any) -> Any:
        collected = self.copy()
        collected.function, collected.template = "JSON_GROUP_ARRAY", "%(function)s(%(expressions)s)"
        return collected.as_sql(compiler, connection)

    @property
    def convert_value(self) -> Callable[..., float | None]:
        return self._read

    def _read(self, value: float | str | None, *_: Any) -> float | None:
        if isinstance(value, str):
            return percentile([number for number in json.loads(value) if number is not None], self.share)
        return None if value is None else float(value)
