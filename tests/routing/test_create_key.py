"""`manage.py create_key` with what people type, and the services behind it with two who want the same."""

import threading
from collections.abc import Callable
from datetime import timedelta
from io import StringIO

import pytest
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from routing.domain.keys import key_digest, key_parts
from routing.models import ConfigRevision, RoutingPolicy, VirtualKey
from routing.services import config_revision_bump, default_policy_set, key_issue, key_revoke
from tests.factories import ModelAliasFactory, RoutingPolicyFactory, TeamFactory, UserFactory, VirtualKeyFactory


def create(*options: str) -> tuple[str, str]:
    out, err = StringIO(), StringIO()
    call_command("create_key", "--team", "search", "--name", "bot", *options, stdout=out, stderr=err)
    return out.getvalue().strip(), err.getvalue()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--scopes", "root"], "invalid choice: 'root'"),
        (["--scopes"], "expected at least one argument"),
        (["--models", "ghost", "fast"], "No model alias ghost"),
        (["--models"], "expected at least one argument"),
        (["--days", "soon"], "invalid int value"),
        (["--days", "0"], "--days is from 1 to 36500"),
        (["--days", "-7"], "--days is from 1 to 36500"),
        (["--days", "99999999999"], "--days is from 1 to 36500"),
        (["--name", ""], "cannot be blank"),
        (["--name", "n" * 81], "at most 80 characters"),
        (["--team", ""], "No team “”. Teams: search"),
        (["--team", "Search"], "No team “Search”. Teams: search"),
        (["--forever"], "unrecognized arguments: --forever"),
    ],
)
def test_what_cannot_be_is_refused_and_makes_no_key(options: list[str], said: str) -> None:
    TeamFactory(slug="search")
    ModelAliasFactory(name="fast")
    with pytest.raises(CommandError) as caught:
        create(*options)
    assert said in str(caught.value)
    assert not VirtualKey.objects.exists()


@pytest.mark.django_db
def test_where_there_is_no_team_that_is_said() -> None:
    with pytest.raises(CommandError, match="Teams: none yet"):
        create()


@pytest.mark.django_db
@pytest.mark.parametrize("missing", [("--name", "bot"), ("--team", "search")])
def test_team_and_name_are_needed(missing: tuple[str, str]) -> None:
    with pytest.raises(CommandError, match="required"):
        call_command("create_key", *missing)


@pytest.mark.django_db
def test_a_key_says_on_stdout_only_itself_and_on_stderr_everything_but_itself() -> None:
    TeamFactory(slug="search", name="Search team")
    out, err = create()
    assert key_parts(out)
    assert out not in err
    assert "cannot be shown again" in err
    key = VirtualKey.objects.get()
    assert key.digest == key_digest(settings.KEY_PEPPER.encode(), out)
    assert (key.expires_at, key.created_by, key.allowed_models.count()) == (None, None, 0)


@pytest.mark.django_db
def test_two_keys_of_one_name_are_two_keys() -> None:
    TeamFactory(slug="search")
    assert create()[0] != create()[0]
    assert VirtualKey.objects.count() == 2


@pytest.mark.django_db
def test_a_model_named_twice_is_allowed_once() -> None:
    TeamFactory(slug="search")
    ModelAliasFactory(name="fast")
    create("--models", "fast", "fast", "--days", "1")
    key = VirtualKey.objects.get()
    assert key.allowed_models.count() == 1
    assert key.expires_at is not None
    assert timedelta(hours=23) < key.expires_at - timezone.now() <= timedelta(days=1)


# --- services -----------------------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize("scopes", [[], ["root"], ["chat", "root"], [""]])
def test_a_key_without_a_known_scope_is_not_issued(scopes: list[str]) -> None:
    with pytest.raises(ValidationError):
        key_issue(team=TeamFactory(), name="bot", by=None, scopes=scopes)
    assert not VirtualKey.objects.exists()


@pytest.mark.django_db
def test_a_secret_is_in_no_representation_of_what_was_issued() -> None:
    issued = key_issue(team=TeamFactory(), name="bot", by=None, scopes=["chat"])
    secret = issued.secret.rpartition("_")[2]
    assert secret not in f"{issued} {issued!r} {issued.key} {issued.key!r} {vars(issued.key)}"


def at_once(work: Callable[[], object], count: int = 4) -> list[object]:
    """Run `work` in threads with connections of their own, all let go at the same moment; what each returned."""
    barrier = threading.Barrier(count)
    results: list[object] = []

    def one() -> None:
        try:
            barrier.wait()
            results.append(work())
        finally:
            connection.close()

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.django_db(transaction=True)
def test_of_many_who_revoke_a_key_one_has_done_it() -> None:
    key, people = VirtualKeyFactory(), iter([UserFactory() for _ in range(4)])
    lock = threading.Lock()

    def revoke() -> bool:
        with lock:
            person = next(people)
        return key_revoke(key=VirtualKey.objects.get(pk=key.pk), by=person)

    assert sorted(map(bool, at_once(revoke))) == [False, False, False, True]
    key.refresh_from_db()
    assert key.history.filter(history_type="~").count() == 1
    assert key.history.first().history_user == key.revoked_by


@pytest.mark.django_db(transaction=True)
def test_two_defaults_chosen_at_once_leave_one() -> None:
    policies = [RoutingPolicyFactory(preferred=[ModelAliasFactory()]) for _ in range(4)]
    lock, rest = threading.Lock(), iter(policies)

    def choose() -> None:
        with lock:
            policy = next(rest)
        default_policy_set(policy=RoutingPolicy.objects.get(pk=policy.pk))

    at_once(choose)
    assert RoutingPolicy.objects.filter(is_default=True).count() == 1


@pytest.mark.django_db(transaction=True)
def test_no_edit_is_lost_from_the_revision() -> None:
    config_revision_bump()
    before = ConfigRevision.objects.get().revision
    at_once(config_revision_bump, count=6)
    assert ConfigRevision.objects.get().revision == before + 6


@pytest.mark.django_db
def test_a_default_that_is_refused_leaves_the_former_one() -> None:
    former = RoutingPolicyFactory(preferred=[ModelAliasFactory()], is_default=True)
    for wrong in (RoutingPolicyFactory(), RoutingPolicyFactory(preferred=[ModelAliasFactory()], is_active=False)):
        with pytest.raises(ValidationError):
            default_policy_set(policy=wrong)
    assert list(RoutingPolicy.objects.filter(is_default=True)) == [former]


@pytest.mark.django_db
def test_choosing_the_default_again_changes_nothing() -> None:
    policy = RoutingPolicyFactory(preferred=[ModelAliasFactory()], is_default=True)
    default_policy_set(policy=policy)
    assert list(RoutingPolicy.objects.filter(is_default=True)) == [policy]
