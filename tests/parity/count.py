"""How many recorded cases of whose code there are: `python -m tests.parity.count [FOLDER]`."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from pathlib import Path

from tests.conftest import SHARED, SMALL


def count(root: Path) -> dict[str, tuple[int, list[str]]]:
    """{group of cases (a folder): number, the repositories whose code was run}."""
    cases: Counter[str] = Counter()
    sources: dict[str, dict[str, None]] = {}
    for path in sorted(root.rglob("*.json")):
        info = json.loads(path.read_text())
        if "kind" in info:
            group = path.relative_to(root).parts[0]
            cases[group] += 1
            text = " ".join(str(info.get(key, "")) for key in ("source", "upstream", "repo", "repository", "code"))
            names = re.findall(r"([\w.-]+/[\w.-]+)@\w{6,}", text)
            sources.setdefault(group, {}).update(dict.fromkeys(names))
    return {group: (number, list(sources[group])) for group, number in sorted(cases.items())}


if __name__ == "__main__":
    found = count(Path(sys.argv[1]) if len(sys.argv) > 1 else SHARED if SHARED.is_dir() else SMALL)
    for group, (number, repositories) in found.items():
        print(f"{number:4} {group:18} {', '.join(repositories)}")
    print(f"{sum(number for number, _ in found.values()):4} in all")
