"""Phrases that plain technical English does without.

They read as translated or as filler, or have a shorter word. A match in a document, a
docstring, a comment or an error is a failure; write it in other words.
"""

import re

import pytest

import documents

pytestmark = pytest.mark.pure

PHRASES = """
    that there is|are|was|were
    that exist|exists
    at hand
    of its|their|his|her own
    one's own
    but for
    as ever
    is|are said aloud
    in no way
    no sooner
    none but
    save for|that
    for want|lack of
    to wit
    by and by
    at all times
    come what may
    as it were
    so to speak
    be it
    no matter
    needless to say
    worth noting
    keep|bear in mind
    goes|go without
    hold|holds good|true
    the same holds
    make|makes good
    there exist|exists
    since years
    more easy
    on the other hand side
    how it looks like
    allows|allow to
    permits|permit to
    enables|enable to
    is|are able to
    the ability to
    makes|make|made use of
    in order to
    due to the fact
    the fact that
    in the event that
    in case of
    in the case of
    on the basis of
    by means of
    for the purpose of
    with regard|regards to
    in terms of
    as per
    prior to
    subsequent|subsequently to
    the majority of
    a lot of
    lots of
    sort of
    it should be noted
    it is to be noted
    has to be noted
    note that
    please
    as mentioned
    as we saw
    as we have seen
    let us
    let's
    we will
    feel free
    you can now
    and/or
    etc.
    e.g.
    i.e.
    simply
    easily
    obviously
    of course
    basically
    essentially
    actually
    eventually
    respectively
    so-called
    very
    powerful
    robust
    seamless|seamlessly
    blazing|blazingly
    cutting-edge
    state-of-the-art
    utilize|utilizes|utilized|utilise
    leverage|leverages|leveraged
    delve|delves
    amongst
    whilst
    upon
    thus
    hence
    whence
    hitherto
    henceforth
    forthwith
    therein
    thereof
    thereby
    wherein
    whereby
    hereby
    herewith
    heretofore
    aforementioned
    lest
    nought|naught
    moreover
    furthermore
    nevertheless
    nonetheless
    notwithstanding
    albeit
    withal
    whosoever
    gonna|wanna
"""
# Each space stands for any white space, as a line may end there.
PATTERNS = [
    r"\s+".join(f"(?:{'|'.join(map(re.escape, word.split('|')))})" for word in line.split())
    for line in PHRASES.strip().splitlines()
]
FOUND = re.compile(rf"(?<![\w-])(?:{'|'.join(PATTERNS)})(?![\w-])", re.IGNORECASE)
CODE = [
    path
    for folder in ("qframe", "plugins")
    for path in sorted((documents.ROOT / folder).rglob("*.py"))
]


def test_phrases_are_found_across_lines_and_not_within_words():
    assert FOUND.search("in\n    order to").group() == "in\n    order to"
    assert not FOUND.search("a everything, hencecoop, in-terms-of")
    assert FOUND.search("Things, etc., follow")
    assert len(PATTERNS) > 100


@pytest.mark.parametrize("files", [documents.ALL, CODE], ids=["documents", "code"])
def test_text_has_none_of_the_phrases(files):
    found = []
    for path in files:
        text = path.read_text("utf-8")
        for match in FOUND.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            found.append(f"{path.relative_to(documents.ROOT)}:{line}: {match.group()!r}")
    assert not found, "\n".join(found)
