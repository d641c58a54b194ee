"""The command line ends as soon as its work is over: not after Python has looked through all that torch made."""

import subprocess
import sys

CODE = """
import gc, sys
import vfl.cli.main
from vfl import __main__ as command

vfl.cli.main.app = lambda **_: sys.exit(7)
try:
    command.main()
except SystemExit as ended:
    print(ended.code, gc.isenabled(), len(gc.get_objects()) < 1000)
"""


def test_nothing_is_left_to_look_through_at_the_end():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["7", "False", "True"]
