"""Networks side by side: quality on benchmark sets, cost, runtime and memory, published figures beside them."""
