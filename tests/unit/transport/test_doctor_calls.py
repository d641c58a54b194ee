"""Who may ask a party how it is, and what of its answer is believed."""

from dataclasses import replace

import pytest
from support.logs import captured_logs

from vfl import messages as m
from vfl.configuration.federation import FederationConfig
from vfl.errors import MismatchError, PeerUnreachable, ProtocolError, RemoteError
from vfl.pki.credentials import Credentials
from vfl.transport.diagnosis.call import MAX_FINDINGS, ask_diagnosis

OWN = m.Finding("bank", "shop", m.Check.CONNECTION, m.Verdict.PROBLEM, "closed", "shop", "open it", "unreachable")


class Answering:
    """Answers whatever it is told to, and remembers what it was asked."""

    def __init__(self) -> None:
        self.calls: list[m.Diagnose] = []
        self.answer = m.Diagnosis("bank", "1", "2", "job=1", 3.5, m.Activity.WAITING, (OWN,))

    async def diagnose(self, call):
        self.calls.append(call)
        return self.answer


@pytest.fixture
def doctor():
    return Answering()


@pytest.fixture
def ask(serving, mutual, certificates, calling, doctor):
    """Ask bank, over mutual TLS, as somebody."""

    async def asked(caller: Credentials, *, probe_peers: bool = False, federation: FederationConfig = mutual):
        credentials = Credentials(certificates["bank"], mutual, "bank")
        async with serving(credentials=credentials, federation=mutual, doctor=doctor) as server:
            call = m.Diagnose(probe_peers)
            return await ask_diagnosis(f"127.0.0.1:{server.port}", "bank", caller, call, federation, 5)

    return asked


@pytest.mark.parametrize("name", ["hub", "shop", "bank"])
async def test_every_member_may_ask_and_gets_the_answer_as_it_is(ask, calling, doctor, name):
    with captured_logs() as logs:
        answer = await ask(calling(name))
    assert [entry["caller"] for entry in logs if entry["event"] == "asked for a diagnosis"] == [name]
    assert answer.diagnosis == doctor.answer
    assert answer.asked <= answer.answered
    assert doctor.calls == [m.Diagnose(False)]


async def test_the_coordinator_may_ask_for_probes(ask, calling, doctor):
    assert (await ask(calling("hub"), probe_peers=True)).diagnosis.findings == (OWN,)
    assert doctor.calls == [m.Diagnose(True)]


@pytest.mark.parametrize("name", ["shop", "bank"])
async def test_no_party_may_ask_for_probes(ask, calling, doctor, name):
    with pytest.raises(RemoteError, match="does not allow probes of other parties") as caught:
        await ask(calling(name), probe_peers=True)
    assert caught.value.remote_code == "access"
    assert doctor.calls == []


@pytest.mark.parametrize(
    "changes", [{"identities": ("spiffe://demo/party/nobody",)}, {"federation": "other"}, {"role": "coordinator"}]
)
async def test_nobody_else_may_ask(ask, calling, issuer, doctor, changes):
    with pytest.raises(RemoteError, match="certificate does not allow") as caught:
        await ask(calling("shop", issuer.files("shop", **changes)))
    assert caught.value.remote_code == "access"
    assert doctor.calls == []


async def test_a_version_that_does_not_know_the_call_is_named(serving_tls, calling, mutual):
    async with serving_tls() as endpoint:
        with pytest.raises(MismatchError, match="does not support the call 'diagnose'"):
            await ask_diagnosis(endpoint, "bank", calling("hub"), m.Diagnose(False), mutual, 5)


async def test_nobody_there_is_unreachable(calling, mutual):
    with pytest.raises(PeerUnreachable):
        await ask_diagnosis("127.0.0.1:9", "bank", calling("hub"), m.Diagnose(False), mutual, 5)


@pytest.mark.parametrize(
    "findings",
    [
        (OWN,) * (MAX_FINDINGS + 1),
        (replace(OWN, source="shop"),),
        (replace(OWN, target="nobody"),),
        (replace(OWN, side="nobody"),),
        (replace(OWN, code="format c:"),),
    ],
    ids=["too many", "of another", "about nobody", "for nobody", "no code"],
)
async def test_findings_that_a_party_cannot_have_are_refused(ask, calling, doctor, findings):
    doctor.answer = replace(doctor.answer, findings=findings)
    with pytest.raises(ProtocolError, match=r"sent (a|more) finding"):
        await ask(calling("hub"), probe_peers=True)


async def test_texts_of_others_cannot_drive_a_terminal(ask, calling, doctor):
    bad = "\x1b[2Jgone\n" * 200
    doctor.answer = replace(
        doctor.answer, party=bad, package_version=bad, findings=(replace(OWN, summary=bad, remedy=bad),)
    )
    said = (await ask(calling("hub"), probe_peers=True)).diagnosis
    for text in (said.party, said.package_version, said.findings[0].summary, said.findings[0].remedy):
        assert text.isprintable()
        assert len(text) <= 500


async def test_an_error_at_the_party_crosses_without_its_detail(ask, calling, doctor):
    del doctor.answer
    with pytest.raises(RemoteError, match="an internal error occurred") as caught:
        await ask(calling("hub"))
    assert "answer" not in str(caught.value)
