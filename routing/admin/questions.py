"""A page that asks before something is done, with what it needs to know."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from django.contrib.admin import ModelAdmin
from django.forms import Form
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from routing.domain.policy_diff import Change


@dataclass(frozen=True, slots=True)
class Question:
    """`said` are its paragraphs, `button` does it, `back` is the address of whoever does not want to. `tone` is the
    button's: “primary” or “danger”."""

    title: str
    said: Sequence[str]
    button: str
    back: str
    tone: str = "primary"
    form: Form | None = None
    changes: Sequence[Change] = field(default=())


def asked_page(page: ModelAdmin[Any], request: HttpRequest, title: str, question: Question) -> HttpResponse:
    context = {**page.admin_site.each_context(request), "title": title, "opts": page.opts, "question": question}
    return TemplateResponse(request, "admin/routing/question.html", context)
