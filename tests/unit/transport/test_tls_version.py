"""Only TLS 1.3, and only with a certificate, as ``openssl`` sees it from outside."""

import asyncio
import os
import shutil
import subprocess
import sys

import pytest
from support.federations.federation import free_ports
from support.wire.openssl import REFUSED_SECONDS, STAYS_OPEN_SECONDS, s_client

from vfl import messages as m
from vfl.errors import PeerUnreachable
from vfl.transport.client import ControlClient

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command")


def own(files):
    return ("-CAfile", files.ca, "-cert", files.certificate, "-key", files.key)


async def test_tls_1_3_is_accepted_with_a_certificate(serving_tls, certificates):
    async with serving_tls() as endpoint:
        stays_open, output = await s_client(endpoint, "-tls1_3", *own(certificates["shop"]), seconds=STAYS_OPEN_SECONDS)
    assert stays_open
    assert "New, TLSv1.3" in output


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_1"])
async def test_older_versions_are_refused(serving_tls, certificates, version):
    async with serving_tls() as endpoint:
        # The lowest security level, so that it is the server that refuses and not openssl itself.
        options = (version, "-cipher", "ALL:@SECLEVEL=0", *own(certificates["shop"]))
        stays_open, output = await s_client(endpoint, *options, seconds=REFUSED_SECONDS)
    assert not stays_open
    assert "Cipher is (NONE)" in output


async def test_without_a_certificate_nothing_is_answered(serving_tls, certificates):
    async with serving_tls() as endpoint:
        options = ("-tls1_3", "-CAfile", certificates["shop"].ca)
        stays_open, _ = await s_client(endpoint, *options, seconds=REFUSED_SECONDS)
    assert not stays_open


async def test_a_caller_does_not_talk_to_a_server_of_an_older_version(calling, certificates):
    (port,) = free_ports(1)
    files = certificates["bank"]
    process = await asyncio.create_subprocess_exec(
        "openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-tls1_2", "-alpn", "h2", "-quiet",
        "-cert", str(files.certificate), "-key", str(files.key),
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        async with ControlClient(f"127.0.0.1:{port}", "bank", calling("hub")) as hub:
            with pytest.raises(PeerUnreachable) as caught:
                await hub.wait_ready(1.5)
            with pytest.raises(PeerUnreachable):
                await hub.finish(m.Finish("job@1", "job-1", 0))
    finally:
        process.kill()
        errors = await process.stderr.read()
        await process.wait()
    assert "the TLS handshake fails" in caught.value.detail
    assert b"unsupported protocol" in errors


IMPORTED = "import vfl.transport.server, vfl.party.process, os; print(os.environ.get('GRPC_SSL_CIPHER_SUITES'))"


def run_program(program):
    environment = {name: value for name, value in os.environ.items() if name != "GRPC_SSL_CIPHER_SUITES"}
    return subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)


def test_importing_vfl_leaves_the_grpc_of_a_host_program_alone():
    assert run_program(IMPORTED).stdout.split() == ["None"]


def test_it_cannot_be_required_too_late():
    done = run_program("import grpc; from vfl.transport.tls.version import require_tls_1_3; require_tls_1_3()")
    assert "gRPC was imported before TLS 1.3 was required" in done.stderr


def test_the_command_line_requires_it():
    program = "import sys; sys.argv = ['vfl', '--help']\nimport atexit, os\nfrom vfl.__main__ import main\n"
    program += "atexit.register(lambda: print(os.environ.get('GRPC_SSL_CIPHER_SUITES'), 'grpc' in sys.modules))\nmain()"
    assert run_program(program).stdout.split()[-2] == "PSK-AES128-CBC-SHA"
