"""A party that sends wrong contents in a real job: every operator reads why, and who it was, and the exit codes fit."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from support.federations.federation import ACTIVE, COORDINATOR
from support.federations.in_process import run_federation
from support.wire.abuse import assert_nothing_private

from vfl import messages as m

CLINIC = "clinic"
ALL_BITS = np.uint32(2**32 - 1)


@dataclass
class Case:
    """A kind of message of one party, how it is changed, what the other one says, and its exit code."""

    kind: str
    change: object
    says: str
    sender: str = CLINIC
    code: int = 10


def _filled(name, value):
    def change(message):
        return replace(message, **{name: np.full_like(message.tensors()[name], value)})

    return change


def _longer(name, axis=0):
    def change(message):
        array = message.tensors()[name]
        return replace(message, **{name: np.concatenate([array, array], axis)})

    return change


def _shorter(name):
    return lambda message: replace(message, **{name: message.tensors()[name][:-1]})


def _first_flipped(name):
    def change(message):
        array = message.tensors()[name].copy()
        array.flat[0] ^= 1
        return replace(message, **{name: array})

    return change


def _first_is(name, value):
    def change(message):
        array = message.tensors()[name].copy()
        array.flat[0] = value
        return replace(message, **{name: array})

    return change


def _point(value):
    def change(message):
        points = message.points.copy()
        points[3] = np.frombuffer(value.to_bytes(32, "little"), np.uint8)
        return m.BlindedIdList(points)

    return change


# One of the eight points of small order of the curve and its twist (RFC 7748, section 7).
SMALL_ORDER = 325606250916557431795983626356110631294008115727848805560023387167927233504

CASES = {
    "residues out of range": Case(
        "encrypted_activations", _filled("ct_first_CLW", ALL_BITS), "'encrypted_activations' with residues outside"
    ),
    "residues of a product out of range": Case(
        "masked_weight_gradient", _filled("ct_second_CLW", ALL_BITS), "'masked_weight_gradient' with residues outside"
    ),
    "residues of the active party out of range": Case(
        "masked_activation_product", _filled("ct_first_CLW", ALL_BITS), "with residues outside", sender=ACTIVE
    ),
    "too many ciphertexts": Case("encrypted_activations", _longer("ct_first_CLW"), "as ciphertexts of shape"),
    "too few seeds": Case("encrypted_activations", _shorter("seeds_C"), "seeds of shape"),
    "a share of another shape": Case("forward_share", _longer("sh_z_BK"), "its share of Z of shape (128, 4)"),
    "a share out of the ring": Case(
        "forward_share", _first_is("sh_z_BK", 2**62), "its share of Z with values outside the ring"
    ),
    "a gradient out of the ring": Case(
        "masked_activation_gradient", _first_is("sh_d_alpha_BD", -(2**57) - 1),
        "a masked activation gradient with values outside the ring", sender=ACTIVE,
    ),
    "initial weights out of the ring": Case(
        "weight_share_offer", _first_is("share_DK", 2**57), "a share of initial weights with values outside the ring"
    ),
    "a zero point": Case("blinded_id_list", _point(0), "a blinded id that is a point of small order"),
    "a point of small order": Case("blinded_id_list", _point(SMALL_ORDER), "a point of small order", sender=ACTIVE),
    "a list longer than announced": Case("blinded_id_list", _longer("points"), "(480, 32), expected (240, 32)"),
    "a list shorter than announced": Case("fully_blinded_id_list", _shorter("tags"), "(239, 16), expected (240, 16)"),
    "a list with an id twice": Case(
        "fully_blinded_id_list", lambda message: m.FullyBlindedIdList(message.tags[[0, *range(239)]]), "a duplicate id"
    ),
    "too many bits": Case("common_ids", _longer("members"), "does not match the number of common ids"),
    "too few bits": Case("common_ids", _shorter("members"), "does not match the number of common ids", sender=ACTIVE),
    "bits beyond the end": Case("common_ids", _filled("members", 0), "does not match the number of common ids"),
    "keys with another signature": Case(
        "public_keys", _first_flipped("signature"), "a message in the name of clinic is not what it signed", code=13
    ),
    "other keys under the signature": Case(
        "public_keys", _first_flipped("agreement_key"), "a message in the name of bank is not what it signed",
        sender=ACTIVE, code=13,
    ),
    "another number of ids": Case("id_count", _first_is("rows", 999), "expected (999, 32)"),
    "no number of ids": Case("id_count", _first_is("rows", -1), "an invalid number of ids"),
}  # fmt: skip


@pytest.mark.parametrize(("sender", "receiver"), [(ACTIVE, CLINIC), (CLINIC, ACTIVE)])
async def test_a_width_other_than_the_jobs_is_refused_before_anything_is_released(federation, sender, receiver):
    """The scale of initial weights depends on it: under a width of its choice, one party would get other outputs."""

    async def lies(channel, to, address, message, seconds):
        if (address.kind, address.sender) == ("public_keys", sender):
            message = replace(message, width=np.frombuffer(b"8", np.uint8))
        await channel.deliver(address, message, seconds)

    run = await run_federation(federation.write(), deliver=lies)
    assert run.errors[receiver].exit_code == 9
    assert f"{sender} states that its bottom has width 8, and the job says 4" in run.errors[COORDINATOR].summary
    assert "encrypted_activations" not in {address.kind for address, _, _ in run.sent}


SIGNED = "public_keys"
"""Without certificates, in memory, nothing is signed."""


@pytest.mark.parametrize("name", CASES)
async def test_wrong_contents_stop_the_job_everywhere_in_the_name_of_their_sender(federation, name):
    case = CASES[name]
    victim = CLINIC if case.sender == ACTIVE else ACTIVE
    run = await run_federation(federation.write(), deliver=_changing(case), over_grpc=case.kind == SIGNED)
    errors = run.errors
    codes = {party: error and error.exit_code for party, error in errors.items()}
    assert codes[victim] == case.code, errors
    assert codes[COORDINATOR] == 16
    assert codes[case.sender] in (15, 16), "stopped by the others, or told by the one it sent to"
    for error in errors.values():
        assert case.says in error.summary
        assert case.sender in error.summary
        assert_nothing_private(federation, error.summary + error.remedy)


def _changing(case):
    async def dishonest(channel, receiver, address, message, seconds):
        if (address.kind, address.sender) == (case.kind, case.sender):
            message = case.change(message)
        await channel.deliver(address, message, seconds)

    return dishonest


@pytest.mark.parametrize("refusing", [ACTIVE, CLINIC])
async def test_each_party_refuses_too_few_common_rows_by_its_own_policy_before_anybody_learns_which(
    federation, refusing
):
    federation.tables[CLINIC] = federation.tables[CLINIC].head(150)
    federation.tables[ACTIVE] = federation.tables[ACTIVE].head(200)
    federation.parties[refusing]["policy"]["min_aligned_rows"] = 149
    run = await run_federation(federation.write())
    assert run.errors[refusing].exit_code == 8
    assert run.errors[COORDINATOR].exit_code == 16
    for error in run.errors.values():
        assert "fewer than 149" in error.summary
    assert f"{refusing}: " in run.errors[COORDINATOR].summary
    sent_by_refusing = {address.kind for address, _, _ in run.sent if address.sender == refusing}
    assert "common_ids" not in sent_by_refusing
