"""Stages the documents for mdBook, and checks the site that mdBook builds.

    site.py stage FOLDER     copies the documents, adds the API reference, and resolves links to folders
    site.py check FOLDER     fails if a link or an anchor is broken, or if a page loads a resource from another host
"""

import html.parser
import json
import os
import pathlib
import re
import shutil
import sys
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).resolve().parent
# The documents, and the files and folders that they link to.
COPIED = ["README.md", "CHANGELOG.md", "SECURITY.md", "CONTRIBUTING.md", "LICENSE", "docs", "clients", "examples", "monitoring",
          "packaging", "openapi", "bench/README.md"]
# Files and folders of these names are not copied, wherever they are.
IGNORED_NAMES = ["node_modules", "target", "dist", "venv", "__pycache__", "tests", "build", "public", "site"]
# A link or an image in Markdown. Groups: `!` for an image, the text, the target.
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")


def change_outside_code(text, change):
    """Returns `text`, with `change` applied to each line outside of code blocks."""
    lines, in_code = [], False
    for line in text.split("\n"):
        if line.lstrip().startswith("```"):
            in_code = not in_code
        lines.append(line if in_code else change(line))
    return "\n".join(lines)


def stage(target):
    """Writes the documents and the configuration of mdBook to the folder `target`."""
    shutil.rmtree(target, ignore_errors=True)
    source = target / "source"
    ignore = shutil.ignore_patterns(*IGNORED_NAMES)
    for name in COPIED:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=ignore)
        else:
            shutil.copy(ROOT / name, source / name)
    shutil.copy(HERE / "SUMMARY.md", source)
    shutil.copy(HERE / "book.toml", target)
    shutil.copy(HERE / "site.css", target)
    (source / "docs/api.md").write_text(api_reference(json.loads((ROOT / "openapi/openapi.json").read_text())))
    # The documents that are pages of the site: the targets of the links in the table of contents.
    chapters = set(re.findall(r"\]\(([^)]+)\)", (HERE / "SUMMARY.md").read_text()))
    documents = [path for pattern in ("docs/*.md", "clients/**/README.md", "examples/**/README.md") for path in source.glob(pattern)]
    unlisted = sorted({str(path.relative_to(source)) for path in documents} - chapters)
    problems = [f"packaging/site/SUMMARY.md does not list {name}" for name in unlisted]
    for path in sorted(source.rglob("*.md")):
        name = str(path.relative_to(source))
        if name == "SUMMARY.md":
            continue
        if name not in chapters:
            path.unlink()  # mdBook would copy the file unchanged
            continue

        def relink_line(line):
            return LINK.sub(lambda link: relink(link, path, source, problems, chapters), line)

        path.write_text(change_outside_code(path.read_text(), relink_line))
    if problems:
        raise SystemExit("\n".join(problems))


def relink(link, page, source, problems, chapters):
    """Returns a link for the site. A link to a folder leads to its README; a link to a page that is not on the site becomes text.

    A link to a file that does not exist is added to `problems`."""
    image_mark, text, target = link.groups()
    if re.match(r"[a-z]+:|#", target):  # leads to another host, or stays on the page
        return link[0]
    path, _, anchor = target.partition("#")
    resolved = pathlib.Path(os.path.normpath(page.parent / path))
    original = ROOT / resolved.relative_to(source)
    # only the original exists for a file that is not copied, and only the copy for the generated API reference
    if not original.exists() and not resolved.exists():
        problems.append(f"{page.relative_to(source)}: {target} does not exist")
    name = str(resolved.relative_to(source))
    if f"{name}/README.md" in chapters:
        return f"{image_mark}[{text}]({path.rstrip('/')}/README.md)"
    if resolved.is_dir() or not resolved.exists() or (name.endswith(".md") and name not in chapters):
        return text
    return link[0]


def api_reference(document):
    """The API reference as Markdown."""
    schemas = document["components"]["schemas"]
    parts = [
        "# API",
        "Generated from the OpenAPI document, [openapi.json](../openapi/openapi.json), which a node serves at `/openapi.json` and as an interactive page at `/docs`.",
        "Errors are [RFC 9457](https://www.rfc-editor.org/rfc/rfc9457) problems: programs decide by `code`.",
    ]
    # the tags that the document describes come first, in its order
    descriptions = {tag["name"]: tag.get("description", "") for tag in document.get("tags", [])}
    operations_by_tag = {name: [] for name in descriptions}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            # a path also has members that are no operations, such as `parameters`
            if isinstance(operation, dict) and "responses" in operation:
                tag = operation.get("tags", ["Other"])[0]
                operations_by_tag.setdefault(tag, []).append((method.upper(), path, operation))
    for tag, operations in operations_by_tag.items():
        if not operations:
            continue
        parts += [f"## {tag}", descriptions.get(tag, "")]
        for method, path, operation in operations:
            parts.append(f"### {method} {path}")
            parts += operation_reference(operation, schemas)
    parts.append("## Types")
    for name, schema in sorted(schemas.items()):
        parts += [f"### {name}", schema.get("description", "")]
        if "enum" in schema:
            parts.append("One of " + ", ".join(f"`{value}`" for value in schema["enum"]) + ".")
        parts.append(field_table(schema, schemas))
    return "\n\n".join(part for part in parts if part) + "\n"


def operation_reference(operation, schemas):
    """The paragraphs and tables about one operation. Some of them may be empty."""
    parts = [f"**{operation['summary']}**" if operation.get("summary") else "", operation.get("description", "")]
    security = [name for option in operation.get("security", []) for name in option] or ["none"]
    # a scheme may be part of several options
    parts.append(f"Authentication: {', '.join(f'`{name}`' for name in dict.fromkeys(security))}")
    parameters = [["name", "in", "type", "description"]]
    for parameter in operation.get("parameters", []):
        name = marked_name(parameter["name"], parameter.get("required"))
        parameters.append([name, parameter["in"], type_of(parameter.get("schema", {})), parameter.get("description", "")])
    parts.append(table(parameters))
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        parts += [f"Body, `{media_type}`: {type_of(content['schema'])}", field_table(content["schema"], schemas)]
    responses = [["status", "answer", "description"]]
    for status, response in sorted(operation["responses"].items()):
        types = ", ".join(type_of(content.get("schema", {})) for content in response.get("content", {}).values())
        responses.append([status, types, response.get("description", "")])
    parts.append(table(responses))
    return parts


def marked_name(name, required):
    """The name of a parameter or field as code. A question mark follows an optional one."""
    return f"`{name}`" if required else f"`{name}`?"


def type_of(schema):
    """The type of a schema, with its limits, as Markdown."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return f"[{name}](#{name.lower()})"
    for key in ("allOf", "anyOf", "oneOf"):
        if key in schema:
            # a part with only a description describes the field, and is no type
            return " or ".join(type_of(part) for part in schema[key] if part.keys() - {"description"})
    if schema.get("type") == "array":
        return f"list of {type_of(schema.get('items', {}))}"
    words = [schema.get("type", "")]
    if "format" in schema:
        words.append(f"({schema['format']})")
    for low, high in (("minLength", "maxLength"), ("minimum", "maximum")):
        if low in schema and high in schema:
            words.append(f"({schema[low]} to {schema[high]})")
    return " ".join(words)


def field_table(schema, schemas):
    """The fields of an object as a table."""
    if "$ref" in schema:
        schema = schemas[schema["$ref"].rsplit("/", 1)[1]]
    rows = [["field", "type", "description"]]
    for name, field in schema.get("properties", {}).items():
        rows.append([marked_name(name, name in schema.get("required", [])), type_of(field), field.get("description", "")])
    return table(rows)


def table(rows):
    """A table as Markdown; an empty string if there is only the heading row."""
    if len(rows) == 1:
        return ""
    cell = lambda text: re.sub(r"\s*\n\s*", " ", str(text)).replace("|", "\\|")  # noqa: E731
    lines = ["| " + " | ".join(cell(text) for text in row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])


class Page(html.parser.HTMLParser):
    """The anchors of a page, its links, and the URLs of the resources that it loads."""

    def __init__(self, text):
        super().__init__()
        self.anchors, self.links, self.loaded = {""}, [], []  # a link without a fragment leads to the top of the page
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if "playground" in (attributes.get("class") or "").split():
            self.loaded.append("https://play.rust-lang.org")  # mdBook's script fetches a list of crates from there
        self.anchors.add(attributes.get("id"))
        if tag == "a":
            self.anchors.add(attributes.get("name"))
            if attributes.get("href"):
                self.links.append(attributes["href"])
        if attributes.get("src"):
            self.loaded.append(attributes["src"])
        if tag == "link" and attributes.get("href"):
            self.loaded.append(attributes["href"])


def check(site):
    """Fails if a page or a stylesheet of the built site has a broken link or loads a resource of another host."""
    pages = {path: Page(path.read_text()) for path in site.rglob("*.html")}
    problems = [] if pages else [f"{site} has no pages"]
    for path, page in pages.items():
        if path.name in ("toc.html", "print.html", "404.html"):  # mdBook adds these pages to the documents
            continue
        name = path.relative_to(site)
        problems += [f"{name} loads {url}" for url in page.loaded if re.match(r"(https?:)?//", url)]
        for link in [*page.links, *page.loaded]:
            url = urllib.parse.urlparse(link)
            if url.scheme or url.netloc:  # leads to another host
                continue
            target = path  # a link without a path stays on the page
            if url.path:
                target = pathlib.Path(os.path.normpath(path.parent / urllib.parse.unquote(url.path)))
            if not target.is_file():
                problems.append(f"{name}: {link} does not exist")
            elif target in pages and urllib.parse.unquote(url.fragment) not in pages[target].anchors:
                problems.append(f"{name}: {link} has no such anchor")
    for path in site.rglob("*.css"):
        problems += [f"{path.relative_to(site)} loads {url}" for url in re.findall(r"url\(['\"]?((?:https?:)?//[^)'\"]+)", path.read_text())]
    if problems:
        raise SystemExit("\n".join(problems))
    print(f"{len(pages)} pages, no broken links, no resources from other hosts")


if __name__ == "__main__":
    {"stage": stage, "check": check}[sys.argv[1]](pathlib.Path(sys.argv[2]).resolve())
