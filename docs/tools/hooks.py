"""What MkDocs calls while it builds the site: makes the API reference, and pages of the source files that are linked.

A link from a page to a file outside `docs/`, such as `../sampler/power.py`, works where the repository is read. For
the site, that file becomes a page of its own under `source/`, so that nothing of it leaves the machine.
"""

import os
import re
import sys
from pathlib import Path
from urllib.parse import urlsplit

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # whoever starts MkDocs, the reference is made of the code beside it

from docs.tools.reference import reference  # noqa: E402

LINK = re.compile(r"\]\(([^)\s]+)\)")
LANGUAGES = {".py": "python", ".yml": "yaml", ".yaml": "yaml", ".toml": "toml", ".json": "json", ".sh": "bash"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made, not written."""
    files.append(File.generated(config, "api-reference.md", content=reference()))
    for file in [each for each in files.documentation_pages() if each.generated_by is None]:
        for linked in outside_links(file.src_uri, file.content_string):
            uri = source_uri(linked)
            if files.get_file_from_path(uri) is None:
                files.append(File.generated(config, uri, content=source_page(linked)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links to source files lead to their pages."""
    here = page.file.src_uri
    if page.file.generated_by is not None:
        return markdown

    def towards(match: re.Match[str]) -> str:
        linked = outside(here, match[1])
        return f"]({relative(here, source_uri(linked))})" if linked else match[0]

    return LINK.sub(towards, markdown)


def outside(page: str, link: str) -> str | None:
    """The path in the repository of a link that leaves `docs/`; None for every other link."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc or not parts.path:
        return None
    path = os.path.normpath(os.path.join("docs", os.path.dirname(page), parts.path))
    within_docs = path.split(os.sep)[0] == "docs" and not path.startswith(os.path.join("docs", "tools"))
    return None if within_docs else path


def outside_links(page: str, text: str) -> list[str]:
    """All files outside `docs/` that a page links to."""
    return [path for link in LINK.findall(text) if (path := outside(page, link))]


def source_uri(path: str) -> str:
    """Where the site shows a file of the repository."""
    return f"source/{path}.md"


def relative(page: str, uri: str) -> str:
    """The link from one page to another."""
    return os.path.relpath(uri, os.path.dirname(page) or ".")


def source_page(path: str) -> str:
    """A file of the repository as a page. A file that is not there is left to MkDocs' own check of links.

    Raises:
        FileNotFoundError: A page links to what does not exist.
    """
    file = ROOT / path
    text = file.read_text(encoding="utf-8")
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"# {path}\n\n{fence}{LANGUAGES.get(file.suffix, 'text')}\n{text}\n{fence}\n"
