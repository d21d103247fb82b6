"""The table of settings in README.md, made from `pipelines.settings.Settings`.

python scripts/settings_table.py            # write it anew
python scripts/settings_table.py --check    # exit code 1 if the README is not in step
"""

from __future__ import annotations

import ast
import inspect
import itertools
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from pipelines import settings, settings_servers

README: Final = Path(__file__).parent.parent / "README.md"
BEGIN: Final = "<!-- settings: made by scripts/settings_table.py -->"
END: Final = "<!-- end of settings -->"


def descriptions() -> dict[str, str]:
    """The line under each field of `Settings`, by name, in the order that people read them: servers last."""
    return _of(settings, "Settings") | _of(settings_servers, "ServerSettings")


def _of(module: ModuleType, name: str) -> dict[str, str]:
    """The line under each field of one class."""
    tree = ast.parse(inspect.getsource(module))
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
    found = {}
    for field, below in itertools.pairwise(body):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
        ):
            found[field.target.id] = " ".join(str(below.value.value).split())
    return found


def _default(name: str, value: Any) -> str:
    if name == "data_dir":
        return "`~/.local/share/plantwatch`"
    return "–" if value in (None, (), "") else f"`{value}`"


def table() -> str:
    """One row a field. Raises KeyError for a field without its line."""
    said, fields = descriptions(), settings.Settings.model_fields
    rows = ["| setting | default | what it is |", "|---|---|---|"]
    for name in (*said, *(name for name in fields if name not in said)):
        rows.append(f"| `{name}` | {_default(name, fields[name].default)} | {said[name]} |")
    return "\n".join(rows)


def renewed(text: str) -> str:
    """The page with the table between the marks made anew. Raises ValueError if a mark is missing."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def main() -> int:
    """Write or check; returns the exit code."""
    text = README.read_text(encoding="utf-8")
    new = renewed(text)
    if "--check" in sys.argv[1:]:
        if new != text:
            print("README.md: the table of settings is not in step; run scripts/settings_table.py", file=sys.stderr)
        return int(new != text)
    README.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
