"""What mkdocs makes when it builds the site: the page on the front page is the explorer as it is now."""

from __future__ import annotations

from typing import Any

from mkdocs.structure.files import File, Files

import objectscape
from objectscape.explorer.export import page_of

PAGE, SCENES = "tetrominoes.html", 6


def on_files(files: Files, config: Any) -> Files:
    """Add the explorer's page of the first model in the package."""
    session = objectscape.explore(serve=False).session
    files.append(File.generated(config, PAGE, content=page_of(session, scenes=SCENES)))
    return files
