"""A person at a real browser (Chromium by Playwright), signed in to the platform."""

import os
import shutil
from typing import Final, Self

from playwright.sync_api import Page, sync_playwright

from tests.contract.stage import Stage
from tests.contract.waiting import PATIENCE_S, must

CHROMIUM: Final = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


class Browser:
    """One window. Needs Chromium: where there is none, what it should show counts as not kept."""

    def __init__(self, stage: Stage) -> None:
        must(CHROMIUM, "no chromium: install it, or name one in CHROMIUM")
        self._stage = stage

    def __enter__(self) -> Self:
        self._stage.touches += 1
        self._playwright = sync_playwright().start()
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        self._browser = self._playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        self.page: Page = self._browser.new_page(viewport={"width": 1280, "height": 900})
        self.page.set_default_timeout(1000 * PATIENCE_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._browser.close()
        self._playwright.stop()

    def open(self, path: str) -> None:
        self.page.goto(f"{self._stage.url}{path}")

    def sign_in(self) -> None:
        self.open("/login/")
        self.page.fill("input[name=username]", "admin")
        self.page.fill("input[name=password]", self._stage.password)
        self.page.press("input[name=password]", "Enter")
        self.page.wait_for_url("**/dashboards/**")

    def text_of(self, path: str) -> str:
        self.open(path)
        return str(self.page.inner_text("body"))

    def persona_prompt(self, slug: str, prompt: str) -> bool:
        """Change a persona's system prompt in the admin; whether it was saved."""
        self.open(f"/admin/routing/persona/?q={slug}")
        self.page.click(f"#result_list a:has-text('{slug}')")
        self.page.fill("textarea[name=system_prompt]", prompt)
        self.page.click("[name=_save]")
        self.page.wait_for_url("**/persona/**")
        return "changed successfully" in self.page.inner_text("body")

    def chatted(self, prompt: str) -> str:
        """Say something in the playground; what the page shows once the answer is complete."""
        self.open("/playground/")
        self.page.wait_for_selector("#connection[data-state=ready]")
        self.page.fill("#prompt", prompt)
        self.page.press("#prompt", "Enter")
        self.page.wait_for_selector(".answer .figures:has-text('$')")
        return str(self.page.inner_text("body"))
