import math
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Page, expect

MINUS = "\u2212"
HOSTILE = "<img src=x onerror=alert(1)>"
PROMPT = "Why is the sky blue?"
GOOD, BAD = "Air scatters blue light more than red.", "No idea."


@pytest.fixture
def ask(url: str) -> Callable[..., Any]:
    def post(route: str, **body: Any) -> Any:
        return httpx2.post(url + route, json=body, timeout=120).raise_for_status().json()

    return post


@pytest.fixture
def playground(open_page: Callable[..., Page], url: str) -> Page:
    page = open_page(url + "/")
    expect(page.locator("#score")).to_be_enabled()
    return page


def items(a: str = GOOD, b: str = BAD, prompt: str = PROMPT) -> list[dict[str, str]]:
    return [{"prompt": prompt, "response": a}, {"prompt": prompt, "response": b}]


def fill(page: Page, judge: str, a: str = GOOD, b: str = BAD, prompt: str = PROMPT) -> None:
    page.get_by_label("Judge").select_option(label=judge)
    page.get_by_label("Prompt").fill(prompt)
    page.get_by_role("textbox", name="Response A").fill(a)
    page.get_by_role("textbox", name="Response B").fill(b)


def score(page: Page) -> None:
    page.locator("#score").click()
    expect(page.locator("#verdict")).to_be_visible()


def shown(page: Page, where: str, fact: str) -> str:
    return page.locator(f"{where} [data-fact='{fact}']").inner_text()


def fixed(value: float) -> str:
    return f"{value:.3f}".replace("-", MINUS)


def signed(value: float) -> str:
    return ("+" if value > 0 else "") + fixed(value)


def percent(share: float) -> str:
    return f"{share * 100:.1f} %"


def logistic(difference: float) -> float:
    return 1 / (1 + math.exp(-difference))


def table(page: Page) -> list[list[str]]:
    rows = page.locator("#members tbody tr").all()
    return [[cell for cell in row.locator("th, td").all_inner_texts() if cell] for row in rows]


def test_a_model_shows_the_numbers_of_the_score_route(playground, ask):
    fill(playground, "m0")
    score(playground)
    answer = ask("/score", model="m0", items=items())
    for side, item in zip("ab", answer["items"], strict=True):
        assert shown(playground, f"#result-{side}", "reward") == fixed(item["reward"])
        assert shown(playground, f"#result-{side}", "score") == fixed(item["score"])
        assert shown(playground, f"#result-{side}", "tokens") == str(item["tokens"])
    a, b = answer["rewards"]
    first, second = (item["score"] for item in answer["items"])
    assert shown(playground, "#verdict", "margin") == signed(a - b)
    assert shown(playground, "#verdict", "chance") == percent(logistic(first - second))
    winner = "A" if a > b else "B"
    expect(playground.locator("#verdict h2")).to_contain_text(f"Response {winner} is preferred")
    assert shown(playground, "#verdict", "latency").endswith("s")


@pytest.mark.parametrize("judge", ["m1", "careful", "balanced"])
def test_a_repeat_is_marked_as_cached(playground, judge):
    fill(
        playground,
        judge,
        prompt=judge,
        a="An answer of this test alone.",
        b="Another of this test alone.",
    )
    score(playground)
    expect(playground.locator("#result-a .mark")).to_have_text("computed")
    playground.locator("#score").click()
    expect(playground.locator("#result-a .mark")).to_have_text("cached")
    assert shown(playground, "#verdict", "cached") == "2 of 2"


def test_an_ensemble_shows_every_member_and_their_disagreement(playground, ask):
    fill(playground, "careful")
    playground.get_by_label("Aggregate").select_option("lcb")
    playground.get_by_label("Coefficient").fill("0.25")
    score(playground)
    asked = {"ensemble": "careful", "aggregate": "lcb", "coefficient": 0.25}
    answer = ask("/ensemble_score", items=items(), **asked)
    for place, side in enumerate("ab"):
        where = f"#result-{side}"
        assert shown(playground, where, "reward") == fixed(answer["rewards"][place])
        assert shown(playground, where, "mean") == fixed(answer["mean"][place])
        spread = math.sqrt(answer["variance"][place])
        assert shown(playground, where, "disagreement") == fixed(spread)
    first, second = answer["member_scores"]
    chances = [logistic(a - b) for a, b in zip(first, second, strict=True)]
    assert shown(playground, "#verdict", "chance") == percent(sum(chances) / 3)
    assert shown(playground, "#verdict", "aggregate") == "lcb, k = 0.25"
    assert table(playground) == [
        [member["name"], fixed(a), fixed(b), signed(a - b), percent(logistic(a - b))]
        for member, a, b in zip(answer["members"], first, second, strict=True)
    ]
    for_a = sum(a > b for a, b in zip(first, second, strict=True))
    expect(playground.locator("caption")).to_contain_text(f"{for_a} of 3 members prefer A")


def test_the_bars_of_members_are_as_long_as_their_scores(playground, ask):
    fill(playground, "careful")
    score(playground)
    scores = ask("/ensemble_score", ensemble="careful", items=items())["member_scores"]
    widths = [
        [
            float(bar.get_attribute("width"))
            for bar in playground.locator(f".bars rect.{side}").all()
        ]
        for side in "ab"
    ]
    longest = max(abs(one) for row in scores for one in row)
    for shown_row, row in zip(widths, scores, strict=True):
        assert shown_row == pytest.approx([abs(one) / longest * 48 for one in row], abs=1e-3)


def test_objectives_are_weighed_as_the_form_says(playground, ask):
    fill(playground, "balanced")
    playground.get_by_label("harmless").fill("2")
    score(playground)
    answer = ask("/score", model="balanced", items=items(), weights={"helpful": 1, "harmless": 2})
    assert shown(playground, "#result-a", "reward") == fixed(answer["rewards"][0])
    first, second = (item["objectives"] for item in answer["items"])
    assert table(playground) == [
        [f"{name} × {weight:g}", fixed(a), fixed(b), signed(a - b)]
        for name, weight in answer["weights"].items()
        for a, b in [(first[name], second[name])]
    ]


def test_cut_tokens_are_marked(playground, ask):
    long = "word " * 120  # 600 tokens of 512
    fill(playground, "m0", a=long)
    playground.get_by_label("If a text is too long").select_option("left")
    score(playground)
    answer = ask("/score", model="m0", items=items(a=long), truncation="left")
    cut = answer["items"][0]["truncated"]
    assert cut > 0
    expect(playground.locator("#result-a")).to_contain_text(f"{cut} tokens cut")
    expect(playground.locator("#result-b")).not_to_contain_text("cut")


def test_an_items_error_stands_beside_its_response_and_harms_no_other(playground, ask):
    fill(playground, "m0", b="word " * 120)
    score(playground)
    answer = ask("/score", model="m0", items=items(b="word " * 120))
    error = answer["items"][1]["error"]
    expect(playground.locator("#result-b")).to_have_text(f"{error['type']}: {error['detail']}")
    assert shown(playground, "#result-a", "reward") == fixed(answer["rewards"][0])
    expect(playground.locator("#verdict h2")).to_have_text("No verdict: a response has no reward")


def test_a_reward_without_a_member_says_without_which(playground):
    fill(playground, "leaky", a="word " * 40)  # 200 tokens, of which "short" takes 150
    score(playground)
    expect(playground.locator("#result-a")).to_contain_text("without short: ")
    expect(playground.locator("#result-b")).not_to_contain_text("without")


def test_a_refused_request_is_shown_with_what_mends_it(playground, url):
    fill(playground, "balanced")
    playground.get_by_label("helpful").fill("2e6")
    playground.locator("#score").click()
    body = {"model": "balanced", "items": items(), "weights": {"helpful": 2e6, "harmless": 0.5}}
    problem = httpx2.post(url + "/score", json=body, timeout=120).json()
    shown_problem = playground.get_by_role("alert").filter(visible=True)
    for part in ("title", "detail", "remedy"):
        expect(shown_problem).to_contain_text(problem[part])
    expect(playground.locator("#verdict")).to_be_hidden()


def test_a_server_that_is_gone_is_told_from_a_refusal(playground):
    playground.context.set_offline(True)
    fill(playground, "m0")
    playground.locator("#score").click()
    expect(playground.locator("#problem")).to_contain_text("does not answer")


def test_markup_is_shown_as_text_wherever_it_comes_from(playground):
    fill(playground, HOSTILE, a=HOSTILE, b="</textarea><script>alert(2)</script>", prompt=HOSTILE)
    score(playground)
    assert table(playground)[0][0] == HOSTILE
    expect(playground.locator("#snippet")).to_contain_text(HOSTILE)
    assert playground.locator("main img, main script").count() == 0


def test_the_keyboard_alone_is_enough(playground):
    reached = []
    playground.get_by_label("Prompt").focus()
    for _ in range(9):
        reached.append(playground.evaluate("document.activeElement.id"))
        outline = playground.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", reached
        playground.keyboard.press("Tab")
    assert reached == [
        "prompt", "response-a", "response-b", "model", "aggregate", "coefficient", "truncation",
        "score", "",
    ]  # fmt: skip
    playground.get_by_role("textbox", name="Response B").focus()
    playground.keyboard.press("Control+Enter")
    expect(playground.locator("#verdict")).to_be_visible()


def test_an_edit_after_scoring_is_said(playground):
    fill(playground, "m0")
    score(playground)
    expect(playground.locator("#status")).to_be_hidden()
    playground.get_by_role("textbox", name="Response A").press_sequentially("!")
    expect(playground.locator("#status")).to_have_text("Changed since it was scored.")


def test_the_keys_score_from_anywhere_on_the_page(playground):
    playground.locator("#theme").focus()
    playground.keyboard.press("Control+Enter")
    expect(playground.locator("#verdict")).to_be_visible()


def test_a_number_that_cannot_be_is_said_beside_its_field_and_not_sent(playground):
    asked = []
    playground.on("request", lambda request: asked.append(request.url))
    fill(playground, "careful")
    playground.get_by_label("Coefficient").fill("-1")
    playground.locator("#score").click()
    expect(playground.get_by_label("Coefficient")).to_be_focused()
    assert asked == []
    fill(playground, "m0")  # without that field, which is hidden now
    score(playground)
    assert len(asked) == 1
