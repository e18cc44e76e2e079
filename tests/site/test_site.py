"""The site that `tox run -e docs` has built: nothing public is missing, nothing is fetched.

Sphinx itself has followed every link between the pages, and taken its warnings for errors.
"""

import importlib
import inspect
import os
import re
from pathlib import Path
from types import ModuleType

import pytest
from sphinx.util.inventory import InventoryFile

import qframe
from qframe.registry.configurable import named_parameters
from qframe.registry.discovery import FIRST_PARTY, registry

SITE = Path(os.environ["QFRAME_SITE"])
PAGES = sorted(SITE.rglob("*.html"))
QUANTIZERS = registry.components("quantizer")
# Others have the values of one of these.
DRAWN = [c for c in QUANTIZERS if "quantizer" not in named_parameters(registry.load(c))]
# Beside qframe and the modules among its public names.
MODULES = ("qframe.registry.components", "qframe.registry.hookspecs", "qframe.testing")


def public_names():
    """Every public name, with where it is found, and what it is."""
    submodules = [
        f"qframe.{name}"
        for name in qframe.__all__
        if isinstance(getattr(qframe, name), ModuleType)
    ]
    for path in ["qframe", *submodules, *MODULES]:
        module = importlib.import_module(path)
        for name in getattr(module, "__all__", None) or own_names(module):
            value = getattr(module, name)
            if module is not qframe and getattr(qframe, name, None) is value:
                continue  # it is `qframe.<name>`
            if not isinstance(value, (ModuleType, str)):
                yield f"{path}.{name}", value


def own_names(module):
    return [
        name
        for name, value in vars(module).items()
        if getattr(value, "__module__", None) == module.__name__ and name[0] != "_"
    ]


@pytest.fixture(scope="module")
def documented():
    """Return the names that the inventory of the site has."""
    inventory = InventoryFile.loads((SITE / "objects.inv").read_bytes(), uri="")
    return {
        name for kind, names in inventory.data.items() if "py:" in kind for name in names
    }


def test_every_public_name_is_in_the_reference(documented):
    names = dict(public_names())
    assert len(names) > 100
    assert set(names) - documented == set()


def test_every_public_name_has_a_docstring():
    """Sphinx shows only the signature of a name without a docstring."""
    own = [*public_names(), *((c.qualified_name, registry.load(c)) for c in QUANTIZERS)]
    without = [
        name
        for name, value in own
        # A name such as `first` is an object, described by its class.
        if not (vars(value).get("__doc__") if inspect.isclass(value) else value.__doc__)
    ]
    assert without == []


def test_every_quantizer_is_in_the_reference(documented):
    own = [c for c in QUANTIZERS if c.distribution == FIRST_PARTY]
    classes = {f"qframe.quantizers.{registry.load(c).__name__}" for c in own}
    assert classes - documented == set()


@pytest.mark.parametrize("component", DRAWN, ids=lambda c: c.qualified_name)
def test_every_quantizer_is_in_the_gallery(component):
    page = (SITE / "gallery.html").read_text("utf-8")
    entry = page.partition(
        f'id="{component.namespace}-{component.name.replace("_", "-")}"'
    )[2]
    entry = entry.partition("<h3>")[2].partition("<h3>")[0]
    assert entry, "it has no heading"
    (picture,) = re.findall(r'<img [^>]*src="([^"]+\.svg)"', entry)
    assert "<path" in (SITE / picture).read_text("utf-8")
    documented = inspect.getdoc(registry.load(component))
    assert entry.count("<math") >= documented.count(".. math::")
    for paper in re.findall(r"Paper: .*?(https://\S+)", documented, re.DOTALL):
        assert f'href="{paper}"' in entry


def test_no_formula_is_left_as_it_was_written():
    for page in PAGES:
        text = re.sub(r"<pre>.*?</pre>", "", page.read_text("utf-8"), flags=re.DOTALL)
        assert not re.search(r"\\(?:frac|text|mathrm)\b", text), page


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(SITE)))
def test_no_request_leaves_the_page(page):
    text = page.read_text("utf-8")
    fetched = re.findall(r'<(?:script|img|link|iframe)\b[^>]*(?:src|href)="([^"]+)"', text)
    assert fetched
    for address in fetched:
        assert not re.match(r"(?:\w+:)?//", address), address
        if not address.startswith(("data:", "#")):
            assert (page.parent / address.partition("?")[0]).exists(), address


def test_styles_fetch_nothing_either():
    for sheet in SITE.rglob("*.css"):
        assert not re.search(
            r"""(?:url\(|@import)\s*["']?(?:\w+:)?//""", sheet.read_text("utf-8")
        )
