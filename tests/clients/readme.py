"""The examples of README.md, pointed at a test's server."""

import re
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"
ADDRESS = "127.0.0.1:8080"


def blocks(language, server):
    """The fenced blocks of a language, each with the block that follows it: what it shows."""
    fenced = re.findall(r"^```(\w+)\n(.*?)^```$", README.read_text(), re.DOTALL | re.MULTILINE)
    following = [block for _, block in fenced[1:]] + [""]
    for (found, block), shown in zip(fenced, following):
        if found == language:
            yield block.replace(ADDRESS, server.address), shown
