"""The keys of a team: who sees, issues and revokes them, and that a new one is shown once."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import Permission, User
from django.contrib.sessions.models import Session
from django.db import connection
from django.test import Client
from django.utils import timezone

from analytics.keys_page import key_label
from routing.domain.keys import key_digest
from routing.models import ModelAlias, Team, TeamRole, VirtualKey
from routing.services import key_revoke, playground_key_for
from tests import factories as make
from tests.admin_pages import queries_of

pytestmark = pytest.mark.django_db
LIST, NEW = "/dashboards/keys/", "/dashboards/keys/new/"
NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
SECRET = re.compile(r'id="secret"[^>]*>(rp_[^<]+)<')


@pytest.fixture
def search() -> Team:
    team: Team = make.TeamFactory(name="Search", slug="search")
    return team


@pytest.fixture
def key(search: Team) -> VirtualKey:
    key: VirtualKey = make.VirtualKeyFactory(team=search, name="search app")
    return key


@pytest.fixture
def lead(search: Team) -> User:
    user: User = make.MembershipFactory(team=search, user__username="lena", role=TeamRole.LEAD).user
    return user


@pytest.fixture
def lena(client: Client, lead: User) -> Client:
    """The lead of Search."""
    client.force_login(lead)
    return client


def revoking(key: VirtualKey) -> str:
    return f"{LIST}{key.pk}/revoke/"


def wanted(own: Team, **fields: Any) -> dict[str, Any]:
    return {"team": own.pk, "name": "bot", "expiry": "90", "scopes": ["chat"]} | fields


def text_of(response: Any) -> str:
    return unescape(response.content.decode())


def shown_secret(page: Any) -> str:
    found = SECRET.search(page.content.decode())
    assert found, text_of(page)
    return found[1]


# --- who may what -------------------------------------------------------------------------------------------------


def member(team: Team) -> Any:
    return make.MembershipFactory(team=team).user


def lead_of_another(_: Team) -> Any:
    return make.MembershipFactory(role=TeamRole.LEAD).user


def lead_of_it(team: Team) -> Any:
    return make.MembershipFactory(team=team, role=TeamRole.LEAD).user


def member_who_leads_another(team: Team) -> Any:
    return make.MembershipFactory(user=lead_of_another(team), team=team).user


def staff_who_only_look(_: Team) -> Any:
    user = make.UserFactory(is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_usagerecord"))
    return user


def staff_of_keys(_: Team) -> Any:
    user = staff_who_only_look(_)
    user.user_permissions.add(Permission.objects.get(codename="add_virtualkey"))
    return user


def superuser(_: Team) -> Any:
    return make.UserFactory(is_staff=True, is_superuser=True)


PEOPLE: list[tuple[Callable[[Team], Any], bool, int, bool]] = [
    # who, sees the key, the answer to revoking it, may issue for the team
    (member, True, 403, False),
    (lead_of_another, False, 404, False),
    (lead_of_it, True, 302, True),
    (member_who_leads_another, True, 403, False),
    (staff_who_only_look, True, 403, False),
    (staff_of_keys, True, 302, True),
    (superuser, True, 302, True),
]


@pytest.mark.parametrize(("who", "sees", "revoked", "issues"), PEOPLE)
def test_everybody_sees_and_does_what_their_role_allows(
    client: Client, key: VirtualKey, who: Callable[[Team], Any], sees: bool, revoked: int, issues: bool
) -> None:
    client.force_login(who(key.team))
    page = text_of(client.get(LIST))
    assert ("search app" in page, key.prefix in page, "Search" in page) == (sees, sees, sees)
    assert (revoking(key) in page) == (revoked == 302)
    assert client.get(revoking(key)).status_code == (200 if revoked == 302 else revoked)
    client.post(NEW, wanted(key.team))
    assert VirtualKey.objects.filter(name="bot").exists() == issues
    assert client.post(revoking(key)).status_code == revoked
    key.refresh_from_db()
    assert (key.revoked_at is not None) == (revoked == 302)


@pytest.mark.parametrize("method", ["get", "post"])
def test_a_stranger_is_sent_to_sign_in(client: Client, key: VirtualKey, method: str) -> None:
    for path in (NEW, revoking(key), *([LIST] if method == "get" else [])):
        answer = getattr(client, method)(path, wanted(key.team) if method == "post" else {})
        assert answer.headers["Location"] == f"/login/?next={path}"
    key.refresh_from_db()
    assert (VirtualKey.objects.count(), key.revoked_at) == (1, None)


def test_a_member_has_no_button_and_no_form(client: Client, key: VirtualKey) -> None:
    client.force_login(member(key.team))
    assert "Issue a key" not in text_of(client.get(LIST))
    assert client.get(NEW).status_code == 403


def test_another_teams_key_looks_like_one_that_does_not_exist(lena: Client) -> None:
    theirs = make.VirtualKeyFactory(team__slug="theirs", name="till")
    for method in (lena.get, lena.post):
        known, unknown = method(revoking(theirs)), method(f"{LIST}{theirs.pk + 1}/revoke/")
        assert (known.status_code, known.content) == (404, unknown.content)
    for path in (LIST, NEW):
        assert lena.get(path, {"team": "theirs"}).status_code == 404


def test_another_team_and_none_are_refused_in_the_same_words(lena: Client, search: Team) -> None:
    other = make.TeamFactory(name="Checkout")
    for team in (other.pk, other.pk + 1, "x", "9" * 40):
        page = text_of(lena.post(NEW, wanted(search, team=team)))
        assert "You cannot issue keys for this team." in page
        assert "Checkout" not in page
    assert not VirtualKey.objects.exists()


def test_a_switched_off_team_gets_no_key_but_loses_one(lena: Client, key: VirtualKey) -> None:
    Team.objects.update(is_active=False)
    page = text_of(lena.get(LIST))
    assert "Team off" in page
    assert "Issue a key" not in page
    assert lena.post(NEW, wanted(key.team)).status_code == 403
    assert lena.post(revoking(key)).status_code == 302


def test_forms_are_guarded_against_other_sites(lead: User, key: VirtualKey) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(lead)
    assert browser.post(NEW, wanted(key.team)).status_code == 403
    assert browser.post(revoking(key)).status_code == 403
    key.refresh_from_db()
    assert (VirtualKey.objects.count(), key.revoked_at) == (1, None)


# --- issuing ------------------------------------------------------------------------------------------------------


def test_a_new_key_is_what_was_asked_for(lena: Client, lead: User, search: Team) -> None:
    alias = make.ModelAliasFactory()
    page = lena.post(NEW, wanted(search, scopes=["chat", "usage"], allowed_models=[alias.pk], name=" bot "))
    secret = shown_secret(page)
    key = VirtualKey.objects.get(digest=key_digest(settings.KEY_PEPPER.encode(), secret))
    assert (key.name, key.team, key.scopes, key.created_by) == ("bot", search, ["chat", "usage"], lead)
    assert list(key.allowed_models.all()) == [alias]
    assert key.history.latest().history_user == lead
    text = text_of(page)
    assert f"Authorization: Bearer {secret}" in text
    assert f'api_key="{secret}"' in text
    assert "http://testserver/v1/chat/completions" in text


def everything_stored() -> str:
    tables = connection.introspection.django_table_names(only_existing=True)
    with connection.cursor() as cursor:
        found = []
        for table in tables:
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")  # noqa: S608  # our own tables
            found += cursor.fetchall()
    return str(found) + str([session.get_decoded() for session in Session.objects.all()])


def test_a_key_is_shown_once_and_kept_nowhere(lena: Client, search: Team) -> None:
    page = lena.post(NEW, wanted(search))
    secret = shown_secret(page)
    key = VirtualKey.objects.get()
    stored = everything_stored()
    assert key.prefix in stored
    assert "_auth_user_id" in stored
    hidden = secret.rpartition(f"{key.prefix}_")[2]
    assert hidden not in stored + str(page.cookies) + str(page.headers)
    assert page.status_code == 200  # no way there by an address
    assert "no-store" in page.headers["Cache-Control"]
    for path in (LIST, NEW, revoking(key)):
        later = lena.get(path)
        assert hidden not in later.content.decode()
        assert key.digest not in later.content.decode()
        assert "no-store" in later.headers["Cache-Control"]


EXPIRIES: list[tuple[dict[str, str], timedelta | None]] = [
    ({"expiry": "never"}, None),
    ({"expiry": "30"}, timedelta(days=30)),
    ({"expiry": "365"}, timedelta(days=365)),
    ({"expiry": "30", "expires_on": "2020-01-01"}, timedelta(days=30)),
]


@pytest.mark.parametrize(("fields", "after"), EXPIRIES)
def test_a_key_expires_after_the_days_that_were_chosen(
    lena: Client, search: Team, fields: dict[str, str], after: timedelta | None
) -> None:
    before = timezone.now()
    shown_secret(lena.post(NEW, wanted(search, **fields)))
    expires_at = VirtualKey.objects.get().expires_at
    if after is None:
        assert expires_at is None
    else:
        assert expires_at is not None
        assert before + after <= expires_at <= timezone.now() + after


@pytest.mark.parametrize("ahead", [0, 1, 3650])
def test_a_chosen_day_is_worked_to_its_end(lena: Client, search: Team, ahead: int) -> None:
    day = timezone.now().date() + timedelta(days=ahead)
    shown_secret(lena.post(NEW, wanted(search, expiry="day", expires_on=day.isoformat())))
    expires_at = VirtualKey.objects.get().expires_at
    assert expires_at is not None
    assert expires_at.isoformat() == f"{day}T23:59:59+00:00"


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"team": ""}, "Choose the team that pays for it."),
    ({"name": ""}, "Say what will use the key."),
    ({"name": "   "}, "Say what will use the key."),
    ({"name": "x" * 81}, "Use 80 characters at most."),
    ({"name": "a\x00b"}, "Null characters are not allowed."),
    ({"scopes": []}, "Tick at least one"),
    ({"scopes": ["admin"]}, "Tick some of these only."),
    ({"expiry": ""}, "Choose when it expires."),
    ({"expiry": "36500"}, "Choose one of these."),
    ({"expiry": "day"}, "Choose the last day on which it works."),
    ({"expiry": "day", "expires_on": "2020-01-01"}, "This day has passed."),
    ({"expiry": "day", "expires_on": "9999-12-31"}, "more than ten years away"),
    ({"expiry": "day", "expires_on": "31.02.2027"}, "Write the day as year-month-day"),
    ({"allowed_models": ["987654"]}, "not on offer any more"),
    ({"allowed_models": ["\x00"]}, "not on offer any more"),
    ({"team": "\x00"}, "Null characters are not allowed."),
    ({"allowed_models": ["9" * 40]}, "not on offer any more"),
]


@pytest.mark.parametrize(("fields", "complaint"), MISTAKES)
def test_a_mistake_is_explained_and_issues_nothing(
    lena: Client, search: Team, fields: dict[str, Any], complaint: str
) -> None:
    make.ModelAliasFactory()
    page = lena.post(NEW, wanted(search, **fields))
    assert complaint in text_of(page)
    assert "No key was issued" in text_of(page)
    assert not VirtualKey.objects.exists()


def test_a_form_that_is_empty_complains_of_every_field_at_once(lena: Client, search: Team) -> None:
    make.MembershipFactory(user=User.objects.get(username="lena"), role=TeamRole.LEAD)
    page = text_of(lena.post(NEW, {}))
    said = ["Choose the team", "Say what will use", "Choose when it expires", "Tick at least one"]
    assert [words for words in said if words not in page] == []


def test_a_model_that_is_switched_off_is_not_offered(lena: Client, search: Team) -> None:
    off: ModelAlias = make.ModelAliasFactory(name="retired-model", is_active=False)
    assert "retired-model" not in text_of(lena.get(NEW))
    assert "not on offer any more" in text_of(lena.post(NEW, wanted(search, allowed_models=[off.pk])))


def test_the_team_one_comes_from_or_the_only_one_is_chosen_already(lena: Client, lead: User, search: Team) -> None:
    def chosen(query: dict[str, str]) -> list[str]:
        return re.findall(r'<option value="(\d*)" selected>', text_of(lena.get(NEW, query)))

    assert chosen({}) == [str(search.pk)]
    second = make.MembershipFactory(user=lead, role=TeamRole.LEAD).team
    make.MembershipFactory(user=lead, team__slug="only-member")
    assert chosen({}) in ([], [""])
    assert chosen({"team": second.slug}) == [str(second.pk)]
    assert chosen({"team": "only-member"}) in ([], [""])


# --- revoking -----------------------------------------------------------------------------------------------------


def test_revoking_asks_first_and_names_what_stops(lena: Client, key: VirtualKey) -> None:
    make.UsageRecordFactory(key=key, at=timezone.now() - timedelta(minutes=3))
    page = text_of(lena.get(revoking(key)))
    said = [
        "search app",
        f"rp_{key.prefix}_…",
        "Search",
        "3\N{NO-BREAK SPACE}min ago",
        "cannot be undone",
        "within 2 seconds",
    ]
    assert [words for words in said if words not in page] == []
    key.refresh_from_db()
    assert key.revoked_at is None


def test_who_revoked_a_key_is_kept(lena: Client, lead: User, key: VirtualKey) -> None:
    page = text_of(lena.post(revoking(key), follow=True))
    assert "is revoked. Requests with it are refused within 2 seconds." in page
    assert "by lena" in page
    key.refresh_from_db()
    last = key.history.latest()
    assert (key.revoked_by, last.history_user, last.revoked_at) == (lead, lead, key.revoked_at)


def test_a_key_is_revoked_once(lena: Client, key: VirtualKey) -> None:
    other = make.UserFactory()
    key_revoke(key=key, by=other)
    first = key.revoked_at
    for method in (lena.get, lena.post):
        assert "had been revoked before" in text_of(method(revoking(key), follow=True))
    key.refresh_from_db()
    assert (key.revoked_at, key.revoked_by) == (first, other)
    assert key.history.filter(revoked_at__isnull=False).count() == 1
    assert revoking(key) not in text_of(lena.get(LIST))


def test_the_playgrounds_key_is_marked_and_says_what_its_end_means(lena: Client, lead: User, search: Team) -> None:
    key = playground_key_for(team=search, by=lead)
    assert text_of(lena.get(LIST)).count('class="tag"') == 1
    assert "Whoever opens the playground again gets a new one" in text_of(lena.get(revoking(key)))


# --- the list -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({}, "Active"),
        ({"expires_at": NOW + timedelta(days=15)}, "Active"),
        ({"expires_at": NOW + timedelta(days=14)}, "Expires in 14 days"),
        ({"expires_at": NOW + timedelta(days=1, hours=23)}, "Expires in 1 day"),
        ({"expires_at": NOW + timedelta(hours=23, minutes=59)}, "Expires in 23 h"),
        ({"expires_at": NOW + timedelta(minutes=59)}, "Expires within the hour"),
        ({"expires_at": NOW}, "Expired"),
        ({"expires_at": NOW, "revoked_at": NOW}, "Revoked"),
        ({"team__is_active": False}, "Team off"),
        ({"team__is_active": False, "expires_at": NOW}, "Expired"),
    ],
)
def test_the_state_of_a_key_is_a_word(fields: dict[str, Any], word: str) -> None:
    assert key_label(make.VirtualKeyFactory(**fields), NOW).text == word


def test_each_state_has_its_own_picture() -> None:
    ends = {"expires_at": NOW + timedelta(days=1)}
    keys = [make.VirtualKeyFactory(**fields) for fields in ({}, ends, {"expires_at": NOW}, {"revoked_at": NOW})]
    labels = [key_label(key, NOW) for key in keys]
    assert len({label.picture or label.tone for label in labels}) == 4


def test_a_row_tells_what_the_key_may_and_what_it_spent(lena: Client, key: VirtualKey) -> None:
    now = timezone.now()
    make.mark_day(now.date())
    make.UsageRecordFactory(key=key, at=now, cost_nano=1_250_000_000)
    make.UsageRecordFactory(key=key, at=now - timedelta(days=40), cost_nano=50_000_000_000)
    make.UsageRecordFactory(at=now, cost_nano=7_000_000_000)
    key.allowed_models.set([make.ModelAliasFactory(name=name) for name in ("a1", "a2", "a3", "a4", "a5")])
    page = text_of(lena.get(LIST))
    said = ["$1.25", "just now", "chat, models", "a1, a2, a3 and 2 more", f"{now:Spend in %B}", "by a command"]
    assert [words for words in said if words not in page] == []
    assert "$50" not in page
    assert "$7.00" not in page


def test_a_key_that_slept_this_month_still_tells_when_it_was_last_used(lena: Client, key: VirtualKey) -> None:
    for days in (400, 100):
        make.UsageRecordFactory(key=key, at=timezone.now() - timedelta(days=days, minutes=1))
    page = text_of(lena.get(LIST))
    assert "100\N{NO-BREAK SPACE}d ago" in page
    assert "$0.00" in page


def test_usage_of_unknown_price_is_never_free(lena: Client, key: VirtualKey) -> None:
    now = timezone.now()
    make.mark_day(now.date())
    make.UsageRecordFactory(key=key, at=now, cost_nano=None)
    assert "unpriced" in text_of(lena.get(LIST))
    make.UsageRecordFactory(key=key, at=now, cost_nano=20_000_000)
    page = text_of(lena.get(LIST))
    assert "$0.02" in page
    assert "+ 1 unpriced" in page


def test_names_are_text_and_never_markup(lena: Client, search: Team) -> None:
    evil = "<img src=x onerror=alert(1)>"
    Team.objects.update(name=f"T{evil}")
    answer = lena.post(NEW, wanted(search, name=evil))
    key = VirtualKey.objects.get()
    key.allowed_models.add(make.ModelAliasFactory())
    pages = [answer, lena.get(LIST), lena.get(NEW), lena.get(revoking(key)), lena.post(revoking(key), follow=True)]
    pages.append(lena.post(NEW, wanted(search, name=f'"{evil}', scopes=[])))
    for page in pages:
        assert b"<img" not in page.content
        assert b"&lt;img src=x onerror=alert(1)&gt;" in page.content


def test_keys_that_serve_come_first_and_the_list_has_pages(lena: Client, search: Team) -> None:
    make.VirtualKeyFactory(team=search, name="AAA revoked", revoked_at=NOW)
    for number in range(100):
        make.VirtualKeyFactory(team=search, name=f"key {number:03}")
    first, second = (text_of(lena.get(LIST, {"page": page})) for page in (1, 2))
    assert "key 000" in first
    assert "key 099" in first
    assert "AAA revoked" not in first
    assert "AAA revoked" in second
    for odd in ("0", "-1", "x", "\x00", "9" * 5000):
        assert lena.get(LIST, {"page": odd}).status_code == 200


def test_the_list_takes_as_many_queries_for_thirty_keys_as_for_one(lena: Client, lead: User, key: VirtualKey) -> None:
    def grow(count: int) -> None:
        for _ in range(count):
            team = make.MembershipFactory(user=lead, role=TeamRole.LEAD).team
            one = make.VirtualKeyFactory(team=team, created_by=make.UserFactory(), revoked_by=make.UserFactory())
            one.allowed_models.add(make.ModelAliasFactory())
            make.UsageRecordFactory(key=one, at=timezone.now())

    make.mark_day(timezone.now().date())
    grow(1)
    few = queries_of(lena, LIST)
    grow(29)
    assert queries_of(lena, LIST) == few
    assert few <= 14


def test_a_chosen_team_narrows_the_list(lena: Client, lead: User, key: VirtualKey) -> None:
    other = make.VirtualKeyFactory(name="till", team=make.MembershipFactory(user=lead, team__slug="checkout").team)
    page = text_of(lena.get(LIST, {"team": "checkout"}))
    assert "till" in page
    assert "search app" not in page
    assert "Issue a key" not in page  # of Checkout she is only a member
    assert other.prefix in text_of(lena.get(LIST))


EMPTY: list[tuple[Callable[[Team], Any], str, str]] = [
    (lead_of_it, "With a key an application calls models", NEW),
    (member, "The team's leads issue them", "/playground/"),
    (lambda _: make.UserFactory(), "You are in no team yet", ""),
]


@pytest.mark.parametrize(("who", "words", "action"), EMPTY)
def test_an_empty_list_says_why_and_offers_one_thing_to_do(
    client: Client, search: Team, who: Callable[[Team], Any], words: str, action: str
) -> None:
    client.force_login(who(search))
    page = text_of(client.get(LIST))
    section = page[page.index('<div class="empty">') : page.index("</main>")]
    assert words in section
    assert re.findall(r'<a [^>]*href="([^"]*)"', section) == ([action] if action else [])


def test_an_empty_platform_leads_staff_to_their_first_team(admin_client: Client) -> None:
    assert "/admin/routing/team/add/" in text_of(admin_client.get(LIST))


@pytest.mark.parametrize(("method", "path"), [("post", LIST), ("put", NEW), ("delete", NEW)])
def test_a_page_takes_the_methods_that_it_is_made_for(lena: Client, method: str, path: str) -> None:
    assert getattr(lena, method)(path).status_code == 405


@pytest.mark.parametrize("key_id", ["0", "9" * 40, "abc", "-1", "%00"])
def test_a_key_that_cannot_be_is_a_404(lena: Client, key_id: str) -> None:
    assert lena.get(f"{LIST}{key_id}/revoke/").status_code == 404


def test_pages_have_a_strict_policy_and_nothing_inline(lena: Client, key: VirtualKey) -> None:
    for page in (lena.get(LIST), lena.get(NEW), lena.get(revoking(key)), lena.post(NEW, wanted(key.team))):
        text = page.content.decode()
        assert "unsafe" not in page.headers["Content-Security-Policy"]
        assert not re.search(r" style=| on\w+=|<style|<script>", text)


def test_the_top_navigation_leads_to_the_keys(lena: Client) -> None:
    page = text_of(lena.get(LIST))
    pages = re.findall(r'<a href="([^"]+)"( aria-current="page")?>(\w+)</a>', page[: page.index("</nav>")])
    assert [name for _, _, name in pages] == ["Spend", "Providers", "Requests", "Alerts", "Keys", "Playground"]
    assert [name for _, current, name in pages if current] == ["Keys"]
