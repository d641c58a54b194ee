"""One error appears once in a party's log at normal verbosity; the rest is there with --verbose."""

from support.federations.federation import COORDINATOR, Federation, Processes

SAYS = "the configured table does not exist"


def test_an_error_appears_once_in_each_log_and_in_full_where_it_happened(tmp_path):
    federation = Federation(tmp_path)
    del federation.tables["clinic"]
    with Processes(federation.write()) as processes:
        processes.start()
        codes = processes.wait()
        outputs = {name: processes.output(name) for name in codes}
    assert codes["clinic"] == 3
    # A table that cannot be used is said when its party starts, too, before it waits for the coordinator.
    for name, times in (("bank", 1), ("clinic", 2)):
        assert outputs[name].count(SAYS) == times, f"{name}:\n{outputs[name]}"
    assert outputs["clinic"].index(SAYS) < outputs["clinic"].index("waiting for the coordinator")
    assert str(federation.path("clinic", "table.csv")) in outputs["clinic"]
    assert SAYS in outputs[COORDINATOR]


def test_verbose_shows_every_failed_call(tmp_path):
    federation = Federation(tmp_path)
    del federation.tables["clinic"]
    with Processes(federation.write()) as processes:
        processes.start("bank", COORDINATOR)
        processes.start_command("clinic", "party", "party.toml", "--verbose")
        processes.wait()
        output = processes.output("clinic")
    assert output.count(SAYS) > 1
    assert "call failed" in output
