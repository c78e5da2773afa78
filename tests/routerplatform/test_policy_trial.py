"""“Test this policy” and “Test this draft”: the box, the page behind it, and who may use them."""

from collections.abc import AsyncIterator
from html import unescape
from typing import Any

import aiohttp
import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth.models import Permission
from django.test import Client

from analytics.models import UsageRecord
from providers.admin.pages import change_url
from providers.models import CatalogueModel
from routerplatform.explained_page import pieces
from routerplatform.policy_trial import NO_GATEWAY, PromptForm, trial_url
from routing.models import DraftCandidate, ModelAlias, PolicyDraft, RoutingPolicy
from tests.factories import PersonaFactory, RoutingPolicyFactory, UserFactory, VirtualKeyFactory, key_text_of
from tests.gateway import Gateway
from tests.gateway_path.changes import changed
from tests.routing.prompts import says, template

SECRET_PROMPT = "Write about the merger of Foo and Bar"


def client_with(*permissions: str, is_staff: bool = True) -> Client:
    user = UserFactory(is_staff=is_staff)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


# --- without a gateway --------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_the_page_of_a_policy_has_the_box_with_personas_and_keys_to_choose_from() -> None:
    policy = RoutingPolicyFactory(name="careful")
    PersonaFactory(slug="sceptic", policy=policy)
    PersonaFactory(slug="gone", policy=policy, is_active=False)
    key = VirtualKeyFactory(text=key_text_of(9))
    page = client_with("view_routingpolicy", "change_routingpolicy").get(change_url(policy)).content.decode()
    box = page.partition("data-policy-test")[2]
    assert f'action="{trial_url(policy)}"' in box
    assert 'value="sceptic"' in box
    assert 'value="gone"' not in box
    assert f'<option value="{key.prefix}">' in box


@pytest.mark.django_db
def test_below_wsgi_the_page_says_why_it_cannot_tell() -> None:
    policy = RoutingPolicyFactory()
    reply = client_with("view_routingpolicy").post(trial_url(policy), {"test-prompt": SECRET_PROMPT})
    assert reply.status_code == 200
    assert NO_GATEWAY in unescape(reply.content.decode())


@pytest.mark.django_db
def test_a_prompt_is_wanted() -> None:
    reply = client_with("view_routingpolicy").post(trial_url(RoutingPolicyFactory()), {"test-prompt": " "})
    assert "Write what somebody might ask." in reply.content.decode()


@pytest.mark.django_db
@pytest.mark.parametrize("is_staff", [True, False])
def test_who_may_not_look_at_policies_may_not_test_them(is_staff: bool) -> None:
    url = trial_url(RoutingPolicyFactory())
    reply = client_with(is_staff=is_staff).post(url, {"test-prompt": "x"})
    assert reply.status_code == (403 if is_staff else 302)


@pytest.mark.django_db
def test_a_draft_is_for_those_who_may_see_drafts() -> None:
    draft = PolicyDraft.objects.create(policy=RoutingPolicyFactory(), title="t", base_version=0)
    assert client_with("view_routingpolicy").get(trial_url(draft)).status_code == 403
    assert client_with("view_routingpolicy", "view_policydraft").get(trial_url(draft)).status_code == 200


@pytest.mark.django_db
def test_what_is_not_there_cannot_be_tested() -> None:
    client = client_with("view_routingpolicy", "view_policydraft")
    for kind in ("routingpolicy", "policydraft"):
        assert client.get(f"/admin/routing/{kind}/987654/test/").status_code == 404


@pytest.mark.django_db
def test_the_form_writes_the_request_that_a_client_would_send() -> None:
    needs = ["tools", "schema", "image", "stream"]
    form = PromptForm({"test-prompt": "x", "test-max_tokens": "7", "test-needs": needs})
    assert form.is_valid(), form.errors
    body = form.body()
    for part in (b'"max_tokens": 7', b'"tools"', b'"json_schema"', b'"image_url"', b'"stream": true'):
        assert part in body


@pytest.mark.django_db
@pytest.mark.parametrize("field", ["max_tokens", "needs", "persona", "variables"])
def test_nonsense_in_a_field_is_refused_there(field: str) -> None:
    form = PromptForm({"test-prompt": "x", f"test-{field}": "-1"})
    assert list(form.errors) == [field]


@pytest.mark.django_db
@pytest.mark.parametrize("variables", ["{", "[]", '"x"', "{'a': 1}", "{a: 1}", "1"])
def test_variables_are_a_json_object(variables: str) -> None:
    form = PromptForm({"test-prompt": "x", "test-variables": variables})
    assert form.errors == {"variables": ['Write a JSON object, like {"name": "Ada"}.']}


# --- words --------------------------------------------------------------------------------------------------------


def test_words_are_marked_by_how_much_they_say_and_nothing_of_the_prompt_is_lost() -> None:
    prompt = "Sort the LIST, then sing."
    found = list(pieces(prompt, {"list": 0.4, "sort": 0.2, "sing": -0.1}))
    assert "".join(piece.text for piece in found) == prompt
    assert [(piece.text, piece.mark) for piece in found if piece.mark] == [
        ("Sort", "for-2"), ("LIST", "for-3"), ("sing", "against-1"),
    ]  # fmt: skip


@pytest.mark.parametrize("weights", [{}, {"other": 1.0}, {"sort": 0.0}])
def test_a_prompt_without_telling_words_is_one_piece(weights: dict[str, float]) -> None:
    assert [piece.text for piece in pieces("Sort it", weights)] == ["Sort it"]


# --- beside a gateway ---------------------------------------------------------------------------------------------


class _Staff:
    """A signed-in browser in front of a gateway."""

    def __init__(self, gateway: Gateway, session: aiohttp.ClientSession) -> None:
        self.gateway, self.session = gateway, session

    async def test(self, url: str, *, fetched: bool = True, **fields: Any) -> str:
        data = {f"test-{name}": str(value) for name, value in fields.items()} | {"csrfmiddlewaretoken": "a" * 32}
        headers = {"origin": self.gateway.url} | ({"x-requested-with": "fetch"} if fetched else {})
        async with self.session.post(self.gateway.url + url, data=data, headers=headers) as response:
            assert response.status == 200
            return unescape(await response.text())


@pytest.fixture
async def staff(gateway: Gateway) -> AsyncIterator[_Staff]:
    client = await sync_to_async(client_with)("view_routingpolicy", "view_policydraft")
    session_id = client.cookies[settings.SESSION_COOKIE_NAME].value
    cookies = {settings.SESSION_COOKIE_NAME: session_id, "csrftoken": "a" * 32}
    async with aiohttp.ClientSession(cookies=cookies) as session:
        yield _Staff(gateway, session)


async def policy_url() -> str:
    return await sync_to_async(lambda: trial_url(RoutingPolicy.objects.get(name="default")))()


async def test_a_policy_answers_with_its_candidates_and_what_they_cost(staff: _Staff) -> None:
    text = await staff.test(await policy_url(), prompt=SECRET_PROMPT, max_tokens=100)
    assert "Goes to <strong>alpha/swift-1</strong>." in text
    assert text.index("alpha/swift-1") < text.index("beta/sage-1")
    assert "$0.0002" in text
    assert "<html" not in text


async def test_without_scripts_the_whole_page_answers(staff: _Staff) -> None:
    text = await staff.test(await policy_url(), fetched=False, prompt=SECRET_PROMPT)
    assert "<html" in text
    assert "Goes to <strong>alpha/swift-1</strong>." in text
    assert SECRET_PROMPT in text  # in the form, to be changed and asked again


async def test_a_persona_with_a_template_is_tested_with_its_variables(staff: _Staff) -> None:
    def make() -> None:
        house = template("house", says("Speak {{ tongue }}.", variables=("tongue",)))
        PersonaFactory(slug="guide", policy=RoutingPolicy.objects.get(name="default"), template=house)

    await changed(staff.gateway, make)
    url = await policy_url()
    text = await staff.test(url, prompt="Hi", persona="guide")
    assert "Nothing would serve it. “tongue” is missing. The variables of “house@1”: tongue (required)." in text
    text = await staff.test(url, prompt="Hi", persona="guide", variables='{"tongue": "Welsh"}')
    assert "Goes to <strong>alpha/swift-1</strong>." in text
    text = await staff.test(url, prompt="Hi", persona="guide", variables='{"tongue": ["Welsh"]}')
    assert "“tongue” must be a text, a number, true or false." in text
    assert "Write a JSON object" in await staff.test(url, prompt="Hi", persona="guide", variables="Welsh")
    assert "There is nothing to fill in" in await staff.test(url, prompt="Hi", variables='{"a": "b"}')


async def test_a_draft_stands_beside_what_is_in_force(staff: _Staff) -> None:
    def make() -> str:
        policy = RoutingPolicy.objects.get(name="default")
        draft = PolicyDraft.objects.create(policy=policy, title="Only sage", base_version=policy.version)
        DraftCandidate.objects.create(draft=draft, alias=ModelAlias.objects.get(name="sage"))
        return trial_url(draft)

    text = await staff.test(await sync_to_async(make)(), prompt="x")
    now, drafted = text.split(">As drafted<")
    assert "Goes to <strong>alpha/swift-1</strong>." in now
    assert "Goes to <strong>beta/sage-1</strong>." in drafted


async def test_what_cannot_be_served_says_why_of_every_candidate(staff: _Staff) -> None:
    def lacking() -> None:
        for model in CatalogueModel.objects.all():
            model.capabilities = ["streaming"]
            model.save()

    await sync_to_async(lacking)()
    for _ in range(200):
        text = await staff.test(await policy_url(), prompt="x", needs="tools")
        if "cannot do" in text:
            break
    assert "cannot do tool_calling" in text


async def test_an_unknown_key_is_named(staff: _Staff) -> None:
    assert "No key begins with “zzz”." in await staff.test(await policy_url(), prompt="x", key="zzz")


async def test_a_policy_that_is_switched_off_can_be_tested(staff: _Staff) -> None:
    def make() -> str:
        sage = ModelAlias.objects.get(name="sage")
        return trial_url(RoutingPolicyFactory(name="asleep", is_active=False, preferred=[sage]))

    text = await staff.test(await sync_to_async(make)(), prompt="x")
    assert "If it were switched on" in text
    assert "Goes to <strong>beta/sage-1</strong>." in text


async def test_the_prompt_is_neither_kept_nor_logged(
    staff: _Staff, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    await staff.test(await policy_url(), prompt=SECRET_PROMPT)
    assert "merger" not in caplog.text + "".join(capfd.readouterr())
    assert not await sync_to_async(UsageRecord.objects.exists)()
