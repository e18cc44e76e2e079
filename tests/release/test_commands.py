"""The documented commands, run in one clone, leave nothing that git sees."""

import json
import re
import shlex
import tarfile

import pytest

import documents

# The changelog says what was made, and not what to type.
DOCUMENTS = [d for d in documents.ALL if d.name != "CHANGELOG.md"]
PROGRAMS = {"apt-get", "pip", "pytest", "python", "python3", "qframe", "tox", "uv"}
FIRST = next(
    block.text.strip()
    for block in documents.blocks(documents.ROOT / "README.md")
    if block.language == "console"
)
# The requirements of the other commands.
BEFORE = [
    "python3 -m pip install -e '.[tensorflow,testing]'",
    "pip install 'keras-qframe[packed]'",
]
AFTER = [
    "pytest -s tests/test_architecture.py -k counts",
    'eval "$(qframe completion bash)"',
    "uv build",
]
# Commands that are not run here, as regular expressions, and why not.
NOT_RUN = {
    # What these leave is in .tox, and in the caches that tests leave.
    r"tox (list|run|run-parallel)( -[em] (?!picture)[\w-]+)?( -- -k \w+)?": "runs this",
    r"python3 -m venv \.venv && .* && \.venv/bin/tox run-parallel -m ci": "runs this",
    r"tox run -e picture": "changes a file that is under version control, as it should",
    r"python -m qframe\.layers\.stubs": "changes a file that is under version control",
    r"python tests/saved/make\.py": "makes files that are put under version control",
    r"python tests/arm/emulated\.py FOLDER": "needs root, and takes half an hour",
    r"pytest( tests/benchmarks/test_training\.py -s)?": "takes minutes, or hours",
    r"pip install (-e )?'(keras-qframe|\.)\[.*\]'": "is run with another extra",
    r"pip install ai-edge-litert": "no other command runs such a file",
    r"pip install pre-commit": "installs a tool that no other command needs",
    r"apt-get install chromium chromium-driver": "needs root",
    r"qframe .* (int8|calibrated)\.keras( .*)?": "is run by tests/plugins/litert",
    r"qframe fold .*": "needs a model without quantizers; tests/cli has one",
    r"qframe equalize .*": "needs a model without quantizers; tests/cli has one",
    r"qframe round .*": "needs a calibrated model; tests/cli has one",
    r"qframe (sensitivity|allocate) .*": "needs examples; tests/cli has some",
    r"qframe quantize .* --data examples\.npz .*": "needs examples; tests/cli has some",
    r"qframe calibrate MODEL\.keras .*": "needs a model with ranges; tests/cli has one",
    r"qframe (summary|report|verify)": "is the name of a command, which asks for a model",
    r"qframe completion fish > ~/.*": "writes to the user's own settings",
    # plugins/README.md, which tests/template follows, and docs/plugins.md.
    r"python3 -m venv \.\./.*|source \.\./.*": "makes an environment beside the clone",
    r"cp -r plugins/template .*|cd \.\./my-plugin": "leaves the clone",
    r"mv src/.*|sed -i.*|pip install (-e )?\.": "changes or installs the copied plugin",
    r"qframe show acme:stepped_tanh|pytest --qframe acme": "needs the copied plugin",
    # docs/distribution.md, which tests/distribution follows.
    r"python train\.py .*|TF_CONFIG=.*": "needs many machines",
}
# Replacements for words in capitals, as a reader makes them.
PLACEHOLDERS = {
    "MODEL.keras": "model.keras",
    "FIRST.keras": "float.keras",
    "SECOND.keras": "quantized.keras",
    "OUT.keras": "quantized.keras",
    "FILE.html": "report.html",
    "FILE.npz": "test.npz",
    "FILE": "m.safetensors",
    "RECIPE": "mine.toml",
    "TARGET": "packed",
    "COMMAND": "list",
}
# One process for all, since most of the time of each would go into starting TensorFlow.
QFRAME = """
import json, sys
from pathlib import Path
import keras, numpy as np
import qframe as qf
from qframe.cli import main
from qframe.cli.quickstart import data

model = qf.load_model("qframe-quickstart.keras")
model.save("model.keras")
model.save("quantized.keras")
qf.export(model, "m.safetensors", target="packed")
qf.strip(model)
model.save("float.keras")
qf.recipes.get("bnn").save("mine.toml")
digits = data.load("digits")
np.savez("test.npz", x=data.as_input(digits.x_test), y=digits.y_test)
for arguments in json.loads(sys.argv[1]):
    print("qframe", *arguments, flush=True)
    output = Path(arguments[arguments.index("-o") + 1]) if "-o" in arguments else None
    if output is not None:
        # Another command in the documents may write the same file.
        output.unlink(missing_ok=True)
    # Either what it returns, which is None, or an exit code.
    assert not main(arguments, standalone_mode=False), arguments
    assert output is None or output.is_file(), output
"""
EXAMPLE = re.compile(r"\bsave\w*\(\"([^\"{}/]+)\"")


def commands(text):
    """The commands in a block, one of which may take several lines."""
    lines = ""
    for line in text.splitlines():
        lines += re.sub(r"\s+# .*", "", line)
        try:
            shlex.split(lines)
        except ValueError:  # a quotation that is not closed yet
            lines += "\n"
        else:
            yield lines
            lines = ""
    assert not lines, f"a quotation is not closed: {lines}"


def documented():
    """Every command in the documents, once."""
    result = {}
    for document in DOCUMENTS:
        for block in documents.blocks(document):
            if block.language == "console":
                result.update(dict.fromkeys(commands(block.text)))
        for span in documents.spans(document):
            first, _, rest = span.partition(" ")
            if first in PROGRAMS and rest:
                result.update(dict.fromkeys([span]))
    return list(result)


def reasons(command):
    """The patterns of commands that are not run which match this one."""
    return [pattern for pattern in NOT_RUN if re.fullmatch(pattern, command, re.DOTALL)]


def of_qframe():
    """Yield the arguments of each documented command that runs in one process."""
    for command in documented():
        if command.startswith("qframe ") and not reasons(command):
            yield [PLACEHOLDERS.get(word, word) for word in shlex.split(command)[1:]]


def test_documented_commands_are_run_or_say_why_not():
    actual = documented()
    run = {FIRST, *BEFORE, *AFTER}
    assert run <= set(actual)
    unknown = [
        command
        for command in actual
        if command not in run and not command.startswith("qframe ") and not reasons(command)
    ]
    assert unknown == []
    used = {
        pattern for command in actual if command not in run for pattern in reasons(command)
    }
    assert set(NOT_RUN) - used == set()


def test_documented_commands_leave_nothing_that_git_sees(clone, sdist):
    assert clone.status() == set()
    # As a reader types it, who has activated nothing.
    clone.bash(FIRST)
    for command in BEFORE:
        clone.bash(command)
    arguments = list(of_qframe())
    clone.bash(shlex.join(["python", "-I", "-c", QFRAME, json.dumps(arguments)]))
    for command in AFTER:
        clone.bash(command)
    assert clone.status() == set()

    outputs = {line[line.index("-o") + 1] for line in arguments if "-o" in line}
    assert len(outputs) >= 4
    # The quickstart ran twice, and kept what was there.
    outputs |= {"qframe-quickstart.keras", "qframe-quickstart-2.keras", ".venv/", "dist/"}
    assert {f"!! {name}" for name in outputs} <= clone.status("--ignored")
    (packed,) = (clone.folder / "dist").glob("*.tar.gz")
    with tarfile.open(packed) as again, tarfile.open(sdist) as first:
        assert again.getnames() == first.getnames()


def test_files_that_examples_write_are_ignored(clone):
    texts = [document.read_text("utf-8") for document in DOCUMENTS]
    names = {name for text in texts for name in EXAMPLE.findall(text)}
    assert {"mine.toml", "report.html", "test.npz"} <= names
    assert set(clone.git("check-ignore", *names).splitlines()) == names


@pytest.mark.parametrize(
    "name",
    [
        ".tox/lint/bin/ruff",
        ".pytest_cache/README.md",
        ".hypothesis/examples/0",
        ".ruff_cache/0",
        ".mypy_cache/0",
        ".coverage",
        ".coverage.host.1.x",
        "docs/_build/index.html",
        "plugins/template/src/qframe_plugin_template.egg-info/PKG-INFO",
        "tests/__pycache__/conftest.pyc",
    ],
)
def test_files_that_tests_and_builds_leave_are_ignored(clone, name):
    assert clone.git("check-ignore", name).strip() == name
