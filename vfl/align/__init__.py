"""Alignment: private set intersection of the parties' ids, without networking, and the order of the aligned rows."""
