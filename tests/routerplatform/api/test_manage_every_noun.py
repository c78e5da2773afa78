"""What holds for every noun of the management API: who gets in, what is refused by name, what is never told."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from providers.fields import seal
from providers.models import ProviderKey
from routerplatform.api.management.urls import router
from routing.models import AccessToken, ConfigRevision, TeamRole, VirtualKey
from routing.services.tokens import token_issue, token_revoke
from tests import factories as make
from tests.routerplatform.api.manager import BASE, Answer, in_team, staff, superuser
from tests.routerplatform.api.test_manage_lists import ROWS
from tests.routerplatform.api.test_manage_rows import needs as rows_needs

pytestmark = pytest.mark.django_db
VIEWS: dict[str, Any] = {noun: views for noun, views, _ in router.registry}
NOUNS = list(VIEWS)
NOBODY = "00000000-0000-0000-0000-000000000000"
OF_TEAMS = ["teams", "memberships", "keys", "budgets", "usage"]
OF_STAFF = [noun for noun in NOUNS if noun not in {*OF_TEAMS, "access-tokens"}]
METHODS = {"create": "post", "partial_update": "patch", "destroy": "delete"}
ADDED = [noun for noun in NOUNS if hasattr(VIEWS[noun], "create")]
EDITED = [noun for noun in NOUNS if hasattr(VIEWS[noun], "partial_update")]
REMOVED = [noun for noun in NOUNS if hasattr(VIEWS[noun], "destroy")]
CONFIGURATION = [noun for noun in ADDED if noun not in {"policy-drafts", "memberships", "budgets"}]


def needs(noun: str) -> dict[str, Any]:
    """What a new row takes at least."""
    match noun:
        case "policies":
            return {"name": "fresh"}
        case "policy-drafts":
            return {"policy": make.RoutingPolicyFactory(preferred=[make.ModelAliasFactory()]).pk, "title": "Change"}
        case "teams":
            return {"name": "Search", "slug": "search"}
        case "memberships":
            return {"team": make.TeamFactory().pk, "user": make.UserFactory().username}
        case "keys":
            return {"team": make.TeamFactory().pk, "name": "bot"}
        case "budgets":
            return {"scope": "team", "team": make.TeamFactory().pk, "limit": "20"}
        case "prices":
            later = (timezone.now() + timedelta(days=30)).isoformat()
            return rows_needs(noun) | {"effective_from": later}  # one that has begun stays as it is
    return rows_needs(noun)


CHANGE: dict[str, dict[str, Any]] = {
    "providers": {"label": "Other"},
    "provider-keys": {"label": "other"},
    "models": {"label": "Other"},
    "deployments": {"upstream_model": "other"},
    "prices": {"input_usd": "9"},
    "aliases": {"description": "other"},
    "personas": {"description": "other"},
    "rules": {"pattern": "other"},
    "policies": {"description": "other"},
    "policy-drafts": {"title": "Other"},
    "teams": {"name": "Other"},
    "memberships": {"role": "lead"},
    "keys": {"name": "other"},
    "budgets": {"mode": "soft"},
}


def every_way(noun: str, pk: Any = 1) -> list[tuple[str, str]]:
    """(method, path) of all that can be asked of a noun."""
    views = VIEWS[noun]
    row = f"{noun}/{NOBODY if noun == 'usage' else pk}"
    ways = [("get", noun), ("get", row)]
    ways += [(method, noun if name == "create" else row) for name, method in METHODS.items() if hasattr(views, name)]
    for one in views.get_extra_actions():
        ways += [(method, f"{row}/{one.url_path}") for method in one.mapping]
    return ways


def ask(token: str, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
    """One request as it stands; what fails inside is an answer, not an exception."""
    client = Client(raise_request_exception=False)
    sent = {"authorization": f"Bearer {token}"} if token else {}
    kind = headers.pop("content_type", "application/json")
    data = {} if body is None else {"data": body, "content_type": kind}
    reply: Any = getattr(client, method)(f"{BASE}/{path}", headers={**sent, **headers}, **data)
    is_json = reply.headers.get("content-type", "").startswith("application/json")
    return Answer(reply.status_code, json.loads(reply.content) if reply.content and is_json else None, reply.headers)


# --- who gets in ----------------------------------------------------------------------------------------------------


def test_the_table_of_changes_has_every_noun_that_changes() -> None:
    assert set(CHANGE) == set(EDITED)
    assert set(ROWS) == set(NOUNS)


def test_nobody_gets_in_without_a_token_in_force_whatever_is_asked() -> None:
    person = make.UserFactory(is_staff=True, is_superuser=True)
    ended = token_issue(user=person, name="x", is_read_only=False, expires_at=timezone.now() - timedelta(seconds=1))
    revoked = token_issue(user=person, name="x", is_read_only=False)
    token_revoke(token=revoked.token, by=None)
    off = token_issue(user=make.UserFactory(is_superuser=True, is_active=False), name="x", is_read_only=False)
    make.VirtualKeyFactory(text=make.key_text_of(7))
    good = token_issue(user=person, name="x", is_read_only=False).secret
    presented = {
        "nothing": "", "a virtual key": make.key_text_of(7), "ended": ended.secret, "revoked": revoked.secret,
        "switched off": off.secret, "made up": "rt_aaaaaaaa_b", "cut off": good[:-1], "in capitals": good.upper(),
        "a digest": ended.token.digest, "another kind": good.replace("rt_", "rp_", 1), "too long": good + "x" * 5000,
    }  # fmt: skip
    for noun in NOUNS:
        for method, path in every_way(noun):
            for why, text in presented.items():
                answer = ask(text, method, path)
                wanted = "invalid_access_token" if text else "not_signed_in"
                assert answer.refusal == (401, wanted, None), (why, method, path)
                assert not text or text not in answer.error["message"]


def test_a_read_only_token_reads_all_and_writes_nothing() -> None:
    person = make.UserFactory(is_staff=True, is_superuser=True)
    reader = token_issue(user=person, name="report").secret
    for noun in NOUNS:
        before = VIEWS[noun].model._default_manager.count()
        for method, path in every_way(noun, 10**6):
            answer = ask(reader, method, path, None if method in {"get", "delete"} else b"{}")
            if method == "get":
                assert answer.status == (200 if path == noun else 404), path
            else:
                assert answer.refusal == (403, "permission_denied", None), (method, path)
                assert "read only" in answer.error["message"]
        assert VIEWS[noun].model._default_manager.count() == before


def test_a_browser_that_is_signed_in_writes_nothing_without_its_csrf_token() -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(make.UserFactory(is_staff=True, is_superuser=True))
    forged: list[dict[str, str]] = [
        {}, {"x-csrftoken": "x" * 64}, {"authorization": "Basic cm9vdDpyb290"}, {"x-api-key": ""},
    ]  # fmt: skip
    for noun in NOUNS:
        for method, path in every_way(noun):
            for headers in forged if method != "get" else []:
                reply = getattr(browser, method)(f"{BASE}/{path}", b"{}", "application/json", headers=headers)
                assert (reply.status_code, reply.json()["error"]["code"]) == (403, "permission_denied"), (method, path)


def test_a_session_does_not_stand_in_for_a_credential_that_is_none() -> None:
    browser = Client()
    browser.force_login(make.UserFactory(is_staff=True, is_superuser=True))
    make.VirtualKeyFactory(text=make.key_text_of(7))
    for text in ("rt_aaaaaaaa_b", make.key_text_of(7), "x"):
        reply = browser.get(f"{BASE}/providers", headers={"authorization": f"Bearer {text}"})
        assert (reply.status_code, reply.json()["error"]["code"]) == (401, "invalid_access_token")


# --- who may --------------------------------------------------------------------------------------------------------


def permission_of(noun: str, verb: str) -> str:
    meta = VIEWS[noun].model._meta
    return f"{meta.app_label}.{verb}_{meta.model_name}"


@pytest.mark.parametrize("noun", [noun for noun in ADDED if noun not in {"memberships", "policy-drafts", "keys"}])
def test_each_permission_opens_its_own_verb_and_no_other(noun: str) -> None:
    row = superuser().post(noun, needs(noun)).json
    path, body = f"{noun}/{row['id']}", json.dumps(CHANGE[noun]).encode()
    for verb in ("view", "add", "change"):
        token = staff(permission_of(noun, verb), username=verb).token
        told = {
            "view": ask(token, "get", path).status,
            "add": ask(token, "post", noun, b"{}").status,
            "change": ask(token, "patch", path, body).status,
            "delete": ask(token, "delete", path).status,
        }
        sees = verb in {"view", "change"}  # as in the admin: who may change a row sees it
        assert (told["view"] == 200) == sees, verb
        assert told["add"] == (400 if verb == "add" else 403), verb
        assert told["change"] == (200 if verb == "change" else 403), verb
        assert told["delete"] == 403, verb
    last = staff(permission_of(noun, "delete"), permission_of(noun, "view"), username="last")
    assert last.patch(path, **CHANGE[noun]).status == 403
    assert last.delete(path).status == 204


@pytest.mark.parametrize("noun", OF_STAFF)
def test_people_of_teams_see_and_change_nothing_of_the_configuration(noun: str) -> None:
    ROWS[noun]()
    pk = VIEWS[noun].model._default_manager.latest("pk").pk
    for person in (in_team(TeamRole.LEAD), in_team(TeamRole.MEMBER), staff(username=f"plain-{noun}")):
        for method, path in every_way(noun, pk):
            answer = ask(person.token, method, path, None if method in {"get", "delete"} else b"{}")
            assert answer.refusal == (403, "permission_denied", None), (method, path)


@pytest.mark.parametrize("noun", OF_TEAMS)
def test_another_teams_row_is_not_there_and_not_counted(noun: str) -> None:
    ROWS[noun]()
    row = VIEWS[noun].model._default_manager.latest("pk")
    for role in TeamRole:
        person = in_team(role)
        assert str(row.pk) not in map(str, person.get(noun).ids)
        for method, path in every_way(noun, row.pk):
            if path == noun:
                continue
            its = path.replace(NOBODY, str(row.pk))
            told = ask(person.token, method, its, None if method in {"get", "delete"} else b"{}")
            assert told.refusal[:2] in {(404, "not_found"), (403, "permission_denied")}, (method, its)
            gone = its.replace(f"/{row.pk}", f"/{NOBODY if noun == 'usage' else 10**9}")
            unknown = ask(person.token, method, gone, None if method in {"get", "delete"} else b"{}")
            assert unknown.refusal == told.refusal, (method, its)
            assert unknown.error["message"].replace(gone, its) == told.error["message"], (method, its)


def test_access_tokens_are_ones_own_for_superusers_too() -> None:
    other = token_issue(user=make.UserFactory(), name="other").token
    manager = superuser()
    assert manager.get("access-tokens").ids == [AccessToken.objects.get(user__username="root").pk]
    for method, path in every_way("access-tokens", other.pk)[1:]:
        assert ask(manager.token, method, path).refusal == (404, "not_found", None)
    other.refresh_from_db()
    assert other.revoked_at is None


# --- what is refused by name ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("noun", ADDED)
def test_fields_that_there_are_not_and_fields_to_read_are_refused_by_name(noun: str) -> None:
    manager, wanted = superuser(), needs(noun)
    before = VIEWS[noun].model._default_manager.count()
    shown = VIEWS[noun].serializer_class().fields
    read_only = [name for name, field in shown.items() if field.read_only]
    assert {"object", "id"} <= set(read_only)
    for name in (*read_only, "colour", "password", "user_id", "created_by", "history", "pk", "_state", "a\0b"):
        assert manager.post(noun, wanted | {name: 1}).refusal == (400, "invalid_request", name), name
    assert VIEWS[noun].model._default_manager.count() == before
    made = manager.post(noun, wanted)
    assert made.status == 201, made.json
    for name in (*read_only, "colour", "created_by_id"):
        answer = ask(manager.token, "patch", f"{noun}/{made.json['id']}", json.dumps({name: 1}).encode())
        assert answer.refusal == (400, "invalid_request", name), name


@pytest.mark.parametrize("noun", NOUNS)
def test_filters_and_cursors_that_there_are_not_are_refused_by_name(noun: str) -> None:
    manager = superuser()
    for query, param in {
        "nmae=x": "nmae", "id=1": "id", "ordering=-id": "ordering", "format=api": "format",
        "team__name=x": "team__name", "pk__gt=0": "pk__gt", "user__password=x": "user__password",
        "limit=0": "limit", "limit=99999999": "limit",
        "cursor=x": "cursor", "cursor=%00": "cursor", "cursor=LTE": "cursor", "cursor=MSBPUiAx": "cursor",
        "cursor=OTk5OTk5OTk5OTk5OTk5OTk5OTk": "cursor", "cursor=MQ&cursor=Mg": "cursor",
    }.items():  # fmt: skip
        assert manager.get(f"{noun}?{query}").refusal == (400, "invalid_request", param), query


@pytest.mark.parametrize("noun", NOUNS)
def test_a_filter_takes_anything_and_answers_with_rows_or_a_reason(noun: str) -> None:
    token = superuser().token
    ROWS[noun]()
    odd = ["%00", "%ED%A0%80", "%F0%9F%98%80", "1e400", "1.5", "NaN", "-1", "9" * 40, "%27%20OR%201=1", "x" * 3000,
           "null", "true", "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00%2B14:00", "%D9%A3", ""]  # fmt: skip
    for name in VIEWS[noun].filterset_class.base_filters:
        for text in odd:
            answer = ask(token, "get", f"{noun}?{name}={text}")
            assert answer.status == 200 or answer.refusal == (400, "invalid_request", name), (name, text)


# --- bodies ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noun", ADDED)
def test_a_field_takes_no_value_that_breaks_the_gateway(noun: str) -> None:
    """Whatever JSON has, in every field: an answer in our shape that names the field, or a row."""
    token, wanted = superuser().token, needs(noun)
    odd = ["1e400", "-1e400", "1.5", "9" * 30, "-1", "true", "null", "[]", "{}", "[[]]", '[{"a": 1}]', '"\\ud800"',
           '"a\\u0000b"', '""', '"' + "x" * 9000 + '"', "[1e400]", '"9999-12-31T23:59:59-14:00"']  # fmt: skip
    for name, field in VIEWS[noun].serializer_class().fields.items():
        for text in [] if field.read_only else odd:
            others = {key: value for key, value in wanted.items() if key != name}
            body = f'{json.dumps(others)[:-1]}{", " if others else ""}"{name}": {text}}}'
            answer = ask(token, "post", noun, body.encode())
            assert answer.status in {201, 400}, (name, text, answer.status)
            assert answer.status == 201 or answer.error["code"] == "invalid_request", (name, text)
            if answer.status == 201:
                VIEWS[noun].model._default_manager.filter(pk=answer.json["id"]).delete()


@pytest.mark.parametrize("noun", ADDED)
def test_an_id_is_a_whole_number_of_a_row_that_is_there(noun: str) -> None:
    token, wanted = superuser().token, needs(noun)
    names = [name for name, value in wanted.items() if isinstance(value, int) and not isinstance(value, bool)]
    for name in names:
        for text in (f"{wanted[name]}.7", "1e400", str(2**63), str(10**30), "-1", "0", "true", f"[{wanted[name]}]"):
            body = json.dumps(wanted).replace(f'"{name}": {wanted[name]}', f'"{name}": {text}')
            assert ask(token, "post", noun, body.encode()).refusal == (400, "invalid_request", name), (name, text)


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"[" * 100_000, "application/json", 400),
        (b'{"a":' * 100_000, "application/json", 400),
        (b'{"name": ' + b"9" * 5000 + b"}", "application/json", 400),
        (b'{"name": NaN}', "application/json", 400),
        (b'\xef\xbb\xbf{"name": 1}', "application/json", 400),
        ('{"name": "ä"}'.encode("latin-1"), "application/json; charset=latin-1", 400),
        (b'{"colour": 1}', "text/plain", 415),
        (b"name=x", "application/x-www-form-urlencoded", 415),
        (b"--x--", "multipart/form-data; boundary=x", 415),
        (b"", "application/json", 400),
    ],
)
def test_a_body_that_cannot_be_read_is_refused_in_our_shape(body: bytes, content_type: str, status: int) -> None:
    client = Client(headers={"authorization": f"Bearer {superuser().token}"}, raise_request_exception=False)
    reply = client.generic("POST", f"{BASE}/providers", body, content_type)
    assert (reply.status_code, "error" in reply.json()) == (status, True)


# --- what is told ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accept", ["text/html", "text/html;q=0.9,*/*;q=0.8", "application/xml", "text/event-stream"])
def test_every_answer_is_json_whatever_is_accepted(accept: str) -> None:
    """A page of the framework would have a form with every team there is in it."""
    other, lead = make.TeamFactory(name="Nobody knows us"), in_team(TeamRole.LEAD)
    for method in ("get", "options"):
        for path in ("keys", "teams", "providers", f"teams/{other.pk}", "nothing"):
            reply = getattr(Client(), method)(
                f"{BASE}/{path}", headers={"authorization": f"Bearer {lead.token}", "accept": accept}
            )
            assert reply.headers["content-type"].startswith("application/json"), path
            assert "Nobody knows us" not in reply.content.decode()


def test_no_answer_has_a_secret_or_what_stands_for_one() -> None:
    """One row of each noun, every address that reads, and every answer to a change."""
    for row in ROWS.values():
        row() if row is not ROWS["access-tokens"] else None
    manager = superuser()
    token_issue(user=AccessToken.objects.get().user, name="spare")
    ProviderKey.objects.update(sealed=seal("sk-made-up-never-told"))
    kept = [str(sealed) for sealed in ProviderKey.objects.values_list("sealed", flat=True)]
    kept += [text for table in (VirtualKey, AccessToken) for text in table.objects.values_list("digest", flat=True)]
    for noun in NOUNS:
        pk = VIEWS[noun].model._default_manager.latest("pk").pk
        answers = [ask(manager.token, "get", path) for path in (noun, f"{noun}/{pk}")]
        if noun in EDITED and noun not in {"prices", "policy-drafts"}:
            answers.append(ask(manager.token, "patch", f"{noun}/{pk}", json.dumps(CHANGE[noun]).encode()))
        for answer in answers:
            assert answer.status == 200, (noun, answer.json)
            text = json.dumps(answer.json)
            assert not [one for one in (*kept, "sk-made-up", manager.token) if one in text], noun
            assert not [name for name in ("digest", "sealed", "secret", "password") if f'"{name}"' in text], noun


@pytest.mark.parametrize("noun", ADDED)
def test_who_made_changed_and_deleted_it_stands_in_its_history(noun: str) -> None:
    author, revision = superuser(), lambda: getattr(ConfigRevision.objects.first(), "revision", 0)
    wanted = needs(noun)
    before = revision()
    made = author.post(noun, wanted)
    assert made.status == 201, made.json
    path = f"{noun}/{made.json['id']}"
    after = revision()
    assert (after > before) or noun not in CONFIGURATION
    assert author.patch(path, **CHANGE[noun]).status == 200
    assert (revision() > after) or noun not in CONFIGURATION
    table = VIEWS[noun].model
    if noun in REMOVED:
        assert author.delete(path).status == 204
        assert not table._default_manager.filter(pk=made.json["id"]).exists()
    rows = table.history.filter(id=made.json["id"]).order_by("history_id")
    assert {one.history_user and one.history_user.username for one in rows} == {"root"}
    assert "".join(one.history_type for one in rows).endswith("~-" if noun in REMOVED else "~")


@pytest.mark.parametrize("noun", EDITED)
def test_a_change_of_nothing_writes_nothing_and_one_of_an_old_state_is_refused(noun: str) -> None:
    manager = superuser()
    made = manager.post(noun, needs(noun))
    path, etag, table = (
        f"{noun}/{made.json['id']}",
        manager.get(f"{noun}/{made.json['id']}").headers["etag"],
        VIEWS[noun],
    )
    count = table.model.history.filter(id=made.json["id"]).count()
    same = {name: made.json[name] for name in CHANGE[noun]}
    for nothing in ({}, same):
        answer = manager.patch(path, if_match=etag, **nothing)
        assert (answer.status, answer.headers["etag"]) == (200, etag)
    assert table.model.history.filter(id=made.json["id"]).count() == count
    for stale in ('"0"', 'W/"0"', '"0", "1"', "x", etag.strip('"')):
        assert manager.patch(path, if_match=stale, **CHANGE[noun]).refusal == (412, "changed_meanwhile", None), stale
    changed = manager.patch(path, if_match=f'"0", W/{etag}', **CHANGE[noun])
    assert changed.status == 200, changed.json
    assert changed.headers["etag"] != etag
    assert manager.patch(path, if_match=etag, **CHANGE[noun]).status == 412


@pytest.mark.parametrize("noun", NOUNS)
def test_what_cannot_be_done_with_a_noun_is_told_with_what_can(noun: str) -> None:
    token = superuser().token
    ways = set(every_way(noun))
    row = f"{noun}/{NOBODY if noun == 'usage' else 1}"
    for method in ("post", "put", "patch", "delete"):
        for path in (noun, row):
            if (method, path) not in ways:
                answer = ask(token, method, path, b"{}")
                assert answer.refusal == (405, "method_not_allowed", None), (method, path)
                assert "GET" in answer.headers["allow"]
    for path in (f"{noun}/", f"{noun}/1/nothing", f"{noun}/-1", f"{noun}/1.5", f"{noun}/{2**63}", f"{noun}/%00"):
        assert ask(token, "get", path).refusal == (404, "not_found", None), path
