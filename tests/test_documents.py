"""Commands, files and links in the documents.

Examples are the blocks of `python`: the site of the documents and tests/test_docs.py run
them. Commands are not run
here, and settings are read; a block of any other language says why nothing is done with it,
in a comment above that names the language: ``<!-- py: run by tests/distribution -->``.
"""

import configparser
import re
import shlex

import click
import pytest
import tomlkit

import documents
from qframe import Recipe
from qframe.cli import main

pytestmark = pytest.mark.pure

# Directives of Sphinx are in braces, and tests/site reads what Sphinx makes of them.
SEEN = {"console", "python", "toml"}
QFRAME = re.compile(r"(?:^|[\s(/])qframe((?: [^|&;)>\n]*)?)", re.MULTILINE)
each_document = pytest.mark.parametrize(
    "document", documents.ALL, ids=lambda p: str(p.relative_to(documents.ROOT))
)


def commands(document):
    """The arguments after ``qframe`` of each command in a document."""
    texts = [b.text for b in documents.blocks(document) if b.language == "console"]
    texts += [span for span in documents.spans(document) if span.startswith("qframe ")]
    for text in texts:
        for arguments in QFRAME.findall(text):
            yield shlex.split(arguments, comments=True)


def parse(command, arguments):
    """Have click read arguments as a command's, without doing anything."""
    # With its settings, since a command keeps the names of its help from the first context.
    settings = command.context_settings
    context = click.Context(command, info_name=command.name, **settings)
    return command.make_parser(context).parse_args(list(arguments))


def check(arguments):
    """Raise an error where the command or one of its options does not exist."""
    _, rest, _ = parse(main, arguments)
    # What a reader is to put in is in capitals.
    if not rest or rest[0].isupper():
        return
    name, *arguments = rest
    assert name in main.commands, f"there is no qframe {name}"
    _, left, _ = parse(main.commands[name], arguments)
    assert not left, f"qframe {name} does not take {left}"


@each_document
def test_blocks_are_run_or_say_why_not(document):
    reasons = ""
    for block in documents.blocks(document):
        if block.language == "<!--":
            reasons += block.text
        elif block.language == "python":
            assert document in documents.RUN
        elif block.language not in SEEN and not block.language.startswith("{"):
            assert f"<!-- {block.language}: " in reasons, block.text


def test_cells_are_text_code_and_checks_with_their_lines():
    page = (
        "# One\n\n```python\na = 1\n```\n\n<!-- check\nassert a == 1\n-->\n\nTwo\n\n"
        "<!-- cell: hide-input remove-output -->\n\n```python\nb = 2\n```\n\n"
        "<!-- text: left as it is -->\n```text\nnot code\n```\n"
    )
    cells = list(documents.cells(page))
    assert [(cell.kind, cell.tags) for cell in cells] == [
        ("text", ()),
        ("code", ()),
        ("check", ()),
        ("text", ()),
        ("code", ("hide-input", "remove-output")),
        ("text", ()),
    ]
    lines = page.splitlines(keepends=True)
    for cell in cells:
        assert "".join(lines[cell.line :]).startswith(cell.text)
    assert "left as it is" in cells[-1].text


@each_document
def test_every_example_is_a_cell(document):
    """In a list or a quotation it would be text, and never run."""
    cells = documents.cells(document.read_text("utf-8"))
    code = [cell.text for cell in cells if cell.kind == "code"]
    blocks = [b.text for b in documents.blocks(document) if b.language == "python"]
    assert code == blocks


@each_document
def test_commands_exist(document):
    for arguments in commands(document):
        try:
            check(arguments)
        except click.UsageError as error:
            pytest.fail(f"qframe {' '.join(arguments)}: {error.format_message()}")


def test_the_commands_are_found():
    actual = [arguments[0] for d in documents.ALL for arguments in commands(d) if arguments]
    assert set(main.commands) <= set(actual)


@pytest.mark.parametrize(
    "arguments",
    ["reports m.keras", "report --out m.html", "report a.keras b.keras", "--loud"],
)
def test_unknown_command_fails(arguments):
    with pytest.raises((AssertionError, click.UsageError)):
        check(arguments.split())


@each_document
def test_settings_can_be_read(document):
    for block in documents.blocks(document):
        if block.language == "toml" and "rule" in tomlkit.parse(block.text):
            assert Recipe.from_toml(block.text).rules


def test_environments_of_tox_exist():
    settings = configparser.ConfigParser()
    settings.read(documents.ROOT / "tox.ini", "utf-8")
    heads = " ".join(s for s in settings.sections() if s.startswith("testenv:"))
    labels = " ".join(s.get("labels", "") for s in settings.values())
    for document in documents.ALL:
        for kind, name in re.findall(
            r"tox run(?:-parallel)? -([em]) ([\w-]+)", document.read_text("utf-8")
        ):
            known = heads if kind == "e" else labels
            assert name in re.findall(r"[\w-]+", known), f"{document.name}: {name}"


@each_document
def test_links_lead_somewhere(document):
    for address in documents.links(document):
        path = address.partition("#")[0]
        if path and not re.match(r"\w+:", path):
            assert (document.parent / path).exists(), address
