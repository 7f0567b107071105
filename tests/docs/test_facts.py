"""What the pages say beside commands: links, options, the table of gates."""

import re

import click
import pytest
from kdexport.cli.main import cli
from kdexport.core.compare import GATES

# Options of other programs that the pages name.
OTHERS = {"--out", "--form"}


def anchors(text):
    """The names by which headings are linked to."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


def test_links(pages, page):
    for target in re.findall(r"\]\(([^)\s]+)\)", pages.text_of(page)):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        file = (pages.ROOT / page).parent / path if path else pages.ROOT / page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file.read_text(encoding="utf-8")), target


def options(command, context):
    """Every option of a command and of the commands below it."""
    found = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found |= options(command.get_command(context, name), context)
    return found


@pytest.fixture(scope="module")
def known(pages):
    """Options of kdexport, and of its scripts by their texts."""
    texts = [
        path.read_text(encoding="utf-8") for path in pages.ROOT.glob("scripts/*") if path.is_file()
    ]
    scripts = {name for text in texts for name in re.findall(r"--[a-z][\w-]+", text)}
    return options(cli, click.Context(cli)) | scripts | OTHERS | {"--help"}


def test_options_that_are_named_exist(pages, page, known):
    text = pages.text_of(page)
    # Of the messages one is about an option that does not exist.
    named = set(re.findall(r"(?<![\w-])--[a-z][\w-]+", text)) - {"--percision"}
    assert named <= known


def test_gates(pages):
    row = r"^\| `([\w-]+)` \| (relative L2 ≤|PSNR ≥) ([\d.]+)(?: dB)? \| (\d+) dB \|$"
    table = re.findall(row, pages.text_of("docs/parity.md"), re.MULTILINE)
    assert [name for name, *_ in table] == list(GATES)
    for name, what, component, picture in table:
        gates = GATES[name]
        own = gates.component_l2 if what.startswith("relative") else gates.component_psnr_db
        assert (float(component), float(picture)) == (own, gates.image_psnr_db)


def test_every_page_is_in_the_index(pages):
    index = pages.text_of("docs/README.md")
    for page in pages.PAGES[1:]:
        assert page == "docs/README.md" or f"({page.removeprefix('docs/')})" in index, page
