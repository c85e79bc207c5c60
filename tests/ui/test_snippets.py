"""What is copied works: it is run, and gives the rewards that the page shows."""

import ast
import json
import os
import subprocess
import sys

import pytest
from playwright.sync_api import Page, expect

KEY = "a-key-of-the-tests"
ENVIRONMENT = os.environ | {"PLAUDIT_CLIENT_API_KEY": KEY}
# For a shell, for Python and for JSON: quotes, a variable, a line's end, a backslash, a brace.
PROMPT = "It's \"$HOME\" `ls` \\n\n'''\u2028{0} %s"
RESPONSES = ["'; exit 3; '", "ünïcödé 😀\t\\"]
CASES = [
    ("open", "m0"),
    ("open", "balanced"),
    ("open", "<img src=x onerror=alert(1)>"),
    ("keyed", "careful"),
]
# A trainer calls what is copied for TRL.
CALL = f"""
import asyncio
print(asyncio.run(reward(prompts={[PROMPT] * 2!r}, completions={RESPONSES!r})))
"""


def copied(page: Page, language: str) -> str:
    page.get_by_label(language).check(force=True)
    page.get_by_role("button", name="Copy").click()
    expect(page.locator("#copied")).to_have_text("Copied.")
    text: str = page.evaluate("navigator.clipboard.readText()")
    return text


def run(command: list[str]) -> str:
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def fill(page: Page, judge: str) -> None:
    page.get_by_label("Judge").select_option(label=judge)
    page.get_by_label("If a text is too long").select_option("left")
    page.locator("#prompt").fill(PROMPT)
    for side, text in zip("ab", RESPONSES, strict=True):
        page.locator(f"#response-{side}").fill(text)


@pytest.mark.parametrize(("server", "judge"), CASES)
def test_what_is_copied_gives_the_rewards_of_the_page(open_page, servers, server, judge):
    page = open_page(servers[server] + "/")
    if server == "keyed":
        page.get_by_label("API key").fill(KEY)
        page.keyboard.press("Enter")
    expect(page.locator("#score")).to_be_enabled()
    fill(page, judge)
    with page.expect_response(lambda answer: answer.request.method == "POST") as answered:
        page.locator("#score").click()
    rewards = pytest.approx(answered.value.json()["rewards"], abs=1e-6)
    assert json.loads(run(["sh", "-c", copied(page, "curl")]))["rewards"] == rewards
    program = "\n".join([copied(page, "Python"), copied(page, "TRL"), CALL])
    of_python, of_trl = run([sys.executable, "-c", program]).splitlines()
    assert ast.literal_eval(of_python) == rewards
    assert ast.literal_eval(of_trl) == rewards


def test_without_a_clipboard_the_text_is_selected(browser, url):
    page = browser.new_page()  # without the permission, as on a page of plain http
    page.set_default_timeout(120_000)
    page.add_init_script("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    page.goto(url + "/")
    expect(page.locator("#score")).to_be_enabled()
    page.get_by_role("button", name="Copy").click()
    expect(page.locator("#copied")).to_have_text("Selected: press Ctrl+C.")
    selected = page.evaluate("getSelection().toString()")
    assert selected.strip() == page.locator("#snippet").inner_text().strip()
    page.close()
