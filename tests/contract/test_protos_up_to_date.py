import subprocess
import sys
from pathlib import Path

import pytest

from vfl import ids, messages
from vfl.transport.v1 import control_pb2, doctor_pb2

ROOT = Path(__file__).parents[2]


def test_committed_code_is_what_the_proto_files_generate():
    pytest.importorskip("grpc_tools", reason="needs the dev extra")
    env = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    done = subprocess.run(
        ["bash", ROOT / "scripts/generate_protos.sh", "--check"], capture_output=True, text=True, env=env, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


ENUMERATIONS = {
    control_pb2: (ids.Role, ids.Phase, ids.Split),
    doctor_pb2: (messages.Check, messages.Verdict, messages.Activity),
}


@pytest.mark.parametrize(
    ("module", "enum"), [(module, enum) for module, found in ENUMERATIONS.items() for enum in found]
)
def test_proto_enumerations_have_exactly_our_members(module, enum):
    prefix = enum.__name__.upper()
    declared = set(module.DESCRIPTOR.enum_types_by_name[enum.__name__].values_by_name)
    assert declared == {f"{prefix}_{member.name}" for member in enum} | {f"{prefix}_UNSPECIFIED"}
