"""A person at the admin, without a browser: signs in, opens a form, changes fields, saves it. Plain HTTP."""

from dataclasses import dataclass, field
from html.parser import HTMLParser

import aiohttp

from tests.e2e.processes import Installation


class Form(HTMLParser):
    """The fields of the page's form that posts to the page itself, as a browser would send them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.fields: dict[str, str] = {}
        self._select = self._text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        name, value = given.get("name", ""), given.get("value", "")
        if tag == "select":
            self._select = name
        elif tag == "option" and self._select and "selected" in given:
            self.fields[self._select] = value
        elif tag == "textarea":
            self._text = name
            self.fields[name] = ""
        elif tag == "input" and name and given.get("type") not in {"submit", "button", "file"}:
            if given.get("type") not in {"checkbox", "radio"} or "checked" in given:
                self.fields[name] = value or "on" if given.get("type") == "checkbox" else value

    def handle_endtag(self, tag: str) -> None:
        if tag == "select":
            self._select = ""
        elif tag == "textarea":
            self._text = ""

    def handle_data(self, data: str) -> None:
        if self._text:
            self.fields[self._text] += data.removeprefix("\n")


@dataclass
class AdminPerson:
    """Somebody who works in the admin of one gateway."""

    url: str
    session: aiohttp.ClientSession = field(repr=False)

    async def sign_in(self, installation: Installation) -> None:
        page = "/admin/login/"
        form = await self.open(page)
        fields = {**form.fields, "username": installation.admin, "password": installation.password, "next": "/admin/"}
        assert await self._post(page, fields) == "/admin/"

    async def open(self, page: str) -> Form:
        async with self.session.get(self.url + page) as response:
            assert response.status == 200, page
            return Form(await response.text())

    async def save(self, page: str, form: Form) -> None:
        """Press “Save”."""
        await self._post(page, {**form.fields, "_save": "Save"})

    async def _post(self, page: str, fields: dict[str, str]) -> str:
        """Where the admin leads after a form that it accepted."""
        headers = {"referer": self.url + page}
        async with self.session.post(self.url + page, data=fields, headers=headers, allow_redirects=False) as response:
            text = await response.text()
            assert response.status == 302, [line.strip() for line in text.splitlines() if "error" in line]
            return response.headers["location"]
