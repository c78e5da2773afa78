"""Prompt templates while something else happens: two people at once, a person at an old page, rows that go."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import connection
from django.utils import timezone

from routing.domain.compile import compile_snapshot
from routing.domain.config import ConfigSnapshot
from routing.domain.templates import KEPT_VERSIONS, TemplateDocument, UnknownTemplate, template_named
from routing.models import ConfigRevision, Persona, PromptTemplate, PromptTemplateVersion
from routing.selectors import config_rows
from routing.services import template_version_create, template_version_set
from routing.services.templates import SAVED_MEANWHILE
from tests.factories import PersonaFactory, RoutingPolicyFactory, UserFactory
from tests.routing.prompts import says, template, version

pytestmark = pytest.mark.django_db


def compiled() -> ConfigSnapshot:
    now = timezone.now()
    return compile_snapshot(config_rows(now=now), now=now)


def at_once(*acts: Callable[[], Any]) -> list[str]:
    """What became of each: “done”, or the words in which it was refused."""
    start = Barrier(len(acts))

    def run(act: Callable[[], Any]) -> str:
        start.wait(timeout=30)
        try:
            act()
        except ValidationError as error:
            return " ".join(error.messages)
        finally:
            connection.close()
        return "done"

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(run, acts))


def saving(made: PromptTemplate, document: TemplateDocument, *, seen: int | None = None) -> Callable[[], object]:
    mine = PromptTemplate.objects.get(pk=made.pk)  # as this person's page read it
    by = UserFactory()
    return lambda: template_version_create(template=mine, document=document, by=by, seen=seen)


# --- at the same moment -------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_two_programs_that_save_at_once_make_two_versions_and_the_last_is_in_force() -> None:
    made = template("welcome", says("One."))
    assert at_once(*(saving(made, says(f"By {n}.")) for n in range(4))) == ["done"] * 4
    rows = dict(made.versions.values_list("number", "system"))
    assert sorted(rows) == [1, 2, 3, 4, 5]
    assert set(rows.values()) == {"One.", *(f"By {n}." for n in range(4))}
    made.refresh_from_db()
    assert made.version == 5


@pytest.mark.django_db(transaction=True)
def test_of_two_people_who_save_at_once_one_is_told_of_the_other() -> None:
    made = template("welcome", says("One."))
    said = at_once(saving(made, says("Two."), seen=1), saving(made, says("Zwei."), seen=1))
    assert sorted(one == "done" for one in said) == [False, True]
    assert "saved version 2. Look at what it changes" in " ".join(said)
    assert made.versions.count() == 2


@pytest.mark.django_db(transaction=True)
def test_a_form_that_is_sent_twice_at_once_makes_one_version() -> None:
    made = template("welcome", says("One."))
    assert at_once(*[saving(made, says("Two."), seen=1)] * 3) == ["done"] * 3
    assert made.versions.count() == 2


@pytest.mark.django_db(transaction=True)
def test_versions_that_are_put_into_force_at_once_leave_one_that_is_there() -> None:
    made = template("welcome", *(says(f"{n}.") for n in range(1, 5)))

    def putting(number: int) -> Callable[[], object]:
        mine = PromptTemplate.objects.get(pk=made.pk)
        return lambda: template_version_set(template=mine, number=number, by=None)

    assert at_once(*(putting(number) for number in (1, 2, 3))) == ["done"] * 3
    made.refresh_from_db()
    assert made.version in {1, 2, 3}
    assert compiled().templates["welcome"].current == made.version


@pytest.mark.django_db(transaction=True)
def test_two_first_versions_at_once_are_the_first_and_the_second() -> None:
    made = PromptTemplate.objects.create(name="fresh")
    assert at_once(saving(made, says("A.")), saving(made, says("B."))) == ["done"] * 2
    assert sorted(made.versions.values_list("number", flat=True)) == [1, 2]
    made.refresh_from_db()
    assert made.version == 2


# --- a page that was opened long ago --------------------------------------------------------------------------------


def test_who_saves_over_a_version_they_have_not_seen_is_told_whose_it_is() -> None:
    made = template("welcome", says("One."))
    template_version_create(
        template=made, document=says("Two."), note="softer", by=UserFactory(username="ada"), is_in_force=False
    )
    before = ConfigRevision.objects.get().revision
    with pytest.raises(ValidationError) as caught:
        template_version_create(template=made, document=says("Mine."), by=None, seen=1)
    assert caught.value.code == SAVED_MEANWHILE
    assert "ada saved version 2 (“softer”)" in caught.value.messages[0]
    assert (made.versions.count(), ConfigRevision.objects.get().revision) == (2, before)
    made_now = template_version_create(template=made, document=says("Mine."), by=None, seen=2)
    assert made_now.number == 3


@pytest.mark.parametrize("seen", [None, 2, 9])
def test_who_has_seen_the_newest_or_does_not_say_may_save(seen: int | None) -> None:
    made = template("welcome", says("One."), says("Two."))
    assert template_version_create(template=made, document=says("Three."), by=None, seen=seen).number == 3


def test_the_same_text_as_the_other_persons_is_nothing_to_be_told() -> None:
    made = template("welcome", says("One."), says("Two."))
    assert template_version_create(template=made, document=says("Two."), by=None, seen=1).number == 2
    assert made.versions.count() == 2


def test_a_version_whose_writer_is_gone_is_told_without_a_name() -> None:
    made, ada = template("welcome", says("One.")), UserFactory(username="ada")
    template_version_create(template=made, document=says("Two."), by=ada)
    ada.delete()
    with pytest.raises(ValidationError, match="somebody saved version 2"):
        template_version_create(template=made, document=says("Mine."), by=None, seen=1)


# --- rows that change under a persona -------------------------------------------------------------------------------


def test_a_persona_whose_template_is_switched_off_behind_its_back_serves_nothing_and_says_so() -> None:
    made = template("house", says("Kind."))
    PersonaFactory(slug="guide", template=made), PersonaFactory(slug="other")
    PromptTemplate.objects.filter(pk=made.pk).update(is_active=False)  # as two people at once could bring about
    snapshot = compiled()
    assert set(snapshot.personas) == {"other"}
    assert snapshot.problems == ("Persona “guide” uses a template that cannot be used: There is no template “house”.",)
    PromptTemplate.objects.filter(pk=made.pk).update(is_active=True)
    assert (set(compiled().personas), compiled().problems) == ({"guide", "other"}, ())


def test_a_persona_whose_templates_version_in_force_gets_messages_behind_its_back_is_left_out() -> None:
    made = template("house", says("Kind."))
    version(made, says("", ("user", "Hi")), is_in_force=False)
    PersonaFactory(slug="guide", template=made)
    PromptTemplate.objects.filter(pk=made.pk).update(version=2)
    snapshot = compiled()
    assert snapshot.personas == {}
    assert snapshot.problems == ("Persona “guide” uses “house@2”, which has messages. Choose another.",)


def test_a_persona_cannot_be_pinned_to_version_nought() -> None:
    made = template("house", says("Kind."))
    persona = PersonaFactory.build(slug="guide", policy=RoutingPolicyFactory(), template=made, template_version=0)
    with pytest.raises(ValidationError, match="“house” has no version 0"):
        persona.full_clean()


def test_a_version_that_a_persona_is_pinned_to_stays_when_the_template_moves_on() -> None:
    made = template("house", says("Kind."))
    PersonaFactory(slug="guide", template=made, template_version=1)
    version(made, says("", ("user", "Hi")))
    snapshot = compiled()
    pinned = snapshot.personas["guide"].template
    assert pinned is not None
    assert (pinned.label, snapshot.templates["house"].current) == ("house@1", 2)
    assert snapshot.problems == ()


# --- many versions ------------------------------------------------------------------------------------------------


def with_versions(name: str, count: int, *, in_force: int) -> PromptTemplate:
    made = PromptTemplate.objects.create(name=name, version=in_force)
    PromptTemplateVersion.objects.bulk_create(
        PromptTemplateVersion(template=made, number=number, system=f"Text {number}.") for number in range(1, count + 1)
    )
    return made


def test_gateways_hold_the_newest_versions_and_those_that_somebody_needs() -> None:
    newest = KEPT_VERSIONS + 20
    made = with_versions("busy", newest, in_force=3)
    with_versions("calm", KEPT_VERSIONS, in_force=1)
    PersonaFactory(slug="keeps", template=made, template_version=7)
    PersonaFactory(slug="sleeps", template=made, template_version=9, is_active=False)
    PersonaFactory(slug="follows", template=made)
    snapshot = compiled()
    held = snapshot.templates["busy"].versions
    assert sorted(held) == [3, 7, 9, *range(21, newest + 1)]
    assert sorted(snapshot.templates["calm"].versions) == list(range(1, KEPT_VERSIONS + 1))
    told = {slug: one.template.label for slug, one in snapshot.personas.items() if one.template}
    assert (told, snapshot.problems) == ({"keeps": "busy@7", "follows": "busy@3"}, ())
    with pytest.raises(UnknownTemplate, match="“busy@20” is not at hand any more"):
        template_named(snapshot.templates, "busy@20")


def test_an_old_version_comes_back_when_it_is_put_into_force_or_pinned() -> None:
    made = with_versions("busy", KEPT_VERSIONS + 5, in_force=KEPT_VERSIONS + 5)
    assert 2 not in compiled().templates["busy"].versions
    assert template_version_set(template=made, number=2, by=None)
    assert template_named(compiled().templates, "busy").label == "busy@2"
    template_version_set(template=made, number=KEPT_VERSIONS + 5, by=None)
    persona = PersonaFactory(template=made, template_version=2)
    assert 2 in compiled().templates["busy"].versions
    Persona.objects.filter(pk=persona.pk).delete()
    assert 2 not in compiled().templates["busy"].versions
    copy = version(made, says("Text 2."))
    assert template_named(compiled().templates, "busy").label == f"busy@{copy.number}"


def test_another_templates_persona_keeps_no_version_of_this_one() -> None:
    with_versions("busy", KEPT_VERSIONS + 5, in_force=KEPT_VERSIONS + 5)
    PersonaFactory(template=with_versions("other", 3, in_force=3), template_version=2)
    assert min(compiled().templates["busy"].versions) == 6


def test_a_template_that_was_deleted_is_gone_with_its_versions() -> None:
    made = template("welcome", says("One."), says("Two."))
    made.delete()
    assert (PromptTemplateVersion.objects.count(), compiled().templates) == (0, {})
    with pytest.raises(PromptTemplate.DoesNotExist):
        template_version_create(template=PromptTemplate(pk=made.pk or 1, name="welcome"), document=says("X"), by=None)


def test_a_template_that_gets_another_name_is_called_by_it_and_its_personas_follow() -> None:
    made = template("welcome", says("One."))
    PersonaFactory(slug="guide", template=made)
    made.name = "hello/there:v2"
    made.full_clean()
    made.save()
    snapshot = compiled()
    assert template_named(snapshot.templates, "hello/there:v2@1").label == "hello/there:v2@1"
    told = snapshot.personas["guide"].template
    assert told is not None
    assert told.name == "hello/there:v2"


@pytest.mark.parametrize("name", ["", "a@1", "@", "a b", "größe", ".a", "a\nb", "x" * 81])
def test_names_that_callers_could_not_send_are_refused(name: str) -> None:
    with pytest.raises(ValidationError) as caught:
        PromptTemplate(name=name).full_clean()
    assert "name" in caught.value.message_dict
