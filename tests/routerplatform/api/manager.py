"""A program that manages the platform: it has a person's access token and speaks JSON."""

import json
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import Permission, User
from django.test import Client

from routing.models import TeamRole
from routing.services.tokens import token_issue
from tests.factories import MembershipFactory, TeamFactory, UserFactory

BASE = "/api/v1/manage"


@dataclass
class Answer:
    status: int
    json: Any
    headers: Any

    @property
    def error(self) -> dict[str, Any]:
        found: dict[str, Any] = self.json["error"]
        return found

    @property
    def refusal(self) -> tuple[int, str, str | None]:
        """Status, code and field."""
        return self.status, self.error["code"], self.error["param"]

    @property
    def ids(self) -> list[Any]:
        return [row["id"] for row in self.json["data"]]


class Manager:
    def __init__(self, token: str) -> None:
        self.token = token
        self._client = Client(headers={"authorization": f"Bearer {token}"})

    def get(self, path: str, **headers: str) -> Answer:
        return self._said("get", path, None, headers)

    def post(self, path: str, /, _body: Any = None, **fields: Any) -> Answer:
        return self._said("post", path, fields if _body is None else _body, {})

    def patch(self, path: str, /, if_match: str = "", **fields: Any) -> Answer:
        return self._said("patch", path, fields, {"if-match": if_match} if if_match else {})

    def delete(self, path: str, **headers: str) -> Answer:
        return self._said("delete", path, None, {name.replace("_", "-"): text for name, text in headers.items()})

    def _said(self, method: str, path: str, body: Any, headers: dict[str, str]) -> Answer:
        data = {} if body is None else {"data": json.dumps(body), "content_type": "application/json"}
        reply: Any = getattr(self._client, method)(f"{BASE}/{path}", headers=headers, **data)
        return Answer(reply.status_code, json.loads(reply.content) if reply.content else None, reply.headers)


def of(person: User, *, is_read_only: bool = False) -> Manager:
    return Manager(token_issue(user=person, name="tests", is_read_only=is_read_only).secret)


def superuser() -> Manager:
    return of(UserFactory(username="root", is_staff=True, is_superuser=True))


def staff(*permissions: str, username: str = "ops") -> Manager:
    """Of somebody with these permissions (“app.codename”) and no other."""
    person = UserFactory(username=username, is_staff=True)
    for one in permissions:
        app, _, codename = one.partition(".")
        person.user_permissions.add(Permission.objects.get(content_type__app_label=app, codename=codename))
    return of(person)


def in_team(role: TeamRole, team: Any = None) -> Manager:
    """Of somebody without any rights of staff."""
    return of(MembershipFactory(team=team or TeamFactory(), role=role).user)
