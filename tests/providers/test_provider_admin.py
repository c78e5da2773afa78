import pytest
from django.test import Client

from providers.admin.pages import change_url, list_url
from providers.fields import unseal
from providers.models import Provider, ProviderKey
from tests.admin_pages import errors_of, page_of, submit
from tests.factories import DeploymentFactory, ProviderCheckFactory, ProviderFactory, ProviderKeyFactory

SECRET = "sk-live-0123456789abcdef"
ROWS = ("keys", "deployments", "checks")
NO_ROWS = {f"{rows}__{count}": "0" for rows in ROWS for count in ("TOTAL_FORMS", "INITIAL_FORMS")}


def test_a_provider_and_its_first_key_are_added_on_one_page(admin_client: Client) -> None:
    answer = submit(
        admin_client,
        "/admin/providers/provider/add/",
        **NO_ROWS | {"keys__TOTAL_FORMS": "1"},
        name="groq",
        label="Groq",
        kind="groq",
        keys__0__label="production",
        keys__0__secret=f"  {SECRET}\n",
        keys__0__is_active="on",
    )
    assert answer.status_code == 302, errors_of(answer)
    key = ProviderKey.objects.get(provider__name="groq")
    assert (unseal(key.sealed), key.last4, key.label) == (SECRET, "cdef", "production")


def test_a_key_is_never_in_a_page_not_even_when_the_form_was_wrong(admin_client: Client) -> None:
    provider = ProviderFactory()
    wrong = submit(
        admin_client, "/admin/providers/providerkey/add/", provider=provider.pk, label="", secret=SECRET, is_active="on"
    )
    assert "label" in errors_of(wrong)
    assert SECRET not in wrong.content.decode()
    key = ProviderKeyFactory(provider=provider, secret=SECRET)
    for page in (change_url(key), change_url(provider), list_url(ProviderKey), page_of(key, "history")):
        text = admin_client.get(page).content.decode()
        assert SECRET not in text
        assert key.sealed not in text


def test_an_empty_field_keeps_the_key_and_a_filled_one_replaces_it(admin_client: Client) -> None:
    key = ProviderKeyFactory(secret=SECRET)
    submit(admin_client, change_url(key), label="renamed")
    key.refresh_from_db()
    assert (key.label, unseal(key.sealed), key.rotated_at) == ("renamed", SECRET, None)
    submit(admin_client, change_url(key), secret="sk-live-a-new-one-9876")
    key.refresh_from_db()
    assert (unseal(key.sealed), key.last4) == ("sk-live-a-new-one-9876", "9876")
    assert key.rotated_at is not None


def test_a_key_that_no_header_may_carry_is_refused(admin_client: Client) -> None:
    key = ProviderKeyFactory(secret=SECRET)
    answer = submit(admin_client, change_url(key), secret="sk-live\nX-Injected: 1")
    assert "letters, digits and signs" in errors_of(answer)
    key.refresh_from_db()
    assert unseal(key.sealed) == SECRET


def test_a_compatible_provider_needs_an_address(admin_client: Client) -> None:
    provider = ProviderFactory()
    answer = submit(admin_client, change_url(provider), base_url="")
    assert "has no address of its own" in errors_of(answer)


@pytest.mark.parametrize("networks", ["10.0.0.0/33", "10.0.0.1/8", "localhost"])
def test_what_is_no_network_is_refused_by_name(admin_client: Client, networks: str) -> None:
    answer = submit(admin_client, change_url(ProviderFactory()), allowed_networks=networks)
    assert networks in errors_of(answer)


def test_networks_are_kept_one_per_line(admin_client: Client) -> None:
    provider = ProviderFactory()
    submit(admin_client, change_url(provider), allowed_networks=" 10.0.0.0/8   127.0.0.1/32 ")
    provider.refresh_from_db()
    assert provider.allowed_networks == "10.0.0.0/8\n127.0.0.1/32"


def test_a_change_leaves_alone_what_a_task_wrote_meanwhile(admin_client: Client) -> None:
    provider = ProviderFactory(health="healthy")
    page = submit(admin_client, change_url(provider), label="New label")
    assert page.status_code == 302
    row = provider.history.first()
    assert (row.label, row.history_type) == ("New label", "~")
    provider.refresh_from_db()
    assert provider.health == "healthy"


def test_a_save_without_a_change_writes_nothing(admin_client: Client) -> None:
    provider = ProviderFactory()
    submit(admin_client, change_url(provider))
    assert provider.history.count() == 1


def test_a_provider_that_is_in_use_is_not_deleted_and_the_answer_says_why(admin_client: Client) -> None:
    provider = ProviderFactory(label="Acme")
    ProviderKeyFactory(provider=provider)
    DeploymentFactory.create_batch(2, provider=provider)
    answer = admin_client.post(page_of(provider, "delete"), {"post": "yes"}, follow=True)
    assert Provider.objects.filter(pk=provider.pk).exists()
    text = answer.content.decode()
    assert "Provider “Acme” cannot be deleted: 1 provider key and 2 deployments depend on it." in text
    assert "Switch it off instead" in text


def test_a_provider_that_nothing_hangs_on_is_deleted_after_a_question(admin_client: Client) -> None:
    provider = ProviderFactory()
    ProviderCheckFactory(provider=provider)
    assert "Are you sure" in admin_client.get(page_of(provider, "delete")).content.decode()
    admin_client.post(page_of(provider, "delete"), {"post": "yes"})
    assert not Provider.objects.exists()


def test_providers_are_switched_off_from_the_list_with_a_line_in_their_history(admin_client: Client) -> None:
    on, off = ProviderFactory(), ProviderFactory(is_active=False)
    chosen = {"action": "switch_off", "_selected_action": [on.pk, off.pk]}
    answer = admin_client.post(list_url(Provider), chosen, follow=True)
    assert "1 switched off." in answer.content.decode()
    on.refresh_from_db()
    assert not on.is_active
    assert on.history.count() == 2
    assert off.history.count() == 1


def test_a_provider_without_the_key_that_it_needs_says_so(admin_client: Client) -> None:
    ProviderFactory(name="groq", kind="groq", base_url="")
    assert "No key" in admin_client.get(list_url(Provider)).content.decode()


def test_history_is_read_and_not_gone_back_to(admin_client: Client) -> None:
    provider = ProviderFactory(label="Before")
    submit(admin_client, change_url(provider), label="After")
    page = admin_client.get(page_of(provider, "history")).content.decode()
    assert "Before" in page
    assert "After" in page
    former = provider.history.earliest()
    url = page_of(provider, f"history/{former.history_id}")
    assert admin_client.get(url).status_code == 200
    assert admin_client.post(url, {"label": "Before"}).status_code == 403
    provider.refresh_from_db()
    assert provider.label == "After"


@pytest.mark.parametrize(("kind", "example"), [("azure-openai", "openai.azure.com/openai/v1"), ("tgi", ":8080/v1")])
def test_a_kind_without_an_address_of_its_own_shows_what_one_looks_like(
    admin_client: Client, kind: str, example: str
) -> None:
    answer = submit(admin_client, change_url(ProviderFactory()), kind=kind, base_url="")
    assert example in errors_of(answer)
    assert example in answer.content.decode()  # and the field says it before anything is wrong


def test_a_server_of_this_machine_at_its_usual_port_has_to_be_allowed(admin_client: Client) -> None:
    provider = ProviderFactory(allowed_networks="")
    answer = submit(admin_client, change_url(provider), kind="ollama", base_url="")
    assert "http://127.0.0.1:11434/api is not a public address" in errors_of(answer)
    answer = submit(admin_client, change_url(provider), kind="ollama", base_url="", allowed_networks="127.0.0.1/32")
    assert answer.status_code == 302, errors_of(answer)
