"""The pages in a real browser, against the whole platform with its demo provider."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from routerplatform.embedded import die_with_parent, free_port
from tests.stalls import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
START_TIMEOUT_S = 80.0
PATIENCE_MS = 1000 * PATIENCE_S
PHONE = {"width": 390, "height": 844}

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium: install it, or name one in CHROMIUM"),
]


@dataclass(frozen=True)
class Platform:
    url: str
    password: str
    process: subprocess.Popen[bytes]
    log: Path


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """`manage.py dev` with demo data; it prints the password that the tests sign in with."""
    folder = tmp_path_factory.mktemp("platform")
    log, port = folder / "log", free_port()
    env = {
        **os.environ,
        "DATABASE_URL": f"sqlite:///{folder / 'router.sqlite3'}",
        "DATA_DIR": str(folder / "data"),
        "JOURNAL_DIR": str(folder / "journal"),
        "REDIS_URL": "",
        "DEMO_PROVIDER_PORT": str(free_port()),
    }
    argv = [sys.executable, "manage.py", "dev", "--no-redis", "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            argv,
            cwd=ROOT,
            env=env,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call
        )
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not (found := re.search(r"Sign in +admin / (\S{12,})", log.read_text())):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield Platform(f"http://127.0.0.1:{port}", found[1], process, log)
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        expect.set_options(timeout=PATIENCE_MS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, platform: Platform) -> Iterator[Page]:
    """A signed-in page. What the browser complains about (scripts, content policy, missing files) fails the test."""
    assert platform.process.poll() is None, platform.log.read_text()
    context = browser.new_context(base_url=platform.url)
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto("/login/")
    page.fill("#id_username", "admin")
    page.fill("#id_password", platform.password)
    page.click("text=Sign in >> nth=-1")
    expect(page.get_by_role("heading", name="Spend per team")).to_be_visible()
    yield page
    context.close()
    assert complaints == []


def ask(page: Page, text: str) -> None:
    expect(page.locator("#connection")).to_have_attribute("data-state", "ready")
    page.fill("#prompt", text)
    page.press("#prompt", "Enter")


def test_a_chat_streams_says_why_and_shows_up_in_the_log(page: Page) -> None:
    page.goto("/playground/?persona=analyst")
    ask(page, "Compare TCP and UDP in a table.")
    answer = page.locator(".answer")
    expect(answer.locator(".figures")).to_contain_text("tokens")
    expect(answer.locator("table")).to_be_visible()
    expect(answer.locator(".figures")).to_contain_text("$")
    expect(page.locator("#spent")).to_contain_text("1 request")
    answer.get_by_text("Why this route?").click()
    expect(answer.locator(".why")).to_contain_text("chosen")
    link = answer.get_by_text("Open the request's record")
    for _ in range(60):  # the record is shipped a moment after the answer
        if page.request.get(link.get_attribute("href") or "").ok:
            break
        page.wait_for_timeout(500)
    link.click()
    expect(page.get_by_role("heading", name="What it cost")).to_be_visible()
    expect(page.locator("table.bill tfoot")).to_contain_text("$0.0")


def test_stop_ends_an_answer_and_keeps_what_was_written(page: Page) -> None:
    page.goto("/playground/")
    ask(page, "[[tokens=2000]] [[pace=40]] Tell me everything.")
    expect(page.locator(".answer .prose")).not_to_be_empty(timeout=PATIENCE_MS)
    page.keyboard.press("Escape")
    expect(page.locator(".answer .figures")).to_contain_text("stopped")
    expect(page.locator(".answer .failed")).to_have_count(0)
    expect(page.locator("#send")).to_be_visible()


def test_a_failure_is_explained_and_can_be_tried_again(page: Page) -> None:
    page.goto("/playground/")
    ask(page, "[[status=400]] Hello")
    expect(page.locator(".failed")).to_contain_text("request")
    page.locator(".failed").get_by_text("Try again").click()
    expect(page.locator(".failed")).to_be_visible(timeout=PATIENCE_MS)
    expect(page.locator(".question")).to_have_count(1)


def test_what_comes_below_an_answer_is_scrolled_to(page: Page) -> None:
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    page.goto("/playground/?persona=analyst")
    ask(page, "Compare TCP and UDP in a table.")
    last = page.locator(".answer").last.get_by_text("Why this route?")
    expect(last).to_be_in_viewport(timeout=PATIENCE_MS)
    ask(page, "[[cut=5]] Tell me a story.")
    expect(page.locator(".answer .failed")).to_be_in_viewport(timeout=PATIENCE_MS)
    expect(page.locator(".answer").last.locator(".figures")).to_contain_text("$")
    expect(last).to_be_in_viewport()
    expect(page.locator("#spent")).to_contain_text("2 requests")


def test_html_in_an_answer_is_shown_and_never_run(page: Page) -> None:
    page.goto("/playground/")
    ask(page, "[[say=<img src=x onerror=alert(1)> <script>alert(2)</script> [link](javascript:alert(3))]]")
    expect(page.locator(".answer .figures")).to_be_visible(timeout=PATIENCE_MS)
    expect(page.locator(".answer .prose")).to_contain_text("<img src=x onerror=alert(1)>")
    expect(page.locator(".answer :is(img, script, a[href^='javascript'])")).to_have_count(0)


def test_a_question_can_be_edited_and_a_reload_loses_nothing(page: Page) -> None:
    page.goto("/playground/")
    ask(page, "[[say=First.]]")
    expect(page.locator(".answer .figures")).to_be_visible(timeout=PATIENCE_MS)
    page.locator(".question").hover()
    page.locator(".question").get_by_text("Edit").click()
    page.fill("#prompt", "[[say=Second.]]")
    page.press("#prompt", "Enter")
    expect(page.locator(".answer .prose")).to_have_text("Second.")
    expect(page.locator(".answer .figures")).to_be_visible(timeout=PATIENCE_MS)
    page.reload()
    expect(page.locator(".question p")).to_have_text("[[say=Second.]]")
    expect(page.locator(".answer .prose")).to_have_text("Second.")
    page.get_by_role("button", name="Export as code").click()
    expect(page.locator("#snippet")).to_contain_text("/v1/chat/completions")
    page.get_by_role("button", name="Python").click()
    expect(page.locator("#snippet")).to_contain_text("from openai import OpenAI")


def test_a_lost_connection_comes_back_by_itself(page: Page) -> None:
    page.goto("/playground/")
    ask(page, "[[say=Hello.]]")
    expect(page.locator(".answer .figures")).to_be_visible(timeout=PATIENCE_MS)
    page.route("**/playground/token/", lambda route: route.fulfill(status=200, json={"token": "no:such:token"}))
    page.locator("#team").select_option(index=1)
    expect(page.locator("#connection")).to_have_text("Reconnecting")
    page.unroute("**/playground/token/")
    expect(page.locator("#connection")).to_have_text("Connected")


def test_the_chart_is_read_by_keyboard_and_by_pointer(page: Page) -> None:
    page.goto("/dashboards/")
    page.locator(".plot").focus()
    page.keyboard.press("End")
    expect(page.locator(".tip")).to_contain_text("$")
    last = page.locator(".tip strong").inner_text()
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".tip strong")).not_to_have_text(last)
    page.keyboard.press("Escape")
    expect(page.locator(".tip")).to_be_hidden()


def test_the_theme_is_remembered(page: Page) -> None:
    page.emulate_media(color_scheme="light")
    page.locator("[data-theme-toggle]").click()
    page.goto("/dashboards/providers/")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.locator("[data-theme-toggle]").click()
    expect(page.locator("html")).not_to_have_attribute("data-theme", re.compile("."))


def test_a_filter_applies_itself_and_stays_in_the_address(page: Page) -> None:
    page.goto("/dashboards/requests/?range=30d")
    page.locator("#team").select_option(index=1)
    page.wait_for_url(re.compile(r"\?range=30d&team=[\w-]+$"))
    expect(page.locator("table.log tbody tr").first).to_be_visible()


def test_a_key_is_issued_copied_once_and_revoked(page: Page) -> None:
    page.goto("/dashboards/keys/")
    page.get_by_role("link", name="Issue a key").click()
    page.select_option("#id_team", index=1)
    page.fill("#id_name", "browser test")
    page.get_by_label("Last day on which it works").wait_for(state="hidden")
    page.get_by_label("On a day of your choice").check()
    expect(page.get_by_label("Last day on which it works")).to_be_visible()
    page.get_by_label("Never").check()
    page.get_by_role("button", name="Issue the key").click()
    secret = page.locator("#secret").inner_text()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator(".secret .copy").click()
    expect(page.locator(".secret .copy")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == secret
    page.reload()
    expect(page).to_have_url(re.compile(r"/dashboards/keys/$"))
    assert secret not in page.content()
    page.get_by_role("link", name="Revoke browser test").click()
    page.get_by_role("button", name="Revoke the key").click()
    expect(page.get_by_role("status")).to_contain_text("is revoked")


PAGES = ["/dashboards/", "/dashboards/providers/", "/dashboards/requests/", "/dashboards/keys/", "/playground/"]


@pytest.mark.parametrize("path", [*PAGES, "/dashboards/keys/new/"])
def test_a_phone_shows_every_page_without_sideways_scrolling(page: Page, path: str) -> None:
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    page.goto(path)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
