from playwright.sync_api import Page, expect

KEY = "a-key-of-the-tests"


def give(page: Page, key: str) -> None:
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Use it").click()


def test_a_key_is_asked_for_refused_or_kept_in_the_tab_alone(open_page, keyed_url):
    page = open_page(keyed_url + "/")
    expect(page.get_by_label("API key")).to_be_focused()
    expect(page.locator("#score")).to_be_disabled()
    give(page, "another")
    expect(page.locator("#key-wrong")).to_have_text("The server does not accept this key.")
    give(page, KEY)
    expect(page.locator("#key-panel")).to_be_hidden()
    page.locator("#score").click()
    expect(page.locator("#verdict")).to_be_visible()
    assert page.url == keyed_url + "/"
    kept = "[sessionStorage, localStorage].map((kept) => Object.values(kept).join())"
    assert page.evaluate(kept) == [KEY, ""]
    assert page.context.cookies() == []
    for language in ("curl", "Python", "TRL"):
        page.get_by_label(language).check(force=True)
        expect(page.locator("#snippet")).to_contain_text("PLAUDIT_CLIENT_API_KEY")
        assert KEY not in page.content()


def test_the_key_survives_a_reload_and_no_new_tab(open_page, keyed_url):
    page = open_page(keyed_url + "/")
    give(page, KEY)
    expect(page.locator("#score")).to_be_enabled()
    page.reload()
    expect(page.locator("#score")).to_be_enabled()
    other = page.context.new_page()
    other.goto(keyed_url + "/")
    expect(other.get_by_label("API key")).to_be_visible()


def test_axe_finds_nothing_in_the_question(open_page, violations, keyed_url):
    page = open_page(keyed_url + "/")
    give(page, "another")
    expect(page.locator("#key-wrong")).to_be_visible()
    assert violations(page) == []
