"""The pages as bytes: what is sent with them, and that no path reaches a file system."""

import hashlib
import re
from pathlib import Path

import pytest

from service.ui import assets

UI = Path(assets.__file__).parent
FILES = {
    "/": ["playground.css", "playground.js", "ask.js", "element.js", "numbers.js", "snippets.js",
          "verdict.js"],
    "/docs": ["docs.css", "docs.js", "swagger-ui.css", "swagger-ui-bundle.js"],
}  # fmt: skip
SHARED = ["frame.css", "page.css", "theme.js", "mark.svg"]
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'; form-action 'none'"
)


@pytest.mark.parametrize("path", ["/", "/docs", "/ui/page.css", "/ui/swagger-ui-bundle.js"])
async def test_every_file_is_open_and_sent_with_the_strict_headers(serve, tiny_checkpoint, path):
    async with serve(models=[tiny_checkpoint], api_keys="secret") as client:
        answer = await client.get(path)
        assert answer.status_code == 200
        assert answer.headers["content-security-policy"] == POLICY
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        etag = {"If-None-Match": answer.headers["etag"]}
        again = await client.get(path, headers=etag)
        assert (again.status_code, again.content) == (304, b"")
        assert (await client.get(path, headers={"If-None-Match": '"old"'})).content
        ranges = {"Range": "bytes=" + ",".join(f"{i}-" for i in range(500))}
        assert (await client.get(path, headers=ranges)).content == answer.content


async def test_a_page_needs_its_declared_files_and_no_others(serve, tiny_checkpoint):
    async with serve(models=[tiny_checkpoint]) as client:
        for path, files in FILES.items():
            text = (await client.get(path)).text
            loaded = set(re.findall(r'(?:src|href)="/ui/([^"]+)"', text))
            assert loaded <= {*files, *SHARED}
            assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son[a-z]+=|https?:", text)
            for name in [*files, *SHARED]:
                assert (await client.get(f"/ui/{name}")).status_code == 200, name


@pytest.mark.parametrize(
    "name", ["models.yaml", "..%2fassets.py", "%2e%2e/assets.py", "playground.html", "", "ops.js"]
)
async def test_nothing_else_is_served(serve, tiny_checkpoint, name):
    async with serve(models=[tiny_checkpoint]) as client:
        assert (await client.get(f"/ui/{name}")).status_code == 404


async def test_the_playground_can_be_left_out_and_the_docs_stay(serve, tiny_checkpoint):
    async with serve(models=[tiny_checkpoint], playground=False) as client:
        for path in ("/", "/ui/playground.js"):
            assert (await client.get(path)).json()["type"].endswith("#not-found")
        docs = await client.get("/docs")
        assert docs.status_code == 200
        assert 'href="/"' not in docs.text
        assert (await client.get("/ui/page.css")).status_code == 200


async def test_the_schema_says_how_a_key_is_sent(serve, tiny_checkpoint):
    async with serve(models=[tiny_checkpoint]) as client:
        schema = (await client.get("/openapi.json")).json()
    assert schema["security"] == [{}, {"key": []}]
    assert schema["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    assert not any(path.startswith("/ui") or path in FILES for path in schema["paths"])


async def test_the_schema_says_which_routes_need_no_key(serve, tiny_checkpoint):
    bodies = {"json": {"items": []}}
    async with serve(models=[tiny_checkpoint], api_keys="secret") as client:
        schema = (await client.get("/openapi.json")).json()
        for path, operations in schema["paths"].items():
            for method, operation in operations.items():
                more = {} if method == "get" else bodies
                answer = await client.request(method.upper(), path, **more)
                assert (answer.status_code == 401) is (operation.get("security") != []), path


async def test_every_operation_has_one_of_the_tags_and_a_summary_of_words(serve, tiny_checkpoint):
    async with serve(models=[tiny_checkpoint]) as client:
        schema = (await client.get("/openapi.json")).json()
    listed = {path: next(iter(of.values())) for path, of in schema["paths"].items()}
    assert [tag["name"] for tag in schema["tags"]] == ["native", "compatible", "health"]
    tags = {path: operation["tags"] for path, operation in listed.items()}
    assert {path for path, own in tags.items() if own == ["native"]} == {
        "/score", "/ensemble_score", "/models"
    }  # fmt: skip
    assert {path for path, own in tags.items() if own == ["health"]} == {
        "/livez", "/readyz", "/metrics"
    }  # fmt: skip
    for operation in listed.values():
        assert len(operation["summary"].split()) > 1
        assert not operation["summary"].endswith(".")


def test_the_pages_are_small():
    for page in ("playground", "ops"):
        files = [*(UI / "files").glob("*.js"), *(UI / "files").glob("*.css")]
        size = (
            sum(file.stat().st_size for file in files)
            + (UI / "files" / f"{page}.html").stat().st_size
        )
        assert size < 100_000  # though neither page loads them all


def test_what_is_vendored_is_what_its_readme_says():
    directory = UI / "vendor" / "swagger-ui"
    said = dict(
        re.findall(
            r"`([^`]+)` \(SHA-256\) \| `([0-9a-f]{64})`", (directory / "README.md").read_text()
        )
    )
    assert said == {
        name: hashlib.sha256((directory / name).read_bytes()).hexdigest()
        for name in ("swagger-ui-bundle.js", "swagger-ui.css")
    }
    assert "Apache License" in (directory / "LICENSE").read_text()
