"""The pages build as a site: every link and anchor leads somewhere, and nothing comes from afar."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from doc_blocks import ROOT

# What a browser fetches by itself when it shows a page.
FETCHED = {"script": "src", "link": "href", "img": "src", "source": "srcset", "iframe": "src"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)],
        cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return out


class Fetches(HTMLParser):
    def __init__(self, page: str):
        super().__init__()
        self.found: list[str] = []
        self.pictures: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if given.get("rel") not in ("canonical", "next", "prev"):
            self.found.append(given.get(FETCHED.get(tag, "")) or "")
        if tag in ("img", "source"):
            self.pictures.append(self.found[-1])


def test_a_page_fetches_nothing_from_elsewhere(site: Path) -> None:
    pages = [*site.glob("*.html")]
    far = {url for page in pages for url in Fetches(page.read_text()).found if "//" in url}

    assert len(pages) > 10
    assert not far


def test_every_picture_is_a_file_of_the_site(site: Path) -> None:
    pages = [*site.glob("*.html")]
    shown = {(page, url) for page in pages for url in Fetches(page.read_text()).pictures}
    lost = [(page.name, url) for page, url in shown if not (page.parent / url).is_file()]

    assert not lost
    assert (site / "index.html", "images/playground-dark.png") in shown


def test_style_sheets_fetch_nothing_from_elsewhere(site: Path) -> None:
    sheets = [*site.rglob("*.css")]

    assert sheets
    assert not [
        sheet for sheet in sheets if re.search(r"url\(['\"]?(https?:)?//", sheet.read_text())
    ]


def test_files_outside_of_docs_are_linked_as_pages_or_in_the_repository(site: Path) -> None:
    assert 'href="kubernetes.html' in (site / "operations.html").read_text()
    repository = "https://github.com/plaudit/plaudit/blob/main/examples/real/more-prompts.yaml"
    assert repository in (site / "results.html").read_text()


def test_the_search_knows_the_pages(site: Path) -> None:
    assert "plaudit_queue_tokens" in (site / "search/search_index.json").read_text()
