"""Attacks on what a party receives, to be run on one's own data: what would a curious partner learn?"""
