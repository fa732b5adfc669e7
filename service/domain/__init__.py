"""What an order is and how it may change. Pure: imports nothing of the layers above."""
