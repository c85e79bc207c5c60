"""How the playground looks, to whom."""

from playwright.sync_api import Page, expect


def background(page: Page) -> str:
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


def test_the_scheme_is_the_systems_until_the_toggle_and_then_remembered(open_page, url):
    light = background(open_page(url + "/", color_scheme="light"))
    page = open_page(url + "/", color_scheme="dark")
    dark = background(page)
    assert dark != light
    toggle = page.get_by_role("button", name="Dark")
    expect(toggle).to_have_attribute("aria-pressed", "true")
    toggle.click()
    expect(toggle).to_have_attribute("aria-pressed", "false")
    assert background(page) == light
    page.reload()
    assert background(page) == light


def test_who_asked_for_less_motion_gets_none(open_page, url):
    page = open_page(url + "/", reduced_motion="reduce")
    durations = (
        "[...document.querySelectorAll('*')].map(e => getComputedStyle(e).transitionDuration)"
    )
    assert set(page.evaluate(durations)) == {"0s"}


def test_nothing_is_cut_off_on_a_narrow_screen(open_page, url):
    page = open_page(url + "/", viewport={"width": 360, "height": 700})
    expect(page.locator("#score")).to_be_enabled()
    page.locator("#score").click()
    expect(page.locator("#verdict")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_axe_finds_nothing(open_page, violations, url):
    page = open_page(url + "/")
    expect(page.locator("#score")).to_be_enabled()
    page.get_by_label("Judge").select_option(label="leaky")
    page.locator("#response-a").fill("word " * 40)  # for two of three members
    page.locator("#response-b").fill("word " * 200)  # for none
    page.locator("#score").click()
    expect(page.locator("#verdict")).to_be_visible()
    assert violations(page) == []
    page.get_by_label("Judge").select_option(label="careful")
    # As of a page older than the server, which refuses what the page would let through.
    page.get_by_label("Coefficient").evaluate("field => field.removeAttribute('min')")
    page.get_by_label("Coefficient").fill("-1")
    page.locator("#score").click()
    expect(page.locator("#problem")).to_be_visible()
    assert violations(page) == []
