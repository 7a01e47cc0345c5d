"""The documentation as a site: it builds without a warning, loads nothing from elsewhere, and no link is broken."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from docs.tools.fields import objects
from docs.tools.reference import OTHERS, reference, routes_of, schema
from tests.docs.blocks import ROOT

LOADED = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
    "embed": "src",
}
LOADED_LINKS = {"stylesheet", "preload", "prefetch", "preconnect", "dns-prefetch", "icon", "manifest", "modulepreload"}
MACHINE = re.compile(r"/work/|/root/|/tmp/pytest|/opt/venv")


@dataclass
class Html(HTMLParser):
    """What a page loads, links to and can be linked at."""

    loaded: list[str] = field(default_factory=list[str])
    links: list[str] = field(default_factory=list[str])
    ids: set[str] = field(default_factory=set[str])
    classes: set[str] = field(default_factory=set[str])

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids |= {given["id"]} if "id" in given else set()
        self.classes |= set(given.get("class", "").split())
        if tag in LOADED and given.get(LOADED[tag]):
            self.loaded.append(given[LOADED[tag]])
        if tag == "link" and set(given.get("rel", "").split()) & LOADED_LINKS:
            self.loaded.append(given["href"])
        if tag == "a" and "href" in given:
            self.links.append(given["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stdout + done.stderr, "a strict build has nothing to say"
    return folder


@pytest.fixture(scope="module")
def html(site: Path) -> dict[str, Html]:
    """Every page, by its path in the site."""
    found: dict[str, Html] = {}
    for path in sorted(site.rglob("*.html")):
        page = Html()
        page.feed(path.read_text(encoding="utf-8"))
        found[path.relative_to(site).as_posix()] = page
    return found


def is_elsewhere(link: str) -> bool:
    parts = urlsplit(link)
    return bool(parts.netloc) or parts.scheme in {"http", "https"}


def test_no_page_loads_anything_from_another_host(site: Path, html: dict[str, Html]) -> None:
    assert len(html) > 20
    elsewhere = {(name, link) for name, page in html.items() for link in page.loaded if is_elsewhere(link)}
    assert not elsewhere
    for name, page in html.items():
        assert "mermaid" not in page.classes, f"{name}: the theme fetches mermaid from another host"
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(\s*[\"']?(https?:)?//", style.read_text(encoding="utf-8")), style


def test_every_page_is_in_the_navigation(html: dict[str, Html]) -> None:
    linked = {unquote(urlsplit(link).path) for link in html["index.html"].links} | {"index.html", "404.html"}
    missing = {name for name in html if name not in linked and not name.startswith("source/")}
    assert not missing, f"pages that no line of nav in mkdocs.yml names: {missing}"


def broken(site: Path, html: dict[str, Html]) -> Iterator[str]:
    """Links within the site that lead nowhere."""
    for name, page in html.items():
        if name == "404.html":  # its links begin at the server's root
            continue
        for link in page.links + page.loaded:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (site / name).parent / unquote(parts.path) if parts.path else site / name
            if target.is_dir():
                target /= "index.html"
            if not target.is_file():
                yield f"{name}: {link}"
            elif parts.fragment and target.suffix == ".html":
                there = html[target.resolve().relative_to(site.resolve()).as_posix()].ids
                if unquote(parts.fragment) not in there:
                    yield f"{name}: {link} has no such place"


def test_every_link_and_anchor_within_the_site_leads_somewhere(site: Path, html: dict[str, Html]) -> None:
    assert not sorted(set(broken(site, html)))


def test_links_to_the_code_become_pages_and_the_tools_are_no_part_of_the_site(
    site: Path, html: dict[str, Html]
) -> None:
    assert "source/sampler/power.py.html" in html
    assert "accepts(" in re.sub(r"<[^>]*>", "", (site / "source/sampler/power.py.html").read_text(encoding="utf-8"))
    assert any(link.endswith("source/sampler/power.py.html") for link in html["how-it-works.html"].links)
    assert not list(site.rglob("*.py"))
    assert not (site / "tools").exists()


def test_no_page_shows_a_path_of_the_machine_it_was_built_on(site: Path) -> None:
    for path in site.rglob("*.html"):
        assert not (found := MACHINE.search(path.read_text(encoding="utf-8"))), f"{path}: {found}"


def test_links_of_the_repository_lead_to_files() -> None:
    """Where it is read without a site: README and pages link to each other and to the code by path."""
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for link in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text):
            assert (page.parent / link).exists(), f"{page.relative_to(ROOT)} links to {link}"


def test_the_reference_has_every_route_field_and_error_of_the_schema() -> None:
    document = schema()
    page = reference(document)
    for method, path, _ in routes_of(document):
        assert f"`{method} {path}`" in page
    sections = dict(re.findall(r"^### `(\w+)` \{[^\n]*\n(.*?)(?=^###? |\Z)", page, re.MULTILINE | re.DOTALL))
    for one in objects(document):
        for each in one.fields:
            assert f"| `{each.name}` |" in sections[one.name], f"{one.name}.{each.name}"
    assert OTHERS not in page, "a new family of routes belongs in FAMILIES of docs/tools/reference.py"
    assert re.search(r"\| `alpha` \| number or null \| none \| ≥ 1, ≤ 100 \| the power exponent", page)
    assert re.search(r"\| 422 \| A field is unknown", page)


def test_fields_of_requests_and_of_what_is_ours_in_replies_say_what_they_mean() -> None:
    described = {"PowerOptions", "PowerReport", "PowerUsageReply", "UsageReply", "ErrorDetail", "CompletionLogprobs"}
    for one in objects(schema()):
        if one.name in described or one.name.endswith("Request"):
            fields = [each for each in one.fields if each.name != "type"]  # which of several objects it is
            assert not [each.name for each in fields if not each.about], one.name
