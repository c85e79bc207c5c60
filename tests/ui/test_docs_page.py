"""Swagger UI from our own files. Its elements are not ours to mend; the frame around them is."""

from playwright.sync_api import expect

KEY = "a-key-of-the-tests"
# Of the elements that Swagger UI builds: buttons within the button that opens a route, a heading
# that skips a level, and its title outside its main landmark.
OF_SWAGGER_UI = ("nested-interactive", "heading-order", "region")


def test_the_routes_are_listed_and_can_be_tried(open_page, url):
    page = open_page(url + "/docs")
    score = page.locator(".opblock", has_text="/score").first
    expect(score).to_be_visible()
    models = page.locator("#operations-native-models_models_get")
    models.locator(".opblock-summary-control").click()
    models.get_by_role("button", name="Try it out").click()
    models.get_by_role("button", name="Execute").click()
    answer = models.locator(".live-responses-table")
    expect(answer).to_contain_text("200")
    expect(answer).to_contain_text('"name": "careful"')


def test_routes_stand_under_their_tags_and_the_playground_is_a_click_away(open_page, url):
    page = open_page(url + "/docs")
    for tag in ("native", "compatible", "health"):
        expect(page.locator(f"#operations-tag-{tag}")).to_be_visible()
    page.get_by_role("navigation").get_by_role("link", name="Playground").click()
    expect(page.locator("#score")).to_be_visible()


def test_a_key_can_be_given(open_page, keyed_url):
    page = open_page(keyed_url + "/docs")
    page.get_by_role("button", name="Authorize").first.click()
    page.locator("#auth-bearer-value").fill(KEY)
    page.locator(".auth-btn-wrapper").get_by_role("button", name="Apply credentials").click()
    page.get_by_role("button", name="Close").first.click()
    models = page.locator("#operations-native-models_models_get")
    models.locator(".opblock-summary-control").click()
    models.get_by_role("button", name="Try it out").click()
    models.get_by_role("button", name="Execute").click()
    expect(models.locator(".live-responses-table")).to_contain_text('"name": "careful"')


def test_axe_finds_nothing_but_what_swagger_ui_builds(open_page, violations, url):
    page = open_page(url + "/docs")
    expect(page.locator(".opblock").first).to_be_visible()
    assert violations(page, *OF_SWAGGER_UI) == []
