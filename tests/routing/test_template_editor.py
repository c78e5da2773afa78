"""The editor of prompt templates with what people and programs send by mistake, and with two people at it."""

from html import unescape
from typing import Any

import pytest
from django.test import Client

from providers.admin.pages import change_url, list_url
from routing.domain.templates import KEPT_VERSIONS, MOST_MESSAGES, VariableDocument
from routing.models import PromptTemplate, PromptTemplateVersion
from tests.admin_pages import page_of, submit, submit_new
from tests.factories import PersonaFactory
from tests.routing.lifecycles import person, signed_in
from tests.routing.prompts import says, template, version
from tests.routing.test_templates_admin import CITY, NAME, editor, entered, said

pytestmark = pytest.mark.django_db
FETCH = {"x-requested-with": "fetch"}
TALK = says("Be kind.", ("user", "One."), ("assistant", "Two."), variables=())


def saved(of: PromptTemplate) -> list[tuple[str, str]]:
    """The messages of the newest version."""
    return [(row["role"], row["content"]) for row in of.versions.order_by("-number")[0].messages]


def texts_of(page: Any) -> str:
    return unescape(said(page))


# --- two people -----------------------------------------------------------------------------------------------------


def test_who_saves_over_another_persons_version_is_asked_first_and_loses_nothing(admin_client: Client) -> None:
    made = template("welcome", says("One."))
    assert 'name="seen" value="1"' in said(admin_client.get(editor(made)))
    ada = signed_in(person("ada", "view_prompttemplate", "change_prompttemplate"))
    ada.post(editor(made), entered("Ada’s.", note="softer", seen="1"))
    answer = admin_client.post(editor(made), entered("Mine.", note="firmer", seen="1"))
    assert "While this was written, ada saved version 2 (“softer”)." in texts_of(answer)
    assert 'name="seen" value="2"' in said(answer)
    assert page_of(made, "changes") in said(answer)
    assert "Mine." in said(answer)
    assert made.versions.count() == 2
    answer = admin_client.post(editor(made), entered("Mine.", note="firmer", seen="2"), follow=True)
    assert "Version 3 is saved" in said(answer)
    assert list(made.versions.order_by("number").values_list("system", flat=True)) == ["One.", "Ada’s.", "Mine."]


def test_a_preview_does_not_hide_that_somebody_else_has_saved(admin_client: Client) -> None:
    made = template("welcome", says("One."))
    version(made, says("Two."))
    preview = admin_client.post(editor(made), entered("Mine.", seen="1", _preview=""))
    assert 'name="seen" value="1"' in said(preview)
    assert "saved version 2" in said(admin_client.post(editor(made), entered("Mine.", seen="1")))


@pytest.mark.parametrize("seen", ["", "x", "-1", "9" * 30, "٢", "0"])
def test_a_damaged_number_of_what_was_seen_is_no_leave_to_save_over_others(admin_client: Client, seen: str) -> None:
    made = template("welcome", says("One."))
    assert "saved version 1" in said(admin_client.post(editor(made), entered("Mine.", seen=seen)))
    assert made.versions.count() == 1


def test_the_first_version_of_two_people_is_one_after_the_other(admin_client: Client) -> None:
    made = PromptTemplate.objects.create(name="fresh")
    assert 'name="seen" value="0"' in said(admin_client.get(editor(made)))
    admin_client.post(editor(made), entered("First.", seen="0"))
    assert "saved version 1" in said(admin_client.post(editor(made), entered("Also first.", seen="0")))


def test_a_row_is_kept_though_the_version_in_force_has_the_same_one_by_now(admin_client: Client) -> None:
    made = template("welcome", says("One."))
    rows = (("user", "One."), ("assistant", "Two."))
    version(made, TALK)  # meanwhile: its rows are what this person has typed into new ones
    admin_client.post(editor(made), entered("Other.", rows))
    assert saved(made) == list(rows)


def test_a_variable_is_kept_though_the_version_in_force_declares_the_same_one(admin_client: Client) -> None:
    made = template(
        "welcome", says("Hi {{ city }}", variables=(VariableDocument("city", default="Rome", max_length=20),))
    )
    admin_client.post(editor(made), entered("Hello {{ city }}", (), (CITY,)))
    assert made.versions.count() == 2
    assert [one["name"] for one in made.versions.get(number=2).variables] == ["city"]


def test_a_template_that_was_deleted_meanwhile_is_told_as_gone(admin_client: Client) -> None:
    made = template("welcome", says("One."))
    page = editor(made)
    made.delete()
    assert admin_client.post(page, entered("Two.")).status_code in {302, 404}
    assert not PromptTemplateVersion.objects.exists()


# --- what programs send ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"system": "Hi"},
        {"system": "Hi", "messages-TOTAL_FORMS": "x", "messages-INITIAL_FORMS": "y", "variables-TOTAL_FORMS": "-1"},
        entered("Hi") | {"messages-TOTAL_FORMS": "1000000000"},
        entered("Hi") | {"messages-TOTAL_FORMS": "3", "messages-INITIAL_FORMS": "3"},
        entered("Hi") | {"messages-0-role": "system", "messages-0-content": "x"},
        entered("Hi") | {"messages-0-ORDER": "x", "messages-0-content": "x"},
        entered("Hi\x00"),
        entered("", (("user", "\x00"),)),
        entered("x" * 100_001),
        entered("Hi", note="n" * 301),
        entered("{{ name }}", (), ({**NAME, "max_length": "1e9"},)),
        entered("{{ name }}", (), ({**NAME, "description": "d" * 301},)),
        entered("{{ name }}", (), (NAME, NAME)),
        entered("Hi", (), ({"description": "no name"},)),
        entered("", tuple(("user", f"{n}") for n in range(MOST_MESSAGES + 1))),
    ],
    ids=str,
)  # fmt: skip
def test_a_damaged_form_is_sent_back_and_saves_nothing(admin_client: Client, data: dict[str, Any]) -> None:
    made = template("welcome", says("One."))
    answer = admin_client.post(editor(made), data)
    assert answer.status_code == 200
    assert 'role="alert"' in said(answer)
    preview = admin_client.post(editor(made), data | {"_preview": ""}, headers=FETCH)
    assert preview.status_code == 200
    assert 'class="test-problem"' in said(preview)
    assert made.versions.count() == 1


@pytest.mark.parametrize(
    "query", ["?version=0", "?version=-1", "?version=99999999999", "?version=1.5", "?version=%00", "?version=٢"]
)
def test_a_version_that_is_none_begins_with_what_is_in_force(admin_client: Client, query: str) -> None:
    made = template("welcome", says("One."), says("Two."))
    assert "Two." in said(admin_client.get(editor(made, query)))


@pytest.mark.parametrize("query", ["?from=0&to=0", "?from=x&to=y", "?to=99999999999", "?from=%00", ""])
def test_what_changed_between_versions_that_are_none_is_the_newest_change(admin_client: Client, query: str) -> None:
    made = template("welcome", says("One."), says("Two."))
    page = admin_client.get(page_of(made, "changes") + query)
    assert page.status_code == 200
    assert "<del>  One.</del>" in said(page)


def test_a_template_without_a_version_has_nothing_to_compare(admin_client: Client) -> None:
    made = PromptTemplate.objects.create(name="fresh")
    assert admin_client.get(page_of(made, "changes")).status_code == 404
    assert admin_client.post(page_of(made, "versions/1/put-into-force"), follow=True).status_code == 200
    assert PromptTemplate.objects.get().version == 0
    for number in ("0", "99999999999999999999"):
        assert admin_client.get(page_of(made, f"versions/{number}/put-into-force")).status_code == 404


# --- what people write ----------------------------------------------------------------------------------------------


def test_every_character_of_a_text_is_kept_and_shown_as_text(admin_client: Client) -> None:
    made = template("welcome", says("One."))
    system = "  <script>alert('Zoë')</script> 😀\u2028 字\t\r\n{{ name }} \\{{ }} {% if x %}\r\n\r\n"
    answer = admin_client.post(editor(made), entered(system, (), (NAME,)), follow=True)
    assert made.versions.get(number=2).system == system.replace("\r\n", "\n")
    assert "<script>alert(" not in said(answer)
    assert "&lt;script&gt;alert(" in said(answer)
    again = said(admin_client.get(editor(made)))
    assert "<script>alert(" not in again
    assert "{% if x %}" in unescape(again)
    assert "<script>alert(" not in said(admin_client.get(page_of(made, "changes")))


def test_a_preview_shows_values_as_text_and_counts_what_a_model_gets(admin_client: Client) -> None:
    made = template("welcome", says("One."))
    hostile = {**NAME, "sample": "</pre><script>x</script>{{ name }}\r\nnext"}
    page = said(admin_client.post(editor(made), entered("Hi {{ name }}", (), (hostile,), _preview=""), headers=FETCH))
    assert "Hi &lt;/pre&gt;&lt;script&gt;x&lt;/script&gt;{{ name }}\nnext" in page
    long = {**NAME, "max_length": "100000", "sample": "word " * 10_000}
    page = said(admin_client.post(editor(made), entered("{{ name }}", (), (long,), _preview=""), headers=FETCH))
    tokens = int(
        page.partition("About ")[2].partition(" token")[0].replace(",", "").replace("\u202f", "").replace("\xa0", "")
    )
    assert 8_000 < tokens < 20_000


def test_a_preview_of_too_much_or_of_nothing_says_so(admin_client: Client) -> None:
    made = template("welcome", says("One."))
    wide = {**NAME, "max_length": "100000", "sample": "x" * 100_000}
    page = admin_client.post(editor(made), entered("{{ name }}" * 11, (), (wide,), _preview=""), headers=FETCH)
    assert "1,100,000 characters; 1,000,000 are possible" in said(page)
    blank = {"name": "name", "is_required": None, "default": ""}
    page = admin_client.post(editor(made), entered("", (("user", "{{ name }}"),), (blank,), _preview=""), headers=FETCH)
    assert "message 1 of the template is empty" in said(page)


def test_an_empty_row_of_the_version_before_has_to_be_taken_out(admin_client: Client) -> None:
    made = template("welcome", TALK)
    rows = (("user", ""), ("assistant", "Two."))
    data = entered("Be kind.", rows) | {"messages-INITIAL_FORMS": "2"}
    assert "It is empty: write what it says, or take it out." in said(admin_client.post(editor(made), data))
    admin_client.post(editor(made), data | {"messages-0-DELETE": "on"})
    assert saved(made) == [("assistant", "Two.")]


def test_the_same_text_again_makes_no_version_and_is_told_by_its_number(admin_client: Client) -> None:
    made = template("welcome", TALK)
    rows = (("user", "One."), ("assistant", "Two."))
    answer = admin_client.post(editor(made), entered("Be kind.", rows, seen="1"), follow=True)
    assert "Version 1 is saved" in said(answer)
    assert made.versions.count() == 1


# --- the template itself --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a@1", "a b", "größe", "", "-a", "x" * 81, "welcome"])
def test_a_name_that_cannot_be_called_or_is_taken_is_refused(admin_client: Client, name: str) -> None:
    template("welcome", says("One."))
    answer = submit_new(admin_client, "/admin/routing/prompttemplate/add/", name=name, is_active="on")
    assert answer.status_code == 200
    assert PromptTemplate.objects.count() == 1


def test_a_template_that_a_persona_needs_is_not_switched_off_on_its_page(admin_client: Client) -> None:
    made = template("house", says("Kind."))
    PersonaFactory(slug="guide", template=made)
    page = submit(admin_client, change_url(made), is_active="")
    assert "another template first, or switch them off: guide" in texts_of(page)
    assert PromptTemplate.objects.get().is_active


def test_switching_off_some_of_many_leaves_on_what_is_needed(admin_client: Client) -> None:
    needed, idle = template("needed", says("Kind.")), template("idle", says("Kind."))
    PersonaFactory(slug="guide", template=needed), PersonaFactory(slug="two", template=needed)
    chosen = {"action": "switch_off", "_selected_action": [needed.pk, idle.pk]}
    page = said(admin_client.post(list_url(PromptTemplate), chosen, follow=True))
    assert page.count("needed stays on") == 1
    assert dict(PromptTemplate.objects.values_list("name", "is_active")) == {"needed": True, "idle": False}


def test_of_very_many_versions_the_newest_are_listed_and_all_can_be_compared(admin_client: Client) -> None:
    made = PromptTemplate.objects.create(name="busy", version=1)
    PromptTemplateVersion.objects.bulk_create(
        PromptTemplateVersion(template=made, number=n, system=f"Text {n}.") for n in range(1, KEPT_VERSIONS + 3)
    )
    page = said(admin_client.get(change_url(made)))
    assert "These are the newest 50." in page
    assert page.count("Edit a copy") == KEPT_VERSIONS
    changes = said(admin_client.get(page_of(made, "changes") + "?from=1&to=2"))
    assert 'value="1"' in changes
    assert "Put version 2 into force" in changes


def test_the_pages_do_not_answer_to_other_methods_or_without_the_forms_secret() -> None:
    made = template("welcome", says("One."), says("Two."))
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(person("ada", "view_prompttemplate", "change_prompttemplate"))
    assert strict.post(editor(made), entered("Three.")).status_code == 403
    assert strict.post(page_of(made, "versions/1/put-into-force")).status_code == 403
    assert Client().get(editor(made)).status_code == 302
    assert (made.versions.count(), PromptTemplate.objects.get().version) == (2, 2)
