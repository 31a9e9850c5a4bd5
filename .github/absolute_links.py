"""Give README.md absolute links, as PyPI needs them: `python .github/absolute_links.py OWNER/REPOSITORY TAG`.

The release workflow runs this on its checkout before it builds; in the repository, links stay relative.
"""

import re
import sys
from pathlib import Path

LINK = re.compile(r'(?P<before>\]\(|\b(?:src|srcset|href)=")(?![a-z]+:|#|/)(?P<path>[^)"\s]+)')


def absolute_links(text: str, repository: str, tag: str) -> str:
    """Markdown with links to files of a GitHub repository at a tag; pictures link to their content."""

    def replace(match: re.Match[str]) -> str:
        path = match["path"]
        picture = path.endswith((".svg", ".png"))
        site = "https://raw.githubusercontent.com" if picture else "https://github.com"
        return f"{match['before']}{site}/{repository}/{'' if picture else 'blob/'}{tag}/{path}"

    return LINK.sub(replace, text)


if __name__ == "__main__":
    page = Path("README.md")
    page.write_text(absolute_links(page.read_text("utf-8"), *sys.argv[1:]), "utf-8")
