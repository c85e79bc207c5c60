"""A hook of MkDocs: pages that live outside docs/, and links that lead there.

Links are written so that they work on GitHub, from one file to another. On the site a file has
another place, or none: then the link leads to the repository.
"""

import os
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
OUTSIDE = {
    "README.md": "index.md",
    "k8s/README.md": "kubernetes.md",
    "CONTRIBUTING.md": "contributing.md",
}
# Of Markdown, and of the HTML that a page has for its pictures.
LINK = re.compile(r"""(?:(?<=\]\()|(?<= src=")|(?<= srcset="))(?![a-z]+:|#)([^)#\s"]+)""")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for source, place in OUTSIDE.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, place, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    place = page.file.src_uri
    source = {page: file for file, page in OUTSIDE.items()}.get(place, f"docs/{place}")
    return LINK.sub(lambda found: of_link(found[1], source, place, config.repo_url or ""), markdown)


def of_link(link: str, source: str, place: str, repository: str) -> str:
    """Where a link of ``source``, whose page stands at ``place``, leads on the site. A file that is
    not there is left for MkDocs to complain of."""
    target = os.path.normpath(os.path.join(os.path.dirname(source), link))
    if not (ROOT / target).exists():
        return link
    if target in OUTSIDE or target.startswith("docs/"):
        page = OUTSIDE.get(target, target.removeprefix("docs/"))
        return os.path.relpath(page, os.path.dirname(place) or ".")
    return f"{repository.rstrip('/')}/blob/main/{target}"
