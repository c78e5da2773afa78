"""Versions of prompt templates: made, put into force, compiled for gateways, and used by personas."""

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from routing.domain.compile import compile_snapshot
from routing.domain.config import ConfigSnapshot
from routing.models import ConfigRevision, Persona, PromptTemplate, PromptTemplateVersion
from routing.selectors import config_rows
from routing.services import template_version_create, template_version_set
from tests.factories import PersonaFactory, RoutingPolicyFactory, UserFactory
from tests.routing.prompts import says, template, version

pytestmark = pytest.mark.django_db
CHAT = says("Hi", ("user", "{{ a }}"), variables=("a",))


def compiled() -> ConfigSnapshot:
    now = timezone.now()
    return compile_snapshot(config_rows(now=now), now=now)


def revision() -> int:
    return ConfigRevision.objects.get().revision


def test_versions_are_counted_and_the_last_one_is_in_force_unless_it_is_only_tried() -> None:
    ada = UserFactory.create(username="ada")
    made = template("welcome", says("One."))
    second = template_version_create(template=made, document=CHAT, note="greet", by=ada)
    third = version(made, says("Three."), is_in_force=False)
    assert [second.number, third.number, made.version] == [2, 3, 2]
    assert (second.author, second.note) == (ada, "greet")
    assert second.messages == [{"role": "user", "content": "{{ a }}"}]
    assert second.variables == [{"name": "a", "description": "", "default": None, "max_length": 2000}]
    assert PromptTemplate.objects.get().version == 2
    latest = made.history.first()
    assert latest is not None
    assert (latest.history_user, latest.history_change_reason) == (ada, "Version 2 put into force")


def test_a_version_never_changes() -> None:
    made = template("welcome", says("One."))
    row = made.versions.get()
    row.system = "Two."
    with pytest.raises(ValidationError, match="welcome@1 stays as it is"):
        row.save()
    with pytest.raises(IntegrityError), transaction.atomic():
        PromptTemplateVersion.objects.create(template=made, number=1, system="Other.")


def test_the_same_text_sent_twice_is_one_version() -> None:
    made = template("welcome", says("One.\r\nTwo."), says("One.\nTwo."))
    assert (made.versions.count(), made.version) == (1, 1)
    assert made.versions.get().system == "One.\nTwo."
    version(made, says("Three."))
    assert version(made, says("One.\nTwo.")).number == 3  # back again is a new one
    assert version(made, CHAT).number == version(made, CHAT).number == 4


def test_what_cannot_be_used_changes_nothing() -> None:
    made = template("welcome", says("One."))
    before = revision()
    with pytest.raises(ValidationError) as caught:
        version(made, says("{{ a }}\n{{ b }}", variables=("c",)))
    assert caught.value.messages == [
        "System text, line 1: “a” is not declared. Declare it as a variable.",
        "System text, line 2: “b” is not declared. Declare it as a variable.",
    ]
    assert (made.versions.count(), revision()) == (1, before)


def test_any_version_can_be_put_into_force_again() -> None:
    made = template("welcome", says("One."), says("Two."))
    before = revision()
    assert template_version_set(template=made, number=1, by=None)
    assert PromptTemplate.objects.get().version == made.version == 1
    assert revision() > before
    assert not template_version_set(template=made, number=1, by=None)
    with pytest.raises(ValidationError, match="“welcome” has no version 7"):
        template_version_set(template=made, number=7, by=None)


# --- personas -----------------------------------------------------------------------------------------------------


def complaint(persona: Persona, field: str) -> str:
    with pytest.raises(ValidationError) as caught:
        persona.full_clean()
    return " ".join(caught.value.message_dict[field])


def test_a_persona_takes_a_system_text_alone() -> None:
    made = template("welcome", CHAT, says("Kind."), CHAT)
    persona = PersonaFactory.build(policy=RoutingPolicyFactory(), template=made)
    assert "“welcome@3” has messages" in complaint(persona, "template")
    persona.template_version = 2
    persona.full_clean()
    persona.template_version = 9
    assert "has no version 9" in complaint(persona, "template_version")
    persona.template = None
    assert "Choose a template first" in complaint(persona, "template_version")
    persona.template, persona.template_version = PromptTemplate.objects.create(name="fresh"), None
    assert "no version in force yet" in complaint(persona, "template")
    persona.template = PromptTemplate.objects.create(name="off", is_active=False)
    assert "switched off" in complaint(persona, "template")


def test_a_version_with_messages_is_not_put_into_force_while_a_persona_follows() -> None:
    made = template("welcome", says("Kind."))
    persona = PersonaFactory(slug="guide", template=made)
    with pytest.raises(ValidationError, match="These personas follow “welcome”"):
        version(made, CHAT)
    assert made.versions.count() == 1  # all or nothing
    version(made, CHAT, is_in_force=False)
    with pytest.raises(ValidationError, match="guide"):
        template_version_set(template=made, number=2, by=None)
    Persona.objects.filter(pk=persona.pk).update(template_version=1)
    assert template_version_set(template=made, number=2, by=None)


def test_a_template_stays_on_while_a_persona_needs_it() -> None:
    made = template("welcome", says("Kind."))
    persona = PersonaFactory(slug="guide", template=made)
    made.is_active = False
    with pytest.raises(ValidationError, match="another template first, or switch them off: guide"):
        made.full_clean()
    Persona.objects.filter(pk=persona.pk).update(is_active=False)
    made.full_clean()


# --- the snapshot -------------------------------------------------------------------------------------------------


def test_gateways_have_every_version_of_what_is_active() -> None:
    template("welcome", says("One."), CHAT)
    PromptTemplate.objects.filter(pk=template("off", says("Off.")).pk).update(is_active=False)
    snapshot = compiled()
    assert set(snapshot.templates) == {"welcome"}
    assert (sorted(snapshot.templates["welcome"].versions), snapshot.templates["welcome"].current) == ([1, 2], 2)
    assert (snapshot.has_templated_personas, snapshot.problems) == (False, ())


def test_a_persona_follows_its_template_or_keeps_to_its_version() -> None:
    made = template("welcome", says("One."), says("Two."))
    PersonaFactory(slug="follows", template=made), PersonaFactory(slug="keeps", template=made, template_version=1)
    PersonaFactory(slug="without")
    snapshot = compiled()
    told = {slug: one.template.label if one.template else "" for slug, one in snapshot.personas.items()}
    assert told == {"follows": "welcome@2", "keeps": "welcome@1", "without": ""}
    assert snapshot.has_templated_personas


def test_what_cannot_be_used_is_left_out_and_told_and_keeps_nothing_else_away() -> None:
    made = template("welcome", CHAT, says("Two."))
    PersonaFactory(slug="pinned", template=made, template_version=1)
    PersonaFactory(slug="well", template=made)
    broken = PromptTemplate.objects.create(name="broken", version=1)
    PromptTemplateVersion.objects.create(template=broken, number=1, system="{{", variables="nonsense")
    PersonaFactory(slug="lost", template=broken)
    snapshot = compiled()
    assert set(snapshot.personas) == {"well"}
    told = sorted(snapshot.problems)
    assert told[0] == (
        "Persona “lost” uses a template that cannot be used: The template “broken” has no version “1”. It has none yet."
    )
    assert told[1] == "Persona “pinned” uses “welcome@1”, which has messages. Choose another."
    assert told[2].startswith("Template “broken@1” is left out. It cannot be read")


def test_many_versions_take_as_many_queries_as_one() -> None:
    PersonaFactory(template=template("welcome", says("One.")))
    few = _queries()
    for number in range(5):
        PersonaFactory(template=template(f"t{number}", *[says(f"Say {n}") for n in range(4)]))
    assert _queries() == few


def _queries() -> int:
    with CaptureQueriesContext(connection) as captured:
        config_rows(now=timezone.now())
    return len(captured)
