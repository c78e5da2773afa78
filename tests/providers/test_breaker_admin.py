"""Circuit breakers and resting keys in the admin: how they are shown, forced and reset, and who did it."""

import aiohttp
import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.test import Client

from providers.admin.pages import change_url, list_url
from providers.breaker_services import breaker_force
from providers.models import BreakerOverride, Deployment, Provider
from tests.admin_pages import page_of, submit
from tests.factories import DeploymentFactory, ProviderFactory
from tests.gateway import Gateway
from tests.upstreams.scripted import Upstream, status

DEPLOYMENTS = "/admin/providers/deployment/"
BUSY = status(503, {"error": {"message": "busy"}})


# --- by hand ------------------------------------------------------------------------------------------------------


def act(client: Client, action: str, *rows: Deployment) -> str:
    answer = client.post(
        list_url(Deployment), {"action": action, "_selected_action": [row.pk for row in rows]}, follow=True
    )
    assert answer.status_code == 200
    return answer.content.decode()


@pytest.mark.parametrize(
    ("action", "override", "said"),
    [
        ("force_open", "open", "2 forced open: nothing is sent there."),
        ("force_closed", "closed", "2 forced closed: failures are ignored."),
    ],
)
def test_breakers_are_forced_from_the_list_and_let_go_again(
    admin_client: Client, action: str, override: str, said: str
) -> None:
    rows = [DeploymentFactory(), DeploymentFactory()]
    assert said in act(admin_client, action, *rows)
    assert set(Deployment.objects.values_list("breaker", flat=True)) == {override}
    assert "0 forced" in act(admin_client, action, *rows), "they are already"
    assert "2 opened and closed by failures again." in act(admin_client, "let_failures_decide", *rows)
    assert set(Deployment.objects.values_list("breaker", flat=True)) == {""}


def test_a_breaker_is_forced_on_its_page_and_the_history_says_by_whom(admin_client: Client) -> None:
    row = DeploymentFactory()
    assert submit(admin_client, change_url(row), breaker="open").status_code == 302
    row.refresh_from_db()
    assert row.breaker == "open"
    [latest, *_] = row.history.all()
    assert (latest.breaker, latest.history_user.username) == ("open", "admin")
    assert "Forced open" in admin_client.get(list_url(Deployment)).content.decode()


def test_a_reset_asks_first_and_stands_in_the_history(admin_client: Client) -> None:
    row = DeploymentFactory()
    page = page_of(row, "reset-breaker")
    asked = admin_client.get(page)
    assert f"Reset the circuit breaker of {row}?" in asked.content.decode()
    row.refresh_from_db()
    assert row.breaker_reset_at is None
    done = admin_client.post(page, follow=True)
    assert "Its failures so far are forgotten" in done.content.decode()
    row.refresh_from_db()
    assert row.breaker_reset_at is not None
    assert row.history.first().history_user.username == "admin"


def test_a_reset_says_that_a_forced_breaker_stays_forced(admin_client: Client) -> None:
    row = DeploymentFactory(breaker="open")
    assert "still forced by hand" in admin_client.post(page_of(row, "reset-breaker"), follow=True).content.decode()


def test_breakers_are_reset_from_the_list(admin_client: Client) -> None:
    rows = [DeploymentFactory(), DeploymentFactory(), DeploymentFactory()]
    assert "2 reset." in act(admin_client, "reset_breakers", *rows[:2])
    assert Deployment.objects.exclude(breaker_reset_at=None).count() == 2


@pytest.mark.django_db
def test_who_may_only_look_cannot_force_or_reset(client: Client) -> None:
    row = DeploymentFactory()
    person = User.objects.create_user("auditor", password="auditor-1", is_staff=True)
    person.user_permissions.add(*_view_permissions())
    client.force_login(person)
    page = client.get(change_url(row))
    assert page.status_code == 200
    assert "Reset breaker" not in page.content.decode()
    assert client.post(page_of(row, "reset-breaker")).status_code == 403
    act(client, "force_open", row)
    row.refresh_from_db()
    assert (row.breaker, row.breaker_reset_at) == ("", None)


def _view_permissions() -> list[object]:
    from_auth = User._meta.get_field("user_permissions").related_model
    return list(from_auth.objects.filter(codename__in=["view_deployment", "view_provider"]))


@pytest.mark.django_db
def test_a_force_that_is_there_already_leaves_no_trace() -> None:
    row = DeploymentFactory(breaker="open")
    before = row.history.count()
    assert not breaker_force(deployment=row, override=BreakerOverride.OPEN)
    assert row.history.count() == before


def test_a_row_that_is_gone_cannot_be_reset(admin_client: Client) -> None:
    assert admin_client.get(f"{DEPLOYMENTS}999999/reset-breaker/").status_code == 404


def test_without_a_gateway_in_the_process_the_pages_say_so(admin_client: Client) -> None:
    provider = ProviderFactory()
    row = DeploymentFactory(provider=provider)
    said = "No gateway runs in this process"
    assert said in admin_client.get(change_url(row)).content.decode()
    assert said in admin_client.get(change_url(provider)).content.decode()


def test_a_new_provider_chooses_how_keys_are_taken_and_has_none_at_rest(admin_client: Client) -> None:
    page = admin_client.get("/admin/providers/provider/add/").content.decode()
    assert "How keys are chosen" in page
    assert "Keys at rest" not in page


# --- as the gateway of this process sees it -----------------------------------------------------------------------


class Person:
    """Somebody who is signed in at the gateway's own admin."""

    def __init__(self, gateway: Gateway, cookie: str) -> None:
        self._gateway = gateway
        self._cookies = {"sessionid": cookie}

    async def reads(self, page: str) -> str:
        async with aiohttp.ClientSession(cookies=self._cookies) as session:
            async with session.get(self._gateway.url + page) as response:
                assert response.status == 200
                return " ".join((await response.text()).split())


@pytest.fixture
async def person(gateway: Gateway) -> Person:
    def sign_in() -> str:
        client = Client()
        client.force_login(User.objects.create_superuser("ops", password="ops-1"))
        return client.cookies["sessionid"].value

    return Person(gateway, await sync_to_async(sign_in)())


async def page(row_of: str) -> tuple[str, str]:
    """The pages of a provider's deployment and of the provider itself."""

    def find() -> tuple[str, str]:
        deployment = Deployment.objects.get(provider__name=row_of)
        return change_url(deployment), change_url(Provider.objects.get(name=row_of))

    return await sync_to_async(find)()


async def test_what_is_well_is_shown_as_closed(person: Person) -> None:
    deployment, provider = await page("alpha")
    assert "Requests are sent here." in await person.reads(deployment)
    text = await person.reads(provider)
    assert "All are closed." in text
    assert "None: all active keys are in use." in text
    assert (await person.reads(DEPLOYMENTS)).count("Closed") >= 2


async def test_an_open_breaker_is_shown_with_its_reason_and_the_time_of_the_next_try(
    gateway: Gateway, person: Person, openai_upstream: Upstream
) -> None:
    openai_upstream.play(BUSY)
    for _ in range(3):
        await gateway.chat(model="swift")
    deployment, provider = await page("alpha")
    text = await person.reads(deployment)
    assert "It failed several times in a row, the last time: overloaded. One request may try in" in text
    assert "alpha/swift-1: open. It failed several times in a row" in await person.reads(provider)
    assert "One request may try in" in await person.reads(DEPLOYMENTS)
    assert "It failed several times in a row" in await person.reads(
        f"{deployment.removesuffix('change/')}reset-breaker/"
    )


async def test_a_key_that_rests_is_shown_on_its_providers_page(
    gateway: Gateway, person: Person, openai_upstream: Upstream
) -> None:
    openai_upstream.play(status(429, headers={"retry-after": "40"}))
    await gateway.chat(model="swift")
    _, provider = await page("alpha")
    text = await person.reads(provider)
    assert "(…0001) at alpha/swift-1: rate limited, rests until" in text
    assert "sk-alpha" not in text
