"""Prompt templates for tests, made as an operator makes them."""

from routing.domain.templates import MessageDocument, TemplateDocument, VariableDocument
from routing.models import PromptTemplate, PromptTemplateVersion
from routing.services import template_version_create


def says(
    system: str = "", *messages: tuple[str, str], variables: tuple[VariableDocument | str, ...] = ()
) -> TemplateDocument:
    """What a version says; variables that are given by name alone are required."""
    declared = tuple(VariableDocument(one) if isinstance(one, str) else one for one in variables)
    return TemplateDocument(system, tuple(MessageDocument(*one) for one in messages), declared)


def template(name: str, *documents: TemplateDocument) -> PromptTemplate:
    """With a version for each of `documents`; the last one is in force."""
    made = PromptTemplate.objects.create(name=name)
    for document in documents:
        version(made, document)
    return made


def version(of: PromptTemplate, document: TemplateDocument, *, is_in_force: bool = True) -> PromptTemplateVersion:
    return template_version_create(template=of, document=document, by=None, is_in_force=is_in_force)
