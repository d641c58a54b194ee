"""What a party does with other parties: exchanges of messages, key exchange, work while it waits."""
