"""The issuing side: CAs, their folders, and certificates for demos and tests."""
