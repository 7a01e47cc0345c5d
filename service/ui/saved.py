"""A run of the explorer as one page that needs nothing else: it opens from a folder, and asks for nothing.

The page is made of the same scripts and styles that the service sends. Modules cannot import each other in a page
without a server, so they become one script: each after those it imports, without `import` and `export`. That needs what
`tests/ui/test_saved_page.py` holds them to: plain named imports, and no two modules with the same name for something.
"""

import base64
import hashlib
import json
import posixpath
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

ENTRY = "explorer/saved.js"
STYLES = ("base.css", "explorer/explorer.css")
SLOT = "@recording@"
"""Where the recording goes; the explorer's `files.js` knows it too."""

IMPORT = re.compile(r'^import \{[^}]*\} from "([^"]+)";\n', re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:async )?(?:function|class|const)\b)", re.MULTILINE)

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Chain explorer · powercut</title>
<link rel="icon" href="data:,">
<style>{style}</style>
<script>{theme}</script>
</head>
<body>
<header class="site">
<span class="name">powercut</span>
<nav aria-label="Pages"></nav>
<button type="button" class="quiet" data-theme-switch hidden></button>
</header>
<main id="main" tabindex="-1">
<div class="intro"><h1>Chain explorer</h1><p class="soft">A recorded run: this page needs no service.</p></div>
<div id="explorer" class="stack"></div>
<p id="live" class="visually-hidden" role="status" aria-live="polite"></p>
</main>
<script type="application/json" id="recording">{slot}</script>
<script type="module">{script}</script>
</body>
</html>
"""


@cache
def empty_page() -> str:
    """The page with `SLOT` where its recording belongs. Its policy lets its own scripts run and no others."""
    theme, script = source("theme.js"), bundle(ENTRY)
    style = "\n".join(map(source, STYLES))
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src {digest(theme)} {digest(script)}",
            f"style-src {digest(style)}",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    return PAGE.format(policy=policy, style=style, theme=theme, script=script, slot=SLOT)


def page_of(recording: Mapping[str, Any]) -> str:
    """The self-contained page of a recording."""
    before, after = empty_page().split(SLOT)
    return before + as_data(recording) + after


def as_data(recording: Mapping[str, Any]) -> str:
    """A recording as the text of a script element: JSON in which nothing can end the element."""
    return json.dumps(recording, allow_nan=False, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def bundle(entry: str) -> str:
    """A module and all that it imports as one script."""
    done: list[str] = []

    def visit(path: str) -> None:
        if path in done:
            return
        text = source(path)
        for found in IMPORT.findall(text):
            visit(posixpath.normpath(posixpath.join(posixpath.dirname(path), found)))
        done.append(path)

    visit(entry)
    return "\n".join(EXPORT.sub("", IMPORT.sub("", source(path))) for path in done)


def source(path: str) -> str:
    """A script or style sheet of the pages."""
    return files("service.ui").joinpath("static", path).read_text(encoding="utf-8")


def digest(text: str) -> str:
    """A source of a content-security policy that allows exactly this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
