"""One file of all modules that an init of the child image imports, as `make setup` makes it with the image's own Python.

    python3 -S -E bundle.py MODULE FILE.pyc

What FILE.pyc holds is compiled already, found without a look at any directory, and read at once: one file in place of twenty
with a dozen system calls each. Run as a program, it calls MODULE's ``main``. Modules that Python has in it are not in the file;
what is imported only later comes from where it always does. It imports next to nothing itself, since what it has loaded before
MODULE does would be missing.
"""

import marshal
import sys
from _frozen_importlib_external import MAGIC_NUMBER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CODE_DIRECTORY = "/opt/cutor"
UNCHECKED = b"\1" + bytes(11)
"""Of a .pyc file that counts, whatever has become of its source."""
PLACE = "the modules"
"""Stands in `START` for what the bundle holds: name, whether it is a package, code."""
START = f"""
import gc
import sys
from _frozen_importlib import ModuleSpec

modules = {{name: (package, code) for name, package, code in {PLACE!r}}}

class Bundle:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in modules:
            return ModuleSpec(name, Bundle, origin={CODE_DIRECTORY!r}, is_package=modules[name][0])

    @staticmethod
    def create_module(spec):
        return None

    @staticmethod
    def exec_module(module):
        exec(modules.pop(module.__name__)[1], module.__dict__)

gc.disable()  # nothing of this is garbage
sys.path.insert(0, {CODE_DIRECTORY!r})
sys.meta_path.insert(0, Bundle)
from MODULE import main
gc.freeze()
gc.enable()
main()
"""


def loaded_by(module: str) -> "tuple[tuple[str, bool, Any], ...]":
    """Import a module; return what that loads from files: name, whether it is a package, code."""
    before = set(sys.modules)
    __import__(module)
    specs: list[Any] = [sys.modules[name].__spec__ for name in sys.modules if name not in before]
    return tuple(
        (spec.name, spec.submodule_search_locations is not None, spec.loader.get_code(spec.name))
        for spec in specs
        if spec.has_location
    )


def bundle(module: str) -> bytes:
    """Return the contents of a .pyc file that runs a module's ``main``."""
    code = compile(START.replace("MODULE", module), module, "exec")
    constants = tuple(loaded_by(module) if constant == PLACE else constant for constant in code.co_consts)
    return MAGIC_NUMBER + UNCHECKED + marshal.dumps(code.replace(co_consts=constants))


if __name__ == "__main__":
    sys.path[0] = CODE_DIRECTORY
    with open(sys.argv[2], "wb") as file:  # noqa: PTH123 (pathlib loads what is to be in the file)
        file.write(bundle(sys.argv[1]))
