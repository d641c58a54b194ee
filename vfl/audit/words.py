"""A description of every kind of message for readers who are not engineers.

``{sender}`` and ``{receiver}`` stand for names, ``{noisy_z}`` for what the active party reads of Z. A contract test
compares the keys with the catalog of messages.
"""

MEANINGS = {
    "public_keys": "public keys of {sender} for this attempt of the run",
    "id_count": "number of ids of {sender}",
    "blinded_id_list": (
        "a list of ids, blinded with secret keys of {sender} and of the parties before it, and shuffled: {receiver} "
        "reads its length"
    ),
    "fully_blinded_id_list": (
        "a list of ids that all parties have blinded: {receiver} reads how many ids any of the lists share"
    ),
    "common_id_count": "how many ids all parties have in common",
    "common_ids": "which entries of a shuffled list all parties have: {receiver} reads which of its own rows these are",
    "split_membership": (
        "which of the common rows train, validate or test, as {sender} chose by label or time: {receiver} reads all of "
        "it (stated leak 4)"
    ),
    "weight_share_offer": "a uniform random matrix, {receiver}'s share of {sender}'s initial weights: no information",
    "gradient_commitment": "a salted digest of the loss gradients in each batch: no information to {receiver}",
    "best_pass_state": "a digest of the state as of the best pass, to which all parties go back",
    "encrypted_activations": (
        "activations of the rows in each batch, under {sender}'s own key: unreadable to {receiver}"
    ),
    "masked_activation_product": (
        "product of {receiver}'s activations with {sender}'s weight share, under {sender}'s mask: random to {receiver}"
    ),
    "forward_share": ("{sender}'s part of Z in each batch, masked: {receiver} reads {noisy_z} (stated leak 1)"),
    "encrypted_gradient_rows": (
        "loss gradients of the rows in each batch, under {sender}'s own key: unreadable to {receiver}"
    ),
    "encrypted_gradient_blocks": (
        "the same loss gradients in another order, under {sender}'s own key: unreadable to {receiver}"
    ),
    "masked_gradient_product": (
        "product of {receiver}'s gradients with {sender}'s weight share, under {sender}'s mask: random to {receiver}"
    ),
    "masked_weight_gradient": (
        "product of {receiver}'s gradients with {sender}'s activations, under {sender}'s mask: random to {receiver}"
    ),
    "masked_activation_gradient": (
        "{receiver}'s own activation gradient in each batch, with noise, under {receiver}'s mask: {receiver} reads "
        "it (stated leak 2)"
    ),
    "clear_weights": "{sender}'s part in the initial interaction weights, NOT PROTECTED",
    "clear_activations": "activations of the rows in each batch, NOT PROTECTED",
    "clear_activation_gradient": "activation gradients of the rows in each batch, NOT PROTECTED",
    "offer": "the job of {sender}, which differs from the file of {receiver}",
    "offered": "{sender} accepts that job under its own rules",
    "prepare": "name of the job and digest of its configuration",
    "prepared": "name and role of {sender}, and its numbers of rows with and without an id",
    "restore": "which checkpoint to resume from, by step, attempt and digest",
    "restored": "{sender} has that checkpoint intact",
    "align": "request to count or find the common ids and to exchange keys",
    "aligned": "numbers of rows in each split, and the width of {sender}'s bottom model",
    "begin": "request to set up the initial interaction weights",
    "begun": "{sender} is ready for the first batch",
    "phase_call": "which phase of which batch comes next",
    "phase_report": "seconds and bytes of a phase; from the active party also the loss of the batch",
    "score": "which split to compute metrics of",
    "scored": "metrics of a split that {sender} publishes",
    "checkpoint": "after which step to save the state",
    "checkpointed": "{sender} has saved it: digest of a list of its files, which includes a random value",
    "commit": "that all parties have saved a checkpoint",
    "committed": "{sender} acknowledges that",
    "heartbeat": "check whether {receiver} makes progress, and which other parties do",
    "alive": "what {sender} is doing, how many pieces of work it has done, and which party it waits for and how long",
    "abort": "that the run stops, where and why",
    "finish": "that training is over",
    "finished": "bytes, peak memory and certified constant that {sender} publishes about itself",
    "release": "that all parties have saved their parts and the run is over",
    "released": "{sender} ends as well",
    "prove_identity": "request to prove who answers on a connection, with a random number, outside any run",
    "identity_proof": "certificate of {sender}, and its signature for that random number and the caller's certificate",
    "diagnose": "request for versions, clock and reachability, outside any run",
    "diagnosis": "versions, digest of the configuration, clock and state of {sender}, and which parties it can reach",
    "failure": "the safe summary of an error, and what to do",
}


def meaning(kind: str, sender: str, receiver: str, passive: int) -> str:
    """What a message of a kind is.

    Args:
        passive: number of passive parties, 0 if it is not known.
    """
    noisy_z = f"{sender}'s noisy part" if passive == 1 else "the noisy sum over all passive parties"
    words = MEANINGS.get(kind, "a kind of message unknown to this version of vfl")
    return words.format(sender=sender, receiver=receiver, noisy_z=noisy_z)
