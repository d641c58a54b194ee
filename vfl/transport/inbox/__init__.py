"""Messages from peers between their arrival and their use: the inbox, its open runs, and its quota."""

from vfl.transport.inbox.inbox import Inbox, overdue

__all__ = ["Inbox", "overdue"]
