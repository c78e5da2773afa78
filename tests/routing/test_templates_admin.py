"""Prompt templates in the admin: written, tried, compared, put into force, and who may do what."""

from typing import Any

import pytest
from django.test import Client

from providers.admin.pages import change_url, list_url
from routing.domain.templates import VariableDocument
from routing.models import Persona, PromptTemplate
from tests.admin_pages import page_of, queries_of, submit, submit_new
from tests.factories import PersonaFactory, RoutingPolicyFactory
from tests.routing.lifecycles import person, signed_in
from tests.routing.prompts import says, template

pytestmark = pytest.mark.django_db
WELCOME = says("Be kind.", ("user", "I am {{ name }}\nfrom {{ city }}."),
               variables=("name", VariableDocument("city", "Where", "Rome", 20)))  # fmt: skip


def editor(of: PromptTemplate, query: str = "") -> str:
    return page_of(of, "versions/add") + query


def entered(
    system: str = "",
    messages: tuple[tuple[str, str], ...] = (),
    variables: tuple[dict[str, Any], ...] = (),
    **more: Any,
) -> dict[str, Any]:
    """What a browser sends: the rows that are filled in, and an empty one behind them as the page has it."""
    data: dict[str, Any] = {"system": system, "note": "", "is_in_force": "on"}
    for prefix, rows in (("messages", messages), ("variables", variables)):
        data |= {f"{prefix}-TOTAL_FORMS": str(len(rows) + 1), f"{prefix}-INITIAL_FORMS": "0"}
    for number, (role, content) in enumerate((*messages, ("user", ""))):
        data |= {f"messages-{number}-role": role, f"messages-{number}-content": content}
    blank = {"name": "", "description": "", "is_required": "on", "default": "", "max_length": "2000", "sample": ""}
    for number, row in enumerate((*variables, {})):
        filled = {name: value for name, value in (blank | row).items() if value is not None}
        data |= {f"variables-{number}-{name}": value for name, value in filled.items()}
    return data | {name.replace("__", "-"): value for name, value in more.items()}


NAME = {"name": "name"}
CITY = {"name": "city", "is_required": None, "default": "Rome", "max_length": "20"}


def said(page: Any) -> str:
    return str(page.content.decode())


def test_a_new_template_goes_on_to_its_editor_and_has_its_first_version(admin_client: Client) -> None:
    answer = submit_new(admin_client, "/admin/routing/prompttemplate/add/", name="welcome", is_active="on")
    made = PromptTemplate.objects.get()
    assert answer.url == editor(made)
    assert "It has no text yet" in said(admin_client.get(change_url(made)))
    data = entered("Be\r\nkind.", (("user", "I am {{ name }} from {{ city }}."),), (NAME, CITY), note="first")
    answer = admin_client.post(editor(made), data, follow=True)
    assert "Version 1 is saved: it is in force within 2 seconds." in said(answer)
    version = made.versions.get()
    assert (version.system, version.note, str(version.author)) == ("Be\nkind.", "first", "admin")
    assert [(one["name"], one["default"], one["max_length"]) for one in version.variables] == [
        ("name", None, 2000), ("city", "Rome", 20),
    ]  # fmt: skip
    assert "<mark>city</mark>" in said(answer)


def test_the_editor_begins_with_what_is_in_force_or_with_the_version_that_is_named(admin_client: Client) -> None:
    made = template("welcome", says("The first."), WELCOME)
    page = said(admin_client.get(editor(made)))
    assert "I am {{ name }}" in page
    assert 'value="city"' in page
    assert "The first." in said(admin_client.get(editor(made, "?version=1")))
    assert admin_client.get(editor(made, "?version=x")).status_code == 200


def test_a_version_can_be_saved_without_being_in_force(admin_client: Client) -> None:
    made = template("welcome", says("One."))
    data = entered("Two.")
    del data["is_in_force"]
    answer = admin_client.post(editor(made), data, follow=True)
    assert "it can be asked for as “welcome@2”" in said(answer)
    assert PromptTemplate.objects.get().version == 1


def test_messages_are_put_in_order_and_taken_out(admin_client: Client) -> None:
    made = template("welcome", says("One."))
    rows = (("user", "second"), ("assistant", "third"), ("user", "first"), ("user", "gone"))
    places = {"messages__0__ORDER": "2", "messages__1__ORDER": "3", "messages__2__ORDER": "1"}
    admin_client.post(editor(made), entered("", rows, **places, messages__3__DELETE="on"))
    assert [one["content"] for one in made.versions.get(number=2).messages] == ["first", "second", "third"]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (entered(""), "It says nothing: write a system text, or a message."),
        (entered("a\r\n{{ b }}"), "Line 2: “b” is not declared. Declare it as a variable."),
        (entered("", (("user", "a\r\nb\r\n{{ x.y }}"),)), "Line 3: “{{ x.y }}” is no variable."),
        (entered("Hi", (), (NAME,)), "“name” is declared, and no text uses it."),
        (entered("{{ name }}", (), ({**NAME, "default": "x"},)), "A variable that is required has no default"),
        (entered("{{ name }}", (), ({**NAME, "max_length": "0"},)), "greater than or equal to 1"),
        (entered("{{ name }}", (), ({**NAME, "max_length": "x"},)), "Enter a whole number"),
    ],
)
def test_what_cannot_be_used_is_not_saved_and_says_where_and_why(
    admin_client: Client, data: dict[str, Any], told: str
) -> None:
    made = template("welcome", says("One."))
    answer = admin_client.post(editor(made), data)
    assert answer.status_code == 200
    assert said(answer).lower().count(told.lower()) >= 2  # at its field, and where the preview would be
    assert made.versions.count() == 1


def test_a_preview_shows_what_a_model_gets_and_saves_nothing(admin_client: Client) -> None:
    made = template("welcome", says("One."))
    texts = (("user", "I am {{ name }} from {{ city }}."),)
    data = entered("Hi {{ other }}", texts, ({**NAME, "sample": "<b>{{ city }}</b>"}, CITY, {"name": "other"}))
    fragment = admin_client.post(editor(made), data | {"_preview": ""}, headers={"x-requested-with": "fetch"})
    assert "Hi [other]" in said(fragment)
    assert "I am &lt;b&gt;{{ city }}&lt;/b&gt; from Rome." in said(fragment)
    assert "About " in said(fragment)
    assert "<html" not in said(fragment)
    assert "<html" in said(admin_client.post(editor(made), data | {"_preview": ""}))
    long = entered("{{ name }}", (), ({**NAME, "max_length": "3", "sample": "four"},))
    assert "“name” has 4 characters; 3 are possible" in said(admin_client.post(editor(made), long | {"_preview": ""}))
    assert made.versions.count() == 1


def test_what_changed_is_shown_and_an_older_version_is_put_into_force(admin_client: Client) -> None:
    made = template("welcome", says("Be kind."), says("Be brief."), WELCOME)
    page = said(admin_client.get(page_of(made, "changes") + "?from=1&to=2"))
    assert "<del>  Be kind.</del>" in page
    assert "<ins>  Be brief.</ins>" in page
    assert "Put version 2 into force" in page
    assert "I am {{ name }}" in said(admin_client.get(page_of(made, "changes")))
    for query in ("?from=1&to=9", "?from=7"):
        assert admin_client.get(page_of(made, "changes") + query).status_code == 404
    back = page_of(made, "versions/1/put-into-force")
    assert "gets version 1 from then on, instead of version 3" in said(admin_client.get(back))
    assert "Version 1 is in force" in said(admin_client.post(back, follow=True))
    assert PromptTemplate.objects.get().version == 1
    assert made.versions.count() == 3
    assert admin_client.get(page_of(made, "versions/9/put-into-force")).status_code == 404


def test_what_a_persona_cannot_use_is_refused_in_words(admin_client: Client) -> None:
    made = template("welcome", says("Be kind."))
    PersonaFactory(slug="guide", template=made)
    answer = admin_client.post(editor(made), entered("", (("user", "Hi"),)))
    assert "These personas follow “welcome”" in said(answer)
    assert made.versions.count() == 1
    answer = admin_client.post(
        list_url(PromptTemplate), {"action": "switch_off", "_selected_action": [made.pk]}, follow=True
    )
    assert "welcome stays on: it is told to guide." in said(answer)
    answer = admin_client.post(page_of(made, "delete"), follow=True)
    assert "cannot be deleted: 1 persona depends on it" in said(answer)
    assert PromptTemplate.objects.filter(is_active=True).exists()


def test_a_persona_gets_a_template_on_its_page(admin_client: Client) -> None:
    made, persona = template("welcome", says("Be kind.")), PersonaFactory(policy=RoutingPolicyFactory())
    submit(admin_client, change_url(persona), template=made.pk, template_version="1")
    assert Persona.objects.get().template == made
    page = submit(admin_client, change_url(persona), template=made.pk, template_version="5")
    assert "has no version 5" in said(page)


def test_personas_of_a_template_that_is_off_stay_off(admin_client: Client) -> None:
    made = template("welcome", says("Be kind."))
    persona = PersonaFactory(template=made, is_active=False)
    PromptTemplate.objects.update(is_active=False)
    answer = admin_client.post(
        list_url(Persona), {"action": "switch_on", "_selected_action": [persona.pk]}, follow=True
    )
    assert "its template welcome is switched off" in said(answer)
    assert not Persona.objects.get().is_active


def test_who_may_only_look_may_try_but_not_save() -> None:
    made = template("welcome", says("One."), says("Two."))
    viewer = signed_in(person("vera", "view_prompttemplate"))
    page = said(viewer.get(editor(made)))
    assert "Save as a new version" not in page
    assert "Put into force" not in said(viewer.get(change_url(made)))
    data = entered("Three.")
    assert "Three." in said(viewer.post(editor(made), data | {"_preview": ""}))
    assert viewer.post(editor(made), data).status_code == 403
    assert viewer.post(page_of(made, "versions/1/put-into-force")).status_code == 403
    assert (made.versions.count(), PromptTemplate.objects.get().version) == (2, 2)
    stranger = signed_in(person("sam", "view_persona"))
    for name in ("versions/add", "changes", "versions/1/put-into-force"):
        assert stranger.get(page_of(made, name)).status_code in {302, 403, 404}


def test_the_list_takes_as_many_queries_for_many_as_for_one(admin_client: Client) -> None:
    PersonaFactory(template=template("t0", says("{{ a }}", variables=("a",))))
    few = queries_of(admin_client, list_url(PromptTemplate))
    for number in range(1, 6):
        PersonaFactory(template=template(f"t{number}", says("One."), says("Two.")))
    assert queries_of(admin_client, list_url(PromptTemplate)) == few
    page = said(admin_client.get(list_url(PromptTemplate)))
    assert "v2" in page
    assert "No text yet" not in page
