"""The Python of a page runs while the site is built, and its output stands below it.

A page is Markdown with blocks of ``python``; tests/helpers/documents.py says which parts of
it are code. When Sphinx reads a page, its code runs, and MyST-NB gets the page as a
notebook with outputs. The notebook can be downloaded from the page. An exception of a cell
is a warning, and so is anything that a cell writes to standard error.

One process runs all pages, since it takes seconds to import Keras and TensorFlow:
docs/_ext/page_kernel.py makes it forget a page before the next.
"""

from __future__ import annotations

import copy
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nbformat
import traitlets.log
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import run_sync
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.osutil import ensuredir

import local_mnist
from documents import Cell, cells

logger = logging.getLogger(__name__)
# Of what the client does to its connections readers need not know.
traitlets.log.get_logger().setLevel("ERROR")

BEGIN = "import page_kernel; page_kernel.begin_page()"
# A page takes seconds; one that trains on MNIST, a minute on a slow machine.
LONGEST = 600
# A link to a file or to a part of this page; a notebook is alone.
LINK = re.compile(r"!?\[([^][]*)\]\((?!https?:)[^()\s]*\)")
# What Sphinx alone reads, such as a list of pages.
DIRECTIVE = re.compile(r"^```\{.*?^```$", re.MULTILINE | re.DOTALL)
ADDRESS = re.compile(r"<[^\n]* at 0x[0-9a-f]+>")
FOLDER = re.compile(re.escape(tempfile.gettempdir()) + r"/tmp\w+/")


class Pages:
    """Pages as executed notebooks.

    Args:
        app: the build.
    """

    def __init__(self, app: Sphinx) -> None:
        self._folder = Path(app.doctreedir) / "notebooks"
        self._kernel: Any = None

    def read(self, app: Sphinx, page: str, source: list[str]) -> None:
        """Replace the text of a page by its notebook, with what its code returned."""
        parts = list(cells(source[0]))
        book = nbformat.v4.new_notebook(cells=[as_cell(part) for part in parts])
        if any(part.kind != "text" for part in parts):
            self._run(page, book)
        shown = [index for index, part in enumerate(parts) if part.kind != "check"]
        book.cells = [book.cells[index] for index in shown]
        tidy(book.cells)
        lines = [parts[index].line for index in shown]
        if any(cell.get("outputs") for cell in book.cells):
            here = (Path(app.srcdir) / page).parent
            path = os.path.relpath(self._save(page, book), here)
            link = f"{{download}}`This page as a notebook <{path}>`"
            book.cells.append(nbformat.v4.new_markdown_cell(link))
            lines.append(len(source[0].splitlines()))
        # For the lines in warnings.
        book.metadata["source_map"] = lines
        source[0] = nbformat.writes(book)

    def end(self, app: Sphinx, error: Exception | None) -> None:
        """Stop the process."""
        if self._kernel is not None:
            run_sync(self._kernel.shutdown_kernel)(now=True)

    def _run(self, page: str, book: Any) -> None:
        """Run the code of a page and keep its outputs in the cells."""
        if self._kernel is None:
            self._kernel = AsyncKernelManager(kernel_name="python3")
        begin = nbformat.v4.new_code_cell(BEGIN)
        book.cells.insert(0, begin)
        client = NotebookClient(
            book,
            km=self._kernel,
            timeout=LONGEST,
            extra_arguments=["--log-level=ERROR"],
            store_widget_state=False,
            record_timing=False,
        )
        begun = time.monotonic()
        try:
            client.execute(env=environment())
        except CellExecutionError as failure:
            logger.warning("%s: a cell raised an exception:\n%s", page, failure)
        logger.info("ran %s in %.1f seconds", page, time.monotonic() - begun)
        for cell in book.cells:
            for output in cell.get("outputs", ()):
                if output.get("name") == "stderr":
                    text = f"{cell.source}\n{output.text}"
                    logger.warning("%s: a cell wrote to stderr:\n%s", page, text)
        book.cells.remove(begin)

    def _save(self, page: str, book: Any) -> Path:
        """Write a page as a notebook for readers, without links into the site."""
        path = self._folder / f"{page}.ipynb"
        ensuredir(path.parent)
        alone = copy.deepcopy(book)
        alone.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
        alone.metadata["language_info"] = {"name": "python"}
        for index, cell in enumerate(alone.cells):
            # The default names are drawn.
            cell.id = f"cell-{index}"
            if cell.cell_type == "markdown":
                cell.source = LINK.sub(r"\1", DIRECTIVE.sub("", cell.source))
        path.write_text(nbformat.writes(alone) + "\n", "utf-8")
        return path


def environment() -> dict[str, str]:
    """The variables of the process: where it imports from, and where MNIST is.

    Without a local file Keras downloads it.
    """
    mnist = local_mnist.find()
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        **({"QFRAME_MNIST": str(mnist)} if mnist else {}),
    }


def as_cell(part: Cell) -> Any:
    """A part of a page as a cell of a notebook."""
    if part.kind == "text":
        return nbformat.v4.new_markdown_cell(part.text)
    metadata = {"tags": list(part.tags)} if part.tags else {}
    return nbformat.v4.new_code_cell(part.text.rstrip(), metadata=metadata)


def tidy(cells: list[Any]) -> None:
    """Count the cells that readers see, and leave out what differs from build to build.

    That is the number of an object in memory, and the name of a temporary folder.
    """
    codes = [cell for cell in cells if cell.cell_type == "code"]
    for number, cell in enumerate(codes, 1):
        cell.execution_count = number
        cell.outputs = [each for each in cell.outputs if not is_address(each)]
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = number
            if output.output_type == "stream":
                output.text = FOLDER.sub("", output.text)


def is_address(output: Any) -> bool:
    """Whether all that an output says is where in memory an object is."""
    data = output.get("data", {})
    return set(data) == {"text/plain"} and bool(ADDRESS.fullmatch(data["text/plain"]))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the pages with Sphinx; what others put into a page comes before."""
    pages = Pages(app)
    app.connect("source-read", pages.read, priority=900)
    app.connect("build-finished", pages.end)
    return {"parallel_read_safe": False, "parallel_write_safe": True}
