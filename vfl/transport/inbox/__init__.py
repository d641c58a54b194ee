"""Messages of peers between their arrival and their use: the inbox, its open runs, and how much room there is."""

from vfl.transport.inbox.inbox import Inbox, overdue

__all__ = ["Inbox", "overdue"]
