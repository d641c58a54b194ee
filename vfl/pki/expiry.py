"""Warns about certificates that expire soon and revocation lists that are stale."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from vfl.pki.credentials import Credentials
from vfl.pki.trust import current_time
from vfl.runtime.background import start
from vfl.runtime.logs import get_logger

_log = get_logger(__name__)

EXPIRY_CHECK_SECONDS = 24 * 3600.0


def warn_of_expiry(credentials: Credentials) -> None:
    """Log a warning for each certificate that expires soon and for each stale revocation list."""
    trust, now = credentials.trust, current_time()
    for what, certificate in (("own", credentials.certificate), *(("CA", ca) for ca in trust.authorities)):
        if credentials.ends_soon(certificate):
            _log.warning(
                "a certificate expires soon; renew it",
                whose=what,
                subject=certificate.subject.rfc4514_string(),
                days_left=(certificate.not_valid_after_utc - now).days,
                until=str(certificate.not_valid_after_utc),
            )
    for revoked in trust.stale_lists():
        _log.warning(
            "a revocation list is stale; get a new one from the CA",
            issuer=revoked.content.issuer.rfc4514_string(),
            due=str(revoked.content.next_update_utc),
        )


async def watch_expiry(credentials: Credentials, every: float = EXPIRY_CHECK_SECONDS) -> None:
    """Warn about expiry now and once a day, until canceled. Changed files are loaded, also where nothing else does."""
    while True:
        warn_of_expiry(credentials)
        await asyncio.sleep(every)


@contextlib.asynccontextmanager
async def watched(credentials: Credentials | None) -> AsyncIterator[None]:
    """Warn about expiry at the start and once a day while the context is active."""
    task = start(watch_expiry(credentials)) if credentials else None
    try:
        yield
    finally:
        if task is not None:
            task.cancel()
