"""What the import rules cannot say: the message boundary, the coordinator's ignorance, the example federation."""

import ast
import os
from dataclasses import fields
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import vfl.messages.data
from vfl.configuration.toml_files import load_toml
from vfl.coordinator.config import CoordinatorConfig
from vfl.ids import Role
from vfl.job.digests import job_digest
from vfl.messages import MESSAGE_TYPES, Message, Protection
from vfl.party.config import load_party
from vfl.pki.credentials import Credentials
from vfl.pki.issuing.throwaway import make_federation_certificates

ROOT = Path(__file__).parents[2]
MODULES = {
    path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted((ROOT / "vfl").rglob("*.py"))
    if "_pb2" not in path.name
}
COORDINATOR_MODULES = ("vfl/coordinator/coordinator.py", "vfl/coordinator/process.py")
PARTIES = ("active", "passive")


def _is_folder(path):
    return path.is_dir() and path.name != "__pycache__"


def _is_module(path):
    return path.suffix == ".py" and path.name != "__init__.py"


def _folders(above):
    """A folder and all below it, without what is generated."""
    yield above
    for folder in sorted(above.iterdir()):
        if _is_folder(folder) and folder != ROOT / "vfl/transport/v1":
            yield from _folders(folder)


FOLDERS = tuple(found for name in ("vfl", "benchmarks", "tests/support") for found in _folders(ROOT / name))


def _calls(module):
    return [node for node in ast.walk(module) if isinstance(node, ast.Call)]


def _called(call):
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _imported(module):
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _imports_on_import(body):
    """Import statements that run when a module is imported: not those in functions or for type checkers."""
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from _imports_on_import(node.orelse)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for block in ("body", "handlers", "orelse", "finalbody"):
                yield from _imports_on_import(getattr(node, block, ()))


def _import_graph():
    """For every module of vfl those that it imports."""
    names = {path.removesuffix(".py").removesuffix("/__init__").replace("/", "."): path for path in MODULES}
    graph = {}
    for name, path in names.items():
        imported = set()
        for node in _imports_on_import(MODULES[path].body):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            else:
                found = {f"{node.module}.{alias.name}" for alias in node.names}
                imported |= {full if full in names else node.module for full in found}
        graph[name] = imported & names.keys()
    return graph


def _subclasses(kind):
    return {found for child in kind.__subclasses__() for found in (child, *_subclasses(child))}


def test_every_message_type_is_in_the_catalog_under_its_own_kind():
    # By name: a dataclass with slots is a second class, and Python may still remember the first.
    declared = {kind for kind in _subclasses(Message) if "kind" in vars(kind)}
    assert {message.__name__ for message in MESSAGE_TYPES.values()} == {kind.__name__ for kind in declared}
    # What several kinds have in common is no message itself.
    bases = {kind.__name__ for kind in _subclasses(Message) - declared}
    assert bases == {"FreshCiphertexts", "HiddenCiphertexts"}
    for kind, message in MESSAGE_TYPES.items():
        assert kind == message.kind
        assert getattr(vfl.messages, message.__name__) is message


def test_messages_are_declared_in_one_file_and_carry_declared_tensors_only():
    for message in MESSAGE_TYPES.values():
        assert message.__module__ == vfl.messages.data.__name__
        assert fields(message)
        assert all({"dtype", "ndim"} <= spec.metadata.keys() for spec in fields(message)), message.kind


def test_only_plaintext_messages_are_in_the_clear():
    in_the_clear = {message.__name__ for message in MESSAGE_TYPES.values() if message.protection is Protection.CLEAR}
    assert in_the_clear == {"ClearWeights", "ClearActivations", "ClearActivationGradient"}


def test_payload_is_put_on_the_wire_by_the_codec_alone():
    writers = {
        path
        for path, module in MODULES.items()
        for call in _calls(module)
        if _called(call) == "Chunk" and any(keyword.arg == "payload" for keyword in call.keywords)
    }
    assert writers == {"vfl/transport/wire/data_codec.py"}


def test_generated_code_is_used_by_the_transport_alone():
    users = {path for path, module in MODULES.items() if any("transport.v1" in name for name in _imported(module))}
    assert users
    assert all(path.startswith("vfl/transport/") for path in users)


def test_nothing_deserializes_code():
    refused = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
    for path, module in MODULES.items():
        assert not {name.partition(".")[0] for name in _imported(module)} & refused, path
        called = {_called(call) for call in _calls(module) if isinstance(call.func, ast.Name)}
        assert not called & {"eval", "exec", "compile"}, path
        loads = {ast.unparse(call.func) for call in _calls(module)}
        assert not loads & {"torch.load", "torch.save", "np.load", "numpy.load"}, path


@pytest.mark.parametrize("path", COORDINATOR_MODULES)
def test_the_coordinator_imports_nothing_that_handles_tensors_keys_or_tables(path):
    tensors = ("vfl.he", "vfl.interact", "vfl.models", "vfl.privacy", "vfl.align", "vfl.data.table", "torch")
    for name in _imported(MODULES[path]):
        assert not name.startswith(tensors), name
    used = {node.attr for node in ast.walk(MODULES[path]) if isinstance(node, ast.Attribute)}
    assert not used & {message.__name__ for message in MESSAGE_TYPES.values()}


def test_no_file_is_too_long_to_be_read_at_once():
    lengths = {path: len((ROOT / path).read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert not {path: length for path, length in lengths.items() if length > 300}


def test_no_folder_shows_more_than_can_be_seen_at_once():
    for folder in FOLDERS:
        shown = sorted(path.name for path in folder.iterdir() if _is_module(path) or _is_folder(path))
        assert len(shown) <= 12 or folder == ROOT / "vfl", f"{folder.relative_to(ROOT)}: {shown}"
    modules = sorted(path.name for path in (ROOT / "vfl").iterdir() if _is_module(path))
    assert len(modules) <= 6, modules


def test_no_module_needs_itself_to_be_imported():
    try:
        TopologicalSorter(_import_graph()).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def test_names_of_files_and_folders_tell_what_is_in_them():
    refused = {"utils", "util", "helpers", "misc"}
    for path in (*FOLDERS, *(path for folder in FOLDERS for path in folder.iterdir() if _is_module(path))):
        assert not refused & set(path.stem.lower().split("_")), path.relative_to(ROOT)


def test_names_are_the_terms_of_the_field():
    refused = {"guest", "leader", "follower", "master", "slave"}
    for path, module in MODULES.items():
        for node in ast.walk(module):
            name = getattr(node, "name", None) or getattr(node, "id", None) or getattr(node, "arg", None)
            if isinstance(name, str):
                assert not refused & set(name.lower().split("_")), f"{path}: {name}"


def test_the_example_parties_agree_on_one_job():
    setups = {folder: load_party(ROOT / "parties" / folder / "party.toml") for folder in PARTIES}
    assert {folder: setup.entry.role for folder, setup in setups.items()} == {
        "active": Role.ACTIVE,
        "passive": Role.PASSIVE,
    }
    digests = {job_digest(setup.job, setup.federation) for setup in setups.values()}
    assert len(digests) == 1
    assert {setup.name for setup in setups.values()} == set(setups["active"].federation.names)


def test_the_example_certificates_are_where_the_example_files_name_them(tmp_path):
    setups = {folder: load_party(ROOT / "parties" / folder / "party.toml") for folder in PARTIES}
    federation = setups["active"].federation
    coordinator = load_toml(ROOT / "parties" / "coordinator" / "coordinator.toml", CoordinatorConfig)
    named = {setup.name: setup.config.tls for setup in setups.values()} | {federation.coordinator: coordinator.tls}
    made = make_federation_certificates(tmp_path, federation.name, federation.members)
    for name, files in made.items():
        Credentials(files, federation, name)
        for key, path in files.model_dump(exclude_defaults=True).items():
            example = Path(os.path.normpath(getattr(named[name], key)))
            assert example.relative_to(ROOT / "parties" / "certificates") == path.relative_to(tmp_path)


@pytest.mark.parametrize(
    ("folder", "command"), [("active", "party party.toml"), ("passive", "party party.toml"), ("coordinator", "run ")]
)
def test_every_organization_starts_with_one_command(folder, command):
    launcher = ROOT / "parties" / folder / "start.sh"
    assert os.access(launcher, os.X_OK)
    assert command in launcher.read_text(encoding="utf-8")


def test_what_others_see_of_an_error_about_a_table_holds_nothing_of_the_table():
    """Summary and remedy cross to other organizations: column names, labels and values belong into ``detail``."""
    without_data = {
        "vfl/data/sources/csv_text.py": {"declared"},  # an encoding
        "vfl/models/tasks/task.py": {"self.out_width"},
    }
    for path, module in MODULES.items():
        if not path.startswith(("vfl/data/", "vfl/models/tasks/")):
            continue
        remedies = [keyword.value for call in _calls(module) for keyword in call.keywords if keyword.arg == "remedy"]
        put_in = {
            ast.unparse(part.value)
            for remedy in remedies
            for part in ast.walk(remedy)
            if isinstance(part, ast.FormattedValue)
        }
        assert put_in <= without_data.get(path, set()), path
