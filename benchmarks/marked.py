"""Parts of a page that a benchmark writes, between `<!-- NAME -->` and `<!-- end of NAME -->`."""


def replace_marked(page: str, name: str, text: str) -> str:
    """The page with the text in place of what stands between the marks of this name."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    head, rest = page.split(begin)
    return f"{head}{begin}\n\n{text}\n\n{end}{rest.split(end)[1]}"
