"""Trained artefacts come in and one is in force; classifiers of one's own are entered, one at a time."""

import json
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.contrib.messages import get_messages
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.test import Client
from pytest_django import Settings

from providers.admin.pages import change_url, list_url
from routing.admin.artefact_cards import card_of, shipped_card
from routing.domain.classification.artefact import dump, load, version_of
from routing.models import ClassifierPlugIn, RouterArtefact
from routing.selectors import config_revision, config_rows
from routing.services.learning import artefact_activate, artefact_store
from routing.trained import SHIPPED_FILE
from tests.admin_pages import errors_of, page_of, submit
from tests.factories import NOON, ModelAliasFactory, UserFactory

pytestmark = pytest.mark.django_db
ADD = "/admin/routing/classifierplugin/add/"
LIST = list_url(RouterArtefact)


def trained(number: int = 1) -> bytes:
    """An artefact unlike the others that says the same."""
    shipped = load(SHIPPED_FILE.read_bytes())
    return dump({**shipped.settings, "variant": number}, shipped.arrays)


def stored(number: int = 1, **card: Any) -> RouterArtefact:
    data = trained(number)
    told = {"version": version_of(data), **card} if card else {}
    return artefact_store(data=data, card=told, note=f"training {number}")[0]


def in_force() -> str:
    return config_rows(now=NOON).artefact


def said(answer: Any) -> str:
    return " ".join(str(message) for message in get_messages(answer.wsgi_request))


# --- artefacts ------------------------------------------------------------------------------------------------------


def test_one_is_in_force_and_gateways_are_told() -> None:
    one, two = stored(1), stored(2)
    assert in_force() == ""
    before = config_revision()
    assert artefact_activate(version=one.version, by=None)
    assert (in_force(), config_revision() > before) == (one.version, True)
    assert artefact_activate(version=two.version, by=None)
    assert not artefact_activate(version=two.version, by=None)
    assert (in_force(), RouterArtefact.objects.filter(is_active=True).count()) == (two.version, 1)
    assert artefact_activate(version=None, by=None)
    assert not artefact_activate(version=None, by=None)
    assert in_force() == ""


def test_history_tells_who_and_why_and_holds_no_numbers() -> None:
    artefact, person = stored(), UserFactory()
    artefact_activate(version=artefact.version, by=person)
    artefact_activate(version=None, by=person)
    rows = list(artefact.history.order_by("history_date").values_list("history_change_reason", "history_user"))
    assert rows[1:] == [("put in force", person.pk), ("taken out of force", person.pk)]
    assert "data" not in {field.name for field in artefact.history.model._meta.fields}


def test_what_is_no_artefact_is_neither_kept_nor_put_in_force() -> None:
    with pytest.raises(ValidationError, match="damaged"):
        artefact_store(data=b"PK nonsense", card={})
    with pytest.raises(ValidationError, match="another artefact"):
        artefact_store(data=trained(), card={"version": "0" * 16})
    with pytest.raises(ValidationError, match="no trained artefact 123 any more"):
        artefact_activate(version="123", by=None)
    damaged = RouterArtefact.objects.create(version="damaged", data=b"PK")
    with pytest.raises(ValidationError, match="It is not put in force"):
        artefact_activate(version=damaged.version, by=None)
    assert in_force() == ""


def test_it_is_put_in_force_with_one_click_and_back_with_another(admin_client: Client) -> None:
    artefact = stored(1, figures={"task": {"accuracy": 0.913}})
    action = page_of(artefact, "put-in-force")
    asked = admin_client.get(action).content.decode()
    assert "91.3" in asked
    assert shipped_card().accuracy in asked
    assert in_force() == ""
    assert "is in force. Gateways follow" in said(admin_client.post(action))
    assert in_force() == artefact.version
    assert admin_client.post(action).status_code == 403  # there is no button any more
    page = admin_client.get(LIST).content.decode()
    assert "In force" in page
    assert artefact.version in page
    admin_client.post(f"{LIST}back-to-shipped/")
    assert in_force() == ""


def test_the_card_is_told_and_the_numbers_are_not(admin_client: Client) -> None:
    card = {
        "date": "2026-10-02",
        "data": {"prompts": 4321, "licences": {"own: MIT": 12}, "files_sha256": {"a.jsonl": "f" * 64}},
        "figures": {
            "task": {"accuracy": 0.9, "f1": {"CODING": 0.8}, "accuracy_by_left_out_source": {"arena": 0.7}},
            "unseen": {"support": {"aiq": 0.81, "no_router": 0.79}},
            "seen": {"saved": 0.336},
        },
    }
    answer = admin_client.get(change_url(stored(1, **card)))
    page = answer.content.decode().replace("\N{NO-BREAK SPACE}", " ")
    for text in ("2026-10-02", "4,321", "own: MIT", "Coding", "80.0 %", "arena", "support", "81.0 %", "33.6 %"):
        assert text in page, text
    assert "f" * 64 not in page
    assert "data" not in answer.context["adminform"].fields


@pytest.mark.parametrize("card", [{}, {"figures": []}, {"figures": {"task": {"accuracy": "high", "f1": 3}}}, [], None])
def test_a_card_of_any_shape_is_read(card: Any) -> None:
    found = card_of(card)
    assert (found.accuracy, found.saved, found.by_kind, found.prompts) == ("–", "–", [], None)


def test_who_may_only_look_puts_nothing_in_force(client: Client) -> None:
    artefact, user = stored(), UserFactory(is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_routerartefact"))
    client.force_login(user)
    assert client.get(change_url(artefact)).status_code == 200
    assert client.post(page_of(artefact, "put-in-force")).status_code == 403
    assert client.post(f"{LIST}back-to-shipped/").status_code == 403
    assert in_force() == ""


def test_a_file_comes_in_with_its_card_and_goes_into_force(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, data = tmp_path / "own.npz", trained(7)
    file.write_bytes(data)
    file.with_suffix(".json").write_text(json.dumps({"version": version_of(data), "date": "2026-11-01"}))
    call_command("router_install", str(file), "--note", "from support", "--activate")
    kept = RouterArtefact.objects.get()
    assert (kept.note, kept.card["date"], in_force()) == ("from support", "2026-11-01", version_of(data))
    call_command("router_install", str(file))
    assert "was kept already" in capsys.readouterr().out
    call_command("router_install", "--shipped")
    assert in_force() == ""


def test_a_file_that_cannot_come_in_is_said_to(tmp_path: Path) -> None:
    broken, other = tmp_path / "broken.npz", tmp_path / "other.npz"
    broken.write_bytes(b"no zip"), other.write_bytes(trained())
    other.with_suffix(".json").write_text('{"version": "another"}')
    for arguments, complaint in (
        ([str(broken)], "damaged"),
        ([str(other)], "another artefact"),
        ([str(tmp_path / "missing.npz")], "No such file"),
        ([], "Name the file"),
        ([str(other), "--shipped"], "Name the file"),
    ):
        with pytest.raises(CommandError, match=complaint):
            call_command("router_install", *arguments)
    assert not RouterArtefact.objects.exists()


# --- classifiers ----------------------------------------------------------------------------------------------------

CLASS = {"name": "ours", "is_active": "on", "kind": "dotted", "dotted_path": "json.JSONDecoder", "timeout_ms": "5"}


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"dotted_path": ""}, "Name the class by its dotted path"),
        ({"dotted_path": "Classifier"}, "is no dotted path"),
        ({"dotted_path": "os.system('x')"}, "is no dotted path"),
        ({"kind": "llm"}, "Choose the model that is asked"),
        ({"kind": "embeddings"}, "Choose the model that is asked"),
        ({"kind": "webhook"}, "Give the web address"),
        ({"kind": "webhook", "url": "classify"}, "Enter a valid URL"),
        ({"timeout_ms": "0"}, "greater than or equal to 1"),
        ({"timeout_ms": "60000"}, "less than or equal to 10000"),
    ],
)
def test_a_classifier_that_cannot_work_is_refused_in_words(
    admin_client: Client, fields: dict[str, str], complaint: str
) -> None:
    answer = admin_client.post(ADD, {**CLASS, **fields})
    assert answer.status_code == 200
    assert complaint in errors_of(answer)
    assert not ClassifierPlugIn.objects.exists()


def test_a_model_that_is_switched_off_classifies_nothing(admin_client: Client) -> None:
    off = ModelAliasFactory(is_active=False)
    assert "switched off" in errors_of(admin_client.post(ADD, {**CLASS, "kind": "llm", "alias": str(off.pk)}))


def test_the_one_that_goes_on_switches_the_other_off(admin_client: Client) -> None:
    admin_client.post(ADD, CLASS)
    answer = admin_client.post(ADD, {**CLASS, "name": "theirs"})
    assert "ours is switched off: one classifies at a time." in said(answer)
    assert [row.name for row in ClassifierPlugIn.objects.filter(is_active=True)] == ["theirs"]
    ours = ClassifierPlugIn.objects.get(name="ours")
    assert submit(admin_client, change_url(ours), is_active="on").status_code == 302
    assert [row.name for row in ClassifierPlugIn.objects.filter(is_active=True)] == ["ours"]
    assert ours.history.count() == 3


def test_what_does_not_belong_to_the_kind_is_emptied(admin_client: Client) -> None:
    alias = ModelAliasFactory(name="swift")
    admin_client.post(ADD, {**CLASS, "alias": str(alias.pk), "url": "https://a.example/"})
    row = ClassifierPlugIn.objects.get()
    assert (row.dotted_path, row.alias, row.url) == ("json.JSONDecoder", None, "")
    submit(admin_client, change_url(row), kind="llm", alias=str(alias.pk))
    row.refresh_from_db()
    assert (row.kind, row.dotted_path, row.alias) == ("llm", "", alias)


def test_what_will_hardly_work_is_warned_of(admin_client: Client, settings: Settings) -> None:
    settings.ROUTER_CLASSIFIER_KEY = ""
    alias = ModelAliasFactory()
    asked = admin_client.post(ADD, {**CLASS, "kind": "llm", "alias": str(alias.pk)})
    assert "No key pays for its requests" in said(asked)
    assert "no package" not in said(admin_client.post(ADD, {**CLASS, "name": "c"}))
    missing = admin_client.post(ADD, {**CLASS, "name": "b", "dotted_path": "not_installed_here.Classifier"})
    assert "There is no package “not_installed_here”" in said(missing)
