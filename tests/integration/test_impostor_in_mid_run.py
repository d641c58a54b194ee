"""Somebody with a web server's certificate takes over a party's port in the middle of a run."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from support.federations import federation as federations
from support.federations.federation import ACTIVE, COORDINATOR, Federation
from support.wire.certificates import Issuer
from support.wire.middleman import PROVE, Middleman, answering

from vfl.configuration.toml_files import load_toml
from vfl.coordinator.config import CoordinatorConfig
from vfl.coordinator.process import RunOptions, coordinator_network, run_job
from vfl.job.callbacks import Callback
from vfl.job.setup import load_job_setup
from vfl.party.config import load_party
from vfl.party.process import serve_party
from vfl.pki.trust import CertificateRefused

CLINIC, NAME = "clinic", "test"


@pytest.fixture
def issuer(tmp_path):
    return Issuer.make(tmp_path / "issuer", NAME)


@pytest.fixture
def federation(tmp_path, monkeypatch, issuer):
    def issue(directory, name, roles):
        return {who: issuer.files(who, role=str(role), federation=name) for who, role in roles.items()}

    monkeypatch.setattr(federations, "make_federation_certificates", issue)
    made = Federation(tmp_path, passive=(CLINIC,))
    made.job["training"]["passes"] = 1000
    return made.write()


class _AtStep(Callback):
    """Sets an event when training has come so far."""

    def __init__(self):
        self.reached = asyncio.Event()

    def on_step(self, step):
        self.reached.set()


async def _nothing(*_):
    return b""


@asynccontextmanager
async def _serving(federation, name):
    task = asyncio.create_task(serve_party(load_party(federation.path(name))))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_the_run_ends_with_an_error_that_names_the_party_and_the_impostor_hears_nothing(federation, issuer):
    job, settings, _ = load_job_setup(federation.path(COORDINATOR, "job.toml"))
    tls = load_toml(federation.path(COORDINATOR, "coordinator.toml"), CoordinatorConfig).tls
    files = issuer.files(CLINIC, federation=NAME, identities=(), role="")
    impostor, at_step = Middleman(_nothing), _AtStep()
    async with (
        _serving(federation, ACTIVE) as bank,
        _serving(federation, CLINIC) as clinic,
        coordinator_network(settings, tls) as network,
    ):
        running = asyncio.create_task(run_job(job, settings, network, RunOptions(callbacks=[at_step])))
        async with asyncio.timeout(120):
            await at_step.reached.wait()
            clinic.cancel()
            await asyncio.gather(clinic, return_exceptions=True)
            async with answering(impostor, files, federation.port(CLINIC)) as endpoint:
                with pytest.raises(CertificateRefused) as caught:
                    await running
                ended = await bank
    assert f"what answers at {endpoint} does not prove that it is clinic" in caught.value.summary
    assert set(impostor.heard) == {PROVE}
    assert "does not prove that it is clinic" in str(ended)  # the others learn the safe part
    assert "SHA-256" not in str(ended)
