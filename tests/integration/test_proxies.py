"""Real processes that reach each other through proxies which pass TLS through, and through one that cuts a message."""

from contextlib import ExitStack

from support.federations.federation import ACTIVE, COORDINATOR, ID_PREFIX, Processes, free_ports
from support.wire.proxy import Proxy

CLINIC = "clinic"
ABSENCE_SECONDS = 2.0
SILENCE_SECONDS = 3.0


def _behind_proxies(federation, stack, **cutting):
    """Every party listens on another port than the one that others dial; ``cutting`` is for the active's proxy."""
    proxies = {}
    entries = federation.federation["parties"]
    for entry, port in zip(entries, free_ports(len(entries)), strict=True):
        name = entry["name"]
        entry["listen"], entry["endpoint"] = entry["endpoint"], f"127.0.0.1:{port}"
        target = int(entry["listen"].rpartition(":")[2])
        proxies[name] = stack.enter_context(Proxy(port, target, **(cutting if name == ACTIVE else {})))
    return proxies


def test_a_training_through_proxies_shows_them_nothing_but_server_names(federation):
    with ExitStack() as stack:
        proxies = _behind_proxies(federation, stack)
        with Processes(federation.write()) as processes:
            report = processes.succeed()
    assert report["rows"] == 240
    recorded = b"\n".join(bytes(record) for proxy in proxies.values() for record in proxy.recorded)
    assert len(recorded) > 1_000_000
    for name in federation.names:
        server_name = f"{name}.test.vfl.internal".encode()
        assert server_name in recorded, "the ClientHello names whom it wants"
        recorded = recorded.replace(server_name, b"")
    words = (CLINIC, COORDINATOR, ID_PREFIX, "defaulted", "spiffe", "party/bank", "forward_share", "vfl-audit")
    assert [word for word in words if word.encode() in recorded] == []


def test_a_connection_that_is_cut_in_the_middle_of_a_message_is_recovered_from(federation):
    with ExitStack() as stack:
        proxy = _behind_proxies(federation, stack, cut_after=2_000_000)[ACTIVE]
        with Processes(federation.write()) as processes:
            report = processes.succeed()
    assert proxy.cuts == 1
    assert [recovery["reason"].partition(" at ")[0] for recovery in report["recoveries"]] in (
        ["bank went away or does not answer"],
        ["clinic: bank went away or does not answer"],
    )


GONE = ("did not answer", "went away or does not answer")


def test_connections_that_are_cut_for_ever_end_the_job_everywhere(federation):
    federation.job["timeouts"] |= {"heartbeat": SILENCE_SECONDS, "reconnect": ABSENCE_SECONDS}
    with ExitStack() as stack:
        proxy = _behind_proxies(federation, stack, cut_after=2_000_000, dies=True)[ACTIVE]
        with Processes(federation.write()) as processes:
            processes.start()
            codes = processes.wait(60)
            outputs = {name: processes.output(name) for name in codes}
    assert proxy.cuts == 1
    # The coordinator may notice before clinic does, and tell it.
    assert codes[CLINIC] in (11, 15)
    for name, output in outputs.items():
        assert codes[name] not in (0, 1, 70)
        assert "Traceback" not in output
        if name == ACTIVE:  # it answers nobody, and nobody can tell it
            assert f"the coordinator did not call within {ABSENCE_SECONDS + SILENCE_SECONDS:g} s" in output
        else:
            assert any(f"bank {says} at 127.0.0.1:" in output for says in GONE), output
