"""What is known of bottoms' outputs before they are released, and what the active party keeps of them."""
