"""Training: the loop, where its data come from, what it saves and how it is stopped."""
