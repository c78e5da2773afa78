"""A change of a policy from the proposal to the way back, in a real browser, while callers never stop."""

import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.e2e.processes import PYTHON, ROOT, Database, GatewayProcess, Installation, Platform, Process, wait_until
from tests.e2e.traffic import Answered, Traffic
from tests.stalls import PATIENCE_S

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
PATIENCE_MS = 1000 * PATIENCE_S
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
POLICY, PERSONA = "chat", "chatbot"
FORMER, PROPOSED = "demo/demo-swift", "demo-anthropic/demo-sage-mini"
TALKS = 100
SOME = 20  # requests to replay
STAGES = [10, 50, 100]
# How many of 100 conversations are in: 4.5 standard deviations of a fair draw to each side.
EXPECTED = {10: range(1, 25), 50: range(28, 73)}

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium: install it, or name one in CHROMIUM"),
    pytest.mark.timeout(900),  # a minute on a quiet machine
]


# --- the platform ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Company:
    """Two gateways that ask for reviews, a worker with its beat, and two people with one password."""

    platform: Platform
    gateways: tuple[GatewayProcess, GatewayProcess]
    password: str = field(repr=False)

    @property
    def database(self) -> Database:
        return self.platform.database

    def revision(self) -> int:
        [(revision,)] = self.database.rows("SELECT revision FROM routing_configrevision")
        return int(revision)

    def policy(self, name: str) -> tuple[int, int]:
        """Its id, and the version in force."""
        [row] = self.database.rows(f"SELECT id, version FROM routing_routingpolicy WHERE name = '{name}'")  # noqa: S608
        return int(row[0]), int(row[1])


@pytest.fixture(scope="module")
def company(installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    folder, password = tmp_path_factory.mktemp("company"), secrets.token_urlsafe(12)
    with closing(Platform.make(installation, folder)) as platform:
        env = {
            **installation.env,
            "DATABASE_URL": platform.database.url,
            "DATA_DIR": str(folder),
            "JOURNAL_DIR": str(platform.journal),
            "POLICY_REVIEW": "true",
        }
        people = [PYTHON, "-m", "tests.e2e.policy_people"]
        subprocess.run(people, cwd=ROOT, env=env, input=password, text=True, check=True)
        gateways = platform.start(POLICY_REVIEW="true"), platform.start(POLICY_REVIEW="true")
        argv = ["-m", "celery", "-A", "routerplatform", "worker", "-B", "--pool=threads", "--concurrency=2"]
        worker = Process([PYTHON, *argv], env, folder / "worker.log")
        try:
            for gateway in gateways:
                gateway.wait_ready()
            yield Company(platform, gateways, password)
        finally:
            worker.stop()


class Row(NamedTuple):
    """What a usage record says about the rules that a request followed."""

    policy: str
    version: int
    arm: str
    deployment: str


def rows_of(company: Company, answers: list[Answered]) -> dict[Answered, Row]:
    """Their usage records, once all of them are there."""
    query = "SELECT request_id, policy, policy_version, arm, deployment FROM analytics_usagerecord"
    found: dict[str, Row] = {}

    def are_there() -> bool:
        found.update({str(UUID(str(key))): Row(*rest) for key, *rest in company.database.rows(query)})
        return all(one.request_id in found for one in answers)

    wait_until(are_there, what="every answer has its usage record")
    return {one: found[one.request_id] for one in answers}


# --- the browser ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        expect.set_options(timeout=PATIENCE_MS)
        yield browser
        browser.close()


@contextmanager
def signed_in(browser: Browser, url: str, name: str, password: str) -> Iterator[Page]:
    """Somebody at the list of policies. What the browser complains about fails the test."""
    context = browser.new_context(base_url=url, viewport=DESKTOP, color_scheme="light")  # type: ignore[arg-type]
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto("/admin/routing/routingpolicy/")
    page.fill("#id_username", name)
    page.fill("#id_password", password)
    page.press("#id_password", "Enter")
    expect(page.locator("#result_list")).to_be_visible()
    yield page
    context.close()
    assert complaints == []


@dataclass(slots=True)
class Pictures:
    """What the pages look like, in the folder of the test."""

    folder: Path
    taken: int = 0

    def take(self, page: Page, name: str) -> None:
        self.taken += 1
        page.screenshot(path=self.folder / f"{self.taken:02}-{name}.png", full_page=True)

    def take_on_a_phone(self, page: Page, name: str) -> None:
        """In the dark; nothing has to be scrolled sideways."""
        page.set_viewport_size(PHONE)  # type: ignore[arg-type]
        page.emulate_media(color_scheme="dark")
        page.reload()
        self.take(page, name)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], name
        page.set_viewport_size(DESKTOP)  # type: ignore[arg-type]
        page.emulate_media(color_scheme="light")


@pytest.fixture
def pictures(tmp_path: Path) -> Pictures:
    return Pictures(tmp_path)


def propose(page: Page, policy_id: int, title: str, why: str = "") -> str:
    """Open a draft; the address of its page."""
    page.goto(f"/admin/routing/routingpolicy/{policy_id}/change/")
    page.get_by_role("link", name="Propose a change").click()
    page.get_by_label("What changes").fill(title)
    page.get_by_label("Why").fill(why)
    page.get_by_role("button", name="Open a draft").click()
    expect(page.locator("#draft-title")).to_have_text(title)
    return page.url.removeprefix(re.findall(r"http://[^/]+", page.url)[0])


def save(page: Page) -> None:
    page.get_by_role("button", name="Save", exact=True).click()


def move(page: Page, label: str, button: str = "") -> None:
    """Press one of the draft's buttons, and answer the question that follows."""
    page.locator(".draft").get_by_role("link", name=label).click()  # its icon is part of its name
    page.get_by_role("button", name=button or label, exact=True).click()


# --- the life of a change -------------------------------------------------------------------------------------------


def test_a_change_is_proposed_replayed_reviewed_rolled_out_and_taken_back_and_no_caller_notices(
    company: Company, browser: Browser, pictures: Pictures
) -> None:
    policy_id, first = company.policy(POLICY)
    before = company.revision()
    traffic = Traffic(company.gateways, company.platform.key, PERSONA, TALKS)
    ann_at, ben_at = (gateway.url for gateway in company.gateways)
    traffic.start()
    try:
        with (
            signed_in(browser, ann_at, "ann", company.password) as ann,
            signed_in(browser, ben_at, "ben", company.password) as ben,
        ):
            draft = drafted(ann, policy_id, pictures)
            replayed(company, ann, traffic, pictures)
            reviewed(ann, ben, draft, pictures)
            assert {row.version for row in followed(company, traffic.decided_by(before)).values()} == {first}
            rolled_out(company, traffic, ben, pictures, version=first + 1)
            taken_back(company, traffic, ben, policy_id, pictures, to=first)
    finally:
        traffic.stop()
    assert traffic.failures == []
    assert {one.gateway for one in traffic.answers} == {0, 1}
    assert {one.is_stream for one in traffic.answers} == {True, False}
    versions = {row.version for row in followed(company, traffic.answers).values()}
    assert versions == {first, first + 1, first + 2}


def drafted(ann: Page, policy_id: int, pictures: Pictures) -> str:
    """Another first model, and a ceiling; the page says what that changes. Returns its address."""
    ann.goto(f"/admin/routing/routingpolicy/{policy_id}/change/")
    expect(ann.locator(".draft-note")).to_contain_text("POLICY_REVIEW is on")
    expect(ann.locator("#id_max_cost_per_request")).to_have_count(0)
    pictures.take(ann, "policy")
    address = propose(ann, policy_id, "Sage Mini first", "It answers more tidily.")
    ann.fill("#id_max_cost_per_request", "0.5")
    ann.select_option("#id_candidates-0-group", "fallback")
    pictures.take(ann, "draft-form")
    save(ann)
    changes = ann.locator(".draft-columns .changes")
    expect(changes).to_contain_text("cost ceiling")
    expect(changes).to_contain_text("demo-swift")
    pictures.take(ann, "draft-with-changes")
    return address


def replayed(company: Company, ann: Page, traffic: Traffic, pictures: Pictures) -> None:
    """What the draft would have done to the requests so far: all of them would have gone elsewhere."""
    wait_until(lambda: len(traffic.answers) >= SOME, what="there is traffic to replay")
    rows_of(company, traffic.answers[:SOME])
    ann.reload()
    panel = ann.locator("#replay")
    panel.get_by_role("button", name="The last 24 hours").click()
    expect(panel.locator(".replay-cards")).to_be_visible()
    expect(panel.locator(".replay-tables")).to_contain_text(FORMER)
    expect(panel.locator(".replay-tables")).to_contain_text(PROPOSED)
    pictures.take(ann, "draft-replayed")
    pictures.take_on_a_phone(ann, "draft-replayed-phone")


def reviewed(ann: Page, ben: Page, draft: str, pictures: Pictures) -> None:
    """Ann asks for a review and cannot give it; Ben can."""
    move(ann, "Submit for review", "Submit for review")
    expect(ann.locator(".draft > header")).to_contain_text("In review")
    expect(ann.locator(".draft")).to_contain_text("Somebody else has to approve it")
    expect(ann.locator(".draft").get_by_role("link", name="Approve")).to_have_count(0)
    own = draft.replace("change/", "approve/")
    assert ann.request.get(own).status == 403
    pictures.take(ann, "draft-in-review")

    ben.goto(draft)
    expect(ben.locator("#id_max_cost_per_request")).to_have_count(0)
    expect(ben.locator(".draft-columns .changes")).to_contain_text("cost ceiling")
    ben.locator(".draft").get_by_role("link", name="Approve").click()
    pictures.take(ben, "approve")
    ben.get_by_label("Note").fill("Fine.")
    ben.get_by_role("button", name="Approve", exact=True).click()
    expect(ben.locator(".draft > header")).to_contain_text("Approved")
    pictures.take(ben, "draft-approved")


def rolled_out(company: Company, traffic: Traffic, ben: Page, pictures: Pictures, *, version: int) -> None:
    """Stage by stage; whoever is in stays in, and a conversation is on one side at both gateways."""
    ben.locator(".draft").get_by_role("link", name="Publish in stages").click()
    ben.get_by_label("Shares of the requests").fill(", ".join(map(str, STAGES)))
    ben.get_by_label("Minutes per stage").fill("600")
    pictures.take(ben, "publish-in-stages")
    ben.get_by_role("button", name="Publish in stages").click()
    members: set[str] = set()
    for percent in STAGES[:-1]:
        expect(ben.locator(".draft")).to_contain_text(f"{percent} % of the requests")
        inside = on_new_rules(company, traffic, version)
        assert members <= inside
        assert len(inside) in EXPECTED[percent]
        members = inside
        pictures.take(ben, f"rolling-out-{percent}")
        if percent == STAGES[0]:
            pictures.take_on_a_phone(ben, f"rolling-out-{percent}-phone")
        move(ben, "Advance")
    expect(ben.locator(".draft > header")).to_contain_text("Published")
    assert len(on_new_rules(company, traffic, version)) == TALKS
    expect(ben.locator("#replay")).not_to_contain_text("rebase")
    pictures.take(ben, "published")


def on_new_rules(company: Company, traffic: Traffic, version: int) -> set[str]:
    """The conversations that follow version `version` now: once each of them has asked, and all records are there."""
    since = company.revision()
    traffic.whole_round(since)
    rows = followed(company, traffic.decided_by(since, company.revision()))
    new = {one.talk for one, row in rows.items() if row.version == version}
    old = {one.talk for one, row in rows.items() if row.version != version}
    assert new & old == set(), "a conversation changed sides within a stage"
    for one, row in rows.items():
        assert row.deployment == (PROPOSED if one.talk in new else FORMER)
    return new


def followed(company: Company, answers: list[Answered]) -> dict[Answered, Row]:
    """The records of the persona's requests; those to “auto” only had to be answered."""
    rows = rows_of(company, [one for one in answers if one.talk.startswith(PERSONA)])
    assert {row.policy for row in rows.values()} <= {POLICY}
    return rows


def taken_back(company: Company, traffic: Traffic, ben: Page, policy_id: int, pictures: Pictures, *, to: int) -> None:
    """The old rules are a new version, for everybody at once."""
    ben.goto(f"/admin/routing/routingpolicy/{policy_id}/change/")
    ben.locator("details.versions summary").click()
    pictures.take(ben, "versions")
    ben.locator("details.versions tr", has_text=f"v{to}").get_by_role("link", name="Roll back to this").click()
    expect(ben.locator(".changes")).to_contain_text("cost ceiling")
    pictures.take(ben, "roll-back")
    ben.get_by_role("button", name="Roll back").click()
    expect(ben.locator("body")).to_contain_text(f"is in force again, as version {to + 2}")
    since = company.revision()
    traffic.whole_round(since)
    rows = followed(company, traffic.decided_by(since))
    assert {(row.version, row.arm, row.deployment) for row in rows.values()} == {(to + 2, "", FORMER)}
    ben.locator("details.versions summary").click()
    pictures.take(ben, "rolled-back")
    pictures.take_on_a_phone(ben, "rolled-back-phone")


# --- what must not go into force ------------------------------------------------------------------------------------


def test_a_draft_that_leaves_a_persona_without_a_model_is_refused_and_says_why(
    company: Company, browser: Browser, pictures: Pictures
) -> None:
    """Neither saved as it is, nor published when its only model has gone since it was approved."""
    policy_id, version = company.policy("creative")
    url = company.gateways[0].url
    with (
        signed_in(browser, url, "ann", company.password) as ann,
        signed_in(browser, url, "ben", company.password) as ben,
    ):
        draft = propose(ann, policy_id, "Sage alone")
        for row in range(3):
            if ann.locator(f"#id_candidates-{row}-alias").inner_text().strip() != "demo-sage":
                ann.locator(f"label:has(#id_candidates-{row}-DELETE)").click()
        ann.fill("#id_max_cost_per_request", "0.000001")
        save(ann)
        complaint = "creative_writer” without any model: demo-sage (demo-anthropic/demo-sage): estimated"
        expect(ann.locator(".draft-complaints")).to_contain_text("not saved")
        expect(ann.locator(".draft-complaints")).to_contain_text(complaint)
        expect(ann.locator(".draft-columns")).to_contain_text("Nothing yet")
        pictures.take(ann, "refused-when-saved")
        ann.fill("#id_max_cost_per_request", "")
        save(ann)
        expect(ann.locator(".draft-columns .changes")).to_contain_text("removes demo-balanced")
        move(ann, "Submit for review")
        expect(ann.locator(".draft > header")).to_contain_text("In review")
        ben.goto(draft)
        move(ben, "Approve")
        expect(ben.locator(".draft > header")).to_contain_text("Approved")
        with switched_off(browser, company, "demo-sage"):
            ben.reload()
            gone = "None of its models has an active deployment (demo-sage)"
            expect(ben.locator(".draft-complaints")).to_contain_text(gone)
            pictures.take(ben, "cannot-be-published")
            pictures.take_on_a_phone(ben, "cannot-be-published-phone")
            move(ben, "Publish now", "Publish now")
            expect(ben.locator(".question-error")).to_contain_text(gone)
            pictures.take(ben, "refused-when-published")
    assert company.policy("creative") == (policy_id, version)


@contextmanager
def switched_off(browser: Browser, company: Company, model: str) -> Iterator[None]:
    """Operations take the model's deployment away on its page, and bring it back."""
    [(deployment,)] = company.database.rows(
        f"SELECT id FROM providers_deployment WHERE upstream_model = '{model}'"  # noqa: S608 - a name of ours
    )
    installation = company.platform.installation
    with signed_in(browser, company.gateways[0].url, installation.admin, installation.password) as admin:
        admin.goto(f"/admin/providers/deployment/{deployment}/change/")
        admin.uncheck("#id_is_active", force=True)
        save(admin)
        try:
            yield
        finally:
            admin.goto(f"/admin/providers/deployment/{deployment}/change/")
            admin.check("#id_is_active", force=True)
            save(admin)
