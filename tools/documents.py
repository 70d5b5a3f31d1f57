"""Write what is made from the schema of configuration files: docs/CONFIGURATION.md and docs/examples/*.toml."""

from pathlib import Path

from tccp.config.files import FILES
from tccp.config.rendering import example_file, reference

DOCS = Path(__file__).parents[1] / "docs"


def documents() -> dict[Path, str]:
    """Each file and what belongs into it."""
    examples = {DOCS / "examples" / f"{file.name}.toml": example_file(file) for file in FILES}
    return {DOCS / "CONFIGURATION.md": reference(), **examples}


if __name__ == "__main__":
    for path, text in documents().items():
        path.write_text(text, encoding="utf-8")
