"""Own certificate files in a federation without TLS: refused wherever they are read, since they would not be used."""

import pytest
from support.federations.federation import ACTIVE, COORDINATOR
from typer.testing import CliRunner

from vfl.cli.main import app
from vfl.coordinator.process import coordinator_network
from vfl.errors import ConfigError
from vfl.party.config import load_party, party_credentials
from vfl.party.process import serve_party

SAYS = "certificate files are configured, but federation.toml turns TLS off"
PLACES = {
    "check of party.toml": (["check"], ACTIVE, "party.toml"),
    "check of coordinator.toml": (["check"], COORDINATOR, "coordinator.toml"),
    "party": (["party"], ACTIVE, "party.toml"),
    "run": (["run"], COORDINATOR, "job.toml"),
}


@pytest.fixture
def mixed(federation):
    """Everybody has [tls], but the shared file says insecure-loopback."""
    federation.federation["tls"] = {"mode": "insecure-loopback"}
    return federation.write()


@pytest.mark.parametrize("place", PLACES)
def test_every_command_refuses_it_and_says_where(place, mixed):
    command, name, file = PLACES[place]
    result = CliRunner().invoke(app, [*command, str(mixed.path(name, file))])
    assert result.exit_code == ConfigError.exit_code, result.output
    own = "coordinator.toml" if name == COORDINATOR else "party.toml"
    for part in (SAYS, f"{own}: [tls]", "insecure-loopback", f"remove [tls] from {own}"):
        assert part in result.output


@pytest.mark.parametrize(("name", "file"), [(ACTIVE, "party.toml"), (COORDINATOR, "job.toml")])
def test_the_doctor_reports_it(name, file, mixed):
    result = CliRunner().invoke(app, ["doctor", str(mixed.path(name, file))])
    assert result.exit_code == ConfigError.exit_code, result.output
    assert SAYS in result.output


async def test_so_do_programs_that_use_the_library(mixed):
    setup = load_party(mixed.path(ACTIVE))
    with pytest.raises(ConfigError, match=SAYS):
        party_credentials(setup)
    with pytest.raises(ConfigError, match=SAYS):
        await serve_party(setup)
    with pytest.raises(ConfigError, match=SAYS):
        async with coordinator_network(setup.federation, setup.config.tls):
            pass


def test_without_own_files_it_is_valid(federation):
    federation.without_tls().write()
    files = [federation.path(ACTIVE), federation.path(COORDINATOR, "coordinator.toml")]
    result = CliRunner().invoke(app, ["check", *map(str, files)])
    assert result.exit_code == 0, result.output
