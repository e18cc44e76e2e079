"""``python -m qframe`` is the command ``qframe``."""

from qframe.cli import main

main(prog_name="qframe")
