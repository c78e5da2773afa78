"""What the settings make of an environment: secrets, choices, Redis or none, TLS, vendors' variables."""

import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import environ
import pytest
from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured

ROOT = Path(__file__).resolve().parent.parent.parent
FIELD_KEY = "A" * 43 + "="  # thirty-two zeros: a key, and the same in every process
SECRETS = {"SECRET_KEY": "s" * 40, "KEY_PEPPER": "p" * 40, "FIELD_KEYS": FIELD_KEY}
Load = Callable[..., dict[str, Any]]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Load:
    """The settings as they come out of exactly this environment; an own .env has no say."""

    def settings_of(**variables: str) -> dict[str, Any]:
        given = {"DATA_DIR": str(tmp_path), "REDIS_URL": "", "DATABASE_URL": f"sqlite:///{tmp_path}/db.sqlite3"}
        given |= {"DEBUG": "false", "LOG_LEVEL": "", "AI_ROUTER_LOG_LEVEL": ""} | SECRETS | variables
        given = {name: value for name, value in given.items() if value or name not in {"LOG_LEVEL", "DEBUG"}}
        monkeypatch.setattr(environ.Env, "ENVIRON", dict(given))
        monkeypatch.setattr(environ.Env, "read_env", lambda *_, **__: None)
        return runpy.run_path(str(ROOT / "routerplatform" / "settings.py"))

    return settings_of


# --- the database -------------------------------------------------------------------------------------------------


def test_a_postgresql_that_falls_silent_fails_soon_and_the_address_may_say_otherwise(load: Load) -> None:
    plain = load(DATABASE_URL="postgresql://router:pw@db/router")["DATABASES"]["default"]["OPTIONS"]
    assert (plain["connect_timeout"], plain["tcp_user_timeout"]) == (5, 15_000)
    slow = load(DATABASE_URL="postgresql://router:pw@db/router?connect_timeout=30&sslmode=require")
    assert slow["DATABASES"]["default"]["OPTIONS"] == plain | {"connect_timeout": 30, "sslmode": "require"}


# --- secrets ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("SECRET_KEY", "", "SECRET_KEY is unset or shorter than 32 characters"),
        ("SECRET_KEY", "hunter2", "SECRET_KEY is unset or shorter than 32 characters"),
        ("SECRET_KEY", "s" * 31, "SECRET_KEY is unset or shorter than 32 characters"),
        ("KEY_PEPPER", "", "KEY_PEPPER is unset or shorter than 32 characters"),
        ("KEY_PEPPER", "p" * 31, "KEY_PEPPER is unset or shorter than 32 characters"),
        ("FIELD_KEYS", "", "FIELD_KEYS is unset"),
        ("FIELD_KEYS", ",,", "FIELD_KEYS is unset"),
        ("FIELD_KEYS", "hunter2", "key 1 of 1 is not a Fernet key"),
        ("FIELD_KEYS", f"{FIELD_KEY},{FIELD_KEY[:-1]}", "key 2 of 2 is not a Fernet key"),
        ("FIELD_KEYS", f"{FIELD_KEY},ünï", "key 2 of 2 is not a Fernet key"),
    ],
)
def test_a_secret_that_will_not_do_stops_the_start_and_names_what_mends_it(
    load: Load, name: str, value: str, said: str
) -> None:
    with pytest.raises(ImproperlyConfigured) as caught:
        load(**{name: value})
    assert said in str(caught.value)
    assert "script/setup" in str(caught.value)
    assert not value.strip(",") or value not in str(caught.value)


def test_debug_needs_the_same_secrets(load: Load) -> None:
    with pytest.raises(ImproperlyConfigured):
        load(DEBUG="true", SECRET_KEY="")


def test_several_field_keys_keep_their_order_and_empty_places_are_left_out(load: Load) -> None:
    other = Fernet.generate_key().decode()
    assert load(FIELD_KEYS=f"{other},,{FIELD_KEY}")["FIELD_KEYS"] == [other, FIELD_KEY]


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"SECRET_KEY": ""}, "SECRET_KEY is unset"),
        ({"FIELD_KEYS": "not-a-key"}, "FIELD_KEYS: key 1 of 1 is not a Fernet key"),
    ],
)
def test_a_command_does_not_start_with_a_bad_environment(tmp_path: Path, variables: dict[str, str], said: str) -> None:
    env = {**os.environ, **SECRETS, "DATA_DIR": str(tmp_path), "DATABASE_URL": "", **variables}
    env.pop("DATABASE_URL")
    done = subprocess.run(
        [sys.executable, "manage.py", "check"], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert said in done.stderr
    assert "not-a-key" not in done.stderr


# --- choices and their defaults -----------------------------------------------------------------------------------


def test_defaults_are_closed(load: Load) -> None:
    found = load()
    assert found["DEBUG"] is False
    assert "*" not in found["ALLOWED_HOSTS"]
    assert (found["X_FRAME_OPTIONS"], found["SESSION_COOKIE_HTTPONLY"]) == ("DENY", True)
    assert found["CONTENT_SECURITY_POLICY"]["DIRECTIVES"]["connect-src"] == ["'self'"]
    assert len(found["VENDOR_KEYS"]) == 13
    assert not any(found["VENDOR_KEYS"].values())
    assert not found["WEBSOCKET_ALLOWED_ORIGINS"]


@pytest.mark.parametrize("value", ["disk", "process", "database"])
def test_a_durability_is_one_of_three(load: Load, value: str) -> None:
    assert load(JOURNAL_DURABILITY=value)["JOURNAL_DURABILITY"] == value


@pytest.mark.parametrize("value", ["", "DISK", "none"])
def test_another_durability_is_refused_with_the_choices(load: Load, value: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="must be one of: disk, process, database"):
        load(JOURNAL_DURABILITY=value)


@pytest.mark.parametrize(
    ("behind_tls", "secure", "hsts"), [("true", True, 31_536_000), ("false", False, 0), ("", False, 0)]
)
def test_cookies_are_for_tls_only_where_there_is_tls(load: Load, behind_tls: str, secure: bool, hsts: int) -> None:
    found = load(**({"BEHIND_TLS": behind_tls} if behind_tls else {}))
    assert found["SESSION_COOKIE_SECURE"] is found["CSRF_COOKIE_SECURE"] is secure
    assert found["SECURE_HSTS_SECONDS"] == hsts
    assert bool(found["SECURE_PROXY_SSL_HEADER"]) is secure


@pytest.mark.parametrize(
    ("variables", "level"),
    [
        ({}, "INFO"),
        ({"AI_ROUTER_LOG_LEVEL": "debug"}, "DEBUG"),
        ({"LOG_LEVEL": "warning", "AI_ROUTER_LOG_LEVEL": "DEBUG"}, "WARNING"),
    ],
)
def test_the_log_level_has_the_promised_names(load: Load, variables: dict[str, str], level: str) -> None:
    found = load(**{"AI_ROUTER_LOG_LEVEL": "INFO"} | variables)
    assert found["LOG_LEVEL"] == found["LOGGING"]["root"]["level"] == level


@pytest.mark.parametrize(
    ("variables", "attempts"),
    [({}, 4), ({"AI_ROUTER_MAX_RETRIES": "0"}, 1), ({"AI_ROUTER_MAX_RETRIES": "0", "MAX_ATTEMPTS": "7"}, 7)],
)
def test_retries_of_the_promised_name_count_beside_the_first_attempt(
    load: Load, variables: dict[str, str], attempts: int
) -> None:
    assert load(**variables)["MAX_ATTEMPTS"] == attempts


@pytest.mark.parametrize(("name", "value"), [("PORT", "eight thousand"), ("REQUEST_TIMEOUT_S", "soon")])
def test_a_number_that_is_none_stops_the_start(load: Load, name: str, value: str) -> None:
    with pytest.raises((ImproperlyConfigured, ValueError)):
        load(**{name: value})


@pytest.mark.parametrize(
    ("kind", "variable"),
    [("openai", "OPENAI_API_KEY"), ("anthropic", "ANTHROPIC_API_KEY"), ("groq", "GROQ_API_KEY"),
     ("gemini", "GEMINI_API_KEY"), ("cohere", "COHERE_API_KEY"), ("mistral", "MISTRAL_API_KEY"),
     ("together", "TOGETHER_API_KEY"), ("openrouter", "OPENROUTER_API_KEY"), ("deepseek", "DEEPSEEK_API_KEY"),
     ("xai", "XAI_API_KEY"), ("perplexity", "PERPLEXITY_API_KEY"), ("fireworks", "FIREWORKS_API_KEY"),
     ("ai21", "AI21_API_KEY")],
)  # fmt: skip
def test_a_vendors_key_is_taken_from_its_own_variable(load: Load, kind: str, variable: str) -> None:
    keys = load(**{variable: "sk-test"})["VENDOR_KEYS"]
    assert {name: value for name, value in keys.items() if value} == {kind: "sk-test"}


# --- storage and queue, with Redis and without --------------------------------------------------------------------


def test_without_redis_everything_still_has_a_place(load: Load, tmp_path: Path) -> None:
    found = load()
    assert found["CELERY_BROKER_URL"] == "filesystem://"
    options = found["CELERY_BROKER_TRANSPORT_OPTIONS"]
    assert options["data_folder_in"] == options["data_folder_out"] == str(tmp_path / "queue")
    assert found["CACHES"]["default"]["BACKEND"].endswith("LocMemCache")


def test_with_redis_broker_and_cache_use_it(load: Load) -> None:
    url = "redis://:secret@127.0.0.1:6379/0"
    found = load(REDIS_URL=url)
    assert found["CELERY_BROKER_URL"] == found["CACHES"]["default"]["LOCATION"] == url
    assert found["CELERY_BROKER_TRANSPORT_OPTIONS"] == {"visibility_timeout": 3600}


def test_a_task_survives_its_worker_and_leaves_no_result(load: Load) -> None:
    found = load()
    assert found["CELERY_TASK_ACKS_LATE"] is True
    assert found["CELERY_TASK_IGNORE_RESULT"] is True
    assert found["CELERY_TIMEZONE"] == found["TIME_ZONE"] == "UTC"
    visibility = load(REDIS_URL="redis://h/0")["CELERY_BROKER_TRANSPORT_OPTIONS"]["visibility_timeout"]
    assert visibility > found["CELERY_TASK_TIME_LIMIT"]  # else a slow task would be given out twice


def test_sqlite_waits_for_its_lock_and_takes_it_at_once(load: Load, tmp_path: Path) -> None:
    database = load()["DATABASES"]["default"]
    assert database["OPTIONS"]["transaction_mode"] == "IMMEDIATE"
    assert "journal_mode=WAL" in database["OPTIONS"]["init_command"]
    assert (tmp_path.stat().st_mode & 0o777) in {0o700, 0o755}


def test_postgresql_gets_none_of_sqlites_options(load: Load) -> None:
    database = load(DATABASE_URL="postgresql://router:secret@db:5432/router")["DATABASES"]["default"]
    assert database["ENGINE"] == "django.db.backends.postgresql"
    assert "init_command" not in database.get("OPTIONS", {})


def test_the_data_folder_is_made_for_its_owner_only(load: Load, tmp_path: Path) -> None:
    load(DATA_DIR=str(tmp_path / "fresh" / "data"))
    assert (tmp_path / "fresh" / "data").stat().st_mode & 0o777 == 0o700


# --- where vendors are called -------------------------------------------------------------------------------------


def test_vendors_can_be_called_at_another_address(load: Load) -> None:
    assert load()["VENDOR_BASE_URLS"] == {}
    said = "openai=https://eu.example.com/v1/, ollama = http://10.0.0.7:11434/api"
    found = load(AI_ROUTER_BASE_URLS=said)["VENDOR_BASE_URLS"]
    assert found == {"openai": "https://eu.example.com/v1", "ollama": "http://10.0.0.7:11434/api"}


@pytest.mark.parametrize(
    "said", ["openal=https://x", "openai", "openai=x", "openai=ftp://x", "openai=https://a:b@x/v1"]
)
def test_an_address_that_cannot_be_called_stops_the_start(load: Load, said: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="AI_ROUTER_BASE_URLS"):
        load(AI_ROUTER_BASE_URLS=said)


def test_the_time_limit_has_a_second_name(load: Load) -> None:
    assert load(AI_ROUTER_TIMEOUT="30")["REQUEST_TIMEOUT_S"] == 30
    assert load(AI_ROUTER_TIMEOUT="30", REQUEST_TIMEOUT_S="90")["REQUEST_TIMEOUT_S"] == 90
