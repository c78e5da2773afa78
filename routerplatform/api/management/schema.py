"""How the management API stands in the OpenAPI document: names, groups, and the errors that every answer may be."""

from typing import Any, Final

from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import Direction

from routerplatform.doors import schema

SUMMARIES: Final = {
    "list": "List {many}",
    "retrieve": "Read {one}",
    "create": "Add {one}",
    "partial_update": "Change {one}",
    "destroy": "Delete {one}",
}
CODES: Final = ("400", "401", "403", "404", "503")
OF_WRITES: Final = ("409", "412")


class ManagementSchema(AutoSchema):
    """Operations are called `manage_<nouns>_<action>`."""

    view: Any  # a `ManagementView`

    def get_tags(self) -> list[str]:
        return [f"Manage: {self.view.tag}"]

    def get_operation_id(self) -> str:
        noun = self.view.tag.lower().replace(" ", "_")
        return f"manage_{noun}_{self.view.action}"

    def get_auth(self) -> list[dict[str, Any]]:
        """Without what stands for the rest of the API: a virtual key is nobody here."""
        return [one for one in super().get_auth() if "virtualKey" not in one]

    def get_summary(self) -> str | None:
        meta = self.view.model._meta
        said = SUMMARIES.get(self.view.action)
        return said.format(one=_with_article(meta.verbose_name), many=meta.verbose_name_plural) if said else None

    def _get_response_bodies(self, direction: Direction = "response") -> dict[str, Any]:
        found: dict[str, Any] = super()._get_response_bodies(direction)
        for code in (*CODES, *(OF_WRITES if self.method != "GET" else ())):
            found.setdefault(code, self._get_response_for_code(schema.ErrorSerializer, code))  # type: ignore[no-untyped-call]
        return found


def _with_article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"
