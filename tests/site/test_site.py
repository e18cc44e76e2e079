"""The site that `tox run -e docs` has built: nothing public is missing, nothing is fetched.

Sphinx itself has followed every link between the pages, and taken its warnings for errors.
"""

import importlib
import inspect
import json
import os
import re
import tempfile
from pathlib import Path
from types import ModuleType

import nbformat
import pytest
from sphinx.util.inventory import InventoryFile

import qframe
from qframe.registry.configurable import named_parameters
from qframe.registry.discovery import FIRST_PARTY, registry

SITE = Path(os.environ["QFRAME_SITE"])
PAGES = sorted(SITE.rglob("*.html"))
NOTEBOOKS = sorted(SITE.glob("_downloads/*/*.ipynb"))
# Where readers look for pictures that the run has made.
ILLUSTRATED = ("bits", "post-training", "training", "tutorial")
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


each_notebook = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda p: p.stem)


def code_of(notebook):
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_every_page_with_outputs_links_to_its_notebook():
    for page in PAGES:
        text = page.read_text("utf-8")
        if '<div class="cell_output' in text:
            assert re.search(rf'href="[^"]*_downloads/\w+/{page.stem}\.ipynb"', text), page


@each_notebook
def test_the_cells_of_a_notebook_have_run(notebook):
    nbformat.validate(nbformat.read(notebook, as_version=4))
    cells = code_of(notebook)
    assert [cell["execution_count"] for cell in cells] == [*range(1, 1 + len(cells))]
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert outputs
    assert all(output["output_type"] != "error" for output in outputs)
    assert all(output.get("name") != "stderr" for output in outputs)


@each_notebook
def test_no_output_is_of_the_machine_that_built_it(notebook):
    shown = json.dumps([cell["outputs"] for cell in code_of(notebook)])
    machine = (" at 0x", tempfile.gettempdir(), str(Path.home()), str(SITE.parent))
    assert [text for text in machine if text in shown] == []


@each_notebook
def test_a_notebook_needs_no_file_beside_it(notebook):
    for cell in json.loads(notebook.read_text("utf-8"))["cells"]:
        if cell["cell_type"] == "markdown":
            text = "".join(cell["source"])
            assert not re.search(r"\]\((?!https?:)[^)]+\)", text), text


@pytest.mark.parametrize("page", ILLUSTRATED)
def test_guides_show_pictures_that_their_run_has_made(page):
    (notebook,) = SITE.glob(f"_downloads/*/{page}.ipynb")
    outputs = [output for cell in code_of(notebook) for output in cell["outputs"]]
    assert "<svg" in json.dumps([output.get("data") for output in outputs])
